"""The port of the response cache: what an answer is while it is kept, and what keeps it."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Saved(Struct, frozen=True, array_like=True, gc=False):
    """What an answer came to when it was made, and a hit therefore saves. `deployment` is the id of who made it."""

    cost_nano: int
    input: int
    output: int
    deployment: str


class Cached(Struct, frozen=True, array_like=True, gc=False):
    """A whole answer of status 200. `headers` are those to tell again. `made_at` is in unix seconds."""

    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_stream: bool
    made_at: float
    saved: Saved


class StoreFigures(Struct):
    """`entries` and `bytes` are None where others share the store. `errors` counts what failed and was a miss instead."""

    entries: int | None = None
    bytes: int | None = None
    evicted: int = 0
    errors: int = 0


class CacheStore(Protocol):
    """Forgets what it likes, and fails nobody: what it cannot say is a miss, counted in its figures."""

    figures: StoreFigures

    async def get(self, key: bytes) -> Cached | None: ...

    async def put(self, key: bytes, cached: Cached, ttl_s: int) -> None: ...

    async def clear(self) -> int:
        """Forgets all answers and says how many. For the operator, so this one raises Overloaded where it cannot."""
        ...

    async def close(self) -> None: ...
