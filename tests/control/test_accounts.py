"""Organisations and teams, and that their money is theirs alone."""

from __future__ import annotations

from tests.control.plane import Plane


async def test_accounts_are_made_changed_and_closed(plane: Plane) -> None:
    """A team under an organisation; names are unique; a closed one takes no keys and stays in the list."""
    org = await plane.ok("POST", "/admin/accounts", {"name": "acme", "kind": "organisation", "time_zone": "Asia/Seoul"})
    team = await plane.ok("POST", "/admin/accounts", {"name": "web", "parent": "acme"})
    assert team["parent"] == org["id"]
    assert (await plane.refused("POST", "/admin/accounts", {"name": "web"}))[:2] == (409, "account_exists")
    assert (await plane.refused("POST", "/admin/accounts", {"name": "x", "parent": "web"}))[0] == 400
    changed = await plane.ok("PATCH", "/admin/accounts/web", {"name": "www", "limits": {"rpm": 10}})
    assert (changed["name"], changed["limits"]["rpm"], changed["parent"]) == ("www", 10, org["id"])
    assert (await plane.refused("DELETE", "/admin/accounts/acme"))[:2] == (409, "account_in_use")
    key = await plane.key("k", account="www")
    assert (await plane.refused("DELETE", "/admin/accounts/www"))[:2] == (409, "account_in_use")
    closed = await plane.ok("DELETE", "/admin/accounts/www", query={"revoke_keys": "true"})
    assert (closed["state"], closed["revoked_keys"], closed["active_keys"]) == ("closed", 1, 0)
    assert (await plane.chat(key["key"]))[0] == 401
    assert (await plane.refused("POST", "/admin/keys", {"name": "k2", "team": "www"}))[:2] == (409, "account_closed")
    await plane.ok("DELETE", "/admin/accounts/acme")


async def test_who_may_not_revoke_one_key_closes_nothing(plane: Plane) -> None:
    """An account with a control key in it, closed by an admin who may not touch that one."""
    await plane.ok("POST", "/admin/accounts", {"name": "web"})
    caller = await plane.key("k", account="web")
    await plane.key("watcher", account="web", role="viewer")
    admin = await plane.key("ops", role="admin")
    query = {"revoke_keys": "true"}
    status, answer = await plane.ask("DELETE", "/admin/accounts/web", key=admin["key"], query=query)
    assert (status, answer["error"]["code"]) == (403, "role_required")
    assert (await plane.chat(caller["key"]))[0] == 200


async def test_a_name_that_a_team_and_a_key_have_is_not_guessed(plane: Plane) -> None:
    team = await plane.ok("POST", "/admin/accounts", {"name": "both"})
    await plane.key("both")
    status, _, message = await plane.refused("POST", "/admin/budgets", {"owner": "both", "amount": "1usd"})
    assert (status, team["id"] in message) == (400, True)
    await plane.ok("POST", "/admin/budgets", {"owner": team["id"], "amount": "1usd"})


async def test_a_budget_above_holds_for_all_below(plane: Plane) -> None:
    """The organisation's budget stops a key of its team, and says whose it is."""
    await plane.ok("POST", "/admin/accounts", {"name": "acme", "kind": "organisation"})
    await plane.ok("POST", "/admin/accounts", {"name": "web", "parent": "acme"})
    key = await plane.key("k", account="web")
    other = await plane.key("other")
    await plane.ok("POST", "/admin/budgets", {"owner": "acme", "amount": "0.0001usd", "mode": "strict"})
    status, answer = await plane.chat(key["key"], max_tokens=10_000)
    assert (status, answer["error"]["code"]) == (402, "budget_exceeded")
    assert "the organisation acme" in answer["error"]["message"]
    assert (await plane.chat(other["key"], max_tokens=10_000))[0] == 200


async def test_two_tenants_see_nothing_of_each_other(plane: Plane) -> None:
    """Usage, budgets, credits and codes of one key or team are not in what another is told."""
    one = await plane.key("one", team="red", budget="1usd")
    assert one["limits"] == {"rpm": None, "tpm": None, "concurrency": None}
    two = await plane.key("two", team="blue", budget="2usd")
    await plane.ok("POST", "/admin/accounts/one/credits", {"amount": "1usd"})
    await plane.ok("POST", "/admin/accounts/blue/credits", {"amount": "7usd"})
    for _ in range(3):
        assert (await plane.chat(one["key"]))[0] == 200
    assert (await plane.chat(two["key"]))[0] == 200
    await plane.gateway.entries()
    _, own = await plane.ask("GET", "/v1/usage", key=two["key"])
    assert [row["requests"] for row in own["data"]] == [1]
    assert [budget["amount_usd"] for budget in own["budgets"]] == ["2.00"]
    assert own["credits"] is None
    assert own["limits"] == one["limits"]
    # Filters that would name another's keys are the admin API's alone.
    for query in ({"key": "one"}, {"account": "red"}):
        _, still = await plane.ask("GET", "/v1/usage", key=two["key"], query=query)
        assert still["data"] == own["data"]
    by_team = {
        team: (await plane.ok("GET", "/admin/usage", query={"account": team}))["data"][0]["requests"]
        for team in ("red", "blue")
    }
    assert by_team == {"red": 3, "blue": 1}
    found = await plane.ok("GET", "/admin/requests", query={"team": "blue"})
    assert {entry["key_id"] for entry in found["data"]} == {two["id"]}


async def test_an_empty_team_has_used_nothing(plane: Plane) -> None:
    """Not everything, as a filter that is left out would say."""
    await plane.ok("POST", "/admin/accounts", {"name": "empty"})
    await plane.chat(plane.caller)
    await plane.gateway.entries()
    for path in ("/admin/usage", "/admin/requests"):
        assert (await plane.ok("GET", path, query={"account": "empty"}))["data"] == []
