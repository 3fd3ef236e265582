"""`naru models pull`: look, decide, download, check, and only then write the record that makes it a model here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from naru.engine.choose import Choice, HubFile, choose, conversions_of
from naru.engine.files import inspect
from naru.engine.hub import Hub, Listing
from naru.engine.store import HubReference, Pulled, PulledFile, save
from naru.errors import BadRequest, NotFound


class Progress(Protocol):
    """Hears of a pull. Bytes count from the whole pull's beginning, what was on the disk before included."""

    def file(self, file: HubFile, number: int, of: int) -> None: ...

    def bytes(self, more: int) -> None: ...


class Plan(Struct, frozen=True):
    """What a pull will do. `missing`: bytes to be downloaded; `conversions`: repositories for the OpenVINO engine."""

    listing: Listing
    choice: Choice
    missing: int
    conversions: tuple[str, ...] = ()


def plan(hub: Hub, asked: HubReference, wanted: str = "auto") -> Plan:
    """Reads the repository's list of files. Raises NotFound, BadRequest, Forbidden, ConfigError and UpstreamError."""
    listing = hub.list(asked)
    try:
        choice = choose(asked.repo, listing.files, wanted, asked.file)
    except (NotFound, BadRequest) as error:
        found = () if asked.file else existing_conversions(hub, asked.repo)
        if found:
            raise type(error)(f"{error.message} There is also: {', '.join(found)}.", code=error.code) from error
        raise
    conversions = existing_conversions(hub, asked.repo) if choice.kind == "safetensors" else ()
    return Plan(listing, choice, hub.missing_bytes(listing, choice.files), conversions)


def existing_conversions(hub: Hub, repo: str) -> tuple[str, ...]:
    return tuple(other for other in conversions_of(repo) if other != repo and hub.exists(other))


def carry_out(hub: Hub, decided: Plan, home: Path, progress: Progress, now: float) -> Pulled:
    """Downloads and checks every file, looks at the heads of the weights, writes the record. `now`: seconds since 1970.
    Raises what Hub.fetch does, and ConfigError where the files make no model."""
    listing, choice = decided.listing, decided.choice
    hub.check_space(decided.missing)
    for number, file in enumerate(choice.files, 1):
        progress.file(file, number, len(choice.files))
        path = hub.fetch(listing, file, progress.bytes)
    folder = path
    for _ in Path(choice.files[-1].path).parts:
        folder = folder.parent
    pulled = Pulled(
        repo=listing.repo,
        revision=listing.revision,
        commit=listing.commit,
        kind=choice.kind,
        folder=str(folder),
        files=tuple(PulledFile(file.path, file.size, file.digest) for file in choice.files),
        license=str(listing.license),
        pulled_at=now,
        file=choice.file,
    )
    inspect(pulled.path, name=pulled.reference)
    save(home, pulled)
    return pulled
