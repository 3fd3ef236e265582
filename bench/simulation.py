"""The clockwork of `bench.simulate_routing`: requests arrive, attempts are made, servers answer or do not. Nothing here is
chance, but the pause before a third attempt; and nothing waits: a time is a number in a heap of events."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from enum import IntEnum
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from typing import Any

from bench.simulated_policies import Gateway
from bench.simulated_world import Arrivals, Server, World
from naru.errors import UpstreamError, UpstreamRefused, UpstreamTimeout
from naru.routing.plan import MAX_ATTEMPTS

#: As in calls.failover.
JITTER_S = 0.1
#: Attempts are counted by so many in a second of the simulation.
SLICES_PER_S = 10

SILENT = UpstreamTimeout("Nothing came in time.")


class Outcome(IntEnum):
    """`REFUSED`: nobody was asked. `FAILED`: all who were asked failed. `CUT`: the answer had begun."""

    PENDING = 0
    ANSWERED = 1
    REFUSED = 2
    FAILED = 3
    CUT = 4


class Work:
    """A request. `left` are those not asked yet, `live` the attempts under way."""

    __slots__ = ("arrived", "attempts", "conversation", "gateway", "is_begun", "left", "live", "number", "prompt_s")

    def __init__(self, number: int, arrived: float, prompt_s: float, conversation: int, gateway: Gateway) -> None:
        self.number = number
        self.arrived = arrived
        self.prompt_s = prompt_s
        self.conversation = conversation
        self.gateway = gateway
        self.attempts = 0
        self.is_begun = False
        self.live: list[Try] = []
        self.left = gateway.order(self, arrived)


class Try:
    """An attempt. Where it is: in line (`waits`), in a slot (`holds`), or neither. `is_silent`: nothing will come of it any more.
    `is_over`: the gateway has done with it."""

    __slots__ = ("began", "error", "has_content", "holds", "is_over", "is_silent", "server", "waits", "work")

    def __init__(self, work: Work, server: Server, began: float) -> None:
        self.work = work
        self.server = server
        self.began = began
        self.error: UpstreamError = SILENT
        self.waits = self.holds = self.has_content = self.is_silent = self.is_over = False


class Simulation:
    """One run of one policy. What it finds is in its attributes: for each request the seconds to its first content (below 0:
    none) and its outcome, for each slice of time the attempts made, and those made in the lost region."""

    def __init__(self, world: World, servers: Sequence[Server], asked: Arrivals, gateways: Sequence[Gateway]) -> None:
        self.world = world
        self.servers = servers
        self.asked = asked
        self.gateways = gateways
        self.random = Random(f"simulation {world.seed}")
        self.throttled = UpstreamRefused("Too many.", status=429, retry_after_s=world.ills.retry_after_s)
        self.events: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._numbers = count()
        requests = len(asked.at)
        self.ttft_s = array("d", [-1.0]) * requests
        self.outcomes = bytearray(requests)
        slices = int((world.seconds + 60) * SLICES_PER_S)
        self.attempts, self.to_the_lost = array("l", [0]) * slices, array("l", [0]) * slices
        self.warm = self.started = self.hedges = self.paid = 0
        if world.has_loss:
            self._at(world.lost_at, self._lose, None)
            self._at(world.back_at, self._come_back, None)

    def run(self) -> None:
        events, at, arrive = self.events, self.asked.at, self._arrive
        number, last = 0, len(at)
        following = at[0] if last else inf
        while True:
            if events and events[0][0] <= following:
                now, _, handle, argument = heappop(events)
                handle(argument, now)
            elif number < last:
                arrive(number, following)
                number += 1
                following = at[number] if number < last else inf
            else:
                return

    def _at(self, when: float, handle: Callable[[Any, float], None], argument: object) -> None:
        heappush(self.events, (when, next(self._numbers), handle, argument))

    # --- The gateway's side -----------------------------------------------------------------------------------------

    def _arrive(self, number: int, now: float) -> None:
        asked = self.asked
        gateways = self.gateways
        gateway = gateways[0] if len(gateways) == 1 else self.random.choice(gateways)
        work = Work(number, now, asked.prompt_s[number], asked.conversation[number], gateway)
        if not work.left:
            self.outcomes[number] = Outcome.REFUSED
            return
        gateway.retries.request(now)
        if gateway.hedge is not None and (patience_s := gateway.patience_s(work, now)) is not None:
            self._at(now + patience_s, self._hedge, work)
        self._ask_next(work, now)

    def _ask_next(self, work: Work, now: float) -> None:
        # As calls.failover does: who has fallen ill since the plan goes behind the others.
        server = work.left.pop(work.gateway.place_of_next(work.left, now) if work.attempts else 0)
        work.attempts += 1
        self.attempts[int(now * SLICES_PER_S)] += 1
        attempt = Try(work, server, now)
        work.live.append(attempt)
        work.gateway.began(server, now)
        if server.is_lost:
            self.to_the_lost[int(now * SLICES_PER_S)] += 1
            attempt.is_silent = True
            self._at(now + self.world.ttft_s, self._deadline, attempt)
            return
        error = server.refusal(now, self.throttled)
        if error is not None:
            attempt.error = error
            self._at(now + server.network_s, self._failed, attempt)
        elif server.room:
            self._start(attempt, now)
        else:
            attempt.waits = True
            server.queued += 1
            server.line.append(attempt)
            self._at(now + self.world.ttft_s, self._deadline, attempt)

    def _first_content(self, attempt: Try, now: float) -> None:
        if attempt.is_over or attempt.is_silent:
            return
        work = attempt.work
        attempt.has_content = work.is_begun = True
        self.ttft_s[work.number] = now - work.arrived
        self.paid += attempt.server.price
        work.gateway.first_content(attempt.server, now - attempt.began, now)
        for other in work.live:
            if other is not attempt:
                other.is_over = True
                work.gateway.lost(other.server, now - other.began, now)
                self._withdraw(other, now)

    def _ended(self, attempt: Try, now: float) -> None:
        if attempt.is_over or attempt.is_silent:
            return
        attempt.is_over = True
        attempt.work.live.clear()  # so that neither keeps the other
        self.outcomes[attempt.work.number] = Outcome.ANSWERED
        attempt.work.gateway.ended(attempt.server, None, now)

    def _deadline(self, attempt: Try, now: float) -> None:
        if not attempt.has_content:
            self._failed(attempt, now)

    def _failed(self, attempt: Try, now: float) -> None:
        if attempt.is_over:
            return
        attempt.is_over = True
        work = attempt.work
        work.live.remove(attempt)
        work.gateway.ended(attempt.server, attempt.error, now)
        self._withdraw(attempt, now)
        if work.live:
            return  # the second one is still at it
        work.left = work.left or work.gateway.more(work, now)
        if not work.left or work.attempts >= MAX_ATTEMPTS or not work.gateway.retries.take(now):
            self.outcomes[work.number] = Outcome.FAILED
        elif work.attempts == 1:
            self._ask_next(work, now)
        else:
            self._at(now + self.random.uniform(0.0, JITTER_S), self._ask_next, work)

    def _cut(self, attempt: Try, now: float) -> None:
        attempt.is_over = True
        attempt.work.live.clear()
        self.outcomes[attempt.work.number] = Outcome.CUT
        attempt.work.gateway.ended(attempt.server, SILENT, now)

    def _hedge(self, work: Work, now: float) -> None:
        """Once, and for the first attempt alone."""
        is_waiting = not work.is_begun and len(work.live) == 1 and work.attempts == 1
        if is_waiting and work.left and work.gateway.may_hedge(now):
            self.hedges += 1
            self._ask_next(work, now)

    # --- The servers' side ------------------------------------------------------------------------------------------

    def _start(self, attempt: Try, now: float) -> None:
        server, number, world = attempt.server, attempt.work.number, self.world
        server.room -= 1
        server.running.add(attempt)
        attempt.holds = True
        self.started += 1
        prompt_s = self.asked.prompt_s[number] * server.pace
        if server.met(attempt.work.conversation):
            self.warm += 1
            prompt_s *= world.rest
        first_at = now + prompt_s + server.network_s
        if first_at - attempt.began <= world.ttft_s:
            self._at(first_at, self._first_content, attempt)
        else:
            self._at(attempt.began + world.ttft_s, self._deadline, attempt)
        self._at(now + prompt_s + self.asked.answer_s[number] * server.pace, self._done, attempt)

    def _done(self, attempt: Try, now: float) -> None:
        if attempt.holds:
            self._at(now + attempt.server.network_s, self._ended, attempt)
            self._withdraw(attempt, now)

    def _withdraw(self, attempt: Try, now: float) -> None:
        """Out of the slot, which is the next one's, or out of the line."""
        server = attempt.server
        if attempt.waits:
            attempt.waits = False
            server.queued -= 1
        if not attempt.holds:
            return
        attempt.holds = False
        server.running.remove(attempt)
        server.room += 1
        while server.line:
            following = server.line.popleft()
            if following.waits:
                following.waits = False
                server.queued -= 1
                self._start(following, now)
                return
        for gateway in self.gateways:
            gateway.has_room(server)

    def _lose(self, _: None, now: float) -> None:
        """The region falls silent. Whoever waits for it notices by the clock alone."""
        for server in self._of_the_region():
            server.is_lost = True
            for attempt in sorted(server.running, key=lambda each: each.work.number):
                attempt.is_silent, attempt.holds = True, False
                if attempt.has_content:
                    self._at(now + self.world.idle_s, self._cut, attempt)
                else:
                    self._at(max(now, attempt.began + self.world.ttft_s), self._deadline, attempt)
            for attempt in server.line:
                attempt.waits = False  # its deadline is set already
            server.running.clear()
            server.line.clear()
            server.queued, server.room = 0, server.slots

    def _come_back(self, _: None, now: float) -> None:
        for server in self._of_the_region():
            server.is_lost = False
            for gateway in self.gateways:
                gateway.has_room(server)

    def _of_the_region(self) -> list[Server]:
        return [server for server in self.servers if server.region == self.world.lost_region]
