"""Which deployments a request may go to, in which order, and who was left out. Pure.

A deployment that is not well (its breaker is open, its provider asked for a pause or refuses the credential) is left out while
another can answer. It is never given up on: when all others have failed, or there is no other, it is tried as a last resort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from naru.routing.strategies import Asking, Conditions, ordered, sampled
from naru.routing.table import Deployment, Route

#: reliability.md 1.3: at most one attempt per deployment and three in all.
MAX_ATTEMPTS = 3

NO_PRICE = "it has no price"
NO_SUCH_PRICE = "its price has no figure for such requests"
NO_ENDPOINT = "it has no endpoint for such requests"
ELSEWHERE = "it is not in the region asked for"
NOT_TAGGED = "it has not all the tags asked for"
BUSY = "it has as many requests in hand as it takes at the moment"

Find = Callable[[str], Route]


class Refusal(msgspec.Struct, frozen=True):
    """A deployment that was not considered, and why."""

    deployment: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """`attempts` are tried in their order, then `last_resort`, whose ailments stand in `refused`. `on_context` and `on_policy`
    are for a request that was too long, or against a provider's rules, for those."""

    attempts: tuple[Deployment, ...]
    refused: tuple[Refusal, ...] = ()
    last_resort: tuple[Deployment, ...] = ()
    on_context: tuple[Deployment, ...] = ()
    on_policy: tuple[Deployment, ...] = ()
    strategy: str = "priority"

    @property
    def candidates(self) -> tuple[Deployment, ...]:
        """Everybody who may be called."""
        if not (self.last_resort or self.on_context or self.on_policy):
            return self.attempts
        return (*self.attempts, *self.last_resort, *self.on_context, *self.on_policy)

    def is_for(self, *reasons: str) -> bool:
        """Whether nobody can answer, and all for one of these reasons."""
        return not self.attempts and bool(self.refused) and all(each.reason in reasons for each in self.refused)

    @property
    def is_wrong_endpoint(self) -> bool:
        """Nobody can answer because nobody speaks of such things."""
        return self.is_for(NO_ENDPOINT)

    @property
    def is_busy(self) -> bool:
        return not self.attempts and any(each.reason == BUSY for each in self.refused)

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

    @property
    def is_plain(self) -> bool:
        """Whether it says no more than who was called."""
        return len(self.candidates) < 2 and not self.refused


def plan(route: Route, find: Find, asking: Asking, world: Conditions) -> Plan:
    """Orders the route's deployments by its strategy, then its fallbacks', each by their own."""
    if len(route.deployments) == 1 and not route.has_others and not asking.tags and not asking.region:
        only = route.deployments[0]
        price = only.price
        if price is not None and price.bills_tokens and only.can_speak(asking.client):
            if world.fleet.of(only).has_room(world.now):
                return Plan(route.deployments, strategy=route.strategy)
            return Plan((), (Refusal(only.id, BUSY),))
    choice = _Choice(route, asking, world)
    for candidate in (route, *(find(name) for name in route.fallbacks)):
        choice.consider(candidate)
    well, last = choice.well[:MAX_ATTEMPTS], choice.last_resort()
    if not well and not choice.is_busy:
        # Nobody is well. Whoever may be first again goes first, and their own words reach the caller.
        well, last = last[:MAX_ATTEMPTS], []
    return Plan(
        tuple(well),
        tuple(choice.refused),
        tuple(last[: max(0, MAX_ATTEMPTS - len(well))]) if well else (),
        _Choice(route, asking, world).others(map(find, route.context_fallbacks)),
        _Choice(route, asking, world).others(map(find, route.policy_fallbacks)),
        route.strategy,
    )


class _Choice:
    """Sorts deployments into those that are well, those that are not, and those that are out of the question. What `home`, the
    route that was asked for, insists on holds for its fallbacks too."""

    def __init__(self, home: Route, asking: Asking, world: Conditions) -> None:
        self.asking = asking
        self.tags = home.tags | asking.tags
        self.regions = {home.region, asking.region}
        self.world = world
        self.well: list[Deployment] = []
        self.refused: list[Refusal] = []
        self.is_busy = False
        self._ailing: list[tuple[bool, float, Deployment]] = []
        self._seen: set[str] = set()

    def consider(self, route: Route) -> None:
        able = [d for d in sampled(route.deployments, self.world.random) if self._is_able(d, route)]
        if not (well := self._healthy(able)) and len(route.deployments) > len(able):
            well = self._healthy([d for d in route.deployments if self._is_able(d, route)])
        self.well += ordered(well, route.strategy, self.asking, self.world)

    def others(self, routes: Iterable[Route]) -> tuple[Deployment, ...]:
        """Those that take over for one reason: at most two."""
        for route in routes:
            self.consider(route)
        return tuple((self.well or self.last_resort())[: MAX_ATTEMPTS - 1])

    def last_resort(self) -> list[Deployment]:
        """Failing ones before those whose provider said no in so many words; whoever is due first goes first."""
        return [d for _, _, d in sorted(self._ailing, key=lambda each: each[:2])]

    def _is_able(self, deployment: Deployment, route: Route) -> bool:
        """Whether it could answer at all. Each deployment counts once, whichever route names it first."""
        if deployment.id in self._seen:
            return False
        asking = self.asking
        self._seen.add(deployment.id)
        if not deployment.can_speak(asking.client):
            return self._refuse(deployment, NO_ENDPOINT)
        if not deployment.can_bill(asking.client):
            return self._refuse(deployment, NO_PRICE if deployment.price is None else NO_SUCH_PRICE)
        if not all(map(deployment.is_in, (*self.regions, route.region))):
            return self._refuse(deployment, ELSEWHERE)
        if not deployment.tags >= self.tags | route.tags:
            return self._refuse(deployment, NOT_TAGGED)
        return True

    def _healthy(self, able: Sequence[Deployment]) -> list[Deployment]:
        now, found = self.world.now, []
        for deployment in able:
            vitals = self.world.fleet.of(deployment)
            if not vitals.is_well(now):
                self._refuse(deployment, vitals.ailment(now) or "")
                self._ailing.append((vitals.is_told_off(now), vitals.wait_s(now), deployment))
            elif not vitals.has_room(now):
                self.is_busy = True
                self._refuse(deployment, BUSY)
            else:
                found.append(deployment)
        return found

    def _refuse(self, deployment: Deployment, reason: str) -> bool:
        self.refused.append(Refusal(deployment.id, reason))
        return False
