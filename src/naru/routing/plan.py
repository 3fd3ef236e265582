"""Which deployments a request may go to, in which order, and who was left out. Pure.

A deployment that is not well (its breaker is open, its provider asked for a pause or refuses the credential) is left out while
another can answer. It is never given up on: when all others have failed, or there is no other, it is tried as a last resort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import msgspec

from naru.routing.affinity import Ring
from naru.routing.fleet import Fleet
from naru.routing.strategies import Asking, Conditions, Known, ordered, sampled
from naru.routing.table import Deployment, Route

#: reliability.md 1.3: at most one attempt per deployment and three in all.
MAX_ATTEMPTS = 3

NO_PRICE = "it has no price"
NO_SUCH_PRICE = "its price has no figure for such requests"
NO_ENDPOINT = "it has no endpoint for such requests"
ELSEWHERE = "it is not in the region asked for"
NOT_TAGGED = "it has not all the tags asked for"
BUSY = "it has as many requests in hand as it takes at the moment"

#: So many of a conversation's own deployments are looked at among very many: its home, and where it goes from there.
HOMES = 2
#: Kinds of request (dialect, tags, regions) that are remembered for a route.
MAX_KINDS = 64

Find = Callable[[str], Route]


class Refusal(msgspec.Struct, frozen=True):
    """A deployment that was not considered, and why."""

    deployment: str
    reason: str


class Plan(msgspec.Struct, frozen=True, gc=False):
    """`attempts` are tried in their order, then `last_resort`, whose ailments stand in `refused`. `on_context` and `on_policy`
    are for a request that was too long, or against a provider's rules, for those. `is_lone`: there was one deployment, and
    nothing to decide. `waits_for` is there where nobody can be asked now, but some can be as soon as they have fewer requests in
    hand: those, and whoever may be well again by then."""

    attempts: tuple[Deployment, ...]
    refused: tuple[Refusal, ...] = ()
    last_resort: tuple[Deployment, ...] = ()
    on_context: tuple[Deployment, ...] = ()
    on_policy: tuple[Deployment, ...] = ()
    strategy: str = "priority"
    is_lone: bool = False
    waits_for: tuple[Deployment, ...] = ()

    @property
    def candidates(self) -> tuple[Deployment, ...]:
        """Everybody who may be called."""
        if self.is_lone or not (self.last_resort or self.on_context or self.on_policy or self.waits_for):
            return self.attempts
        return (*self.attempts, *self.waits_for, *self.last_resort, *self.on_context, *self.on_policy)

    def is_for(self, *reasons: str) -> bool:
        """Whether nobody can answer, and all for one of these reasons."""
        return not self.attempts and bool(self.refused) and all(each.reason in reasons for each in self.refused)

    @property
    def is_wrong_endpoint(self) -> bool:
        """Nobody can answer because nobody speaks of such things."""
        return self.is_for(NO_ENDPOINT)

    @property
    def is_busy(self) -> bool:
        """Whether it is worth waiting."""
        return bool(self.waits_for)

    def followed_by(self, other: Plan) -> Plan:
        """`other`, made after waiting, without anybody for whom nothing was reserved."""
        return msgspec.structs.replace(other, on_context=self.on_context, on_policy=self.on_policy)

    @property
    def is_elsewhere(self) -> bool:
        """Nobody is where the request must stay, or has its tags."""
        return not self.attempts and any(each.reason in (ELSEWHERE, NOT_TAGGED) for each in self.refused)

    def shown(self) -> dict[str, Any]:
        """For people: explain's answer and the request's record."""
        found: dict[str, Any] = {
            "strategy": self.strategy,
            "attempts": [deployment.id for deployment in self.attempts],
            "refused": [{"deployment": each.deployment, "why": each.reason} for each in self.refused],
        }
        more = {"last_resort": self.last_resort, "on_context": self.on_context, "on_policy": self.on_policy}
        return found | {name: [d.id for d in those] for name, those in more.items() if those}


def plan(route: Route, find: Find, asking: Asking, world: Conditions) -> Plan:
    """Orders the route's deployments by its strategy, then its fallbacks', each by their own."""
    choice = _Choice(route, asking, world)
    choice.consider(route)
    for name in route.fallbacks:
        choice.consider(find(name))
    well, last = _spread(choice), choice.last_resort()
    waits_for = () if well or not choice.busy else (*choice.busy, *last)
    if not well and not waits_for:
        # Nobody is well. Whoever may be first again goes first, and their own words reach the caller.
        well, last = last[:MAX_ATTEMPTS], []
    return Plan(
        tuple(well),
        tuple(choice.refused),
        tuple(last[: max(0, MAX_ATTEMPTS - len(well))]) if well else (),
        _Choice(route, asking, world).others(map(find, route.context_fallbacks)) if route.context_fallbacks else (),
        _Choice(route, asking, world).others(map(find, route.policy_fallbacks)) if route.policy_fallbacks else (),
        route.strategy,
        waits_for=waits_for,
    )


def lone(route: Route, client: str, fleet: Fleet, now: float) -> Plan | None:
    """The plan of a route with one deployment, for a request that insists on nothing: it is asked however it is. None: `plan` has
    to look closer."""
    kept = route.lone
    only = kept[client] if client in kept else kept.setdefault(client, _only(route, client))
    if only is None:
        return None
    vitals = fleet.of(only)
    if vitals.room is None or vitals.has_room(now):
        return Plan(route.deployments, strategy=route.strategy, is_lone=True)
    return Plan((), (Refusal(only.id, BUSY),), waits_for=(only,))


def _only(route: Route, client: str) -> Deployment | None:
    if len(route.deployments) != 1 or route.has_others:
        return None
    only = route.deployments[0]
    price = only.price
    return only if price is not None and price.bills_tokens and only.can_speak(client) else None


#: Region and priority: what is likely to be lost together.
Place = tuple[str, int]


def place_of(deployment: Deployment) -> Place:
    return deployment.place, deployment.priority


def _spread(choice: _Choice) -> list[Deployment]:
    """As many as are tried. Where all of them are in one place and somebody well is elsewhere, or is a fallback, the last try is
    theirs: a place that is lost as a whole would take all tries of those who ask before anybody knows."""
    well = choice.well
    if len(well) <= MAX_ATTEMPTS:
        return well
    first, home = well[:MAX_ATTEMPTS], choice.kin(well[0])
    if all(choice.kin(each) == home for each in first):
        first[-1] = next((each for each in well[MAX_ATTEMPTS:] if choice.kin(each) != home), first[-1])
    return first


class _Sifted(msgspec.Struct, frozen=True, dict=True):
    """Who of a route can answer a kind of request at all: those of the first priority, the others, and who cannot, with the
    reason."""

    first: tuple[Deployment, ...]
    rest: tuple[Deployment, ...]
    unable: tuple[Refusal, ...]

    @cached_property
    def ring(self) -> Ring:
        return Ring(self.first)


def _sifted(route: Route, client: str, tags: frozenset[str], regions: frozenset[str]) -> _Sifted:
    """From the configuration alone, so it is worked out once. Tags and regions may come from callers: what is kept is bounded."""
    kind = (client, tags, regions)
    kept = route.sifted.get(kind)
    if kept is None:
        if len(route.sifted) >= MAX_KINDS:
            route.sifted.clear()
        kept = route.sifted[kind] = _sift(route, client, tags | route.tags, regions | {route.region})
    return kept


def _sift(route: Route, client: str, tags: frozenset[str], regions: frozenset[str]) -> _Sifted:
    reasons = [(d, _inability(d, client, tags, regions)) for d in route.deployments]
    able = [d for d, reason in reasons if reason is None]
    first = min((d.priority for d in able), default=0)
    return _Sifted(
        tuple(d for d in able if d.priority == first),
        tuple(d for d in able if d.priority != first),
        tuple(Refusal(d.id, reason) for d, reason in reasons if reason is not None),
    )


def _inability(deployment: Deployment, client: str, tags: frozenset[str], regions: frozenset[str]) -> str | None:
    """Why it could not answer such a request however well it is; None: it could."""
    if not deployment.can_speak(client):
        return NO_ENDPOINT
    if not deployment.can_bill(client):
        return NO_PRICE if deployment.price is None else NO_SUCH_PRICE
    if not all(map(deployment.is_in, regions)):
        return ELSEWHERE
    return None if deployment.tags >= tags else NOT_TAGGED


class _Choice:
    """Sorts deployments into those that are well, those that are not, and those that are out of the question. What `home`, the
    route that was asked for, insists on holds for its fallbacks too."""

    def __init__(self, home: Route, asking: Asking, world: Conditions) -> None:
        self.asking = asking
        self.tags = home.tags | asking.tags
        self.regions = frozenset((home.region, asking.region))
        self.world = world
        self.well: list[Deployment] = []
        self.refused: list[Refusal] = []
        self.busy: list[Deployment] = []
        self._own = 0
        self._ailing: list[tuple[bool, float, Deployment]] = []
        #: None where no second route can name a deployment again.
        self._seen: set[str] | None = set() if home.has_others else None

    def consider(self, route: Route) -> None:
        """Each deployment counts once, whichever route names it first."""
        able = _sifted(route, self.asking.client, self.tags, self.regions)
        self.refused += able.unable if self._seen is None else self._new(able.unable)
        some = sampled(able.first, able.rest, self.world.random)
        ring = None
        if self.asking.affinity and len(able.first) > 1:
            ring = able.ring
            if len(some) < len(able.first):
                # A conversation's own deployments are looked at whatever the sample is.
                own = islice(ring.order(self.asking.affinity), HOMES)
                some = list({d.id: d for d in (*own, *some)}.values())
        well = self._healthy(some)
        if not well and len(able.first) + len(able.rest) > len(some):
            well = self._healthy((*able.first, *able.rest))
        if not self.well:
            self._own = len(well)
        self.well += ordered(well, route.strategy, self.asking, self.world, ring)

    def kin(self, deployment: Deployment) -> tuple[bool, Place]:
        """Those of the first route that are in one place are kin, and so are fallbacks there."""
        return deployment in self.well[: self._own], place_of(deployment)

    def others(self, routes: Iterable[Route]) -> tuple[Deployment, ...]:
        """Those that take over for one reason: at most two."""
        for route in routes:
            self.consider(route)
        return tuple((self.well or self.last_resort())[: MAX_ATTEMPTS - 1])

    def last_resort(self) -> list[Deployment]:
        """Failing ones before those whose provider said no in so many words; whoever is due first goes first."""
        return [d for _, _, d in sorted(self._ailing, key=lambda each: each[:2])] if self._ailing else []

    def _new(self, unable: Sequence[Refusal]) -> list[Refusal]:
        assert self._seen is not None
        found = [each for each in unable if each.deployment not in self._seen]
        self._seen.update(each.deployment for each in found)
        return found

    def _healthy(self, able: Sequence[Deployment]) -> list[Known]:
        now, of, found = self.world.now, self.world.fleet.of, []
        if self._seen is not None:
            able = [deployment for deployment in able if deployment.id not in self._seen]
            self._seen.update(deployment.id for deployment in able)
        for deployment in able:
            vitals = of(deployment)
            if not vitals.is_well(now):
                self._refuse(deployment, vitals.ailment(now) or "")
                self._ailing.append((vitals.is_told_off(now), vitals.wait_s(now), deployment))
            elif vitals.room is not None and not vitals.has_room(now):
                self.busy.append(deployment)
                self._refuse(deployment, BUSY)
            else:
                found.append((deployment, vitals))
        return found

    def _refuse(self, deployment: Deployment, reason: str) -> None:
        self.refused.append(Refusal(deployment.id, reason))
