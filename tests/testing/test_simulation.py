"""The simulation of routing: the same seed gives the same figures, nothing is lost or done twice, and Naru's strategies do what
docs/routing.md says of them."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from itertools import pairwise

import pytest
from bench.routing_figure import figure
from bench.simulate_routing import POLICIES, Found, quantile, simulate
from bench.simulated_policies import Policy, gateways
from bench.simulated_world import WELL, World, arrivals, servers
from bench.simulation import SLICES_PER_S, Outcome, Simulation, Try
from msgspec.structs import replace

#: Everything that goes wrong in the great one goes wrong here too.
SMALL = World(deployments=25, rate_per_s=2_500.0, conversations=1_000)
TINY = replace(SMALL, rate_per_s=250.0)
CALM = replace(SMALL, deployments=10, rate_per_s=1_000.0, ills=WELL, lost_at=10.0, back_at=10.0, seconds=2.0)
BY_NAME = {policy.name: policy for policy in POLICIES}

each_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)


@cache
def small(name: str) -> Found:
    return simulate(BY_NAME[name], SMALL)


@cache
def calm(name: str) -> Found:
    return simulate(BY_NAME[name], CALM)


class Watched(Simulation):
    """Looks at a server after everything that happens to it."""

    most_running = 0
    most_waiting = 0

    def _ask_next(self, work, now) -> None:  # type: ignore[no-untyped-def]
        server = work.left[0]
        super()._ask_next(work, now)
        self.look(server)

    def _withdraw(self, attempt: Try, now: float) -> None:
        super()._withdraw(attempt, now)
        self.look(attempt.server)

    def look(self, server) -> None:  # type: ignore[no-untyped-def]
        assert 0 <= len(server.running) == server.slots - server.room <= server.slots
        assert server.queued == sum(each.waits for each in server.line) <= server.most_waiting
        self.most_running = max(self.most_running, len(server.running))
        self.most_waiting = max(self.most_waiting, server.queued)


def watched(policy: Policy, world: World) -> Watched:
    made = servers(world)
    run = Watched(world, made, arrivals(world), gateways(policy, made, world))
    run.run()
    return run


@each_policy
def test_a_seed_gives_the_same_figures_to_the_digit(policy: Policy) -> None:
    assert simulate(policy, TINY) == simulate(policy, TINY)
    assert simulate(policy, TINY) != simulate(policy, replace(TINY, seed=1))


@each_policy
def test_every_request_ends_once_and_servers_keep_their_bounds(policy: Policy) -> None:
    run = watched(policy, TINY)
    outcomes = Counter(Outcome(each) for each in run.outcomes)
    assert outcomes[Outcome.PENDING] == 0
    assert outcomes.total() == len(run.asked.at)
    with_content = sum(first >= 0 for first in run.ttft_s)
    assert outcomes[Outcome.ANSWERED] + outcomes[Outcome.CUT] == with_content
    assert run.most_running > 0
    for server in run.servers:  # everybody has left
        assert (server.room, server.queued, len(server.running)) == (server.slots, 0, 0)
    for gateway in run.gateways:
        assert all(vitals.in_flight == 0 for vitals in getattr(gateway, "vitals", []))


def test_the_load_is_what_it_says() -> None:
    made = servers(CALM)
    capacity = sum(server.slots / server.pace for server in made) / (CALM.prompt_s + CALM.answer_s)
    assert CALM.rate_per_s / capacity == pytest.approx(CALM.load, rel=0.05)
    asked = arrivals(CALM)
    assert len(asked.at) == pytest.approx(CALM.rate_per_s * CALM.seconds, rel=0.05)
    assert sum(asked.answer_s) / len(asked.at) == pytest.approx(CALM.answer_s, rel=0.1)


@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "ideal"])
def test_the_ideal_is_never_beaten_in_a_calm_world(name: str) -> None:
    ideal, other = calm("ideal"), calm(name)
    assert ideal.p50_before_s <= other.p50_before_s
    assert ideal.refused == ideal.failed == ideal.cut == 0


@pytest.mark.parametrize("name", ["least_busy", "latency"])
def test_strategies_that_look_beat_round_robin(name: str) -> None:
    assert small(name).p99_before_s < 0.8 * small("round robin").p99_before_s
    assert small(name).failed <= small("round robin").failed


@pytest.mark.parametrize("name", ["weighted", "least_busy", "latency"])
def test_a_lost_region_gets_no_more_than_the_odd_try(name: str) -> None:
    assert small("round robin").to_the_lost_later > 0.1
    # Not none: who waited for a silent one goes on with the plan that was made before anybody knew.
    assert small(name).to_the_lost_later < 0.03


def test_least_busy_hardly_feeds_a_silent_region() -> None:
    """What it has in hand there never ends, so that it soon looks busy: long before the first time-out."""
    assert small("least_busy").to_the_lost < 0.5 * small("weighted").to_the_lost


def test_affinity_finds_warm_servers() -> None:
    assert small("least_busy, prefix").warm > 2 * small("least_busy").warm


def test_the_figure_has_a_line_for_each_policy_and_no_label_on_another() -> None:
    drawn = figure({policy.name: [0.5] * 45 for policy in POLICIES}, World(), SLICES_PER_S)
    assert drawn.count("<polyline") == drawn.count('font-size="14"') == 5
    ends = [float(line.split('y="')[1].split('"')[0]) for line in drawn.splitlines() if 'font-size="14"' in line]
    assert all(later - earlier >= 19 for earlier, later in pairwise(ends))


def test_quantiles_are_of_the_nearest_rank() -> None:
    values = [float(each) for each in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 0.999)) == (50.0, 99.0, 100.0)
    assert json.dumps(quantile([], 0.5)) == "NaN"
