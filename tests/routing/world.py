"""Deployments, conditions and failures for the tests of routing."""

from __future__ import annotations

from random import Random
from typing import Any

from naru.errors import NaruError, UpstreamRefused
from naru.ledger.pricing import FREE
from naru.routing.breaker import BreakerPolicy
from naru.routing.fleet import Fleet
from naru.routing.plan import Plan, plan
from naru.routing.strategies import Asking, Conditions
from naru.routing.table import Deployment, Route

POLICY = BreakerPolicy(failures=3, open_s=10.0, max_open_s=60.0)


def deployment(name: str, **fields: Any) -> Deployment:
    return Deployment(
        **{"id": name, "provider": f"p-{name}", "model": name, "dialect": "openai_chat", "price": FREE, **fields}
    )


class World:
    """A fleet, a time that moves when told, and chance from a seed."""

    def __init__(self, seed: int = 1) -> None:
        self.fleet = Fleet(POLICY)
        self.random = Random(seed)
        self.now = 1_000.0

    def conditions(self) -> Conditions:
        return Conditions(self.fleet, self.now, self.random)

    def plan(self, route: Route, others: dict[str, Route] | None = None, **asking: Any) -> Plan:
        return plan(
            route, lambda name: (others or {})[name], Asking(**{"client": "openai_chat", **asking}), self.conditions()
        )

    def call(self, asked: Deployment, error: NaruError | None = None) -> None:
        """One call from its beginning to its end, at this moment."""
        vitals = self.fleet.of(asked)
        vitals.ended(error, self.now, self.random, vitals.began(self.now))

    def fail(self, asked: Deployment, times: int = POLICY.failures, error: NaruError | None = None) -> None:
        for _ in range(times):
            self.call(asked, error or refused(500))


def refused(status: int, retry_after_s: float | None = None, code: str | None = None) -> UpstreamRefused:
    return UpstreamRefused("no", status=status, retry_after_s=retry_after_s, code=code)


def ids(found: Plan) -> list[str]:
    return [each.id for each in found.attempts]
