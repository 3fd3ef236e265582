"""What is known of a deployment's state while it is used: its breaker, its pauses, its speed, what it has in hand.

One writer, the event loop; so plain attributes. Times are seconds of a monotonic clock and always arguments. The path of a
healthy call costs about a microsecond here, both ends together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import ceil, exp, inf
from random import Random

import msgspec

from naru.errors import NaruError, UpstreamAuth
from naru.routing.breaker import Breaker, BreakerPolicy, State
from naru.routing.verdict import Verdict, is_empty_account, is_overload, verdict

#: Peak-EWMA: how fast an old measurement loses its weight.
TAU_S = 10.0
#: Times to first content that a quantile is made of.
SAMPLES = 128
#: Fewer say nothing about a tail.
MIN_SAMPLES = 20
QUANTILES_S = 1.0

#: A pause that nobody gave the length of: it doubles with each in a row (reliability.md A14).
PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
EMPTY_ACCOUNT_S = 60.0
#: A credential that was refused is tried again after so long; somebody may have paid, or corrected it at the provider.
LOCKED_S = 60.0
MAX_LOCKED_S = 600.0

#: The number of calls at once is never lowered below this, or one throttled minute would close a deployment for the next.
MIN_ROOM = 4
ROOM_DECREASE = 0.75
#: One flood of refusals lowers it once.
ROOM_EVERY_S = 1.0
ROOM_FORGET_S = 60.0


class Load(msgspec.Struct, frozen=True):
    """What an inference server says of itself: requests waiting and running, the part of its KV memory in use (0 to 1)."""

    waiting: int = 0
    running: int = 0
    kv_used: float = 0.0
    at: float = 0.0


class Speed:
    """A peak-EWMA of seconds: a slower measurement counts at once, faster ones soften it as time goes by."""

    __slots__ = ("_at", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._at = 0.0

    def saw(self, seconds: float, now: float) -> None:
        if seconds >= self.value:
            self.value = seconds
        else:
            weight = exp((self._at - now) / TAU_S)
            self.value = self.value * weight + seconds * (1.0 - weight)
        self._at = now

    def at_least(self, seconds: float, now: float) -> None:
        """It was given up on after so long: slower than that, if anything."""
        if seconds > self.value:
            self.saw(seconds, now)

    def now(self, now: float) -> float:
        """0 when nothing is known. What was seen long ago fades, so that a deployment once slow is tried again."""
        return self.value * exp((self._at - now) / TAU_S) if self.value else 0.0


class Quantiles:
    """Of the last times to first content."""

    __slots__ = ("_at", "_samples", "_sorted")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._sorted: Sequence[float] = ()
        self._at = -QUANTILES_S

    def saw(self, seconds: float) -> None:
        self._samples.append(seconds)

    def of(self, part: float, now: float) -> float | None:
        """Seconds that `part` (0 to 1) of the calls took at most; None while too little was seen. Up to a second old."""
        if now - self._at >= QUANTILES_S:
            self._at, self._sorted = now, sorted(self._samples)
        if len(self._sorted) < MIN_SAMPLES:
            return None
        return self._sorted[max(0, ceil(part * len(self._sorted)) - 1)]


class Credential:
    """A key at a provider, shared by all deployments that use it."""

    __slots__ = ("locked_until", "refusals")

    def __init__(self) -> None:
        self.locked_until = 0.0
        self.refusals = 0

    def refused(self, now: float) -> None:
        self.refusals += 1
        self.locked_until = now + min(LOCKED_S * 2 ** min(self.refusals - 1, 10), MAX_LOCKED_S)

    def accepted(self) -> None:
        if self.refusals:
            self.refusals = 0
            self.locked_until = 0.0


class Vitals:
    """One deployment's. `began`, then `ended` exactly once for each call."""

    __slots__ = (
        "_overloaded_at", "_pauses", "_why_paused", "breaker", "calls", "credential", "failures", "freed", "in_flight", "load",
        "paused_until", "room", "ttft", "ttfts", "whole",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy, credential: Credential) -> None:
        self.breaker = Breaker(policy)
        self.credential = credential
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        #: Calls at once that it is given; None: no limit is known.
        self.room: float | None = None
        #: Told of each call that ends, by whoever waits for room.
        self.freed: Callable[[], None] | None = None
        self.paused_until = 0.0
        self.ttft = Speed()
        self.whole = Speed()
        self.ttfts = Quantiles()
        self.load: Load | None = None
        self._pauses = 0
        self._why_paused = ""
        self._overloaded_at = -inf

    # --- Before a call ----------------------------------------------------------------------------------------------

    def ailment(self, now: float) -> str | None:
        """Why it is not to be called while another can be, in words; None: it is well."""
        if now < self.paused_until:
            return f"{self._why_paused}, {self.paused_until - now:.1f} s are left"
        if now < self.credential.locked_until:
            return "its provider refuses the credential"
        if self.breaker.state is not State.CLOSED and not self.breaker.may_call(now):
            left_s = self.breaker.open_until - now
            wait = f"{left_s:.1f} s until the next try" if left_s > 0 else "one call is trying it"
            return f"it failed too often ({wait})"
        return None

    def is_well(self, now: float) -> bool:
        """`ailment` without words, for every request."""
        return (
            now >= self.paused_until
            and now >= self.credential.locked_until
            and (self.breaker.state is State.CLOSED or self.breaker.may_call(now))
        )

    def is_told_off(self, now: float) -> bool:
        """Its provider said in so many words not to call."""
        return now < self.paused_until or now < self.credential.locked_until

    def has_room(self, now: float) -> bool:
        if self.room is None or self.in_flight < self.room:
            return True
        if now - self._overloaded_at >= ROOM_FORGET_S:
            self.room = None
            return True
        return False

    def wait_s(self, now: float) -> float:
        """Seconds until it may be called again."""
        until = max(self.paused_until, self.credential.locked_until)
        if self.breaker.state is State.OPEN:
            until = max(until, self.breaker.open_until)
        return max(0.0, until - now)

    # --- A call -----------------------------------------------------------------------------------------------------

    def began(self, now: float) -> bool:
        """True: the breaker waits for how this call ends. `ended` and `lost` are to be told so."""
        self.in_flight += 1
        self.calls += 1
        return self.breaker.state is not State.CLOSED and self.breaker.called(now)

    def first_content(self, seconds: float, now: float) -> None:
        self.ttft.saw(seconds, now)
        self.ttfts.saw(seconds)

    def ended(self, error: NaruError | None, now: float, random: Random, decides: bool = False) -> None:
        """How the call went; None: the answer came whole. `decides` is what `began` said."""
        if error is None:
            self.in_flight -= 1
            self.breaker.healthy(now, decides)
            self._pauses = 0
            if self.credential.refusals:
                self.credential.accepted()
            if self.room is not None and self.in_flight + 2 > self.room:  # nearly all of it is in use
                self.room += 1.0 / self.room
        else:
            self._judge(error, now, random, decides)
            self.in_flight -= 1
        if self.freed is not None:
            self.freed()

    def lost(self, now: float, decides: bool = False) -> None:
        """The call was given up, because the client left or another deployment was faster: nothing was learnt."""
        self.in_flight -= 1
        self.breaker.undecided(now, decides)
        if self.freed is not None:
            self.freed()

    def probed(self, error: NaruError | None, now: float, random: Random) -> None:
        """How a probe went; None: it is there. That opens no way for everybody, since a probe does not go the way of requests:
        it lets the next one try."""
        if error is None:
            self.breaker.expect(now)
        else:
            self._judge(error, now, random)

    def _judge(self, error: NaruError, now: float, random: Random, decides: bool = False) -> None:
        found = verdict(error)
        if found is Verdict.NEUTRAL:
            self.breaker.undecided(now, decides)
            return
        if found is Verdict.FAILED:
            self.failures += 1
            self.breaker.failed(now, random, decides)
        elif found is Verdict.LOCKED:
            self.failures += 1
            self._lock(error, now)
            self.breaker.undecided(now, decides)
        elif found is Verdict.THROTTLED:
            # It answers, so the breaker has nothing against it.
            self.breaker.healthy(now, decides)
            self._pause(error, now, random)
        if is_overload(error) and now - self._overloaded_at >= ROOM_EVERY_S:
            self._overloaded_at = now
            self.room = max(float(MIN_ROOM), self.in_flight * ROOM_DECREASE)

    def _lock(self, error: NaruError, now: float) -> None:
        """A wrong key is wrong for every model. A right that is missing may be missing for this model or region alone, and one
        caller's wish for a forbidden model must not close the provider to everybody."""
        if isinstance(error, UpstreamAuth) and error.is_forbidden:
            self._why_paused = "its provider forbids this model to the credential"
            self.paused_until = max(self.paused_until, now + LOCKED_S)
        else:
            self.credential.refused(now)

    def _pause(self, error: NaruError, now: float, random: Random) -> None:
        self._pauses += 1
        self._why_paused = "its provider asked for a pause"
        if error.retry_after_s is not None:
            wait_s = error.retry_after_s
        elif is_empty_account(error):
            wait_s = EMPTY_ACCOUNT_S
        else:
            wait_s = min(PAUSE_S * 2 ** min(self._pauses - 1, 10), MAX_PAUSE_S) * random.uniform(0.5, 1.0)
        self.paused_until = max(self.paused_until, now + wait_s)
