"""The order in which the deployments of a request are tried."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from naru.routing.table import Deployment, Route

#: reliability.md 1.3: at most one attempt per deployment and three in all.
MAX_ATTEMPTS = 3


class Refusal(msgspec.Struct, frozen=True):
    """A deployment that was not considered, and why."""

    deployment: str
    reason: str


class Plan(msgspec.Struct, frozen=True):
    attempts: tuple[Deployment, ...]
    refused: tuple[Refusal, ...] = ()


def plan(route: Route, find: Callable[[str], Route], random: Random) -> Plan:
    """Orders the route's deployments, then its fallbacks'. Lower priority numbers first, weights decide among equals."""
    if len(route.deployments) == 1 and not route.fallbacks and route.deployments[0].price is not None:
        return Plan(route.deployments)
    ordered: list[Deployment] = []
    refused: list[Refusal] = []
    for candidate in (route, *(find(name) for name in route.fallbacks)):
        for deployment in _ordered(candidate, random):
            if deployment.price is None:
                refused.append(Refusal(deployment.id, "it has no price"))
            elif deployment not in ordered:
                ordered.append(deployment)
    return Plan(tuple(ordered[:MAX_ATTEMPTS]), tuple(refused))


def _ordered(route: Route, random: Random) -> list[Deployment]:
    """Exponential keys give a weighted shuffle: the smallest of E/weight is first with probability weight/sum."""
    return sorted(
        route.deployments,
        key=lambda d: (d.priority, random.expovariate(1.0) / d.weight if d.weight > 0 else float("inf")),
    )
