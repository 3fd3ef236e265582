"""When to leave a store alone that does not answer. Pure: the time is an argument."""

from __future__ import annotations

#: Failures in a row that open it (reliability.md C5).
FAILURES = 5
#: How long it stays open before one operation may try again.
REST_S = 5.0


class Breaker:
    """Closed until `failures` in a row; then one probe each `rest_s`, and closed again by the first success."""

    def __init__(self, failures: int = FAILURES, rest_s: float = REST_S) -> None:
        self.failures = failures
        self.rest_s = rest_s
        self._in_a_row = 0
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        return self._in_a_row >= self.failures

    def allows(self, now: float) -> bool:
        """Whether to try. While open, a True is the one probe of the next `rest_s`."""
        if not self.is_open:
            return True
        if now < self._probe_at:
            return False
        self._probe_at = now + self.rest_s
        return True

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, now: float) -> None:
        self._in_a_row += 1
        self._probe_at = now + self.rest_s
