"""naru credits add | refund | list | code | codes | redeem"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from naru.cli.backend import config_option, connect, json_option
from naru.cli.output import Won, print_json, print_table, usd, when

COLUMNS = ("owner", "put in USD", "spent USD", "held USD", "available USD")
ENTRY_COLUMNS = ("at", "kind", "amount USD", "said", "rate", "reference", "by", "note")
reference_option = click.option("--reference", help="The payer's own name for it, such as an invoice. Counts once.")
note_option = click.option("--note", default="", help="Words for the books.")


@click.group("credits")
def command() -> None:
    """Prepaid credits and redemption codes."""


@command.command("add")
@click.argument("account")
@click.argument("amount")
@reference_option
@note_option
@config_option
@json_option
def add(account: str, amount: str, reference: str | None, note: str, config_path: Path | None, as_json: bool) -> None:
    """Put AMOUNT (10usd, 15000krw) into the credits of ACCOUNT (an account or a key, by id or name)."""
    _put("topup", account, {"amount": amount, "reference": reference, "note": note}, config_path, as_json)


@command.command("refund")
@click.argument("account")
@click.argument("amount")
@reference_option
@note_option
@config_option
@json_option
def refund(
    account: str, amount: str, reference: str | None, note: str, config_path: Path | None, as_json: bool
) -> None:
    """Take AMOUNT out of the credits of ACCOUNT again: what is neither spent nor held."""
    _put("refund", account, {"amount": amount, "reference": reference, "note": note}, config_path, as_json)


def _put(kind: str, account: str, fields: dict[str, Any], config_path: Path | None, as_json: bool) -> None:
    made = connect(config_path).request("POST", _path_of(account), body={"kind": kind, **fields})
    if as_json:
        print_json(made)
        return
    rate = f" at {made['fx']}" if made["fx"] else ""
    done = "Took out" if kind == "refund" else "Added"
    available = made["balance"]["available_usd"]
    click.echo(f"{done} {made['said']}{rate} ({usd(abs(made['amount_nano']))} USD). {available} USD are available.")


@command.command("list")
@click.argument("account", required=False)
@config_option
@json_option
def list_credits(account: str | None, config_path: Path | None, as_json: bool) -> None:
    """All balances; or, of one ACCOUNT, what was put in and taken out."""
    client = connect(config_path)
    answer = client.request("GET", _path_of(account) if account else "/admin/credits")
    if as_json:
        print_json(answer)
        return
    won = Won(answer["fx"])
    balances = [{**answer["balance"], "owner_name": answer["owner_name"]}] if account else answer["data"]
    if account:
        entries = [
            (when(e["at"]), e["kind"], usd(e["amount_nano"]), e["said"], e["fx"], e["reference"], e["actor"], e["note"])
            for e in answer["data"]
        ]
        print_table(ENTRY_COLUMNS, entries, f"Nothing was ever put into the credits of {account}.")
        click.echo()
    rows = [
        (b["owner_name"], usd(b["put_in_nano"]), usd(b["spent_nano"]), usd(b["held_nano"]), usd(b["available_nano"]),
         *won.cells(b["available_nano"]))
        for b in balances
    ]  # fmt: skip
    columns = (*COLUMNS, *won.columns("available KRW"))
    print_table(columns, rows, "No credits. `naru credits add ACCOUNT 10usd` puts some in.")
    won.name_the_rate()


@command.command("code")
@click.argument("amount")
@click.option("--expires", help="Worthless after this span, as in 30d.")
@note_option
@config_option
@json_option
def code(amount: str, expires: str | None, note: str, config_path: Path | None, as_json: bool) -> None:
    """Make a code worth AMOUNT and print it, once."""
    body = {"amount": amount, "expires": expires, "note": note}
    made = connect(config_path).request("POST", "/admin/codes", body=body)
    if as_json:
        print_json(made)
        return
    click.echo(made["code"])
    click.echo(f"Code {made['id']}, worth {made['amount_usd']} USD. It is shown only this once.", err=True)


@command.command("codes")
@config_option
@json_option
def codes(config_path: Path | None, as_json: bool) -> None:
    """All codes, without their text."""
    answer = connect(config_path).request("GET", "/admin/codes")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            c["id"],
            c["state"],
            usd(c["amount_nano"]),
            when(c["expires_at"]),
            when(c["redeemed_at"]),
            c["redeemed_by"],
            c["note"],
        )
        for c in answer["data"]
    ]
    print_table(("id", "state", "amount USD", "expires", "redeemed", "by", "note"), rows, "No codes.")


@command.command("redeem")
@click.argument("code_text", metavar="CODE")
@click.argument("account")
@config_option
@json_option
def redeem(code_text: str, account: str, config_path: Path | None, as_json: bool) -> None:
    """Turn CODE into credits of ACCOUNT (an account or a key, by id or name). A code counts once."""
    made = connect(config_path).request("POST", "/admin/codes/redeem", body={"code": code_text, "owner": account})
    if as_json:
        print_json(made)
    else:
        click.echo(f"Added {made['said']}. {made['balance']['available_usd']} USD are available.")


def _path_of(account: str) -> str:
    return f"/admin/accounts/{quote(account, safe='')}/credits"
