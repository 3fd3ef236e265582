"""Budgets, credits and codes, as the gateway heeds them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from naru.testing.clock import FakeClock
from tests.control.plane import Plane, control_plane

WON = '[ledger]\ndisplay_currency = "KRW"\nkrw_per_usd = 1390\n'


async def test_a_strict_budget_refuses_by_name_until_it_is_raised(plane: Plane) -> None:
    """402 before anything is sent, saying whose and how much; the new amount holds from the next request on."""
    key = await plane.key("alice")
    budget = await plane.ok("POST", "/admin/budgets", {"owner": "alice", "amount": "0.001usd", "mode": "strict"})
    status, answer = await plane.chat(key["key"], max_tokens=10_000)
    assert (status, answer["error"]["code"]) == (402, "budget_exceeded")
    assert key["id"] in answer["error"]["message"]
    assert "0.001 USD" in answer["error"]["message"]
    assert (await plane.chat(key["key"], max_tokens=100))[0] == 200
    raised = await plane.ok("PATCH", f"/admin/budgets/{budget['id']}", {"amount": "1usd"})
    assert raised["amount_usd"] == "1.00"
    assert (await plane.chat(key["key"], max_tokens=10_000))[0] == 200
    (shown,) = (await plane.ok("GET", "/admin/budgets"))["data"]
    assert shown["left_nano"] == shown["amount_nano"] - shown["spent_nano"] - shown["held_nano"]
    assert (shown["held_nano"], shown["spent_nano"] > 0) == (0, True)


async def test_a_lowered_budget_holds_at_once(plane: Plane) -> None:
    """What this process had leased is no longer there to spend."""
    key = await plane.key("alice")
    budget = await plane.ok("POST", "/admin/budgets", {"owner": "alice", "amount": "10usd", "mode": "strict"})
    assert (await plane.chat(key["key"], max_tokens=100))[0] == 200
    await plane.ok("PATCH", f"/admin/budgets/{budget['id']}", {"amount": "0.00001usd"})
    status, answer = await plane.chat(key["key"], max_tokens=10_000)
    assert (status, answer["error"]["code"]) == (402, "budget_exceeded")
    await plane.ok("DELETE", f"/admin/budgets/{budget['id']}")
    assert (await plane.chat(key["key"], max_tokens=10_000))[0] == 200
    assert (await plane.ok("GET", "/admin/budgets"))["data"] == []
    assert (await plane.refused("DELETE", f"/admin/budgets/{budget['id']}"))[:2] == (404, "budget_not_found")


async def test_a_window_is_one_budget_and_keeps_its_shape(plane: Plane) -> None:
    """A second one for the same window is refused; another window is not; time zones are checked."""
    await plane.key("alice")
    await plane.ok("POST", "/admin/budgets", {"owner": "alice", "amount": "5usd/month", "time_zone": "Asia/Seoul"})
    again = {"owner": "alice", "amount": "6usd", "window": "month", "time_zone": "Asia/Seoul"}
    status, code, message = await plane.refused("POST", "/admin/budgets", again)
    assert (status, code, "5.00 USD" in message) == (409, "budget_exists", True)
    await plane.ok("POST", "/admin/budgets", {"owner": "alice", "amount": "1usd/day"})
    (month, _) = (await plane.ok("GET", "/admin/budgets", query={"owner": "alice"}))["data"]
    assert month["window_starts_at"] < month["window_ends_at"]
    path = f"/admin/budgets/{month['id']}"
    assert (await plane.refused("PATCH", path, {"amount": "5usd/day"}))[0] == 400
    assert (await plane.refused("PATCH", path, {"mode": "strict"}))[0] == 400
    nowhere = {"owner": "alice", "amount": "5usd/week", "time_zone": "Moon/Sea"}
    assert "time zone" in (await plane.refused("POST", "/admin/budgets", nowhere))[2]


async def test_credits_run_out_and_a_top_up_lets_it_go_on(plane: Plane) -> None:
    """402 by the name of the credits, then the same request passes; put in - spent - held = available throughout."""
    key = await plane.key("alice")
    path = "/admin/accounts/alice/credits"
    await plane.ok("POST", path, {"amount": "0.001usd"})
    status, answer = await plane.chat(key["key"], max_tokens=10_000)
    assert (status, answer["error"]["code"]) == (402, "insufficient_credits")
    await plane.ok("POST", path, {"amount": "1usd", "reference": "inv-1"})
    assert (await plane.chat(key["key"], max_tokens=10_000))[0] == 200
    balance = (await plane.ok("GET", path))["balance"]
    assert balance["put_in_nano"] == 1_001_000_000
    assert balance["available_nano"] == balance["put_in_nano"] - balance["spent_nano"] - balance["held_nano"]
    assert (balance["spent_nano"] > 0, balance["held_nano"]) == (True, 0)
    await plane.gateway.entries()
    assert (await plane.ok("GET", "/admin/ledger/verify"))["findings"] == []


async def test_a_reference_counts_once(plane: Plane) -> None:
    """Also when both come at the same moment: one entry, one refusal that names the first."""
    await plane.key("alice")
    path, body = "/admin/accounts/alice/credits", {"amount": "5usd", "reference": "inv-7"}
    answers = await asyncio.gather(*(plane.ask("POST", path, body) for _ in range(5)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]
    codes = {answer["error"]["code"] for status, answer in answers if status == 409}
    assert codes == {"reference_used"}
    shown = await plane.ok("GET", path)
    assert (len(shown["data"]), shown["balance"]["available_usd"]) == (1, "5.00")


async def test_a_refund_takes_what_is_there_and_no_more(plane: Plane) -> None:
    """What was leased for spending counts as there; what was spent does not."""
    key = await plane.key("alice")
    path = "/admin/accounts/alice/credits"
    await plane.ok("POST", path, {"amount": "5usd"})
    assert (await plane.chat(key["key"], max_tokens=100))[0] == 200
    await plane.gateway.entries()
    status, code, message = await plane.refused("POST", path, {"amount": "5usd", "kind": "refund"})
    assert (status, code) == (409, "refund_too_large")
    balance = (await plane.ok("GET", path))["balance"]
    assert balance["available_usd"] in message
    await plane.ok("POST", path, {"amount": f"{balance['available_usd']}usd", "kind": "refund"})
    assert (await plane.ok("GET", path))["balance"]["available_nano"] == 0
    assert (await plane.chat(key["key"], max_tokens=100))[0] == 402
    assert (await plane.ok("GET", "/admin/ledger/verify"))["is_clean"] is True


async def test_adjustments_have_a_sign(plane: Plane) -> None:
    await plane.key("alice")
    path = "/admin/accounts/alice/credits"
    await plane.ok("POST", path, {"amount": "5usd"})
    await plane.ok("POST", path, {"amount": "-2usd", "kind": "adjust", "note": "a slip"})
    shown = await plane.ok("GET", path)
    assert [(entry["kind"], entry["amount_usd"]) for entry in shown["data"]] == [("topup", "5.00"), ("adjust", "-2.00")]
    assert shown["balance"]["available_usd"] == "3.00"


async def test_won_are_kept_with_their_rate(tmp_path: Path) -> None:
    """In the entry and in what is shown; without a rate they are refused with what to set."""
    async with control_plane(tmp_path, WON) as plane:
        await plane.key("alice", budget="13900krw/month")
        entry = await plane.ok("POST", "/admin/accounts/alice/credits", {"amount": "15000krw"})
        assert (entry["said"], entry["fx"], entry["amount_nano"]) == ("15000 KRW", "1390 KRW/USD", 10_791_366_906)
        assert (await plane.ok("GET", "/admin/usage"))["fx"] == "1390 KRW/USD"
        assert (await plane.ok("GET", "/admin/budgets"))["data"][0]["amount_usd"] == "10.00"
        await plane.chat(plane.caller)
        (written,) = await plane.gateway.entries()
        assert written.fx == "1390 KRW/USD"


async def test_a_code_is_money_once(tmp_path: Path) -> None:
    """Shown once, redeemed once, in any case and with or without dashes; an expired one is refused by name."""
    clock = FakeClock()
    async with control_plane(tmp_path, clock=clock) as plane:
        key = await plane.key("alice", team="red")
        made = await plane.ok("POST", "/admin/codes", {"amount": "5usd", "expires": "30d", "note": "gift"})
        assert made["code"] not in str(await plane.ok("GET", "/admin/codes"))
        typed = made["code"].lower().replace("-", " ")
        status, credit = await plane.ask("POST", "/v1/credits/redeem", {"code": typed}, key["key"])
        assert (status, credit["balance"]["available_usd"], credit["kind"]) == (200, "5.00", "code")
        again = await plane.refused("POST", "/v1/credits/redeem", {"code": made["code"]}, key["key"])
        assert again[:2] == (409, "code_used")
        assert (await plane.refused("POST", "/v1/credits/redeem", {"code": "AAAAA"}, key["key"]))[:2] == (
            404,
            "code_not_found",
        )
        late = await plane.ok("POST", "/admin/codes", {"amount": "5usd", "expires": "1d"})
        clock.advance(86_400)
        expired = await plane.refused("POST", "/v1/credits/redeem", {"code": late["code"]}, key["key"])
        assert expired[:2] == (409, "code_expired")
        team = await plane.ok("POST", "/admin/codes", {"amount": "2usd"})
        await plane.ask("POST", "/v1/credits/redeem", {"code": team["code"], "to": "account"}, key["key"])
        balances = {
            each["owner_name"]: each["available_usd"] for each in (await plane.ok("GET", "/admin/credits"))["data"]
        }
        assert balances == {"alice": "5.00", "red": "2.00"}
        states = [code["state"] for code in (await plane.ok("GET", "/admin/codes"))["data"]]
        assert sorted(states) == ["expired", "redeemed", "redeemed"]


async def test_one_of_many_redeems_a_code(plane: Plane) -> None:
    """At the same moment, for several keys."""
    keys = [await plane.key(f"k{n}") for n in range(5)]
    made = await plane.ok("POST", "/admin/codes", {"amount": "1usd"})
    answers = await asyncio.gather(
        *(plane.ask("POST", "/v1/credits/redeem", {"code": made["code"]}, key["key"]) for key in keys)
    )
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409, 409]
    assert len((await plane.ok("GET", "/admin/credits"))["data"]) == 1


@pytest.mark.parametrize("target", ["alice", "red"])
async def test_an_operator_redeems_for_somebody(plane: Plane, target: str) -> None:
    await plane.key("alice", team="red")
    made = await plane.ok("POST", "/admin/codes", {"amount": "1usd"})
    credit = await plane.ok("POST", "/admin/codes/redeem", {"code": made["code"], "owner": target})
    assert credit["balance"]["available_usd"] == "1.00"


async def test_credits_have_a_ceiling(plane: Plane) -> None:
    """Sums stay far inside 64 bits."""
    await plane.key("alice")
    path = "/admin/accounts/alice/credits"
    for _ in range(10):
        await plane.ok("POST", path, {"amount": "100000000usd"})
    assert (await plane.refused("POST", path, {"amount": "1usd"}))[:2] == (400, "invalid_amount")
