"""Who is asked, in which order, and who is left out."""

from __future__ import annotations

from collections import Counter

import pytest

from naru.errors import UpstreamAuth
from naru.routing.plan import BUSY, ELSEWHERE, MAX_ATTEMPTS, NOT_TAGGED
from naru.routing.table import Route
from tests.routing.world import POLICY, World, deployment, ids, refused


def test_lower_priority_goes_first() -> None:
    """Whatever the order in the file."""
    route = Route("m", (deployment("b", priority=2), deployment("a", priority=1)))
    assert ids(World().plan(route)) == ["a", "b"]


@pytest.mark.parametrize("strategy", ["priority", "weighted"])
def test_weights_share_the_first_place(strategy: str) -> None:
    """Three to one, within what chance allows over 4,000 plans."""
    route = Route("m", (deployment("heavy", weight=3), deployment("light", weight=1)), strategy=strategy)
    world = World(7)
    first = Counter(world.plan(route).attempts[0].id for _ in range(4000))
    assert 2850 < first["heavy"] < 3150


def test_the_unpriced_are_never_called() -> None:
    """They are named as refused instead."""
    found = World().plan(Route("m", (deployment("a", price=None), deployment("b"))))
    assert ids(found) == ["b"]
    assert [(r.deployment, r.reason) for r in found.refused] == [("a", "it has no price")]


def test_fallbacks_come_after_and_attempts_are_bounded() -> None:
    """At most three, each deployment once."""
    other = Route("other", (deployment("c"), deployment("a"), deployment("d")))
    route = Route("m", (deployment("a"), deployment("b", priority=2)), fallbacks=("other",))
    found = ids(World().plan(route, {"other": other}))
    assert found[:2] == ["a", "b"]
    assert len(found) == MAX_ATTEMPTS
    assert len(set(found)) == len(found)


# --- Health ---------------------------------------------------------------------------------------------------------


def test_a_failing_deployment_is_left_out_and_kept_as_a_last_resort() -> None:
    """With the reason in words."""
    world, a, b = World(), deployment("a"), deployment("b")
    world.fail(a)
    found = world.plan(Route("m", (a, b)))
    assert ids(found) == ["b"]
    assert [each.id for each in found.last_resort] == ["a"]
    assert found.refused[0].deployment == "a"
    assert "failed too often" in found.refused[0].reason


def test_the_only_deployment_is_never_given_up() -> None:
    """However often it failed, and whatever its provider asked for."""
    world, a = World(), deployment("a")
    world.fail(a)
    world.call(a, refused(429, retry_after_s=100))
    assert ids(world.plan(Route("m", (a,)))) == ["a"]
    assert ids(world.plan(Route("m", (a,), fallbacks=("o",)), {"o": Route("o", ())})) == ["a"]


def test_when_nobody_is_well_whoever_is_due_first_goes_first() -> None:
    """And those that failed go before those that were told off."""
    world, a, b, c = World(), deployment("a"), deployment("b"), deployment("c")
    world.call(a, refused(429, retry_after_s=2))
    world.fail(b)
    world.now += 1
    world.fail(c)
    assert ids(world.plan(Route("m", (a, b, c)))) == ["b", "c", "a"]


def test_a_pause_ends_by_itself() -> None:
    world, a, b = World(), deployment("a"), deployment("b")
    world.call(a, refused(429, retry_after_s=5))
    route = Route("m", (a, b), strategy="least_busy")
    assert ids(world.plan(route)) == ["b"]
    world.now += 5.0
    assert sorted(ids(world.plan(route))) == ["a", "b"]


def test_one_wrong_key_closes_all_deployments_of_its_provider() -> None:
    """And no other provider's."""
    world = World()
    a, sister, b = deployment("a", provider="p"), deployment("sister", provider="p"), deployment("b")
    world.call(a, UpstreamAuth(401))
    assert ids(world.plan(Route("m", (sister, b)))) == ["b"]


def test_a_missing_right_closes_the_model_alone() -> None:
    world = World()
    a, sister, b = deployment("a", provider="p"), deployment("sister", provider="p"), deployment("b")
    world.call(a, UpstreamAuth(403))
    assert ids(world.plan(Route("m", (a, b)))) == ["b"]
    assert sorted(ids(world.plan(Route("m", (sister, b))))) == ["b", "sister"]


def test_after_the_open_time_one_request_tries_it_and_no_other() -> None:
    """Until that one has ended."""
    world, a, b = World(), deployment("a"), deployment("b", priority=2)
    route = Route("m", (a, b))
    world.fail(a)
    world.now += POLICY.open_s * 1.2
    assert ids(world.plan(route)) == ["a", "b"]
    decides = world.fleet.of(a).began(world.now)
    assert ids(world.plan(route)) == ["b"]
    world.fleet.of(a).ended(None, world.now, world.random, decides)
    assert ids(world.plan(route)) == ["a", "b"]


def test_a_throttled_deployment_is_given_less_at_once() -> None:
    """Where another has room it goes there; where none has, nobody is asked."""
    world, a, b = World(), deployment("a"), deployment("b", priority=2)
    vitals = world.fleet.of(a)
    for _ in range(10):
        vitals.began(world.now)
    vitals.ended(refused(503), world.now, world.random)
    assert vitals.room == 7.5
    assert ids(world.plan(Route("m", (a, b)))) == ["b"]
    alone = world.plan(Route("m", (a,)))
    assert alone.is_busy
    assert [each.reason for each in alone.refused] == [BUSY]


def test_the_last_try_goes_elsewhere_where_all_are_in_one_place() -> None:
    """A region that is lost as a whole must not take all tries; nor may a model's own deployments leave its fallbacks none."""
    near = tuple(deployment(f"near{n}", place="kr") for n in range(4))
    far = deployment("far", place="us", priority=2)
    found = ids(World().plan(Route("m", (*near, far))))
    assert found[2] == "far"
    assert all(name.startswith("near") for name in found[:2])
    other = Route("other", (deployment("fallback", place="kr"),))
    assert ids(World().plan(Route("m", near, fallbacks=("other",)), {"other": other}))[2] == "fallback"
    assert "fallback" not in ids(World().plan(Route("m", (*near[:2], far), fallbacks=("other",)), {"other": other}))


# --- Where, and what kind --------------------------------------------------------------------------------------------


def test_a_region_holds_for_fallbacks_too() -> None:
    """What must stay in Korea goes nowhere else, and a government cloud there is there."""
    here, gov, there = (
        deployment("here", place="kr"),
        deployment("gov", place="kr-gov"),
        deployment("there", place="us"),
    )
    route = Route("m", (there, here), fallbacks=("o",), region="kr")
    found = World().plan(route, {"o": Route("o", (gov, deployment("unknown")))})
    assert ids(found) == ["here", "gov"]
    assert {each.deployment: each.reason for each in found.refused} == {"there": ELSEWHERE, "unknown": ELSEWHERE}
    assert sorted(ids(World().plan(Route("m", (there, gov, here)), region="kr"))) == ["gov", "here"]


def test_fallbacks_outside_the_region_are_refused() -> None:
    """The route's own rule decides, not the fallback's."""
    there = deployment("there", place="us")
    route = Route("m", (deployment("here", place="kr"),), fallbacks=("o",), region="kr")
    found = World().plan(route, {"o": Route("o", (there,))})
    assert ids(found) == ["here"]
    assert [(each.deployment, each.reason) for each in found.refused] == [("there", ELSEWHERE)]


def test_a_single_deployment_elsewhere_is_refused_too() -> None:
    """The short way through a plan knows the rules as well."""
    found = World().plan(Route("m", (deployment("there", place="us"),)), region="kr")
    assert not found.attempts
    assert found.is_elsewhere


def test_tags_of_the_request_and_of_the_route_must_all_be_there() -> None:
    fast = deployment("fast", tags=frozenset({"gpu", "fast"}))
    slow = deployment("slow", tags=frozenset({"gpu"}))
    assert sorted(ids(World().plan(Route("m", (fast, slow)), tags=frozenset({"gpu"})))) == ["fast", "slow"]
    assert ids(World().plan(Route("m", (fast, slow)), tags=frozenset({"gpu", "fast"}))) == ["fast"]
    found = World().plan(Route("m", (fast, slow), tags=frozenset({"fast"})))
    assert ids(found) == ["fast"]
    assert [(each.deployment, each.reason) for each in found.refused] == [("slow", NOT_TAGGED)]


def test_tags_hold_for_fallbacks_too() -> None:
    """What a model insists on, its fallbacks must have as well."""
    gpu, other = deployment("gpu", tags=frozenset({"gpu"})), deployment("other")
    route = Route("m", (gpu,), fallbacks=("o",), tags=frozenset({"gpu"}))
    found = World().plan(route, {"o": Route("o", (other,))})
    assert ids(found) == ["gpu"]
    assert [(each.deployment, each.reason) for each in found.refused] == [("other", NOT_TAGGED)]


# --- For special reasons -----------------------------------------------------------------------------------------------


def test_those_for_long_requests_and_for_refused_ones_stand_apart() -> None:
    """They are no attempts, but they may be called, so money has to know of them."""
    others = {"long": Route("long", (deployment("l"),)), "loose": Route("loose", (deployment("p"),))}
    route = Route("m", (deployment("a"),), context_fallbacks=("long",), policy_fallbacks=("loose",))
    found = World().plan(route, others)
    assert ids(found) == ["a"]
    assert [each.id for each in found.on_context] == ["l"]
    assert [each.id for each in found.on_policy] == ["p"]
    assert [each.id for each in found.candidates] == ["a", "l", "p"]
    assert found.shown()["on_context"] == ["l"]


def test_of_very_many_a_few_are_looked_at_and_the_well_are_found() -> None:
    """Of a thousand deployments all but one may be down."""
    world = World(3)
    crowd = tuple(deployment(f"d{number}", provider="p") for number in range(1000))
    assert len(world.plan(Route("m", crowd, strategy="latency")).attempts) == MAX_ATTEMPTS
    for each in crowd[:-1]:
        world.call(each, refused(429, retry_after_s=60))
    assert ids(world.plan(Route("m", crowd, strategy="latency"))) == ["d999"]
