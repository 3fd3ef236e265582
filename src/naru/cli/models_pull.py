"""naru models pull | remove"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from naru import config
from naru.catalog.ways import gb
from naru.cli.backend import config_option, json_option
from naru.cli.output import print_json
from naru.engine.choose import FORMATS, HubFile
from naru.engine.hub import Hub
from naru.engine.pull import Plan, carry_out, plan
from naru.engine.store import HubReference, Pulled, find, parse_reference, remove
from naru.errors import BadRequest, ConfigError

#: A line of progress for programs is written when so much more has come.
STEP_BYTES = 64 << 20


class Bar:
    """A bar on a terminal's standard error; nothing anywhere else."""

    def __init__(self, decided: Plan) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._task: TaskID = self._progress.add_task("", total=decided.choice.bytes)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def file(self, file: HubFile, number: int, of: int) -> None:
        self._progress.update(self._task, description=f"{number}/{of} {file.path}")

    def bytes(self, more: int) -> None:
        self._progress.advance(self._task, more)


class Lines:
    """JSON lines on standard error: one at each file, and one for every 64 MiB."""

    def __init__(self, decided: Plan) -> None:
        self._total = decided.choice.bytes
        self._done = self._said = 0
        self._about: dict[str, Any] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def file(self, file: HubFile, number: int, of: int) -> None:
        self._about = {"file": file.path, "number": number, "of": of}
        self._say()

    def bytes(self, more: int) -> None:
        self._done += more
        if self._done - self._said >= STEP_BYTES or self._done == self._total:
            self._say()

    def _say(self) -> None:
        self._said = self._done
        line = {**self._about, "done_bytes": self._done, "total_bytes": self._total}
        click.echo(msgspec.json.encode(line).decode(), err=True)


@click.command("pull")
@click.argument("model")
@click.option(
    "--format", "wanted", type=click.Choice(FORMATS), default="auto", show_default=True, help="Of the weights."
)
@click.option("--file", help="Which .gguf of the repository (default: its usual 4-bit one).")
@click.option("--revision", help="A branch, a tag or a commit (default: main).")
@click.option("--accept-license", is_flag=True, help="Accept a licence that is not a plain open one.")
@config_option
@json_option
def pull_model(model: str, config_path: Path | None, as_json: bool, **options: Any) -> None:
    """Download MODEL from the Hugging Face Hub, checked.

    MODEL is ORG/NAME, also ORG/NAME@REVISION and ORG/NAME:FILE.gguf. Weights of one format are taken, OpenVINO's before
    safetensors before GGUF, and never pickles. A download that was interrupted goes on where it was; every file is held
    against the digest that the Hub states. HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are honoured.
    """
    home = config.settings_of_process(config_path, {}).home
    asked = _asked(model, options["file"], options["revision"])
    hub = Hub()
    try:
        decided = plan(hub, asked, options["wanted"])
    except ConfigError:
        present = find(home, asked)
        if present is None or not present.path.exists():
            raise
        _print(present, as_json, "is here already; nothing was downloaded")  # offline
        return
    _accept(decided, options["accept_license"], as_json)
    for note in () if as_json else _notes(decided):
        click.echo(note, err=True)
    with Lines(decided) if as_json else Bar(decided) as progress:
        pulled = carry_out(hub, decided, home, progress, time.time())
    what = "is here" if decided.missing else "was here already, and is whole"
    _print(pulled, as_json, what, decided.conversions)


def _asked(model: str, file: str | None, revision: str | None) -> HubReference:
    """The argument and its options as one reference. Raises BadRequest where they contradict each other."""
    asked = parse_reference(model)
    for option, said, more in (("--file", asked.file, file), ("--revision", asked.revision, revision)):
        if said and more and said != more:
            raise BadRequest(f"{model} says {said} and {option} says {more}. Leave one of the two out.")
    return HubReference(asked.repo, asked.revision or revision or "", asked.file or file or "")


def _accept(decided: Plan, is_accepted: bool, as_json: bool) -> None:
    """Raises BadRequest where a custom licence was not accepted and nobody can be asked."""
    listing = decided.listing
    if listing.license.is_open or is_accepted:
        return
    if sys.stdin.isatty() and not as_json:
        question = f"The licence of {listing.repo} is {listing.license}, not a plain open one. Do you accept it?"
        click.confirm(question, abort=True, err=True)
        return
    raise BadRequest(
        f"The licence of {listing.repo} ({listing.license}) is not a plain open one: read it, then add --accept-license."
    )


def _notes(decided: Plan) -> list[str]:
    listing, choice = decided.listing, decided.choice
    size = f"{gb(choice.bytes)}, of which {gb(decided.missing)} are to be downloaded"
    notes = [f"Licence of {listing.repo}: {listing.license}", f"{choice.kind}, {len(choice.files)} files, {size}."]
    if choice.kind == "safetensors":
        others = ", ".join(decided.conversions) or "none was found under the usual names"
        notes.append(f"The OpenVINO engine does not read safetensors. Converted: {others}.")
    return notes


def _print(pulled: Pulled, as_json: bool, what: str, conversions: tuple[str, ...] = ()) -> None:
    if as_json:
        print_json(_as_data(pulled) | {"conversions": conversions})
    else:
        click.echo(f"{pulled.reference} {what}: {pulled.path}\nServe it: naru engine serve {pulled.reference}")


def _as_data(pulled: Pulled) -> dict[str, Any]:
    return {
        "id": pulled.reference,
        "path": str(pulled.path),
        "bytes": pulled.bytes,
        "kind": pulled.kind,
        "revision": pulled.revision,
        "commit": pulled.commit,
        "license": pulled.license,
        "files": [{"path": file.path, "bytes": file.bytes, "digest": file.digest} for file in pulled.files],
    }


@click.command("remove")
@click.argument("model")
@config_option
@json_option
def remove_model(model: str, config_path: Path | None, as_json: bool) -> None:
    """Delete MODEL's files from this machine.

    They are in the cache that other programs share; what another revision of it uses stays.
    """
    gone = remove(config.settings_of_process(config_path, {}).home, parse_reference(model))
    if as_json:
        print_json({"removed": [{"id": pulled.reference, "commit": pulled.commit} for pulled in gone]})
        return
    for pulled in gone:
        click.echo(f"{pulled.reference} (commit {pulled.commit[:12]}) is deleted.")
