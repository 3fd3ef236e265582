"""Every route of the application by every kind of caller, against a table. A route without a row fails."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.routing import Route

from naru.endpoints import HOT, PATTERNS
from tests.control.plane import Plane, control_plane

ANYONE, CALLER, VIEWER, ADMIN = "anyone", "caller", "viewer", "admin"

#: What the least is that a caller must be.
EXPECTED = {
    ("GET", "/"): ANYONE,
    ("GET", "/livez"): ANYONE,
    ("GET", "/readyz"): ANYONE,
    ("GET", "/healthz"): ANYONE,
    ("GET", "/metrics"): ANYONE,
    ("POST", "/v1/chat/completions"): CALLER,
    ("POST", "/v1/completions"): CALLER,
    ("POST", "/v1/responses"): CALLER,
    ("POST", "/v1/messages"): CALLER,
    ("POST", "/v1/embeddings"): CALLER,
    ("POST", "/v1/rerank"): CALLER,
    ("POST", "/v1/audio/transcriptions"): CALLER,
    ("POST", "/v1/audio/translations"): CALLER,
    ("POST", "/v1/audio/speech"): CALLER,
    ("POST", "/v1/images/generations"): CALLER,
    ("POST", "/v1/images/edits"): CALLER,
    ("POST", "/v1beta/models/{model}:generateContent"): CALLER,
    ("POST", "/v1beta/models/{model}:streamGenerateContent"): CALLER,
    ("POST", "/v1/models/{model}:generateContent"): CALLER,
    ("POST", "/v1/models/{model}:streamGenerateContent"): CALLER,
    ("GET", "/v1/models"): CALLER,
    ("GET", "/v1/models/{model:path}"): CALLER,
    ("POST", "/v1/models/{model:path}"): CALLER,
    ("POST", "/v1/models/{model:path}:countTokens"): CALLER,
    ("GET", "/v1beta/models"): CALLER,
    ("GET", "/v1beta/models/{model:path}"): CALLER,
    ("POST", "/v1beta/models/{model:path}"): CALLER,
    ("POST", "/v1beta/models/{model:path}:countTokens"): CALLER,
    ("POST", "/v1/messages/count_tokens"): CALLER,
    ("POST", "/v1/responses/input_tokens"): CALLER,
    ("POST", "/v1/responses/compact"): CALLER,
    ("GET", "/v1/responses/{id}"): CALLER,
    ("DELETE", "/v1/responses/{id}"): CALLER,
    ("POST", "/v1/responses/{id}/cancel"): CALLER,
    ("GET", "/v1/responses/{id}/input_items"): CALLER,
    ("GET", "/v1/usage"): CALLER,
    ("POST", "/v1/credits/redeem"): CALLER,
    ("POST", "/v1/explain"): CALLER,
    ("GET", "/admin/keys"): VIEWER,
    ("POST", "/admin/keys"): ADMIN,
    ("GET", "/admin/keys/{key}"): VIEWER,
    ("PATCH", "/admin/keys/{key}"): ADMIN,
    ("DELETE", "/admin/keys/{key}"): ADMIN,
    ("POST", "/admin/keys/{key}/rotate"): ADMIN,
    ("GET", "/admin/accounts"): VIEWER,
    ("POST", "/admin/accounts"): ADMIN,
    ("GET", "/admin/accounts/{account}"): VIEWER,
    ("PATCH", "/admin/accounts/{account}"): ADMIN,
    ("DELETE", "/admin/accounts/{account}"): ADMIN,
    ("GET", "/admin/accounts/{account}/credits"): VIEWER,
    ("POST", "/admin/accounts/{account}/credits"): ADMIN,
    ("GET", "/admin/credits"): VIEWER,
    ("GET", "/admin/codes"): VIEWER,
    ("POST", "/admin/codes"): ADMIN,
    ("POST", "/admin/codes/redeem"): ADMIN,
    ("GET", "/admin/budgets"): VIEWER,
    ("POST", "/admin/budgets"): ADMIN,
    ("GET", "/admin/budgets/{budget}"): VIEWER,
    ("PATCH", "/admin/budgets/{budget}"): ADMIN,
    ("DELETE", "/admin/budgets/{budget}"): ADMIN,
    ("GET", "/admin/usage"): VIEWER,
    ("GET", "/admin/requests"): VIEWER,
    ("GET", "/admin/requests/{request}"): VIEWER,
    ("GET", "/admin/deployments"): VIEWER,
    ("GET", "/admin/prices"): VIEWER,
    ("GET", "/admin/engines"): VIEWER,
    ("POST", "/admin/engines/{engine}/restart"): ADMIN,
    ("POST", "/admin/engines/{engine}/stop"): ADMIN,
    ("GET", "/admin/cache"): VIEWER,
    ("DELETE", "/admin/cache"): ADMIN,
    ("GET", "/admin/config/reload"): VIEWER,
    ("POST", "/admin/config/reload"): ADMIN,
    ("GET", "/admin/audit"): VIEWER,
    ("GET", "/admin/ledger/verify"): VIEWER,
    ("GET", "/admin/ledger/export"): VIEWER,
}
CALLERS = ("nobody", "caller", "viewer", "admin", "owner")
RANK = {"viewer": 1, "admin": 2, "owner": 3}


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path) as found:
        yield found


def routes_of(plane: Plane) -> set[tuple[str, str]]:
    found = {("POST", path) for path in HOT} | {("POST", f"{prefix}{{model}}{end}") for prefix, end, _ in PATTERNS}
    for route in plane.gateway.app.web.routes:
        assert isinstance(route, Route), f"{route} is of a kind that this test does not know"
        found |= {(method, route.path) for method in (route.methods or ()) if method != "HEAD"}
    return found


async def test_every_route_has_a_row(plane: Plane) -> None:
    """A new route says here who may use it."""
    assert routes_of(plane) == set(EXPECTED)


def wanted(least: str, caller: str) -> tuple[int, str] | None:
    """(status, words) of the refusal; None where the caller is let in. Codes stand elsewhere in each protocol."""
    if least == ANYONE:
        return None
    if caller == "nobody":
        return 401, "No API key was sent"
    if least == CALLER:
        return None if caller == "caller" else (403, "it cannot call models")
    if caller == "caller":
        return 403, "This needs an admin key"
    return None if RANK[caller] >= RANK[least] else (403, f"this needs the role {least}")


async def test_every_route_by_every_role(plane: Plane) -> None:
    """Who is not meant is refused by name, before anything of the request is looked at; who is meant gets past the door."""
    keys = {"nobody": "", "caller": plane.caller, "owner": plane.owner}
    for role in ("viewer", "admin"):
        keys[role] = (await plane.key(role, role=role))["key"]
    wrong = []
    for method, path in sorted(routes_of(plane)):
        for caller in CALLERS:
            url = re.sub(r"\{[^}]*\}", "nothing", path)
            headers = {"authorization": f"Bearer {keys[caller]}"} if keys[caller] else {}
            answer = await plane.client.request(method, url, content=b"{}" if method != "GET" else b"", headers=headers)
            refusal = wanted(EXPECTED[method, path], caller)
            if refusal is None:
                is_right = answer.status_code not in (401, 403) and answer.status_code < 500
            else:
                is_right = answer.status_code == refusal[0] and refusal[1] in answer.text
            if not is_right:
                wrong.append((method, path, caller, answer.status_code, answer.text[:200]))
    assert wrong == []


async def test_only_an_owner_touches_keys_of_the_control_plane(plane: Plane) -> None:
    """An admin cannot make itself an owner, nor end one."""
    admin = (await plane.key("ops", role="admin"))["key"]
    owner_id = plane.owner.removeprefix("nka-")[:12]
    for role in ("viewer", "admin", "owner"):
        assert (await plane.refused("POST", "/admin/keys", {"name": "x", "role": role}, admin))[:2] == (
            403,
            "role_required",
        )
    for method, path, body in (
        ("DELETE", f"/admin/keys/{owner_id}", None),
        ("PATCH", f"/admin/keys/{owner_id}", {"name": "mine"}),
        ("POST", f"/admin/keys/{owner_id}/rotate", {}),
        ("DELETE", "/admin/keys/ops", None),
    ):
        assert (await plane.refused(method, path, body, admin))[:2] == (403, "role_required")
    assert (await plane.ask("POST", "/admin/keys", {"name": "y"}, admin))[0] == 200
    assert {key["state"] for key in (await plane.ok("GET", "/admin/keys"))["data"]} == {"active"}
