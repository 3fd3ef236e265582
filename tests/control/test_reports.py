"""Usage, requests, the audit log, the books: pages, days, exports, and a ledger that was tampered with."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import apsw
import msgspec

from naru.ledger.ledger import Ask, Settlement
from naru.testing.clock import NEW_YEAR_2026_S, FakeClock
from tests.control.plane import Plane, control_plane


async def chat(plane: Plane, times: int, **fields: object) -> None:
    for _ in range(times):
        assert (await plane.chat(plane.caller, **fields))[0] == 200
    await plane.gateway.entries()


async def test_days_are_those_of_a_time_zone(tmp_path: Path) -> None:
    """23:30 UTC is tomorrow in Seoul; a date begins there too."""
    clock = FakeClock(NEW_YEAR_2026_S + 23.5 * 3600)
    async with control_plane(tmp_path, clock=clock) as plane:
        await chat(plane, 2)
        clock.advance(3600)
        await chat(plane, 1)

        async def days(**query: str) -> dict[str, int]:
            rows = (await plane.ok("GET", "/admin/usage", query={"by": "day", **query}))["data"]
            return {row["group"]: row["requests"] for row in rows}

        assert await days() == {"2026-01-01": 2, "2026-01-02": 1}
        assert await days(tz="Asia/Seoul") == {"2026-01-02": 3}
        assert await days(tz="America/New_York") == {"2026-01-01": 3}
        assert await days(since="2026-01-02") == {"2026-01-02": 1}
        assert await days(since="2026-01-02", tz="Asia/Seoul") == {"2026-01-02": 3}
        assert await days(until="2026-01-02", tz="Asia/Seoul") == {}


async def test_pages_of_requests_lose_and_repeat_nothing(plane: Plane) -> None:
    """Also while new ones come in between."""
    await chat(plane, 5)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = await plane.ok("GET", "/admin/requests", query=query)
        seen += [entry["request_id"] for entry in page["data"]]
        cursor = page["next"]
        if len(seen) == 2:
            await chat(plane, 1)
    every = await plane.gateway.entries()
    assert (len(seen), len(set(seen))) == (5, 5)
    assert seen == [entry.request_id for entry in every][1:]


async def test_one_request_with_its_attempts_and_scopes(plane: Plane) -> None:
    """The price's version, what was charged, who failed before; never the prompt."""
    await plane.key("alice")
    budget = await plane.ok("POST", "/admin/budgets", {"owner": plane.caller[3:15], "amount": "1usd"})
    await chat(plane, 1, user="somebody")
    (listed,) = (await plane.ok("GET", "/admin/requests", query={"user": "somebody"}))["data"]
    shown = await plane.ok("GET", f"/admin/requests/{listed['request_id']}")
    assert shown["price_version"]
    assert [scope.startswith(budget["id"]) for scope in shown["scopes"]] == [True]
    assert (shown["outcome"], shown["attempts"], shown["content"]) == ("completed", 1, None)
    assert "hello there" not in str(shown)
    assert (await plane.ok("GET", "/admin/requests", query={"user": "somebody else"}))["data"] == []
    assert (await plane.ok("GET", "/admin/requests", query={"model": "sandbox/none"}))["data"] == []
    assert (await plane.refused("GET", "/admin/requests/req_x"))[:2] == (404, "request_not_found")


async def test_every_change_is_in_the_audit_log(plane: Plane) -> None:
    """Who, what and on what; reading leaves no trace; pages go backwards in time."""
    admin = await plane.key("ops", role="admin")
    await plane.ask("POST", "/admin/keys", {"name": "k"}, admin["key"])
    changes = [
        ("POST", "/admin/accounts", {"name": "red"}),
        ("PATCH", "/admin/accounts/red", {"time_zone": "Asia/Seoul"}),
        ("POST", "/admin/budgets", {"owner": "red", "amount": "1usd"}),
        ("POST", "/admin/accounts/red/credits", {"amount": "1usd"}),
        ("POST", "/admin/accounts/red/credits", {"amount": "1usd", "kind": "refund"}),
        ("POST", "/admin/codes", {"amount": "1usd"}),
        ("PATCH", "/admin/keys/k", {"name": "kk"}),
        ("POST", "/admin/keys/kk/rotate", {}),
        ("DELETE", "/admin/keys/kk", None),
        ("DELETE", "/admin/accounts/red", None),
    ]
    for method, path, body in changes:
        await plane.ok(method, path, body)
    records = (await plane.ok("GET", "/admin/audit"))["data"]
    assert [record["action"] for record in reversed(records)][3:] == [
        "key.create",
        "account.create",
        "account.change",
        "budget.create",
        "credit.topup",
        "credit.refund",
        "code.create",
        "key.change",
        "key.rotate",
        "key.revoke",
        "account.close",
    ]
    owner, made = plane.owner[4:16], {record["target"]: record for record in records}
    assert records[0]["actor"] == owner
    assert [each["actor"] for each in records if each["action"] == "key.create"] == [
        admin["id"],
        owner,
        "local",
        "local",
    ]
    assert made[admin["id"]]["detail"]["role"] == "admin"
    page = await plane.ok("GET", "/admin/audit", query={"limit": "4"})
    rest = await plane.ok("GET", "/admin/audit", query={"limit": "100", "cursor": page["next"]})
    assert page["data"] + rest["data"] == records
    assert rest["next"] is None


async def test_an_export_is_whole_and_inert(plane: Plane) -> None:
    """Every request once, in both forms; what a spreadsheet would run has a quote before it."""
    await chat(plane, 3)
    ledger = plane.gateway.app.gateway.ledger
    permit = await ledger.reserve(Ask("req_formula", "k1", "=HYPERLINK(1)", "openai_chat", False))
    permit.settle(Settlement("refused", 402))
    await plane.gateway.entries()
    headers = {"authorization": f"Bearer {plane.owner}"}
    answer = await plane.client.get("/admin/ledger/export", headers=headers)
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["model"] for row in rows] == ["'=HYPERLINK(1)", *["sandbox/echo"] * 3]
    told = (await plane.client.get("/admin/ledger/export", headers=headers, params={"format": "json"})).json()
    assert [entry["request_id"] for entry in told] == [row["request_id"] for row in rows]
    assert sum(int(row["cost_nano"]) for row in rows) == sum(entry["cost_nano"] for entry in told)
    assert (
        await plane.client.get("/admin/ledger/export", headers=headers, params={"format": "json", "until": "1d"})
    ).json() == []


async def test_tampering_is_found(plane: Plane, tmp_path: Path) -> None:
    """A figure changed behind the ledger's back is named, with both figures."""
    await plane.ok("POST", "/admin/budgets", {"owner": plane.caller[3:15], "amount": "1usd"})
    await chat(plane, 1)
    assert await plane.ok("GET", "/admin/ledger/verify") == {"is_clean": True, "findings": []}
    db = apsw.Connection(str(tmp_path / "home" / "naru.db"))
    db.execute("UPDATE scope SET spent_nano = spent_nano + 1")
    db.execute("UPDATE rollup_hour SET cost_nano = cost_nano + 1")
    db.close()
    found = await plane.ok("GET", "/admin/ledger/verify")
    assert found["is_clean"] is False
    assert {finding[:3] for finding in found["findings"]} == {"I9:", "I11"}


async def test_prices_have_a_source(plane: Plane) -> None:
    """Of each deployment, with version and rows."""
    prices = (await plane.ok("GET", "/admin/prices"))["data"]
    (echo,) = [each for each in prices if each["model"] == "sandbox/echo"]
    assert echo["price"]["version"]
    assert echo["price"]["rows"][0]["rate"]["input"] >= 0


async def test_a_viewer_sees_figures_and_no_words(plane: Plane) -> None:
    """What people wrote, where it is kept, needs an admin."""
    await chat(plane, 1)
    (entry,) = await plane.gateway.entries()
    store = plane.gateway.app.control.store
    await_done = store._database.write(  # type: ignore[attr-defined]
        lambda db: db.execute(
            "UPDATE ledger_entry SET content = ?", (msgspec.json.encode("words").decode(),)
        ).fetchall()
    )
    await_done.result(5)
    viewer = (await plane.key("eve", role="viewer"))["key"]
    path = f"/admin/requests/{entry.request_id}"
    assert "content" not in (await plane.ask("GET", path, key=viewer))[1]
    assert (await plane.ok("GET", path))["content"] == '"words"'
