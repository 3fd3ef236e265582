"""What the control plane can do, free of HTTP: keys, usage, requests. The admin API and the CLI are thin layers over it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from naru import keys
from naru.clock import Clock
from naru.errors import BadRequest, NotFound
from naru.gateway.auth import Auth
from naru.storage.port import Store
from naru.storage.records import KeyRecord, UsageRow

NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
SPAN = re.compile(r"(\d{1,6})([smhdw])")
SPAN_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
GROUPINGS = ("key", "model", "deployment", "day")


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """What POST /admin/keys takes. `expires` is a span such as 30d; `models` limits the key to these names."""

    name: str
    role: str = "caller"
    expires: str | None = None
    models: list[str] = []
    team: str | None = None


class Control:
    def __init__(self, store: Store, auth: Auth, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        self.store = store
        self.auth = auth
        self.clock = clock
        self.entropy = entropy

    async def create_key(self, new: NewKey) -> tuple[KeyRecord, str]:
        """The record, and the key's text, which is not kept anywhere. It works as soon as this returns."""
        if not NAME.fullmatch(new.name):
            raise BadRequest("A key's name is 1 to 100 printable characters.", param="name")
        if new.role not in keys.PREFIXES:
            raise BadRequest("A key's role is caller or admin.", param="role")
        now = self.clock.now()
        expires_at = now + span_s(new.expires, "expires") if new.expires else None
        minted = keys.mint(new.role, self.entropy(keys.ENTROPY_BYTES))
        digest = keys.digest(self.auth.pepper, minted.secret)
        record = KeyRecord(minted.id, new.name, digest, new.role, now, expires_at, None, tuple(new.models), new.team)
        await asyncio.wrap_future(self.store.add_key(record))
        self.auth.put(record)
        return record, minted.text

    def list_keys(self) -> list[KeyRecord]:
        return sorted(self.auth.records.values(), key=lambda record: (record.created_at, record.id))

    def find_key(self, reference: str) -> KeyRecord:
        """By id, or by name when only one key has it."""
        found = self.auth.records.get(reference)
        if found is not None:
            return found
        named = [record for record in self.auth.records.values() if record.name == reference]
        if len(named) > 1:
            raise BadRequest(
                f"{len(named)} keys are named {reference!r}. Use the id: {', '.join(r.id for r in named)}."
            )
        if not named:
            raise NotFound(f"There is no key {reference[:100]!r}. `naru keys list` shows them.", code="key_not_found")
        return named[0]

    async def revoke_key(self, reference: str) -> KeyRecord:
        """Refused from the next request on; requests under way finish. Revoking twice changes nothing."""
        record = self.find_key(reference)
        if record.revoked_at is None:
            now = self.clock.now()
            record = msgspec.structs.replace(record, revoked_at=now)
            await asyncio.wrap_future(self.store.save_key(record))
            self.auth.put(record)
        return record

    async def usage(
        self, by: str = "model", since: str = "30d", until: str = "", key_id: str | None = None
    ) -> list[UsageRow]:
        if by not in GROUPINGS:
            raise BadRequest(f"Usage is grouped by one of {', '.join(GROUPINGS)}.", param="by")
        now = self.clock.now()
        begin, end = moment(since, now, "since"), moment(until, now, "until") if until else now + 1
        return await asyncio.wrap_future(self.store.usage(by, begin, end, key_id))

    async def requests(self, since: str = "30d", limit: int = 50) -> list[dict[str, Any]]:
        if not 1 <= limit <= 1000:
            raise BadRequest("limit is 1 to 1000.", param="limit")
        now = self.clock.now()
        entries = await asyncio.wrap_future(self.store.entries(moment(since, now, "since"), now + 1, limit))
        return [msgspec.to_builtins(entry) for entry in entries]


def span_s(text: str, param: str) -> int:
    """Seconds of a span such as 30d."""
    match = SPAN.fullmatch(text.strip())
    if match is None:
        raise BadRequest(
            f"{text[:40]!r} is not a span of time. Write a number and s, m, h, d or w, as in 30d.", param=param
        )
    return int(match[1]) * SPAN_S[match[2]]


def moment(text: str, now: float, param: str) -> float:
    """Unix seconds of a span before now (7d) or of a date (2026-11-21, UTC)."""
    match = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})", text.strip())
    if match is None:
        return now - span_s(text, param)
    try:
        return datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC).timestamp()
    except ValueError:
        raise BadRequest(f"{text!r} is not a date.", param=param) from None
