"""In which order healthy deployments are tried. Pure: what is known of them, the time and the chance are arguments.

    priority, weighted  chance, in proportion to the weights
    least_busy          the fewest requests in hand for its weight; what an inference server tells of its queue counts
    latency             power of two choices: of two at random the one that was faster of late, for what it has in hand
    cost                what the request is expected to cost, then least_busy

Lower `priority` numbers always go first; a strategy orders those of the same priority.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import msgspec

from naru.routing.affinity import by_affinity
from naru.routing.fleet import Fleet
from naru.routing.table import Deployment
from naru.routing.vitals import Vitals

#: Of more than this many, so many at random are looked at: power of d choices, and a plan stays cheap.
SAMPLE = 16
#: What an inference server told so long ago is not believed.
LOAD_AGE_S = 15.0
#: A full KV memory makes requests wait or be computed twice.
KV_TIGHT = 0.85
#: A conversation leaves its deployment while that has so much more in hand than the others do on average.
AFFINITY_SLACK = 8.0


class Asking(msgspec.Struct, frozen=True):
    """What routing has to know of a request. `client` is the caller's dialect; `tags` and `region` are what it insists on;
    `affinity` is affinity.affinity_key's; `cost` gives the expected nano-dollars at a deployment."""

    client: str
    is_stream: bool = False
    tags: frozenset[str] = frozenset()
    region: str = ""
    affinity: bytes = b""
    cost: Callable[[Deployment], int] | None = None


class Conditions(msgspec.Struct, frozen=True):
    """The world at the moment of a decision."""

    fleet: Fleet
    now: float
    random: Random


def sampled(deployments: Sequence[Deployment], random: Random) -> Sequence[Deployment]:
    """A part of a great many, those of the first priority alone where they are many enough."""
    if len(deployments) <= SAMPLE:
        return deployments
    first = min(deployment.priority for deployment in deployments)
    best = [deployment for deployment in deployments if deployment.priority == first]
    if len(best) > SAMPLE:
        return random.sample(best, SAMPLE)
    rest = [deployment for deployment in deployments if deployment.priority != first]
    return [*best, *random.sample(rest, min(len(rest), SAMPLE))]


def ordered(deployments: Sequence[Deployment], strategy: str, asking: Asking, world: Conditions) -> list[Deployment]:
    """All of them, best first."""
    if len(deployments) < 2:
        return list(deployments)
    score = _SCORES[strategy]
    keys = {d.id: (d.priority, score(d, asking, world), world.random.random()) for d in deployments}
    found = sorted(deployments, key=lambda d: keys[d.id])
    if strategy == "latency":
        _duel(found, keys, world.random)
    if asking.affinity:
        _stay(found, asking.affinity, world)
    return found


def _by_chance(deployment: Deployment, asking: Asking, world: Conditions) -> float:
    # Exponential keys give a weighted shuffle: the smallest of E/weight is first with probability weight/sum.
    return world.random.expovariate(1.0) / deployment.weight


def _by_business(deployment: Deployment, asking: Asking, world: Conditions) -> float:
    return busyness(world.fleet.of(deployment), world.now) / deployment.weight


def _by_latency(deployment: Deployment, asking: Asking, world: Conditions) -> float:
    vitals = world.fleet.of(deployment)
    speed = vitals.ttft if asking.is_stream else vitals.whole
    return speed.now(world.now) * (1.0 + busyness(vitals, world.now)) / deployment.weight


def _by_cost(deployment: Deployment, asking: Asking, world: Conditions) -> tuple[float, float]:
    cost = asking.cost(deployment) if asking.cost is not None else 0
    return cost, _by_business(deployment, asking, world)


_SCORES: dict[str, Callable[[Deployment, Asking, Conditions], object]] = {
    "priority": _by_chance,
    "weighted": _by_chance,
    "least_busy": _by_business,
    "latency": _by_latency,
    "cost": _by_cost,
}


def busyness(vitals: Vitals, now: float) -> float:
    """Requests in hand, ours and, where the server tells, everybody's; those that wait there count twice."""
    load = vitals.load
    if load is None or now - load.at > LOAD_AGE_S:
        return float(vitals.in_flight)
    busy = max(vitals.in_flight, load.running + load.waiting) + load.waiting
    return busy * (1.0 + 10.0 * max(0.0, load.kv_used - KV_TIGHT))


def _duel(found: list[Deployment], keys: dict[str, tuple[int, object, float]], random: Random) -> None:
    """Puts the better of two at random first, not the best of all: whoever looks best gets everybody's requests at once, and is
    the worst a moment later."""
    first = [d for d in found if d.priority == found[0].priority]
    if len(first) > 2:
        winner = min(random.sample(first, 2), key=lambda d: keys[d.id])
        found.remove(winner)
        found.insert(0, winner)


def _stay(found: list[Deployment], key: bytes, world: Conditions) -> None:
    """Puts the conversation's own deployment first, unless it is far busier than the rest."""
    first = [d for d in found if d.priority == found[0].priority]
    if len(first) < 2:
        return
    busy = {d.id: busyness(world.fleet.of(d), world.now) / d.weight for d in first}
    most = 1.5 * sum(busy.values()) / len(busy) + AFFINITY_SLACK
    home = next((d for d in by_affinity(key, first) if busy[d.id] <= most), None)
    if home is not None:
        found.remove(home)
        found.insert(0, home)
