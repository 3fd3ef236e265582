"""naru keys create | list | show | change | rotate | revoke"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from naru.cli.backend import Client, config_option, connect, json_option
from naru.cli.output import print_json, print_table, when

COLUMNS = ("id", "name", "role", "state", "account", "created", "expires", "models", "limits")
ROLES = ("viewer", "admin", "owner")
rpm_option = click.option("--rpm", type=int, help="Requests a minute.")
tpm_option = click.option("--tpm", type=int, help="Tokens a minute.")
concurrency_option = click.option("--concurrency", type=int, help="Requests at once.")
models_option = click.option("--models", help="Only these models, comma-separated.")
addresses_option = click.option("--addresses", help="Only from these networks, as 10.0.0.0/8, comma-separated.")


@click.group("keys")
def command() -> None:
    """Create, list, show, change, rotate and revoke keys."""


@command.command("create")
@click.argument("name")
@click.option("--team", help="The team it belongs to; made where it is new.")
@click.option("--budget", help="What it may spend, as 5usd/month.")
@rpm_option
@tpm_option
@concurrency_option
@models_option
@addresses_option
@click.option("--expires", help="Stops working after this span, as in 30d.")
@click.option("--admin", is_flag=True, help="An admin's key (nka-…) instead of a caller's: --role admin.")
@click.option("--role", type=click.Choice(ROLES), help="A key for the control plane (nka-…).")
@config_option
@json_option
def create(
    name: str,
    *,
    team: str | None,
    budget: str | None,
    admin: bool,
    role: str | None,
    expires: str | None,
    models: str | None,
    addresses: str | None,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it, once."""
    body = {
        "name": name,
        "role": role or ("admin" if admin else "caller"),
        "team": team,
        "budget": budget,
        "expires": expires,
        "models": parts(models),
        "addresses": parts(addresses),
        "limits": {"rpm": rpm, "tpm": tpm, "concurrency": concurrency},
    }
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
            k["account_name"],
            when(k["created_at"]),
            when(k["expires_at"]),
            ",".join(k["models"]) or "all",
            limits_text(k["limits"]),
        )
        for k in answer["data"]
    ]
    print_table(COLUMNS, rows, "No keys yet. `naru keys create NAME` makes one.")


@command.command("show")
@click.argument("key")
@config_option
@json_option
def show(key: str, config_path: Path | None, as_json: bool) -> None:
    """One key, by id or name, with its budgets and credits. Always JSON."""
    print_json(connect(config_path).request("GET", path_of(key)))


@command.command("change")
@click.argument("key")
@click.option("--name", help="Another name.")
@click.option("--team", help="The team it belongs to, made where it is new; - for none.")
@rpm_option
@tpm_option
@concurrency_option
@models_option
@addresses_option
@click.option("--expires", help="Stops working after this span from now; never, for no end.")
@config_option
@json_option
def change(
    key: str,
    *,
    name: str | None,
    team: str | None,
    expires: str | None,
    models: str | None,
    addresses: str | None,
    rpm: int | None,
    tpm: int | None,
    concurrency: int | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Change a key, by id or name. What is not given stays; a limit of 0 is none, an empty --models is all."""
    client = connect(config_path)
    body: dict[str, Any] = {} if name is None else {"name": name}
    body |= {} if team is None else {"account": None} if team == "-" else {"team": team}
    body |= {} if expires is None else {"expires": None if expires == "never" else expires}
    body |= {} if models is None else {"models": parts(models)}
    body |= {} if addresses is None else {"addresses": parts(addresses)}
    body |= changed_limits(client, path_of(key), rpm=rpm, tpm=tpm, concurrency=concurrency)
    if not body:
        raise click.UsageError("Nothing to change was given.")
    record = client.request("PATCH", path_of(key), body=body)
    if as_json:
        print_json(record)
    else:
        click.echo(f"Changed {record['id']} ({record['name']}).")


@command.command("rotate")
@click.argument("key")
@click.option("--overlap", default="24h", show_default=True, help="For how long the old secret still works.")
@config_option
@json_option
def rotate(key: str, overlap: str, config_path: Path | None, as_json: bool) -> None:
    """Give a key (by id or name) a new secret and print it, once. Budgets, credits and limits go on."""
    made = connect(config_path).request("POST", f"{path_of(key)}/rotate", body={"overlap": overlap})
    if as_json:
        print_json(made)
        return
    click.echo(made["key"])
    old = made["replaces"]
    click.echo(f"Key {made['id']} replaces {old['id']}, which works until {when(old['expires_at'])}.", err=True)


@command.command("revoke")
@click.argument("key")
@config_option
@json_option
def revoke(key: str, config_path: Path | None, as_json: bool) -> None:
    """Stop a key (by id or name) from the next request on."""
    record = connect(config_path).request("DELETE", path_of(key))
    if as_json:
        print_json(record)
    else:
        click.echo(f"Revoked {record['id']} ({record['name']}) at {when(record['revoked_at'])}.")


def path_of(key: str) -> str:
    return f"/admin/keys/{quote(key, safe='')}"


def parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def changed_limits(client: Client, path: str, **given: int | None) -> dict[str, Any]:
    """The field `limits` of a change, with those that are not given as they are; empty when none is given. 0 lifts one."""
    wanted = {what: value or None for what, value in given.items() if value is not None}
    return {"limits": client.request("GET", path)["limits"] | wanted} if wanted else {}


def limits_text(limits: dict[str, int | None]) -> str:
    return ", ".join(f"{value:,} {name}" for name, value in limits.items() if value is not None)
