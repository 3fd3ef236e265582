"""Where requests wait while every deployment of their model has as many in hand as it takes (routing.md): a provider that said
"too many" is given fewer at once, and who comes beyond that waits a little rather than being sent away to come back.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from functools import partial
from operator import attrgetter

from naru.limits.gate import Gate
from naru.limits.priority import priority_of
from naru.routing.fleet import Fleet
from naru.routing.plan import Plan
from naru.transport.exchange import Exchange

ORDER = attrgetter("order")


class _Waiter:
    """One request. For a stream it listens to the client, who may leave meanwhile (of a plain one that is not seen before it is
    answered, as anywhere)."""

    __slots__ = ("deployments", "order", "turn")

    def __init__(self, order: tuple[int, int]) -> None:
        self.order = order
        #: Any of these will do.
        self.deployments: frozenset[str] = frozenset()
        self.turn: asyncio.Future[None] | None = None

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        self.look()

    def look(self) -> None:
        if self.turn is not None and not self.turn.done():
            self.turn.set_result(None)


class Room:
    """Interactive requests before those that can wait, then first come, first served: each call that ends lets one look again.
    As many wait, and as long, as at the gate. A newcomer that finds a place in that very moment is not held back for them.
    """

    def __init__(self, fleet: Fleet, gate: Gate) -> None:
        self._fleet = fleet
        self._gate = gate
        self._waiters: list[_Waiter] = []
        self._arrivals = 0

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    async def wait(self, busy: Plan, exchange: Exchange, is_stream: bool, plan: Callable[[], Plan]) -> Plan:
        """The first of `plan`'s plans that is not busy; a busy one when too many wait already, no call ended in time, or the
        client left."""
        if len(self._waiters) >= self._gate.max_waiting:
            return busy
        self._arrivals += 1
        waiter = _Waiter((priority_of(exchange.headers), self._arrivals))
        insort(self._waiters, waiter, key=ORDER)
        if is_stream:
            exchange.listener = waiter
        try:
            async with asyncio.timeout(self._gate.wait_s):
                while busy.is_busy and not exchange.is_gone:
                    await self._turn(waiter, busy)
                    busy = busy.followed_by(plan())
        except TimeoutError:
            pass
        finally:
            if is_stream:
                exchange.listener = None
            self._leave(waiter, had_its_turn=not busy.is_busy)
        return busy

    async def _turn(self, waiter: _Waiter, busy: Plan) -> None:
        waiter.turn = asyncio.get_running_loop().create_future()
        waiter.deployments = frozenset(deployment.id for deployment in busy.waits_for)
        for name, vitals in self._fleet.named(waiter.deployments):
            vitals.freed = partial(self._freed, name)
        await waiter.turn

    def _leave(self, waiter: _Waiter, *, had_its_turn: bool) -> None:
        self._waiters.remove(waiter)
        if not had_its_turn and waiter.turn is not None and waiter.turn.done() and not waiter.turn.cancelled():
            for name in waiter.deployments:  # what was free for it is free for the next
                self._freed(name)

    def _freed(self, name: str) -> None:
        """A call of the deployment ended."""
        for waiter in self._waiters:
            if waiter.turn is not None and not waiter.turn.done() and name in waiter.deployments:
                waiter.look()
                return
