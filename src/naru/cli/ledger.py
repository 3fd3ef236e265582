"""naru ledger verify | export"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.exits import FAILED, OK
from naru.cli.output import print_json


@click.group("ledger")
def command() -> None:
    """Check the books, and export them."""


@command.command("verify")
@config_option
@json_option
def verify(config_path: Path | None, as_json: bool) -> int:
    """Recount every balance, budget and sum from the single entries. Exit code 1 when something contradicts."""
    answer = connect(config_path).request("GET", "/admin/ledger/verify")
    if as_json:
        print_json(answer)
    elif answer["is_clean"]:
        click.echo("The ledger agrees with itself.")
    else:
        for finding in answer["findings"]:
            click.echo(finding)
        click.echo(f"{len(answer['findings'])} findings.", err=True)
    return OK if answer["is_clean"] else FAILED


@command.command("export")
@click.option("--format", "form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--since", default="30d", show_default=True, help="A span (7d, 12h) or a date (2026-11-01).")
@click.option("--until", help="The same; this moment itself is not in it.  [default: now]")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of the dates.")
@click.option("--account", help="Only what this account's keys used.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A file.  [default: standard output]")
@config_option
@json_option
def export(
    *,
    form: str,
    since: str,
    until: str | None,
    tz: str,
    account: str | None,
    out: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Every request with what it cost, newest first. --json is --format json."""
    query = {"format": "json" if as_json else form, "since": since, "until": until, "tz": tz, "account": account}
    data = connect(config_path).download("/admin/ledger/export", query)
    if out is None:
        sys.stdout.buffer.write(data)
        return
    out.write_bytes(data)
    click.echo(f"{out}: {len(data):,} bytes", err=True)
