"""naru budgets set | list | remove"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from naru.cli.backend import Client, config_option, connect, json_option
from naru.cli.output import Won, print_json, print_table, usd, when

COLUMNS = ("id", "owner", "amount USD", "window", "mode", "spent USD", "held USD", "left USD", "starts anew")


@click.group("budgets")
def command() -> None:
    """How much may be spent, by whom, in which time."""


@command.command("set")
@click.argument("owner")
@click.argument("amount")
@click.option("--mode", type=click.Choice(["strict", "balanced", "advisory"]), help="[default: balanced]")
@click.option("--tz", help="Time zone of its windows.  [default: the account's]")
@click.option("--alerts", help="Parts of the amount to warn at, as 0.5,0.9,1.")
@config_option
@json_option
def set_budget(
    owner: str,
    amount: str,
    *,
    mode: str | None,
    tz: str | None,
    alerts: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Let OWNER (an account or a key, by id or name) spend AMOUNT, as 5usd/month, 2usd/day or 10usd in all.

    Where the owner has a budget for this window, its amount is changed, also for the window under way.
    """
    client = connect(config_path)
    marks: dict[str, Any] = {} if alerts is None else {"alerts": _parts(alerts)}
    window = amount.partition("/")[2].strip().lower() or "total"
    found = [
        b
        for b in client.request("GET", "/admin/budgets", {"owner": owner})["data"]
        if b["window"] == window and tz in (None, b["time_zone"]) and mode in (None, b["mode"])
    ]
    if len(found) == 1:
        budget = client.request("PATCH", path_of(found[0]["id"]), body={"amount": amount, **marks})
    else:
        body = {"owner": owner, "amount": amount, "mode": mode or "balanced", "time_zone": tz, **marks}
        budget = client.request("POST", "/admin/budgets", body=body)
    if as_json:
        print_json(budget)
        return
    per = "in all" if budget["window"] == "total" else f"a {budget['window']} ({budget['time_zone']})"
    click.echo(
        f"{budget['owner_name']} may spend {budget['amount_usd']} USD {per}, {budget['mode']}; {budget['left_usd']} USD are "
        f"left. Budget {budget['id']}."
    )


@command.command("list")
@click.option("--owner", help="Of this account or key only.")
@config_option
@json_option
def list_budgets(owner: str | None, config_path: Path | None, as_json: bool) -> None:
    """All budgets, and how the window under way stands."""
    answer = connect(config_path).request("GET", "/admin/budgets", {"owner": owner})
    if as_json:
        print_json(answer)
        return
    won = Won(answer["fx"])
    rows = [
        (b["id"], b["owner_name"], usd(b["amount_nano"]), b["window"], b["mode"], usd(b["spent_nano"]),
         usd(b["held_nano"]), usd(b["left_nano"]), when(b["window_ends_at"]), *won.cells(b["amount_nano"], b["left_nano"]))
        for b in answer["data"]
    ]  # fmt: skip
    columns = (*COLUMNS, *won.columns("amount KRW", "left KRW"))
    print_table(columns, rows, "No budgets. `naru budgets set OWNER 5usd/month` makes one.")
    won.name_the_rate()


@command.command("remove")
@click.argument("budget")
@config_option
@json_option
def remove(budget: str, config_path: Path | None, as_json: bool) -> None:
    """Remove a budget, by its id, or by its owner where that has one only."""
    client = connect(config_path)
    removed = client.request("DELETE", path_of(_id_of(client, budget)))
    if as_json:
        print_json(removed)
    else:
        click.echo(f"Removed the budget {removed['id']} of {removed['owner_name']}.")


def _id_of(client: Client, reference: str) -> str:
    every = client.request("GET", "/admin/budgets")["data"]
    owned = [b["id"] for b in every if reference in (b["owner"], b["owner_name"])]
    if len(owned) > 1:
        raise click.UsageError(f"{reference} has {len(owned)} budgets. Name one: {', '.join(owned)}.")
    return str(owned[0]) if owned else reference


def _parts(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError("--alerts takes numbers with commas between, as 0.5,0.9,1.") from None


def path_of(budget: str) -> str:
    return f"/admin/budgets/{quote(budget, safe='')}"
