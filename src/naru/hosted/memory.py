"""What a run did before it handed a call over to its caller, who does not know of it and will not send it back.

For the key that got the answer and for nobody else; in this process only, the oldest forgotten first. Where it is forgotten, the
model goes on without it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from naru.agent.tool import Json

MAX_RUNS = 2_000
MAX_BYTES = 32 * 1024 * 1024


class Hidden:
    """Messages by the ids of the calls that were handed over."""

    def __init__(self, max_runs: int = MAX_RUNS, max_bytes: int = MAX_BYTES) -> None:
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._bytes = 0
        self._runs: OrderedDict[tuple[str, str], tuple[list[Json], int]] = OrderedDict()

    def keep(self, key_id: str, calls: Sequence[str], messages: list[Json], size: int) -> None:
        """`messages` are all that came after the caller's own: turns, results, and the answer with the handed-over `calls`."""
        if not calls or size > self._max_bytes:
            return
        self._forget((key_id, calls[0]))
        self._runs[key_id, calls[0]] = messages, size
        self._bytes += size
        while len(self._runs) > self._max_runs or self._bytes > self._max_bytes:
            self._forget(next(iter(self._runs)))

    def restored(self, key_id: str, messages: Sequence[Json]) -> list[Json]:
        """The caller's messages, with what came before a handed-over call put back where it stood."""
        found: list[Json] = []
        for message in messages:
            calls = message.get("tool_calls") if message.get("role") == "assistant" else None
            first = calls[0].get("id") if isinstance(calls, list) and calls and isinstance(calls[0], dict) else None
            kept = self._runs.get((key_id, str(first))) if first else None
            if kept is None:
                found.append(message)
                continue
            self._runs.move_to_end((key_id, str(first)))
            found += kept[0]
        return found

    def _forget(self, run: tuple[str, str]) -> None:
        _, size = self._runs.pop(run, ([], 0))
        self._bytes -= size
