"""Answers in this process's memory: bounded in bytes, and those asked for longest ago go first."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from naru.cache.answers import Cached, StoreFigures
from naru.clock import Clock

MAX_BYTES = 256 * 1024 * 1024
#: What an entry costs beside its bytes: the objects and the slot in the table.
OVERHEAD_BYTES = 800


class _Kept(Struct, gc=False):
    cached: Cached
    size: int
    until: float


class MemoryStore:
    """See answers.CacheStore. Time runs on the monotonic clock: a wall clock set back keeps nothing alive."""

    def __init__(self, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        self.clock = clock
        self.max_bytes = max_bytes
        self.figures = StoreFigures(entries=0, bytes=0)
        self._bytes = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()

    async def get(self, key: bytes) -> Cached | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if self.clock.monotonic() >= kept.until:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return kept.cached

    async def put(self, key: bytes, cached: Cached, ttl_s: int) -> None:
        """An answer larger than all the room there is leaves the others alone."""
        size = _size(key, cached)
        if key in self._kept:
            self._forget(key)
        if size > self.max_bytes:
            return
        self._kept[key] = _Kept(cached, size, self.clock.monotonic() + ttl_s)
        self._count(size)
        while self._bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))
            self.figures.evicted += 1

    async def clear(self) -> int:
        count = len(self._kept)
        self._kept.clear()
        self._count(-self._bytes)
        return count

    async def close(self) -> None:
        """Nothing to close."""

    def _forget(self, key: bytes) -> None:
        self._count(-self._kept.pop(key).size)

    def _count(self, size: int) -> None:
        self._bytes += size
        self.figures.bytes, self.figures.entries = self._bytes, len(self._kept)


def _size(key: bytes, cached: Cached) -> int:
    return len(key) + len(cached.body) + sum(len(name) + len(value) for name, value in cached.headers) + OVERHEAD_BYTES
