"""A clock that stands still until it is told to move."""

from __future__ import annotations

#: 2026-01-01 00:00:00 UTC.
NEW_YEAR_2026_S = 1_767_225_600.0


class FakeClock:
    """A `naru.clock.Clock` for tests and rehearsals. All figures are seconds.

    `advance` moves both times, as real time does. `jump` moves wall time alone, either way: what an operator or NTP
    does to a machine, and what must grant nobody a second budget (reliability.md 1.6 E).
    """

    def __init__(self, now_s: float = NEW_YEAR_2026_S, monotonic_s: float = 1_000.0) -> None:
        self._now_s = now_s
        self._monotonic_s = monotonic_s

    def now(self) -> float:
        return self._now_s

    def monotonic(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Raises ValueError when `seconds` is negative: monotonic time never goes back."""
        if not seconds >= 0:
            raise ValueError(f"time cannot advance by {seconds} seconds; use jump() to set the wall clock back")
        self._now_s += seconds
        self._monotonic_s += seconds

    def jump(self, seconds: float) -> None:
        self._now_s += seconds
