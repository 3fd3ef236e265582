"""The order of attempts."""

from __future__ import annotations

from collections import Counter
from random import Random

from naru.ledger.pricing import FREE
from naru.routing.plan import MAX_ATTEMPTS, plan
from naru.routing.table import Deployment, Route


def deployment(name: str, **fields: object) -> Deployment:
    return Deployment(**{"id": name, "provider": "p", "model": name, "dialect": "d", "price": FREE, **fields})  # type: ignore[arg-type]


def ids(route: Route, others: dict[str, Route] | None = None, seed: int = 1) -> list[str]:
    return [d.id for d in plan(route, lambda name: (others or {})[name], Random(seed), "openai_chat").attempts]


def test_lower_priority_goes_first() -> None:
    """Whatever the order in the file."""
    route = Route("m", (deployment("b", priority=2), deployment("a", priority=1)))
    assert ids(route) == ["a", "b"]


def test_weights_share_the_first_place() -> None:
    """Three to one, within what chance allows over 4,000 plans."""
    route = Route("m", (deployment("heavy", weight=3), deployment("light", weight=1)))
    random = Random(7)
    first = Counter(plan(route, lambda name: route, random, "openai_chat").attempts[0].id for _ in range(4000))
    assert 2850 < first["heavy"] < 3150


def test_the_unpriced_are_never_called() -> None:
    """They are named as refused instead."""
    route = Route("m", (deployment("a", price=None), deployment("b")))
    found = plan(route, lambda name: Route("m", ()), Random(1), "openai_chat")
    assert [d.id for d in found.attempts] == ["b"]
    assert [(r.deployment, r.reason) for r in found.refused] == [("a", "it has no price")]


def test_fallbacks_come_after_and_attempts_are_bounded() -> None:
    """At most three, each deployment once."""
    other = Route("other", (deployment("c"), deployment("a"), deployment("d")))
    route = Route("m", (deployment("a"), deployment("b", priority=2)), fallbacks=("other",))
    found = ids(route, {"other": other})
    assert found[:2] == ["a", "b"]
    assert len(found) == MAX_ATTEMPTS
    assert len(set(found)) == len(found)
