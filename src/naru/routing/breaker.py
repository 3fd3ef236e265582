"""A circuit breaker as a transition table. Pure: the time is an argument, in seconds of a monotonic clock.

    closed ──trip──> open ──elapsed──> half_open ──healthy──> closed
                      ^                    │
                      └──────failed────────┘

It trips after so many failures in a row, or when more than half of at least ten calls within ten seconds failed
(reliability.md 1.3). Each trip in a row keeps it open for longer, and a little chance keeps a crowd of deployments from
coming back in the same moment. Half open, it lets one call through, whose end decides.
"""

from __future__ import annotations

from enum import Enum
from random import Random

import msgspec

WINDOW_S = 10
#: Calls within the window before their share of failures means anything.
MIN_CALLS = 10


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(Enum):
    #: Too many failures.
    TRIP = "trip"
    #: The open time is over.
    ELAPSED = "elapsed"
    HEALTHY = "healthy"
    FAILED = "failed"
    #: The one call ended without telling anything: the client left, say.
    UNDECIDED = "undecided"


#: What is not here changes nothing: a call that began before a trip may end after it.
TRANSITIONS = {
    (State.CLOSED, Event.TRIP): State.OPEN,
    (State.OPEN, Event.ELAPSED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.HEALTHY): State.CLOSED,
    (State.HALF_OPEN, Event.FAILED): State.OPEN,
    (State.HALF_OPEN, Event.UNDECIDED): State.HALF_OPEN,
}


class BreakerPolicy(msgspec.Struct, frozen=True):
    """`failures` in a row open it, for `open_s` seconds times the number of trips in a row, at most `max_open_s`."""

    failures: int = 5
    open_s: float = 30.0
    max_open_s: float = 300.0


class Breaker:
    """One deployment's. `may_call` asks, `called` takes the right; `healthy`, `failed` or `undecided` tells how it went."""

    __slots__ = ("_calls", "_failures", "_probing", "_second", "in_a_row", "open_until", "policy", "state", "trips")

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = State.CLOSED
        self.in_a_row = 0
        self.trips = 0
        self.open_until = 0.0
        self._probing = False
        self._second = 0
        self._calls = [0] * WINDOW_S
        self._failures = [0] * WINDOW_S

    def may_call(self, now: float) -> bool:
        """Whether a call may be made that is no last resort."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            return now >= self.open_until
        return not self._probing

    def called(self, now: float) -> bool:
        """A call begins. True: the breaker's open time is over, and this is the one call that decides. How others end that began
        before a trip, or as a last resort, is then no matter."""
        if self.state is State.OPEN and now >= self.open_until:
            self.state = TRANSITIONS[self.state, Event.ELAPSED]
        if self.state is State.HALF_OPEN and not self._probing:
            self._probing = True
            return True
        return False

    def expect(self, now: float) -> None:
        """There is reason to think that it works again: an open time ends now."""
        if self.state is State.OPEN:
            self.open_until = min(self.open_until, now)

    def healthy(self, now: float, decides: bool = False) -> None:
        """`decides` is what `called` said."""
        self.in_a_row = 0
        if (second := int(now)) == self._second:  # nearly always, and for every request
            self._calls[second % WINDOW_S] += 1
        else:
            self._count(now, 0)
        if decides:
            self._move(Event.HEALTHY, now, None)

    def failed(self, now: float, random: Random, decides: bool = False) -> None:
        self.in_a_row += 1
        self._count(now, 1)
        if decides:
            self._move(Event.FAILED, now, random)
        elif self.state is State.CLOSED and (self.in_a_row >= self.policy.failures or self._is_mostly_failing(now)):
            self._move(Event.TRIP, now, random)

    def undecided(self, now: float, decides: bool = False) -> None:
        if decides:
            self._move(Event.UNDECIDED, now, None)

    def _move(self, event: Event, now: float, random: Random | None) -> None:
        before, self.state = self.state, TRANSITIONS.get((self.state, event), self.state)
        if before is State.HALF_OPEN:
            self._probing = False
        if self.state is State.OPEN and before is not State.OPEN:
            assert random is not None
            self.trips += 1
            open_s = min(self.policy.open_s * self.trips, self.policy.max_open_s)
            self.open_until = now + open_s * random.uniform(0.9, 1.1)
        elif self.state is State.CLOSED and before is not State.CLOSED:
            self.trips = 0
            self._calls = [0] * WINDOW_S
            self._failures = [0] * WINDOW_S

    def _count(self, now: float, failures: int) -> None:
        second = int(now)
        if second != self._second:
            # Seconds without a call have their old figures still.
            for stale in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
                self._calls[stale % WINDOW_S] = self._failures[stale % WINDOW_S] = 0
            self._second = max(self._second, second)
        self._calls[second % WINDOW_S] += 1
        self._failures[second % WINDOW_S] += failures

    def _is_mostly_failing(self, now: float) -> bool:
        calls = sum(self._calls)
        return calls >= MIN_CALLS and 2 * sum(self._failures) > calls
