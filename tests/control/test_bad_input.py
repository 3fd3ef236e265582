"""What is wrong is refused by name, changes nothing, and never ends as a 500."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from tests.control.plane import Plane, control_plane

NASTY = {
    "sql": "x'); DROP TABLE key; --",
    "sql sleep": "' OR pg_sleep(3)--",
    "like": "%%%%_%",
    "line feed": "x\nlevel=error user=root",
    "escape": "x\x1b[31mred",
    "nul": "x\x00y",
    "bidi": "x\u202egnp.exe",
    "separator": "x\u2028y",
    "next line": "x\x85y",
    "formula": "=cmd|' /C calc'!A0",
    "template": "{{7*7}}${7*7}",
    "markup": "<script>alert(1)</script>",
    "long": "x" * 1_000,
    "megabyte": "x" * 1_000_000,
    "empty": "",
    "spaces": "   ",
}
#: These are words like others where words are wanted: kept as they are, and inert.
HARMLESS = {"sql", "sql sleep", "like", "formula", "template"}

#: Every text field of every body: (method, path, a body that is right, the fields).
FIELDS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("POST", "/admin/keys", {"name": "n"}, ["name", "role", "expires", "team", "account", "budget"]),
    ("PATCH", "/admin/keys/KEY", {}, ["name", "expires", "account", "team"]),
    ("POST", "/admin/keys/KEY/rotate", {}, ["overlap"]),
    ("POST", "/admin/accounts", {"name": "n"}, ["name", "kind", "parent", "time_zone"]),
    ("PATCH", "/admin/accounts/TEAM", {}, ["name", "parent", "time_zone"]),
    ("POST", "/admin/accounts/TEAM/credits", {"amount": "1usd"}, ["amount", "kind", "reference", "note"]),
    ("POST", "/admin/codes", {"amount": "1usd"}, ["amount", "expires", "note"]),
    ("POST", "/admin/codes/redeem", {"code": "c", "owner": "red"}, ["code", "owner"]),
    ("POST", "/admin/budgets", {"owner": "red", "amount": "1usd"}, ["owner", "amount", "window", "time_zone", "mode"]),
    ("PATCH", "/admin/budgets/BUDGET", {}, ["amount"]),
]
#: Fields in which the harmless ones are words like others.
FREE = {
    ("/admin/keys", "name"),
    ("/admin/keys", "team"),
    ("/admin/keys/KEY", "name"),
    ("/admin/keys/KEY", "team"),
    ("/admin/accounts", "name"),
    ("/admin/accounts/TEAM", "name"),
    ("/admin/accounts/TEAM/credits", "reference"),
    ("/admin/accounts/TEAM/credits", "note"),
    ("/admin/codes", "note"),
}
#: Where nothing said is nothing asked.
MAY_BE_EMPTY = {"reference", "note", "window"}


@pytest.fixture
async def peopled(tmp_path: Path) -> AsyncIterator[tuple[Plane, dict[str, str]]]:
    """With the ids of a key, its team and its budget."""
    async with control_plane(tmp_path) as plane:
        made = await plane.key("alice", team="red", budget="1usd")
        yield plane, {"KEY": made["id"], "TEAM": made["account"], "BUDGET": made["budgets"][0]["id"]}


#: These name something that is there; an ending keeps them from naming what an earlier case has made.
REFERENCES = {"account", "parent", "owner"}


def cases() -> list[tuple[str, str, dict[str, Any], str, str]]:
    return [
        (method, path, {**right, field: f"{text}!" if field in REFERENCES else text}, field, kind)
        for method, path, right, fields in FIELDS
        for field in fields
        for kind, text in NASTY.items()
    ]


def is_plain_words(path: str, field: str, kind: str) -> bool:
    """Whether what stands there may be kept: as words, and inert."""
    if kind in ("empty", "spaces"):
        return field in MAY_BE_EMPTY
    return (path, field) in FREE and (kind in HARMLESS or (kind == "markup" and field in ("reference", "note")))


async def test_every_text_field_of_every_body(peopled: tuple[Plane, dict[str, str]], tmp_path: Path) -> None:
    """Control characters, endless text and other languages' code: refused with nothing changed, or kept as plain words."""
    plane, ids = peopled
    wrong = []
    # Another connection's view of the file: its version is another one as soon as anything was written.
    file = apsw.Connection(str(tmp_path / "home" / "naru.db"))
    before = file.pragma("data_version")
    for method, path, body, field, kind in cases():
        url = re.sub("KEY|TEAM|BUDGET", lambda match: ids[match[0]], path)
        status, answer = await plane.ask(method, url, body)
        was, before = before, file.pragma("data_version")
        if status == 200 and is_plain_words(path, field, kind):
            continue
        message = answer.get("error", {}).get("message", "")
        is_named = 400 <= status < 500 and message and len(message) < 1_500 and "\n" not in message
        if not is_named or was != before:
            wrong.append((method, path, field, kind, status, str(answer)[:200]))
    file.close()
    assert wrong == []
    assert (await plane.ok("GET", "/admin/ledger/verify"))["is_clean"] is True
    assert (await plane.ask("GET", "/v1/models", key=plane.caller))[0] == 200


LISTS: list[tuple[str, dict[str, Any]]] = [
    ("/admin/keys", {"name": "n", "models": ["x\x00"]}),
    ("/admin/keys", {"name": "n", "models": [""]}),
    ("/admin/keys", {"name": "n", "models": ["m"] * 1_000}),
    ("/admin/keys", {"name": "n", "addresses": ["10.0.0.1/8"]}),
    ("/admin/keys", {"name": "n", "addresses": ["example.com"]}),
    ("/admin/keys", {"name": "n", "addresses": ["10.0.0.0/99"]}),
    ("/admin/keys", {"name": "n", "metadata": {"a\n": "b"}}),
    ("/admin/keys", {"name": "n", "metadata": {"a": "b" * 1_000}}),
    ("/admin/keys", {"name": "n", "metadata": {"a": 1}}),
    ("/admin/keys", {"name": "n", "limits": {"rpm": 0}}),
    ("/admin/keys", {"name": "n", "limits": {"rpm": -1}}),
    ("/admin/keys", {"name": "n", "limits": {"rpm": 1.5}}),
    ("/admin/keys", {"name": "n", "limits": {"rpm": 10**30}}),
    ("/admin/keys", {"name": "n", "limits": {"rpmm": 1}}),
    ("/admin/keys", {"name": "n", "principal": "other"}),
    ("/admin/keys", {"name": "n", "team": "red", "account": "red"}),
    ("/admin/keys", {"name": "n", "expires": "0d"}),
    ("/admin/keys", {"name": "n", "expires": "999999w"}),
    ("/admin/keys", {"name": "n", "expires": "-1d"}),
    ("/admin/budgets", {"owner": "red", "amount": "1usd", "alerts": [0]}),
    ("/admin/budgets", {"owner": "red", "amount": "1usd", "alerts": [-1]}),
    ("/admin/budgets", {"owner": "red", "amount": "1usd", "alerts": [0.5] * 50}),
    ("/admin/budgets", {"owner": "red", "amount": 1}),
    ("/admin/budgets", {"owner": "red", "amount": "1usd/day", "window": "month"}),
    ("/admin/accounts/red/credits", {"amount": "0usd"}),
    ("/admin/accounts/red/credits", {"amount": "-1usd"}),
    ("/admin/accounts/red/credits", {"amount": "-1usd", "kind": "refund"}),
    ("/admin/accounts/red/credits", {"amount": "1usd", "kind": "refund"}),
    ("/admin/accounts/red/credits", {"amount": "-1usd", "kind": "adjust"}),
    ("/admin/accounts/red/credits", {"amount": "1usd", "kind": "code"}),
    ("/admin/accounts/red/credits", {"amount": "1krw"}),
    ("/admin/accounts/red/credits", {"amount": "1usd", "at": 0}),
    ("/admin/codes", {"amount": "0usd"}),
    ("/admin/codes", {"amount": "-1usd"}),
]


@pytest.mark.parametrize(("path", "body"), LISTS, ids=[str(body)[:60] for _, body in LISTS])
async def test_wrong_values(peopled: tuple[Plane, dict[str, str]], path: str, body: dict[str, Any]) -> None:
    plane, _ = peopled
    before = await plane.state()
    status, code, message = await plane.refused("POST", path, body)
    assert (status in (400, 409), bool(code), bool(message)) == (True, True, True)
    assert await plane.state() == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"x"',
        b'{"name": "\\ud800"}',
        b'{"name": "\xff"}',
        b"[" * 50_000,
        b'{"name":' * 5_000,
    ],
    ids=lambda body: repr(body[:20]),
)
async def test_bodies_that_are_none(plane: Plane, body: bytes) -> None:
    """Told what fields there are; nothing is made."""
    before = await plane.state()
    for path in ("/admin/keys", "/admin/accounts", "/admin/budgets", "/admin/codes", "/admin/codes/redeem"):
        answer = await plane.client.post(path, content=body, headers={"authorization": f"Bearer {plane.owner}"})
        assert (answer.status_code, "fields are" in answer.text) == (400, True), answer.text
    assert await plane.state() == before


async def test_an_unknown_field_gets_the_nearest_name(plane: Plane) -> None:
    message = (await plane.refused("POST", "/admin/keys", {"name": "n", "expire": "1d"}))[2]
    assert "Did you mean expires?" in message


async def test_a_large_body_is_cut_short(plane: Plane) -> None:
    """413, on the admin API and for callers."""
    headers = {"authorization": f"Bearer {plane.owner}"}
    answer = await plane.client.post("/admin/keys", content=b"x" * 1_000_000, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    headers = {"authorization": f"Bearer {plane.caller}"}
    answer = await plane.client.post("/v1/credits/redeem", content=b"x" * 1_000_000, headers=headers)
    assert answer.status_code == 413


QUERIES = [
    ("/admin/usage", {"by": "user"}),
    ("/admin/usage", {"by": "key; DROP TABLE key"}),
    ("/admin/usage", {"since": "yesterday"}),
    ("/admin/usage", {"since": "2026-13-01"}),
    ("/admin/usage", {"since": "0000-00-00"}),
    ("/admin/usage", {"since": "0001-01-01", "tz": "Asia/Seoul", "until": "0001-01-01"}),
    ("/admin/usage", {"since": "1d", "until": "2d"}),
    ("/admin/usage", {"tz": "../../etc/passwd"}),
    ("/admin/usage", {"tz": "Asia/Seoul\x00"}),
    ("/admin/usage", {"tz": "x" * 10_000}),
    ("/admin/usage", {"account": "nowhere"}),
    ("/admin/usage", {"key": "' OR 1=1 --"}),
    ("/admin/requests", {"limit": "0"}),
    ("/admin/requests", {"limit": "1001"}),
    ("/admin/requests", {"limit": "9" * 5_000}),
    ("/admin/requests", {"limit": "٥"}),
    ("/admin/requests", {"limit": "-1"}),
    ("/admin/requests", {"cursor": "req_nothing"}),
    ("/admin/requests", {"cursor": "' OR 1=1 --"}),
    ("/admin/requests", {"outcome": "fine"}),
    ("/admin/audit", {"cursor": "abc"}),
    ("/admin/audit", {"cursor": "9" * 5_000}),
    ("/admin/ledger/export", {"format": "xlsx"}),
    ("/admin/ledger/export", {"since": "x"}),
    ("/admin/budgets", {"owner": "nobody"}),
]


@pytest.mark.parametrize(("path", "query"), QUERIES, ids=[f"{path} {str(query)[:50]}" for path, query in QUERIES])
async def test_wrong_queries(plane: Plane, path: str, query: dict[str, str]) -> None:
    status, answer = await plane.ask("GET", path, query=query)
    assert status in (400, 404), answer
    assert len(answer["error"]["message"]) < 1_000


@pytest.mark.parametrize(
    "name", ["%00", "..%2f..", "%27%20OR%201%3D1", "%ff%fe", "x" * 5_000, "%0d%0aset-cookie:a", "%25%25"]
)
async def test_names_in_paths(plane: Plane, name: str) -> None:
    """404 for what is not there, whatever it looks like; the answer has no line of its own."""
    for path in ("keys", "accounts", "budgets", "requests"):
        answer = await plane.client.get(f"/admin/{path}/{name}", headers={"authorization": f"Bearer {plane.owner}"})
        assert answer.status_code == 404, answer.text
        assert "set-cookie" not in answer.headers
        assert len(msgspec.json.decode(answer.content)["error"]["message"]) < 1_000


@pytest.mark.parametrize("host", ["evil.example/?", "admin", "127.0.0.1/livez?", "x/v1/models#"])
async def test_the_host_opens_no_door(plane: Plane, host: str) -> None:
    """What is asked for is the path that was sent; the Host header has no part in it."""
    request = f"GET /admin/keys HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    assert b" 401 " in (await plane.gateway.raw(request.encode())).split(b"\r\n")[0]
    # With a query in the authority the path is "/": what stands at the front door, and nothing of the keys.
    absolute = f"GET http://{host}/admin/keys HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert b'"role"' not in await plane.gateway.raw(absolute.encode())
