"""The door: a request passes all its meters or none, and waits in an orderly queue when only a place is missing.

Everything happens within one turn of the event loop, first every check, then every write, so counts are exact without a lock.

The queue. A place that becomes free is given, by whoever frees it, to the first waiter who can use it: with all checks and all
writes, in the waiter's name. So while anyone waits for a meter, that meter is full, and no newcomer overtakes the queue.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Sequence
from operator import attrgetter

from naru.errors import NaruError
from naru.limits.meters import Limits, Meter
from naru.limits.refusals import NoPlace, refusal

#: Priorities: the lower goes first.
INTERACTIVE = 0
BATCH = 10
MAX_WAITING = 256

ORDER = attrgetter("order")


class Hold:
    """A request's places and tokens at its meters. Ends exactly once, by `release` or by `cancel`."""

    __slots__ = ("_admission", "_mark", "_meters", "tokens")

    def __init__(self, admission: Admission, meters: Sequence[Meter], tokens: int, mark: int) -> None:
        self._admission = admission
        self._meters: Sequence[Meter] | None = meters
        self._mark = mark
        self.tokens = tokens

    def release(self, tokens_used: int | None, now_ns: int) -> None:
        """The request has ended. Fewer tokens used than held come back, more are charged; None (unknown) brings none back."""
        meters = self._meters
        assert meters is not None, "a hold is ended twice"
        self._meters = None
        spare = 0 if tokens_used is None else self.tokens - tokens_used
        for meter in meters:
            meter.in_flight -= 1
            bucket = meter.tokens
            if bucket is None or not spare:
                continue
            if spare > 0:
                bucket.give_back(min(spare, self.tokens), now_ns, self._mark)  # an upstream may claim less than nothing
            else:
                # A taking later than all so far; the next one may have the same mark, as it finds this one done.
                bucket.take(-spare, now_ns, self._admission.mark + 1)
        if self._admission.queues:
            for meter in meters:
                self._admission.serve(meter, now_ns)

    def cancel(self, now_ns: int) -> None:
        """The request ended before anything was sent upstream: its tokens and the request itself come back."""
        for meter in self._meters or ():
            if meter.requests is not None:
                meter.requests.give_back(1, now_ns, self._mark)
        self.release(0, now_ns)


class Waiter:
    """One who waits in the queue of `meter`. `turn` gets the Hold, or the refusal."""

    __slots__ = ("meter", "meters", "order", "tokens", "turn")

    def __init__(self, meter: Meter, meters: Sequence[Meter], tokens: int, order: tuple[int, int]) -> None:
        self.meter = meter
        self.meters = meters
        self.tokens = tokens
        self.order = order
        self.turn: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()


class Admission:
    """The meters of a process share one. `max_waiting` bounds the queue of each meter."""

    __slots__ = ("_arrivals", "mark", "max_waiting", "queues")

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self.max_waiting = max_waiting
        #: Numbers the takings (gcra.py).
        self.mark = 0
        #: Those who wait, by the full meter that they wait for, in the order of their turn; no queue is empty.
        self.queues: dict[Meter, list[Waiter]] = {}
        self._arrivals = 0

    def take(self, meters: Sequence[Meter], tokens: int, now_ns: int) -> Hold:
        """Passes all of `meters` (each given once) with 0 or more `tokens`, or none of them.

        Raises RateLimited, and BadRequest (request_exceeds_tpm) for what could never pass.
        """
        assert tokens >= 0, tokens
        for meter in meters:
            if meter.is_limited and not meter.admits(tokens, now_ns):
                raise refusal(meters, tokens, now_ns)
        self.mark = mark = self.mark + 1
        for meter in meters:
            meter.in_flight += 1
            if meter.is_limited:
                if meter.requests is not None:
                    meter.requests.take(1, now_ns, mark)
                if meter.tokens is not None and tokens:
                    meter.tokens.take(tokens, now_ns, mark)
        return Hold(self, meters, tokens, mark)

    async def acquire(
        self, meters: Sequence[Meter], tokens: int, now_ns: int, priority: int = INTERACTIVE, max_wait_s: float = 0.0
    ) -> Hold:
        """`take`, but when nothing but a place is missing, waits up to `max_wait_s` for it: lower `priority` first, then first
        come, first served. All else is checked again when the place is there. Raises as `take` does."""
        try:
            return self.take(meters, tokens, now_ns)
        except NoPlace as refused:
            if max_wait_s <= 0:
                raise
            full = refused.meter
        self._arrivals += 1
        waiter = Waiter(full, meters, tokens, (priority, self._arrivals))
        self._queue(waiter)
        return await self._turn(waiter, now_ns, max_wait_s)

    def change(self, meter: Meter, limits: Limits, now_ns: int) -> None:
        """New limits for `meter`, at once. Lower ones end nothing that is under way."""
        self.mark += 1
        meter.set(limits, now_ns, self.mark)
        self.serve(meter, now_ns)

    def serve(self, meter: Meter, now_ns: int) -> None:
        """Gives the free places of `meter` to those who wait for them."""
        while meter.in_flight < meter.places and (queue := self.queues.get(meter)):
            waiter = queue[0]
            self._leave(waiter)
            if waiter.turn.done():
                continue
            try:
                waiter.turn.set_result(self.take(waiter.meters, waiter.tokens, now_ns))
            except NoPlace as refused:  # at another meter: it waits there, its turn unchanged
                waiter.meter = refused.meter
                self._queue(waiter)
            except NaruError as refused:
                waiter.turn.set_exception(refused)

    async def _turn(self, waiter: Waiter, now_ns: int, max_wait_s: float) -> Hold:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        alarm = loop.call_later(max_wait_s, self._give_up, waiter, max_wait_s)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            # The place may have come in the same moment; then it goes on to the next.
            turn = waiter.turn
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().cancel(now_ns + int((loop.time() - begun) * 1e9))
            raise
        finally:
            alarm.cancel()
            self._leave(waiter)

    def _give_up(self, waiter: Waiter, waited_s: float) -> None:
        if not waiter.turn.done():
            self._leave(waiter)
            waiter.turn.set_exception(NoPlace(waiter.meter, f" None ended within {waited_s:g} s."))

    def _queue(self, waiter: Waiter) -> None:
        """In its place; when the queue is full, its last goes, be it this one."""
        queue = self.queues.setdefault(waiter.meter, [])
        insort(queue, waiter, key=ORDER)
        if len(queue) > self.max_waiting:
            last = queue[-1]
            self._leave(last)
            if not last.turn.done():
                last.turn.set_exception(NoPlace(last.meter, f" {self.max_waiting:,} others are waiting already."))

    def _leave(self, waiter: Waiter) -> None:
        queue = self.queues.get(waiter.meter)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            if not queue:
                del self.queues[waiter.meter]
