"""naru keys create | list | show | revoke"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.output import print_json, print_table, when

COLUMNS = ("id", "name", "role", "state", "created", "expires", "models")


@click.group("keys")
def command() -> None:
    """Create, list, show and revoke keys."""


@command.command("create")
@click.argument("name")
@click.option("--admin", is_flag=True, help="An admin key (nka-…) instead of a caller's.")
@click.option("--models", help="Only these models, comma-separated.")
@click.option("--expires", help="Stops working after this span, as in 30d.")
@click.option("--team", help="The team it belongs to.")
@config_option
@json_option
def create(
    name: str,
    admin: bool,
    models: str | None,
    expires: str | None,
    team: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it, once."""
    allowed = [model.strip() for model in models.split(",") if model.strip()] if models else []
    body = {"name": name, "role": "admin" if admin else "caller", "expires": expires, "models": allowed, "team": team}
    client = connect(config_path)
    made = client.request("POST", "/admin/keys", body=body)
    if as_json:
        print_json(made)
        return
    click.echo(made["key"])
    click.echo(f"Key {made['id']} for {made['name']}, for {client.where}. It is shown only this once.", err=True)


@command.command("list")
@config_option
@json_option
def list_keys(config_path: Path | None, as_json: bool) -> None:
    """All keys, without their secrets."""
    answer = connect(config_path).request("GET", "/admin/keys")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            k["id"],
            k["name"],
            k["role"],
            k["state"],
            when(k["created_at"]),
            when(k["expires_at"]),
            ",".join(k["models"]) or "all",
        )
        for k in answer["data"]
    ]
    print_table(COLUMNS, rows, "No keys yet. `naru keys create NAME` makes one.")


@command.command("show")
@click.argument("key")
@config_option
def show(key: str, config_path: Path | None) -> None:
    """One key, by id or name, as JSON."""
    print_json(connect(config_path).request("GET", f"/admin/keys/{quote(key, safe='')}"))


@command.command("revoke")
@click.argument("key")
@config_option
@json_option
def revoke(key: str, config_path: Path | None, as_json: bool) -> None:
    """Stop a key (by id or name) from the next request on."""
    record = connect(config_path).request("DELETE", f"/admin/keys/{quote(key, safe='')}")
    if as_json:
        print_json(record)
    else:
        click.echo(f"Revoked {record['id']} ({record['name']}) at {when(record['revoked_at'])}.")
