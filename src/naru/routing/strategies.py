"""In which order healthy deployments are tried. Pure: what is known of them, the time and the chance are arguments.

    priority, weighted  chance, in proportion to the weights
    least_busy          the fewest requests in hand for its weight; what an inference server tells of its queue counts
    latency             power of a few choices: of four at random the one that was fastest of late, for what it has in hand
    cost                what the request is expected to cost; who has far more in hand than the others goes behind them

Lower `priority` numbers always go first; a strategy orders those of the same priority.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

import msgspec

from naru.routing.affinity import Ring
from naru.routing.fleet import Fleet
from naru.routing.table import Deployment
from naru.routing.vitals import Vitals

#: Of more than this many, so many at random are looked at: power of d choices, and a plan stays cheap.
SAMPLE = 16
#: What an inference server told so long ago is not believed.
LOAD_AGE_S = 15.0
#: A full KV memory makes requests wait or be computed twice.
KV_TIGHT = 0.85
#: `latency` compares so many. Two are too few to avoid the slow in a large crowd; all would send everybody to the same one.
CHOICES = 4
#: Far busier than the others: more in hand, for its weight, than so many times their mean and so many more.
CROWDED = 1.25
CROWDED_SLACK = 2.0


class Asking(msgspec.Struct, frozen=True):
    """What routing has to know of a request. `client` is the caller's dialect; `tags` and `region` are what it insists on;
    `affinity` is affinity.affinity_key's; `cost` gives the expected nano-dollars at a deployment."""

    client: str
    is_stream: bool = False
    tags: frozenset[str] = frozenset()
    region: str = ""
    affinity: bytes = b""
    cost: Callable[[Deployment], int] | None = None


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """The world at the moment of a decision."""

    fleet: Fleet
    now: float
    random: Random


#: A deployment that is well, and what is known of it.
Known = tuple[Deployment, Vitals]
#: What is sorted: priority, score, chance.
Key = tuple[int, Any, float, Deployment]


def sampled(first: Sequence[Deployment], rest: Sequence[Deployment], random: Random) -> Sequence[Deployment]:
    """A part of a great many. `first` are those of the first priority: they alone where they are many enough."""
    if len(first) > SAMPLE:
        return random.sample(first, SAMPLE)
    if len(first) + len(rest) <= SAMPLE:
        return (*first, *rest) if rest else first
    return [*first, *random.sample(rest, min(len(rest), SAMPLE))]


def ordered(
    known: Sequence[Known], strategy: str, asking: Asking, world: Conditions, ring: Ring | None = None
) -> list[Deployment]:
    """All of them, best first. `ring` is given where the request belongs to one of them."""
    if len(known) < 2:
        return [deployment for deployment, _ in known]
    score, chance = _SCORES[strategy], world.random.random
    # Chance decides between equals, so that no two deployments are ever compared.
    keys = [(d.priority, score(d, vitals, asking, world), chance(), d) for d, vitals in known]
    keys = sorted(_uncrowded(keys) if strategy == "cost" else keys)
    found = [key[3] for key in keys]
    if strategy == "latency":
        _duel(found, world.random)
    if ring is not None:
        _stay(found, ring.order(asking.affinity), world)
    return found


def _uncrowded(keys: list[Key]) -> list[Key]:
    """Or the cheapest would be given everybody's requests until it refuses them."""
    most = _most([score[2] for _, score, _, _ in keys])
    return [(priority, (score[2] > most, *score[1:]), chance, d) for priority, score, chance, d in keys]


def _most(busy: Sequence[float]) -> float:
    return CROWDED * sum(busy) / len(busy) + CROWDED_SLACK


def _by_chance(deployment: Deployment, vitals: Vitals, asking: Asking, world: Conditions) -> float:
    # Exponential keys give a weighted shuffle: the smallest of E/weight is first with probability weight/sum.
    return world.random.expovariate(1.0) / deployment.weight


def _by_business(deployment: Deployment, vitals: Vitals, asking: Asking, world: Conditions) -> float:
    return busyness(vitals, world.now) / deployment.weight


def _by_latency(deployment: Deployment, vitals: Vitals, asking: Asking, world: Conditions) -> float:
    speed = vitals.ttft if asking.is_stream else vitals.whole
    return speed.now(world.now) * (1.0 + busyness(vitals, world.now)) / deployment.weight


def _by_cost(deployment: Deployment, vitals: Vitals, asking: Asking, world: Conditions) -> tuple[bool, float, float]:
    cost = asking.cost(deployment) if asking.cost is not None else 0
    # Whether it is crowded is for the whole of them to say: `_uncrowded` fills it in.
    return False, cost, _by_business(deployment, vitals, asking, world)


_SCORES: dict[str, Callable[[Deployment, Vitals, Asking, Conditions], Any]] = {
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
        return vitals.in_flight
    busy = max(vitals.in_flight, load.running + load.waiting) + load.waiting
    return busy * (1.0 + 10.0 * max(0.0, load.kv_used - KV_TIGHT))


def _duel(found: list[Deployment], random: Random) -> None:
    """Puts the best of a few at random first, not the best of all: whoever looks best gets everybody's requests at once, and is
    the worst a moment later."""
    priority, count = found[0].priority, len(found)
    if found[-1].priority != priority:
        count = sum(deployment.priority == priority for deployment in found)
    if count > 2:
        found.insert(0, found.pop(min(random.sample(range(count), min(CHOICES, count - 1)))))  # the best stands first


def _stay(found: list[Deployment], order: Iterable[Deployment], world: Conditions) -> None:
    """Puts the conversation's own deployment first, unless it is far busier than the rest."""
    first = [d for d in found if d.priority == found[0].priority]
    if len(first) < 2:
        return
    busy = {d.id: busyness(world.fleet.of(d), world.now) / d.weight for d in first}
    most = _most(list(busy.values()))
    home = next((d for d in order if busy.get(d.id, most + 1.0) <= most), None)
    if home is not None:
        found.remove(home)
        found.insert(0, home)
