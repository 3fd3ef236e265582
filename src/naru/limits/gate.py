"""How many requests one process has in hand at once, and how many may wait for a place: beyond that a request is refused in no
time, before anything of it is read (reliability.md 1.3, "Shedding"). Interactive requests go before those that can wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from naru.errors import Overloaded
from naru.limits.admission import Admission
from naru.limits.meters import Limits, Meter
from naru.limits.priority import priority_of
from naru.limits.refusals import NoPlace


class Gate:
    """`enter`, else `wait`; then `leave` exactly once. `now_ns` is a monotonic clock."""

    __slots__ = ("_admission", "_meter", "_now_ns", "shed", "wait_s")

    def __init__(self, max_in_flight: int, max_waiting: int, wait_s: float, now_ns: Callable[[], int]) -> None:
        self._admission = Admission(max_waiting)
        self._meter = Meter("this gateway", Limits(concurrency=max_in_flight))
        self._now_ns = now_ns
        self.wait_s = wait_s
        self.shed = 0

    @property
    def in_flight(self) -> int:
        return self._meter.in_flight

    @property
    def max_waiting(self) -> int:
        return self._admission.max_waiting

    @property
    def waiting(self) -> int:
        return sum(map(len, self._admission.queues.values()))

    def enter(self) -> bool:
        """Takes a place if there is one. While anyone waits there is none."""
        meter = self._meter
        if meter.in_flight >= meter.places:
            return False
        meter.in_flight += 1
        return True

    async def wait(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """For a place. Raises Overloaded when too many wait already, or none comes in time."""
        try:
            if self._admission.max_waiting < 1:
                raise NoPlace(self._meter)
            await self._admission.acquire([self._meter], 0, self._now_ns(), priority_of(headers), self.wait_s)
        except NoPlace:
            self.shed += 1
            raise Overloaded(
                f"This gateway has {self._meter.places} requests in hand, as many as it takes. Try again shortly; the operator "
                "can raise server.max_in_flight.",
                retry_after_s=1,
            ) from None

    def leave(self) -> None:
        self._meter.in_flight -= 1
        if self._admission.queues:
            self._admission.serve(self._meter, self._now_ns())

    def change(self, max_in_flight: int, max_waiting: int, wait_s: float) -> None:
        """New bounds, at once; a lower one ends nothing that is under way."""
        self._admission.max_waiting = max_waiting
        self.wait_s = wait_s
        self._admission.change(self._meter, Limits(concurrency=max_in_flight), self._now_ns())
