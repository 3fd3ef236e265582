"""Accounts, budgets, credits, rotation and the books from the command line, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.process import command, serving

WON = '[ledger]\ndisplay_currency = "KRW"\nkrw_per_usd = 1390\n'


async def told(home: Path, *arguments: str) -> Any:
    """What a command that works prints with --json."""
    code, out, err = await command(home, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


async def test_a_team_with_money_without_a_running_gateway(tmp_path: Path) -> None:
    """Key, budget, credits, code and books, all over the store itself; tables in a pipe have one line a row."""
    home = tmp_path / "home"
    made = await told(
        home, "keys", "create", "alice", "--team", "web", "--budget", "5usd/month", "--rpm", "60", "--tpm", "9000",
        "--concurrency", "2", "--models", "a,b", "--expires", "30d", "--addresses", "10.0.0.0/8",
    )  # fmt: skip
    assert (made["limits"], made["addresses"]) == ({"rpm": 60, "tpm": 9000, "concurrency": 2}, ["10.0.0.0/8"])
    assert made["budgets"][0]["amount_usd"] == "5.00"
    code, out, _ = await command(home, "budgets", "set", "alice", "7usd/month")
    assert (code, "alice may spend 7.00 USD a month" in out) == (0, True)
    assert [budget["amount_usd"] for budget in (await told(home, "budgets", "list"))["data"]] == ["7.00"]
    code, out, _ = await command(home, "credits", "add", "web", "10usd", "--reference", "inv-1")
    assert (code, out) == (0, "Added 10 USD (10.00 USD). 10.00 USD are available.\n")
    code, _, err = await command(home, "credits", "add", "web", "10usd", "--reference", "inv-1")
    assert (code, "inv-1" in err) == (1, True)
    text = (await told(home, "credits", "code", "5usd", "--expires", "30d"))["code"]
    assert (await told(home, "credits", "redeem", text, "web"))["balance"]["available_usd"] == "15.00"
    assert (await told(home, "credits", "refund", "web", "1usd"))["balance"]["available_usd"] == "14.00"
    _, out, _ = await command(home, "credits", "list")
    assert out.splitlines()[1].split("\t") == ["web", "14.00", "0.00", "0.00", "14.00"]
    shown = await told(home, "credits", "list", "web")
    assert [entry["kind"] for entry in shown["data"]] == ["topup", "code", "refund"]
    code, out, _ = await command(home, "ledger", "verify")
    assert (code, out) == (0, "The ledger agrees with itself.\n")
    code, out, _ = await command(home, "budgets", "remove", "alice")
    assert (code, (await told(home, "budgets", "list"))["data"]) == (0, [])


async def test_keys_are_rotated_and_changed(tmp_path: Path) -> None:
    """The new secret alone on stdout; what is not given stays; roles by name."""
    home = tmp_path / "home"
    old = await told(home, "keys", "create", "bob", "--rpm", "5", "--tpm", "100")
    code, out, err = await command(home, "keys", "rotate", "bob", "--overlap", "1h")
    assert (code, out.startswith("nk-"), out.count("\n"), old["id"] in err) == (0, True, 1, True)
    changed = await told(home, "keys", "change", "bob", "--rpm", "0", "--concurrency", "3", "--team", "web")
    assert changed["limits"] == {"rpm": None, "tpm": 100, "concurrency": 3}
    assert (await command(home, "keys", "change", "bob"))[0] == 2
    viewer = await told(home, "keys", "create", "eve", "--role", "viewer")
    assert (viewer["role"], viewer["key"][:4]) == ("viewer", "nka-")
    assert (await told(home, "keys", "create", "ops", "--admin"))["role"] == "admin"
    accounts = (await told(home, "accounts", "list"))["data"]
    assert [(each["name"], each["active_keys"]) for each in accounts] == [("web", 1)]


async def test_accounts_from_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await told(home, "accounts", "create", "acme", "--organisation", "--tz", "Asia/Seoul")
    code, out, _ = await command(home, "accounts", "create", "web", "--parent", "acme")
    assert (code, out.startswith("Made the team web (team-")) == (0, True)
    await told(home, "keys", "create", "k", "--team", "web")
    await told(home, "accounts", "change", "web", "--rpm", "60", "--tpm", "1000")
    changed = await told(home, "accounts", "change", "web", "--tpm", "0", "--tz", "Asia/Tokyo", "--parent", "-")
    assert changed["limits"] == {"rpm": 60, "tpm": None, "concurrency": None}
    assert (changed["time_zone"], changed["parent"]) == ("Asia/Tokyo", None)
    assert (await command(home, "accounts", "change", "web"))[0] == 2
    code, _, err = await command(home, "accounts", "close", "web")
    assert (code, "--revoke-keys" in err) == (1, True)
    assert (await told(home, "accounts", "close", "web", "--revoke-keys"))["revoked_keys"] == 1
    assert (await told(home, "accounts", "show", "acme"))["time_zone"] == "Asia/Seoul"


async def test_figures_of_a_running_gateway(tmp_path: Path) -> None:
    """Usage by day in Seoul, in won beside dollars with the rate named; an export that is all of it; damage is exit 1."""
    async with serving(tmp_path, WON) as gateway:
        body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "hi"}]}
        assert b"200 OK" in await gateway.whole("POST", "/v1/chat/completions", body)
        arguments = ("usage", "--by", "day", "--tz", "Asia/Seoul")
        rows: list[str] = []
        for _ in range(20):
            code, out, err = await command(gateway.home, *arguments)
            if len(rows := out.splitlines()) == 2:
                break
        assert (code, rows[0].split("\t")[-1], "1390 KRW/USD" in err) == (0, "cost KRW", True)
        file = tmp_path / "books.csv"
        code, out, err = await command(gateway.home, "ledger", "export", "--out", str(file))
        assert (code, out, "bytes" in err) == (0, "", True)
        assert len(file.read_text().splitlines()) == 2
        (entry,) = await told(gateway.home, "ledger", "export")
        assert (entry["fx"], entry["outcome"]) == ("1390 KRW/USD", "completed")
        db = apsw.Connection(str(gateway.home / "naru.db"))
        db.execute("UPDATE rollup_day SET cost_nano = cost_nano + 1")
        db.close()
        code, out, err = await command(gateway.home, "ledger", "verify", "--json")
        assert (code, json.loads(out)["is_clean"]) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (("keys", "create", "x", "--budget", "5eur"), 2, "USD or KRW"),
        (("keys", "create", "x", "--budget", "5usd/year"), 2, "month"),
        (("keys", "create", "x", "--rpm", "0"), 2, "limits.rpm"),
        (("credits", "add", "nobody", "5usd"), 5, "accounts list"),
        (("credits", "redeem", "NOT-A-CODE", "nobody"), 5, "nobody"),
        (("budgets", "set", "nobody", "5usd"), 5, "nobody"),
        (("budgets", "remove", "bud-nothing"), 5, "budgets list"),
        (("accounts", "create", "x", "--tz", "Moon/Sea"), 2, "Asia/Seoul"),
        (("usage", "--tz", "Moon/Sea"), 2, "Asia/Seoul"),
        (("keys", "rotate", "nobody"), 5, "keys list"),
        (("keys", "create", "x", "--role", "king"), 2, "viewer"),
    ],
)
async def test_wrong_money_is_told_what_to_do(tmp_path: Path, arguments: tuple[str, ...], code: int, hint: str) -> None:
    """The exit code of its kind, a sentence on stderr, no traceback."""
    got, _, err = await command(tmp_path / "home", *arguments)
    assert (got, hint in err, "Traceback" in err) == (code, True, False), err
