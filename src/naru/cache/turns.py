"""Turns of conversations, kept in memory for the callers whose clients drop their reasoning (protocol.replay).

A turn lives for `TTL_S` after it was last asked for; past `max_bytes` those go first that were asked for longest ago. A
caller never sees another's: the caller's key is part of every key here.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from naru.clock import Clock
from naru.protocol.replay import Turn

#: A tool loop with a person in it may rest for a night.
TTL_S = 12 * 3600
MAX_BYTES = 64 * 1024 * 1024
#: What an entry costs beside its text: the objects and the slot in the table.
OVERHEAD_BYTES = 600


class _Kept(Struct, gc=False):
    turn: Turn
    size: int
    until: float


class TurnStore:
    """Bounded memory of turns. `of` gives one caller's view of it."""

    def __init__(self, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        self.clock = clock
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, caller: str) -> CallerTurns:
        return CallerTurns(self, caller)

    def get(self, caller: str, key: str) -> Turn | None:
        place = (caller, key)
        kept = self._kept.get(place)
        if kept is None:
            return None
        now = self.clock.monotonic()
        if now >= kept.until:
            self._forget(place)
            return None
        kept.until = now + TTL_S
        self._kept.move_to_end(place)
        return kept.turn

    def put(self, caller: str, key: str, turn: Turn) -> None:
        """A turn that would not leave room for others is not kept."""
        size = _size(key, turn)
        if size > self.max_bytes // 4:
            return
        place = (caller, key)
        if place in self._kept:
            self._forget(place)
        self._kept[place] = _Kept(turn, size, self.clock.monotonic() + TTL_S)
        self.bytes += size
        while self.bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, place: tuple[str, str]) -> None:
        self.bytes -= self._kept.pop(place).size


class CallerTurns:
    """See protocol.replay.Memory."""

    __slots__ = ("_caller", "_store")

    def __init__(self, store: TurnStore, caller: str) -> None:
        self._store = store
        self._caller = caller

    def recall(self, key: str) -> Turn | None:
        return self._store.get(self._caller, key)

    def remember(self, key: str, turn: Turn) -> None:
        self._store.put(self._caller, key, turn)


def _size(key: str, turn: Turn) -> int:
    """Bytes of UTF-8 at most: four for each character."""
    chars = len(key) + sum(len(call) + len(signature) for call, signature in turn.signatures.items())
    for part in turn.reasoning:
        chars += len(part.text) + len(part.signature or "") + len(part.encrypted or "")
    return 4 * chars + OVERHEAD_BYTES
