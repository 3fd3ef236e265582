"""Keys over the admin API: made, changed, rotated, revoked; where they may be used from."""

from __future__ import annotations

from pathlib import Path

import pytest

from naru.testing.clock import FakeClock
from naru.transport.peer import caller_address
from tests.control.plane import Plane, control_plane


async def test_a_key_is_shown_as_it_was_asked_for(plane: Plane) -> None:
    """Every field comes back, its team is made, its budget is there; the secret is told once."""
    asked = {
        "models": ["sandbox/echo"],
        "addresses": ["127.0.0.1", "10.0.0.0/8"],
        "limits": {"rpm": 60, "tpm": 1000, "concurrency": 2},
        "metadata": {"app": "chat"},
    }
    made = await plane.key("alice", team="research", expires="30d", budget="5usd/month", **asked)
    shown = await plane.ok("GET", "/admin/keys/alice")
    assert shown["addresses"] == ["127.0.0.1/32", "10.0.0.0/8"]
    assert {name: shown[name] for name in ("models", "limits", "metadata")} == {
        name: asked[name] for name in ("models", "limits", "metadata")
    }
    assert (shown["account_name"], shown["state"], shown["role"]) == ("research", "active", "caller")
    assert shown["expires_at"] - shown["created_at"] == pytest.approx(30 * 86_400, abs=5)
    assert [(b["amount_usd"], b["window"]) for b in shown["budgets"]] == [("5.00", "month")]
    assert made["key"].startswith(f"nk-{made['id']}-")
    assert (await plane.chat(made["key"]))[0] == 200
    assert [action for action, _ in await plane.audit()][:3] == ["key.create", "budget.create", "account.create"]


async def test_a_wrong_part_leaves_nothing_behind(plane: Plane) -> None:
    """No key without its budget, no team without its key."""
    before = await plane.state()
    for wrong in ({"budget": "5eur"}, {"expires": "never"}, {"addresses": ["10.0.0.1/8"]}, {"account": "nowhere"}):
        fields = {"name": "x", **({"team": "new"} if "account" not in wrong else {}), **wrong}
        assert (await plane.ask("POST", "/admin/keys", fields))[0] in (400, 404)
    assert await plane.state() == before


async def test_what_is_not_sent_stays(plane: Plane) -> None:
    """A change changes what it names; null lifts an end."""
    made = await plane.key("bob", expires="1d", limits={"rpm": 5})
    assert (await plane.ok("PATCH", "/admin/keys/bob", {"name": "bo"}))["limits"]["rpm"] == 5
    changed = await plane.ok("PATCH", "/admin/keys/bo", {"expires": None, "models": ["none"], "limits": {"tpm": 9}})
    assert (changed["expires_at"], changed["limits"]) == (None, {"rpm": None, "tpm": 9, "concurrency": None})
    status, answer = await plane.chat(made["key"])
    assert (status, answer["error"]["code"]) == (403, "model_not_allowed")


async def test_rotation_keeps_the_money_and_ends_the_old_secret(tmp_path: Path) -> None:
    """One budget over both secrets, both working for the overlap, then the new one alone; usage is of both."""
    clock = FakeClock()
    async with control_plane(tmp_path, clock=clock) as plane:
        old = await plane.key("carol", budget="0.001usd", limits={"rpm": 100})
        assert (await plane.chat(old["key"]))[0] == 200
        spent = (await plane.ok("GET", "/admin/keys/carol"))["budgets"][0]["spent_nano"]
        assert spent > 0
        new = await plane.ok("POST", "/admin/keys/carol/rotate", {"overlap": "1h"})
        assert (new["owner"], new["limits"]["rpm"]) == (old["id"], 100)
        assert new["replaces"]["expires_at"] == clock.now() + 3600
        await plane.ok("PATCH", "/admin/keys/carol", {"limits": {"rpm": 50}})
        for made in (old, new):
            assert (await plane.ok("GET", f"/admin/keys/{made['id']}"))["limits"]["rpm"] == 50
        for key in (old["key"], new["key"]):
            assert (await plane.chat(key))[0] == 200
        (budget,) = (await plane.ok("GET", "/admin/keys/carol"))["budgets"]
        assert budget["spent_nano"] == 3 * spent
        await plane.gateway.entries()
        status, usage = await plane.ask("GET", "/v1/usage", key=new["key"])
        assert (status, usage["data"][0]["requests"], usage["budgets"][0]["spent_nano"]) == (200, 3, 3 * spent)
        clock.advance(3600)
        assert (await plane.chat(old["key"]))[0] == 401
        assert (await plane.chat(new["key"]))[0] == 200
        assert (await plane.refused("POST", f"/admin/keys/{old['id']}/rotate", {}))[:2] == (409, "key_inactive")


async def test_a_revoked_key_is_refused_at_once(plane: Plane) -> None:
    """Twice changes nothing, and is noted once."""
    made = await plane.key("dave")
    first = await plane.ok("DELETE", "/admin/keys/dave")
    assert (await plane.chat(made["key"]))[0] == 401
    assert await plane.ok("DELETE", f"/admin/keys/{made['id']}") == first
    assert [action for action, _ in await plane.audit()].count("key.revoke") == 1


async def test_a_name_that_two_keys_have_is_not_guessed(plane: Plane) -> None:
    one, two = await plane.key("twin"), await plane.key("twin")
    status, _, message = await plane.refused("GET", "/admin/keys/twin")
    assert (status, one["id"] in message, two["id"] in message) == (400, True, True)


@pytest.mark.parametrize("way", ["chat", "side"])
async def test_a_key_works_from_its_addresses_only(plane: Plane, way: str) -> None:
    """On the hot paths and beside them. What a proxy on this machine names counts; its caller's own claim before that does
    not."""
    near = await plane.key("near", addresses=["127.0.0.1"])
    far = await plane.key("far", addresses=["10.1.0.0/16"])

    async def status(key: str, forwarded: str = "") -> int:
        headers = {"authorization": f"Bearer {key}"} | ({"x-forwarded-for": forwarded} if forwarded else {})
        if way == "side":
            return (await plane.client.get("/v1/models", headers=headers)).status_code
        body = {"model": "sandbox/echo", "messages": [{"role": "user", "content": "x"}]}
        return (await plane.client.post("/v1/chat/completions", json=body, headers=headers)).status_code

    assert await status(near["key"]) == 200
    assert await status(far["key"]) == 403
    assert await status(far["key"], "10.1.2.3") == 200
    assert await status(far["key"], "10.1.2.3, 192.0.2.7") == 403
    assert await status(near["key"], "192.0.2.7") == 403


async def test_the_refusal_names_the_address(plane: Plane) -> None:
    far = await plane.key("far", addresses=["10.1.0.0/16"])
    status, answer = await plane.chat(far["key"])
    assert (status, answer["error"]["code"]) == (403, "address_not_allowed")
    assert "127.0.0.1" in answer["error"]["message"]


async def test_admin_keys_have_addresses_too(plane: Plane) -> None:
    made = await plane.key("ops", role="viewer", addresses=["10.1.0.0/16"])
    assert (await plane.refused("GET", "/admin/keys", key=made["key"]))[:2] == (403, "address_not_allowed")


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "10.0.0.1", "192.0.2.1"),
        ("127.0.0.1", "10.0.0.1", "10.0.0.1"),
        ("::1", "10.0.0.1, 10.0.0.2", "10.0.0.2"),
        ("::ffff:192.0.2.1", None, "192.0.2.1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("127.0.0.1", "unknown", "None"),
        ("", "10.0.0.1", "None"),
    ],
)
def test_whose_word_on_an_address_counts(peer: str, forwarded: str | None, found: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert str(caller_address(headers, peer)) == found
