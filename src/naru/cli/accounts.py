"""naru accounts create | list | show | close"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.keys import limits_text
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
