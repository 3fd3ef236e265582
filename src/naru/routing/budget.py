"""Retries and hedges are paid for by requests, so that a failing provider is not asked twice by everybody. Pure.

Each request puts a part of a token in, each retry takes one out, and what is saved loses a tenth every second: about ten
seconds' worth of traffic. So a sudden failure finds room for all who were under way with it, while over any longer time the
attempts stay below 1 + `ratio` times the requests. A share of the requests under way (reliability.md 1.3) bounds the same in
the long run, and refuses the very burst that a dying deployment makes: all of its callers fail in one moment.
"""

from __future__ import annotations

KEPT_PER_S = 0.9


class RetryBudget:
    """`ratio`: retries for each request. Up to `least` tokens come of themselves, a tenth of them a second: a quiet gateway may
    retry too."""

    __slots__ = ("_second", "least", "ratio", "refused", "tokens")

    def __init__(self, ratio: float, least: float) -> None:
        self.ratio = ratio
        self.least = least
        self.tokens = least
        self.refused = 0
        self._second = 0

    def request(self, now: float) -> None:
        """A request was made. `now` is in seconds of a monotonic clock."""
        second = int(now)
        if second != self._second:
            self._pass(second)
        self.tokens += self.ratio

    def take(self, now: float) -> bool:
        """Whether one more attempt may be made; if so, it is paid for."""
        self._pass(int(now))
        if self.tokens < 1.0:
            self.refused += 1
            return False
        self.tokens -= 1.0
        return True

    def _pass(self, second: int) -> None:
        elapsed = second - self._second
        if elapsed <= 0:
            return
        self._second = second
        of_itself = min(self.least, self.tokens + elapsed * self.least * (1.0 - KEPT_PER_S))
        self.tokens = max(self.tokens * KEPT_PER_S**elapsed, of_itself)
