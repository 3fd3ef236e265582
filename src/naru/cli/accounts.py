"""naru accounts create | list | show | change | close"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.keys import changed_limits, concurrency_option, limits_text, rpm_option, tpm_option
from naru.cli.output import print_json, print_table, when

COLUMNS = ("id", "kind", "name", "belongs to", "state", "time zone", "active keys", "limits", "created")


@click.group("accounts")
def command() -> None:
    """Teams and organisations."""


@command.command("create")
@click.argument("name")
@click.option("--organisation", is_flag=True, help="An organisation, which teams may belong to.")
@click.option("--parent", help="The organisation that this team belongs to.")
@click.option("--tz", default="UTC", show_default=True, help="Time zone of its budgets' days, as Asia/Seoul.")
@config_option
@json_option
def create(name: str, organisation: bool, parent: str | None, tz: str, config_path: Path | None, as_json: bool) -> None:
    """Make a team, or an organisation."""
    body = {"name": name, "kind": "organisation" if organisation else "team", "parent": parent, "time_zone": tz}
    made = connect(config_path).request("POST", "/admin/accounts", body=body)
    if as_json:
        print_json(made)
    else:
        click.echo(f"Made the {made['kind']} {made['name']} ({made['id']}).")


@command.command("list")
@config_option
@json_option
def list_accounts(config_path: Path | None, as_json: bool) -> None:
    """All accounts."""
    answer = connect(config_path).request("GET", "/admin/accounts")
    if as_json:
        print_json(answer)
        return
    names = {a["id"]: a["name"] for a in answer["data"]}
    rows = [
        (a["id"], a["kind"], a["name"], names.get(a["parent"]), a["state"], a["time_zone"], a["active_keys"],
         limits_text(a["limits"]), when(a["created_at"]))
        for a in answer["data"]
    ]  # fmt: skip
    print_table(COLUMNS, rows, "No accounts yet. `naru accounts create NAME` makes one.")


@command.command("show")
@click.argument("account")
@config_option
@json_option
def show(account: str, config_path: Path | None, as_json: bool) -> None:
    """One account, by id or name, with its budgets and credits. Always JSON."""
    print_json(connect(config_path).request("GET", path_of(account)))


@command.command("change")
@click.argument("account")
@click.option("--name", help="Another name.")
@click.option("--parent", help="The organisation that this team belongs to; - for none.")
@click.option("--tz", help="Time zone of its budgets' days, as Asia/Seoul.")
@rpm_option
@tpm_option
@concurrency_option
@config_option
@json_option
def change(
    account: str,
    *,
    name: str | None,
    parent: str | None,
    tz: str | None,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Change an account, by id or name. What is not given stays; a limit of 0 is none. Limits are for all its keys together."""
    client = connect(config_path)
    body: dict[str, Any] = {} if name is None else {"name": name}
    body |= {} if parent is None else {"parent": None if parent == "-" else parent}
    body |= {} if tz is None else {"time_zone": tz}
    body |= changed_limits(client, path_of(account), rpm=rpm, tpm=tpm, concurrency=concurrency)
    if not body:
        raise click.UsageError("Nothing to change was given.")
    record = client.request("PATCH", path_of(account), body=body)
    if as_json:
        print_json(record)
    else:
        click.echo(f"Changed the {record['kind']} {record['name']} ({record['id']}).")


@command.command("close")
@click.argument("account")
@click.option("--revoke-keys", is_flag=True, help="Revoke its keys too.")
@config_option
@json_option
def close(account: str, revoke_keys: bool, config_path: Path | None, as_json: bool) -> None:
    """Close an account (by id or name). Nothing of it is deleted."""
    query = {"revoke_keys": "true" if revoke_keys else "false"}
    closed = connect(config_path).request("DELETE", path_of(account), query)
    if as_json:
        print_json(closed)
    else:
        click.echo(f"Closed {closed['name']} ({closed['id']}); {closed['revoked_keys']} keys were revoked.")


def path_of(account: str) -> str:
    return f"/admin/accounts/{quote(account, safe='')}"
