"""When a server that failed may be asked again."""

from __future__ import annotations

from msgspec import Struct

FIRST_S = 0.5
LONGEST_S = 30.0


class Failures(Struct, frozen=True):
    """In a row: a connection that could not be made, or that ended while it was in use. `last_s` is on a monotonic clock."""

    count: int = 0
    last_s: float = 0.0

    def another(self, now_s: float) -> Failures:
        return Failures(self.count + 1, now_s)

    def wait_s(self, now_s: float) -> float:
        """0: now. After one failure at once, since most servers that died start again well; then 0.5, 1, 2 … 30 seconds."""
        if self.count <= 1:
            return 0.0
        pause_s = min(FIRST_S * 2.0 ** min(self.count - 2, 10), LONGEST_S)
        return max(0.0, self.last_s + pause_s - now_s)
