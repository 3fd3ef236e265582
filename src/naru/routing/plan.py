"""The order in which the deployments of a request are tried."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from naru.routing.table import Deployment, Route

#: reliability.md 1.3: at most one attempt per deployment and three in all.
MAX_ATTEMPTS = 3

NO_PRICE = "it has no price"
NO_SUCH_PRICE = "its price has no figure for such requests"
NO_ENDPOINT = "it has no endpoint for such requests"


class Refusal(msgspec.Struct, frozen=True):
    """A deployment that was not considered, and why."""

    deployment: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    attempts: tuple[Deployment, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def is_wrong_endpoint(self) -> bool:
        """Nobody can answer because nobody speaks of such things."""
        return not self.attempts and bool(self.refused) and all(each.reason == NO_ENDPOINT for each in self.refused)


def plan(route: Route, find: Callable[[str], Route], random: Random, client: str) -> Plan:
    """Orders the route's deployments, then its fallbacks', for a caller of dialect `client`. Lower priority numbers go
    first, weights decide among equals."""
    if len(route.deployments) == 1 and not route.fallbacks:
        only = route.deployments[0]
        if only.price is not None and only.price.bills_tokens and only.can_speak(client):
            return Plan(route.deployments)
    ordered: list[Deployment] = []
    refused: list[Refusal] = []
    for candidate in (route, *(find(name) for name in route.fallbacks)):
        for deployment in _ordered(candidate, random):
            if not deployment.can_speak(client):
                refused.append(Refusal(deployment.id, NO_ENDPOINT))
            elif not deployment.can_bill(client):
                refused.append(Refusal(deployment.id, NO_PRICE if deployment.price is None else NO_SUCH_PRICE))
            elif deployment not in ordered:
                ordered.append(deployment)
    return Plan(tuple(ordered[:MAX_ATTEMPTS]), tuple(refused))


def _ordered(route: Route, random: Random) -> list[Deployment]:
    """Exponential keys give a weighted shuffle: the smallest of E/weight is first with probability weight/sum."""
    return sorted(
        route.deployments,
        key=lambda d: (d.priority, random.expovariate(1.0) / d.weight if d.weight > 0 else float("inf")),
    )
