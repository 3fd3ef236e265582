"""Who chooses a deployment in `bench.simulate_routing`: Naru's own code, two that know nothing, and one that knows everything."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Literal

import msgspec

from bench.simulated_world import Server, World
from naru.errors import NaruError
from naru.routing.breaker import BreakerPolicy
from naru.routing.budget import RetryBudget
from naru.routing.fleet import Fleet
from naru.routing.plan import MAX_ATTEMPTS, plan
from naru.routing.strategies import Asking, Conditions
from naru.routing.table import Affinity, Deployment, Hedge, Route

if TYPE_CHECKING:
    from bench.simulation import Work

#: As in the gateway (config.py, app.py).
RETRY_RATIO = 0.2
LEAST_RETRIES = 10.0


class Policy(msgspec.Struct, frozen=True):
    """`strategy` and what follows it are the words of [models.NAME]. `gateways`: so many, each with its own share of the
    requests, knowing nothing of the others."""

    name: str
    kind: Literal["round robin", "random", "naru", "ideal"] = "naru"
    strategy: str = "priority"
    affinity: Affinity = "off"
    hedge: Hedge | None = None
    gateways: int = 1


class Gateway:
    """What a simulation asks. This one learns nothing; its retries have the gateway's budget all the same."""

    #: After what part of its like a second deployment is asked.
    hedge: Hedge | None = None

    def __init__(self, servers: Sequence[Server], world: World, random: Random) -> None:
        self.servers = servers
        self.world = world
        self.random = random
        self.retries = RetryBudget(RETRY_RATIO, LEAST_RETRIES)

    def order(self, work: Work, now: float) -> list[Server]:
        """Whom to ask, in this order; nobody: the request is refused."""
        raise NotImplementedError

    def more(self, work: Work, now: float) -> list[Server]:
        """Whom to ask when all of `order` have failed."""
        return []

    def place_of_next(self, left: Sequence[Server], now: float) -> int:
        """Whom of `left` to ask after a failure."""
        return 0

    def began(self, server: Server, now: float) -> None: ...

    def first_content(self, server: Server, seconds: float, now: float) -> None: ...

    def ended(self, server: Server, error: NaruError | None, now: float) -> None: ...

    def lost(self, server: Server, took_s: float, now: float) -> None:
        """Another one answered first."""

    def patience_s(self, work: Work, now: float) -> float | None:
        return None

    def may_hedge(self, now: float) -> bool:
        return False

    def has_room(self, server: Server) -> None:
        """A slot became free. Nobody tells a gateway so; the ideal knows."""


class RoundRobin(Gateway):
    """Each in turn, as often as its weight says, in an order that mixes them well."""

    def __init__(self, servers: Sequence[Server], world: World, random: Random) -> None:
        super().__init__(servers, world, random)
        self.turns = [server for server in servers for _ in range(server.weight)]
        random.shuffle(self.turns)
        self.place = 0

    def order(self, work: Work, now: float) -> list[Server]:
        self.place = (self.place + 1) % len(self.turns)
        return self._from(self.place)

    def _from(self, place: int) -> list[Server]:
        """So many as are asked at most, each once."""
        found: list[Server] = []
        for turn in range(place, place + len(self.turns)):
            if (server := self.turns[turn % len(self.turns)]) not in found:
                found.append(server)
                if len(found) == MAX_ATTEMPTS:
                    break
        return found


class ByChance(RoundRobin):
    """At random, in proportion to the weights."""

    def order(self, work: Work, now: float) -> list[Server]:
        return self._from(int(self.random.random() * len(self.turns)))


class Naru(Gateway):
    """The gateway's own plan, from its own fleet."""

    def __init__(self, servers: Sequence[Server], world: World, random: Random, policy: Policy) -> None:
        super().__init__(servers, world, random)
        self.fleet = Fleet(BreakerPolicy(open_s=world.breaker_s, max_open_s=10 * world.breaker_s))
        self.route = Route(
            "m", tuple(server.deployment for server in servers), strategy=policy.strategy, affinity=policy.affinity
        )
        self.by_id = {server.deployment.id: server for server in servers}
        self.vitals = [self.fleet.of(server.deployment) for server in servers]
        #: Servers whose breaker waits for how a call ends; of the few calls under way there the first to end is taken for it.
        self.tried: set[int] = set()
        self.hedge = policy.hedge
        self.hedges = RetryBudget(policy.hedge.budget, 1.0) if policy.hedge else None

    def order(self, work: Work, now: float) -> list[Server]:
        key = b"" if self.route.affinity == "off" else work.conversation.to_bytes(16, "big")
        asking = Asking("openai_chat", is_stream=True, affinity=key, cost=self._cost)
        found = plan(self.route, _no_fallbacks, asking, Conditions(self.fleet, now, self.random))
        by_id = self.by_id
        return [by_id[deployment.id] for deployment in (*found.attempts, *found.last_resort)][:MAX_ATTEMPTS]

    def _cost(self, deployment: Deployment) -> int:
        return self.by_id[deployment.id].price

    def place_of_next(self, left: Sequence[Server], now: float) -> int:
        return next((place for place, each in enumerate(left) if self.vitals[each.number].is_well(now)), 0)

    def began(self, server: Server, now: float) -> None:
        if self.vitals[server.number].began(now):
            self.tried.add(server.number)

    def first_content(self, server: Server, seconds: float, now: float) -> None:
        self.vitals[server.number].first_content(seconds, now)

    def ended(self, server: Server, error: NaruError | None, now: float) -> None:
        self.vitals[server.number].ended(error, now, self.random, self._decides(server))

    def _decides(self, server: Server) -> bool:
        decides = server.number in self.tried
        self.tried.discard(server.number)
        return decides

    def lost(self, server: Server, took_s: float, now: float) -> None:
        vitals = self.vitals[server.number]
        vitals.ttft.at_least(took_s, now)
        vitals.lost(now, self._decides(server))

    def patience_s(self, work: Work, now: float) -> float | None:
        """As calls.failover has it: the quickest one's."""
        assert self.hedge is not None
        assert self.hedges is not None
        self.hedges.request(now)
        known = [self.vitals[server.number].ttfts.of(self.hedge.quantile, now) for server in work.left]
        return min((seconds for seconds in known if seconds is not None), default=None)

    def may_hedge(self, now: float) -> bool:
        return self.hedges is not None and self.hedges.take(now) and self.retries.take(now)


class Ideal(Gateway):
    """Knows every server as it truly is at this moment. Among the healthy ones with a free slot it takes the one that would
    begin its answer soonest: the nearest and fastest for a prompt of the mean length, or the one that remembers the
    conversation if that is sooner. Nobody waits while a slot is free anywhere; if none is, the shortest wait is taken."""

    def __init__(self, servers: Sequence[Server], world: World, random: Random) -> None:
        super().__init__(servers, world, random)
        self.at_home: dict[int, Server] = {}
        self.free = [(self._first_s(s, world.prompt_s), s.number) for s in servers if not s.is_ill]
        heapify(self.free)
        self.is_listed = [not server.is_ill for server in servers]

    @staticmethod
    def _first_s(server: Server, prompt_s: float) -> float:
        return server.network_s + prompt_s * server.pace

    def order(self, work: Work, now: float) -> list[Server]:
        best = self._soonest()
        home = self.at_home.get(work.conversation)
        if home is not None and home.room and not home.is_lost and home.is_warm_for(work.conversation):
            warm_s = self._first_s(home, work.prompt_s * self.world.rest)
            if best.room == 0 or warm_s < self._first_s(best, work.prompt_s):
                best = home
        self.at_home[work.conversation] = best
        return [best]

    more = order

    def _soonest(self) -> Server:
        while self.free:
            server = self.servers[self.free[0][1]]
            if server.room and not server.is_lost:
                return server
            heappop(self.free)
            self.is_listed[server.number] = False
        alive = [server for server in self.servers if not server.is_ill and not server.is_lost]
        return min(alive, key=lambda server: ((server.queued + 1) * server.pace / server.slots, server.number))

    def has_room(self, server: Server) -> None:
        if not self.is_listed[server.number] and not server.is_ill and not server.is_lost:
            self.is_listed[server.number] = True
            heappush(self.free, (self._first_s(server, self.world.prompt_s), server.number))


def _no_fallbacks(name: str) -> Route:
    raise KeyError(name)


def gateways(policy: Policy, servers: Sequence[Server], world: World) -> list[Gateway]:
    """Each with chance of its own."""

    def made(number: int) -> Gateway:
        random = Random(f"{policy.name} {number} {world.seed}")
        if policy.kind == "naru":
            return Naru(servers, world, random, policy)
        kinds: dict[str, type[Gateway]] = {"round robin": RoundRobin, "random": ByChance, "ideal": Ideal}
        return kinds[policy.kind](servers, world, random)

    return [made(number) for number in range(policy.gateways)]
