"""One row of the table: what is injected, what the catalogue wants, and how that is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

import msgspec

from naru.testing import RawServer
from naru.testing.http import Handler
from tools.chaos.client import Client
from tools.chaos.gateway import Gateway
from tools.chaos.upstreams import PRICE_INPUT, PRICE_OUTPUT, healthy

#: Scaled down, so that a fault that takes a minute in production takes half a second here.
CONNECT_S, TTFT_S, IDLE_S, TOTAL_S = 1.0, 0.5, 0.5, 5.0
#: The sweep that looks at deadlines runs ten times a second; the rest is two busy cores.
SLACK_S = 1.0
SKIPPED, DIFFERS, RIGHT = "skipped", "DIFFERS", "as specified"
KINDS = {False: "plain", True: "stream"}


class Saw(msgspec.Struct, frozen=True):
    words: str
    is_right: bool = True


class Look:
    """What a row saw, in order. A row is as specified when everything it saw was right."""

    def __init__(self) -> None:
        self.found: list[Saw] = []
        self.skipped = ""

    def saw(self, words: str, is_right: bool = True) -> None:
        self.found.append(Saw(words, is_right))

    def skip(self, why: str) -> None:
        """The fault cannot be made on this machine."""
        self.skipped = why

    @property
    def is_right(self) -> bool:
        return bool(self.found) and all(each.is_right for each in self.found)


class Stage:
    """What one row has to itself: upstreams, and models of their own, so that no row feels another's faults."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = Random(f"{seed} {name}")
        self.gateway: Gateway
        self.bad: RawServer
        self.good: RawServer
        self.config: list[str] = []
        self.stoppers: list[Callable[[], Awaitable[object] | None]] = []
        #: What else a row's preparation leaves for its check.
        self.kept: dict[str, Any] = {}

    @property
    def client(self) -> Client:
        return self.gateway.client

    async def server(self, handler: Handler) -> RawServer:
        """A running upstream, with no word in it about when to stop."""
        made = RawServer(handler)
        await made.start()
        self.stoppers.append(made.stop)
        return made

    def provider(self, part: str, url: str, *settings: str) -> str:
        """Its name. `settings` are further lines of its table."""
        name = f"{self.name}-{part}"
        price = f"price = {{ input = {PRICE_INPUT}, output = {PRICE_OUTPUT} }}"
        lines = [f"[providers.{name}]", 'kind = "custom"', f'base_url = "{url}/v1"', "allow_private = true", price]
        self.config += [*lines, *settings]
        return name

    def provide(self, part: str, server: RawServer, *settings: str) -> str:
        return self.provider(part, f"http://127.0.0.1:{server.port}", *settings)

    def model(self, *providers: str, part: str = "", timeouts: Mapping[str, float] | None = None) -> str:
        """A model answered by these, in this order of priority."""
        name = f"{self.name}{part}"
        times = {"connect_s": CONNECT_S, "ttft_s": TTFT_S, "idle_s": IDLE_S, "total_s": TOTAL_S, **(timeouts or {})}
        said = ", ".join(f"{key} = {value}" for key, value in times.items())
        order = ", ".join(
            f'{{ provider = "{provider}", model = "m", priority = {place} }}'
            for place, provider in enumerate(providers, 1)
        )
        self.config += [f'[models."{name}"]', f"deployments = [{order}]", f"timeouts = {{ {said} }}"]
        return name

    async def stop(self) -> None:
        for stopper in reversed(self.stoppers):
            pending = stopper()
            if pending is not None:
                await pending


Prepare = Callable[[Stage], Awaitable[None]]
Check = Callable[[Stage, Look], Awaitable[None]]


class Row(msgspec.Struct, frozen=True):
    """`fault` is the catalogue's number, `case` which part of its line. `group` names the gateway process it runs in."""

    fault: str
    case: str
    injected: str
    expected: str
    prepare: Prepare
    check: Check
    group: str = "main"

    @property
    def name(self) -> str:
        words = "".join(letter if letter.isalnum() else " " for letter in f"{self.fault} {self.case}".lower())
        return "-".join(words.split())


class Result(msgspec.Struct):
    row: Row
    look: Look
    took_s: float

    @property
    def verdict(self) -> str:
        if self.look.skipped:
            return SKIPPED
        return RIGHT if self.look.is_right else DIFFERS


# --- The usual stages -------------------------------------------------------------------------------------------------


def beside_a_peer(bad: Handler, **timeouts: float) -> Prepare:
    """A model whose first deployment has the fault and whose second is healthy."""

    async def prepare(stage: Stage) -> None:
        stage.bad, stage.good = await stage.server(bad), await stage.server(healthy())
        stage.model(stage.provide("bad", stage.bad), stage.provide("good", stage.good), timeouts=timeouts)

    return prepare


def alone(bad: Handler, *settings: str, **timeouts: float) -> Prepare:
    """A model with one deployment: what is left to say when nobody else can answer."""

    async def prepare(stage: Stage) -> None:
        stage.bad = await stage.server(bad)
        stage.model(stage.provide("bad", stage.bad, *settings), timeouts=timeouts)

    return prepare


async def until(predicate: Callable[[], bool], within_s: float) -> bool:
    """Whether it came true in time. For what is another process's doing and has no event here."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not predicate():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
