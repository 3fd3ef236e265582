"""The times of one answer. Pure: the loop's clock is an argument."""

from __future__ import annotations


class Deadlines:
    """When to give up on one answer, on the loop's clock. The sink moves `first_s` away once content has come.

    `idle_s` is the longest silence after that; the sink calls `Connection.progress()` for every whole event it sees, so that
    neither keep-alive comments nor a drip of single bytes count as life (reliability.md A19).
    """

    __slots__ = ("first_at", "idle_s", "last_progress", "total_at")

    def __init__(self, now: float, first_s: float, idle_s: float, total_s: float) -> None:
        self.first_at: float | None = now + first_s
        self.total_at = now + total_s
        self.idle_s = idle_s
        self.last_progress = now

    def overdue(self, now: float) -> str | None:
        """The name of the deadline that has passed, or None."""
        if now >= self.total_at:
            return "total"
        if self.first_at is not None:
            return "first byte" if now >= self.first_at else None
        return "idle" if now - self.last_progress >= self.idle_s else None
