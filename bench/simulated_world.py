"""The world of `bench.simulate_routing`: deployments, their servers, requests, and what goes wrong. Everything from one seed.

A server has so many slots and a line of waiting requests, both bounded. A request holds a slot from its first prompt token
to its last answer token, and takes longer on a slow server. The network is added to the time of the answer alone.
"""

from __future__ import annotations

from array import array
from collections import deque
from math import exp
from random import Random
from typing import TYPE_CHECKING

import msgspec

from naru.errors import UpstreamError, UpstreamRefused
from naru.ledger.pricing import FREE
from naru.routing.table import Deployment

if TYPE_CHECKING:
    from bench.simulation import Try


class Region(msgspec.Struct, frozen=True):
    name: str
    #: There and back, from where the gateway is.
    network_s: float


class Ills(msgspec.Struct, frozen=True):
    """What is wrong with a part (0 to 1) of the deployments."""

    #: Ten are so much slower than the rest that hardly anybody gets an answer in time.
    slow: float = 0.01
    slow_times: float = 20.0
    #: An error to every request.
    failing: float = 0.01
    #: An error to every request, then none, in turns of so many seconds.
    flapping: float = 0.02
    flap_s: float = 0.4
    #: More than `throttled_at` of a fair share of the requests is refused with 429 and retry-after.
    throttled: float = 0.02
    throttled_at: float = 0.3
    retry_after_s: float = 1.0


class World(msgspec.Struct, frozen=True):
    """Everything that a run depends on. Times in seconds, `_at` since the beginning."""

    seed: int = 2026
    deployments: int = 1_000
    rate_per_s: float = 100_000.0
    regions: tuple[Region, ...] = (
        Region("seoul", 0.004),
        Region("tokyo", 0.035),
        Region("singapore", 0.075),
        Region("oregon", 0.130),
        Region("frankfurt", 0.230),
    )
    #: Work that arrives, as a part of what all servers can do together. With one region of five gone it is 81 %.
    load: float = 0.65
    #: Slots, and so the weights that an operator would give: small, middle and large servers, in equal numbers.
    weights: tuple[int, ...] = (1, 2, 4)
    #: Waiting requests for each slot; more are refused with 503.
    line: float = 0.5
    #: Log-normal: how servers of the same size differ in speed, which nobody told the gateway.
    speed_sigma: float = 0.3
    #: The part of older servers, and how much slower they are.
    old: float = 0.10
    old_times: float = 2.5
    #: Means of log-normal times on a server of speed 1: short answers, so that a few seconds show a steady state.
    prompt_s: float = 0.08
    prompt_sigma: float = 0.6
    answer_s: float = 0.4
    answer_sigma: float = 0.8
    #: Each request belongs to one of so many conversations; a server remembers the last `remembered` for each slot, and then
    #: reads only `rest` of the prompt.
    conversations: int = 50_000
    remembered: int = 4
    rest: float = 0.3
    #: What a request costs, for a third of the deployments each, in nano-dollars.
    prices: tuple[int, ...] = (100_000, 200_000, 400_000)
    ills: Ills = Ills()
    #: The region falls silent: requests and answers under way vanish, and nobody says so.
    lost_region: str = "tokyo"
    lost_at: float = 2.5
    back_at: float = 4.0
    warm_s: float = 1.0
    seconds: float = 4.5
    #: The gateway's timeouts and breaker, for a world of short answers: defaults are 60 s, 60 s and 30 s.
    ttft_s: float = 1.0
    idle_s: float = 1.0
    breaker_s: float = 1.0

    @property
    def has_loss(self) -> bool:
        return self.lost_at < self.seconds


#: Nothing goes wrong.
WELL = Ills(slow=0.0, failing=0.0, flapping=0.0, throttled=0.0)

FULL = UpstreamRefused("The line is full.", status=503)
BROKEN = UpstreamRefused("Something went wrong.", status=500)


class Server:
    """What answers for a deployment, as it truly is. `running` and `line` hold attempts; some in line may have given up."""

    __slots__ = (
        "deployment", "failing", "flap_phase", "flap_s", "is_lost", "line", "most_waiting", "network_s", "number", "pace",
        "price", "queued", "region", "remember", "remembered", "room", "running", "slots", "throttle", "tokens", "tokens_at",
        "weight",
    )  # fmt: skip

    def __init__(self, number: int, region: Region, weight: int, price: int) -> None:
        self.number = number
        self.region = region.name
        self.network_s = region.network_s
        self.weight = weight
        self.price = price
        name = f"{region.name}-{number:04}"
        self.deployment = Deployment(
            id=name, provider=name, model="m", dialect="openai_chat", price=FREE, region=region.name, weight=weight
        )
        #: How many times as long as at speed 1 everything takes.
        self.pace = 1.0
        self.slots = self.room = self.most_waiting = 1
        self.running: set[Try] = set()
        self.line: deque[Try] = deque()
        self.queued = 0
        self.is_lost = self.failing = False
        self.flap_s = self.flap_phase = 0.0
        #: Requests a second that it takes; 0: all.
        self.throttle = self.tokens = self.tokens_at = 0.0
        self.remembered: dict[int, None] = {}
        self.remember = 1

    @property
    def is_ill(self) -> bool:
        return self.failing or self.flap_s > 0 or self.throttle > 0

    def refusal(self, now: float, throttled: UpstreamError) -> UpstreamError | None:
        """What it says to one more request, unless it takes it."""
        if self.failing or (self.flap_s and int((now + self.flap_phase) / self.flap_s) % 2):
            return BROKEN
        if self.throttle:
            self.tokens = min(self.throttle / 10, self.tokens + (now - self.tokens_at) * self.throttle)
            self.tokens_at = now
            if self.tokens < 1.0:
                return throttled
            self.tokens -= 1.0
        return FULL if not self.room and self.queued >= self.most_waiting else None

    def is_warm_for(self, conversation: int) -> bool:
        return conversation in self.remembered

    def met(self, conversation: int) -> bool:
        """Whether it remembers the conversation; from now on it does. The one met longest ago is forgotten."""
        known = self.remembered
        if is_warm := conversation in known:
            del known[conversation]
        known[conversation] = None
        if len(known) > self.remember:
            del known[next(iter(known))]
        return is_warm


def servers(world: World) -> list[Server]:
    """All of them, each region's in turn. Their slots are as many as make the load what it is to be."""
    random = Random(f"servers {world.seed}")
    count = len(world.regions)
    made = [
        Server(n, world.regions[n % count], random.choice(world.weights), random.choice(world.prices))
        for n in range(world.deployments)
    ]
    for server in made:
        server.pace = exp(random.gauss(0.0, world.speed_sigma)) * (
            world.old_times if random.random() < world.old else 1.0
        )
    mean_s = world.prompt_s + world.answer_s
    unit = world.rate_per_s * mean_s / world.load / sum(server.weight / server.pace for server in made)
    for server in made:
        server.slots = server.room = max(1, round(unit * server.weight))
        server.most_waiting = max(1, round(server.slots * world.line))
        server.remember = server.slots * world.remembered
    _fall_ill(made, world, random)
    return made


def _fall_ill(made: list[Server], world: World, random: Random) -> None:
    """One illness each, at most."""
    ills = world.ills
    left = random.sample(made, len(made))

    def some(part: float) -> list[Server]:
        return [left.pop() for _ in range(round(part * len(made)))]

    for server in some(ills.slow):
        server.pace *= ills.slow_times
    for server in some(ills.failing):
        server.failing = True
    for server in some(ills.flapping):
        server.flap_s, server.flap_phase = ills.flap_s, random.uniform(0.0, 2 * ills.flap_s)
    fair = world.rate_per_s / sum(server.weight for server in made)
    for server in some(ills.throttled):
        server.throttle = ills.throttled_at * fair * server.weight


class Arrivals(msgspec.Struct, frozen=True):
    """Requests in the order of their times, field by field: when, how long the prompt and the answer take at speed 1, and of
    which conversation. Every policy meets the same ones."""

    at: array[float]
    prompt_s: array[float]
    answer_s: array[float]
    conversation: array[int]


def arrivals(world: World) -> Arrivals:
    random = Random(f"arrivals {world.seed}")
    made = Arrivals(array("d"), array("d"), array("d"), array("l"))
    gauss, chance = random.gauss, random.random
    prompt_mean = world.prompt_s * exp(-(world.prompt_sigma**2) / 2)
    answer_mean = world.answer_s * exp(-(world.answer_sigma**2) / 2)
    now = 0.0
    while (now := now + random.expovariate(world.rate_per_s)) < world.seconds:
        made.at.append(now)
        made.prompt_s.append(prompt_mean * exp(gauss(0.0, world.prompt_sigma)))
        made.answer_s.append(answer_mean * exp(gauss(0.0, world.answer_sigma)))
        made.conversation.append(int(chance() * world.conversations))
    return made
