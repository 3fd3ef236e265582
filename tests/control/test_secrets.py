"""What is told once is nowhere afterwards: not in an answer, the audit log, the program's log, or the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from naru import keys as key_form
from tests.control.plane import Plane


def parts_of(key: str) -> set[str]:
    """The text, its secret, in any form that would let somebody in."""
    found = key_form.parse(key.encode())
    assert found is not None
    return {key, found[1]}


async def test_secrets_are_told_once(plane: Plane, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Keys, codes and what they are kept as, after every kind of call, also refused ones."""
    with structlog.testing.capture_logs() as logs:
        made = await plane.key("alice", team="red", budget="1usd")
        rotated = await plane.ok("POST", "/admin/keys/alice/rotate", {})
        admin = await plane.key("ops", role="admin")
        code = await plane.ok("POST", "/admin/codes", {"amount": "5usd"})
        spare = await plane.ok("POST", "/admin/codes", {"amount": "5usd"})
        await plane.ask("POST", "/v1/credits/redeem", {"code": code["code"]}, rotated["key"])
        await plane.refused("POST", "/v1/credits/redeem", {"code": code["code"]}, rotated["key"])
        await plane.refused("GET", "/admin/keys", key=made["key"])
        await plane.refused("POST", "/admin/keys", {"name": "x", "role": "owner"}, admin["key"])
        await plane.refused("GET", f"/admin/keys/{plane.owner[:-1]}")
        await plane.chat(rotated["key"], user="canary-user-7f3a")
        await plane.chat(rotated["key"], model="nothing")
        await plane.gateway.entries()
        seen = await everything(plane)
    secrets = {code["code"], code["code"].replace("-", ""), spare["code"], spare["code"].replace("-", "")}
    for each in (made["key"], rotated["key"], admin["key"], plane.owner, plane.caller):
        secrets |= parts_of(each)
    digests = {record.digest.hex() for record in plane.gateway.app.control.desk.auth.records.values()}
    printed = capfd.readouterr()
    places = {"answers": seen, "log": str(logs), "output": printed.out + printed.err}
    files = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert "alice" in seen
    assert [(where, len(each)) for where, text in places.items() for each in secrets | digests if each in text] == []
    assert [len(each) for each in secrets if each.encode() in files] == []
    assert "canary-user-7f3a" not in seen
    assert b"canary-user-7f3a" not in files


async def everything(plane: Plane) -> str:
    paths = [
        *(
            f"/admin/{part}"
            for part in ("keys", "accounts", "credits", "codes", "budgets", "usage", "requests", "audit")
        ),
        *(f"/admin/{part}" for part in ("deployments", "prices", "ledger/verify", "ledger/export", "keys/alice")),
        *("/admin/accounts/red", "/admin/accounts/alice/credits", "/metrics"),
    ]
    texts = []
    for path in paths:
        answer = await plane.client.get(path, headers={"authorization": f"Bearer {plane.owner}"})
        assert answer.status_code == 200, path
        texts.append(answer.text)
    own = await plane.client.get("/v1/usage", headers={"authorization": f"Bearer {plane.caller}"})
    return "\n".join([*texts, own.text])


async def test_a_digest_is_no_key(plane: Plane) -> None:
    """Who reads the store cannot come in with what it holds."""
    record = next(iter(plane.gateway.app.control.desk.auth.records.values()))
    for text in (record.digest.hex(), f"nka-{record.id}-{record.digest.hex()}"):
        assert (await plane.ask("GET", "/admin/keys", key=text))[0] == 401
