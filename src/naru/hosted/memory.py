"""What a run did before it handed a call over to its caller, who does not know of it and will not send it back.

For the key that got the answer and for nobody else; in this process only, the oldest forgotten first. Where it is forgotten, the
model goes on without it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from naru.agent.tool import Json

#: (key, digest of the caller's messages before, id of the first call that was handed over)
Place = tuple[str, bytes, str]

MAX_RUNS = 2_000
MAX_BYTES = 32 * 1024 * 1024


class Hidden:
    """Messages by where the handed-over call stands: behind which messages of the caller's, under which id. An id alone would not
    do: some models number the calls of every conversation from 0."""

    def __init__(self, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._bytes = 0
        self._runs: OrderedDict[Place, tuple[list[Json], int]] = OrderedDict()

    def keep(self, key_id: str, asked: Sequence[Json], call_id: str, messages: list[Json]) -> None:
        """`asked` are the caller's own messages; `messages` all that came after them: turns, results, and the answer whose
        first handed-over call is `call_id`."""
        before = _Before()
        for message in asked:
            before.add(message)
        place = (key_id, before.digest(), call_id)
        size = len(_bytes_of(messages))
        self._forget(place)
        if size > self._max_bytes:
            return
        self._runs[place] = messages, size
        self._bytes += size
        while len(self._runs) > self._max_runs or self._bytes > self._max_bytes:
            self._forget(next(iter(self._runs)))

    def restored(self, key_id: str, messages: Sequence[Json]) -> list[Json]:
        """The caller's messages, with what came before a handed-over call put back where it stood."""
        if not self._runs:
            return list(messages)
        found: list[Json] = []
        before = _Before()
        for message in messages:
            calls = message.get("tool_calls") if message.get("role") == "assistant" else None
            first = calls[0].get("id") if isinstance(calls, list) and calls and isinstance(calls[0], dict) else None
            place = (key_id, before.digest(), str(first)) if first else None
            before.add(message)
            kept = self._runs.get(place) if place is not None else None
            if kept is None or place is None:
                found.append(message)
                continue
            self._runs.move_to_end(place)
            found += kept[0]
        return found

    def _forget(self, place: Place) -> None:
        _, size = self._runs.pop(place, ([], 0))
        self._bytes -= size


class _Before:
    """The messages before a place, each looked at once however many places there are."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, message: Json) -> None:
        self._hash.update(_bytes_of(message))  # JSON objects end where they end: no two lists have the same bytes

    def digest(self) -> bytes:
        return self._hash.copy().digest()


def _bytes_of(value: Json | list[Json]) -> bytes:
    return msgspec.json.encode(value, order="sorted")
