"""A provider that said "too many": those who come beyond what it is given wait, and all of them are answered."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from naru.calls.room import Room
from naru.limits.gate import Gate
from naru.routing.plan import Plan
from naru.routing.table import Route
from naru.routing.vitals import MIN_ROOM, Vitals
from naru.testing import Exchange, RawServer
from naru.testing.script import play
from tests.harness import Gateway, running
from tests.routing.cast import Told, error, streamed, whole
from tests.routing.world import World, deployment, ids, refused

BATCH = [(b"x-naru-priority", b"batch")]


class Provider:
    """Throttles its first request; answers the others when it is told to."""

    def __init__(self) -> None:
        self.server = RawServer(self._answer)
        self.open = asyncio.Event()
        self.asked = self.in_hand = self.most = 0

    async def _answer(self, exchange: Exchange) -> None:
        self.asked += 1
        if self.asked == 1:
            await play(exchange, error(429, "rate_limit_exceeded", "slow down", ("retry-after-ms", "1")))
            return
        self.in_hand += 1
        self.most = max(self.most, self.in_hand)
        await self.open.wait()
        await asyncio.sleep(0)
        self.in_hand -= 1
        body = msgspec.json.decode(exchange.received.body)
        await play(exchange, streamed("yes") if body.get("stream") else whole("yes"))


@contextlib.asynccontextmanager
async def throttled(folder: Path, server: str = "") -> AsyncIterator[tuple[Gateway, Provider, Vitals]]:
    """A model at a provider that has just said "too many"."""
    provider = Provider()
    base = await provider.server.start()
    config = (
        f'[server]\n{server}\n[providers.p]\nkind = "custom"\nbase_url = "{base}/v1"\nallow_private = true\n'
        'price = { input = 2, output = 4 }\n[models.m]\ndeployments = [{ provider = "p", model = "x" }]\n'
    )
    try:
        async with running(folder, config) as gateway:
            assert (await gateway.chat(model="m"))[0] == 429
            (vitals,) = gateway.app.gateway.failover.fleet.known().values()
            assert vitals.room == MIN_ROOM
            yield gateway, provider, vitals
    finally:
        await provider.server.stop()


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not happens():
            await asyncio.sleep(0.002)


async def until_waiting(gateway: Gateway, count: int) -> None:
    await until(lambda: gateway.app.gateway.room.waiting == count)


async def test_who_comes_beyond_it_waits_and_is_answered(tmp_path: Path) -> None:
    async with throttled(tmp_path) as (gateway, provider, vitals):
        asked = [asyncio.create_task(gateway.chat(model="m")) for _ in range(20)]
        await until_waiting(gateway, 16)
        await until(lambda: provider.in_hand == MIN_ROOM)
        provider.open.set()
        assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}
        assert provider.asked == 1 + 20
        assert MIN_ROOM < vitals.room <= provider.most + 2  # it grew with the answers, and was kept to
        assert (vitals.in_flight, gateway.app.gateway.room.waiting) == (0, 0)
        assert len(await gateway.entries()) == 21


async def test_beyond_max_queue_it_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with throttled(tmp_path, "max_queue = 0") as (gateway, provider, _):
        asked = [asyncio.create_task(gateway.chat(model="m")) for _ in range(MIN_ROOM)]
        await until(lambda: provider.in_hand == MIN_ROOM)
        status, headers, body = await gateway.chat(model="m")
        assert (status, headers["retry-after"], body["error"]["code"]) == (503, "1", "deployments_busy")
        provider.open.set()
        await asyncio.gather(*asked)
        told = Counter((entry.outcome, entry.error_code, entry.cost_nano > 0) for entry in await gateway.entries())
        assert told["failed", "deployments_busy", False] == 1
        assert told["completed", None, True] == MIN_ROOM


async def test_a_stream_whose_client_leaves_while_it_waits_is_not_asked_for(tmp_path: Path) -> None:
    async with throttled(tmp_path) as (gateway, provider, _):
        asked = [asyncio.create_task(gateway.chat(model="m")) for _ in range(MIN_ROOM)]
        await until(lambda: provider.in_hand == MIN_ROOM)
        gone = asyncio.create_task(gateway.chat(model="m", stream=True))
        await until_waiting(gateway, 1)
        gone.cancel()
        await until_waiting(gateway, 0)
        provider.open.set()
        await asyncio.gather(*asked)
        left = [entry for entry in await gateway.entries() if entry.outcome == "cancelled"]
        assert [(entry.cost_nano, entry.attempts) for entry in left] == [(0, 0)]
        assert provider.asked == 1 + MIN_ROOM


# --- The queue by itself ---------------------------------------------------------------------------------------------


class Waiting(Told):
    """An exchange of which nothing but its headers and its listener matter."""

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        super().__init__("", b"")
        self.headers = headers


class Scene:
    """A route with one deployment, which is given MIN_ROOM calls at once and has them."""

    def __init__(self, max_waiting: int = 8, wait_s: float = 60.0) -> None:
        self.world = World()
        self.only = deployment("a")
        self.route = Route("m", (self.only,))
        self.vitals = self.world.fleet.of(self.only)
        self.world.call(self.only, refused(503))
        for _ in range(MIN_ROOM):
            self.vitals.began(self.world.now)
        self.room = Room(self.world.fleet, Gate(1, max_waiting, wait_s, lambda: 0))
        self.served: list[str] = []

    def plan(self) -> Plan:
        return self.world.plan(self.route)

    async def ask(self, name: str, headers: list[tuple[bytes, bytes]] | None = None) -> Plan:
        exchange = Waiting(headers or [])
        found = await self.room.wait(self.plan(), exchange, True, self.plan)
        assert exchange.listener is None
        if found.attempts:
            self.vitals.began(self.world.now)
            self.served.append(name)
        return found

    def asks(self, name: str, headers: list[tuple[bytes, bytes]] | None = None) -> asyncio.Task[Plan]:
        return asyncio.get_running_loop().create_task(self.ask(name, headers))

    def ends_one(self) -> None:
        self.vitals.lost(self.world.now)


async def settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_first_come_first_served_and_those_who_can_wait_last() -> None:
    scene = Scene()
    tasks = [scene.asks("batch", BATCH), scene.asks("first"), scene.asks("second")]
    await settle()
    assert scene.served == []
    for expected in (["first"], ["first", "second"], ["first", "second", "batch"]):
        scene.ends_one()
        await settle()
        assert scene.served == expected
    assert [ids(await task) for task in tasks] == [["a"]] * 3


async def test_a_turn_that_nobody_takes_goes_to_the_next() -> None:
    """Who leaves in the very moment of its turn."""
    scene = Scene()
    first, second = scene.asks("first"), scene.asks("second")
    await settle()
    scene.ends_one()
    first.cancel()
    await settle()
    assert scene.served == ["second"]
    assert (await second).attempts
    assert first.cancelled()


async def test_nobody_is_asked_after_waiting_for_whom_nothing_was_reserved() -> None:
    """A fallback for prompts that are too long, say, that was well only later, and is dearer."""
    scene = Scene()
    before = scene.plan()
    later = replace(scene.plan(), on_context=(deployment("dear"),), on_policy=(deployment("dear"),))
    assert before.followed_by(later).candidates == before.candidates


async def test_who_leaves_waits_no_longer() -> None:
    scene, exchange = Scene(), Waiting([])
    waits = asyncio.create_task(scene.room.wait(scene.plan(), exchange, True, scene.plan))
    await settle()
    exchange.is_gone = True
    assert exchange.listener is not None
    exchange.listener.on_gone()
    async with asyncio.timeout(5):
        assert (await waits).is_busy
    assert scene.room.waiting == 0


async def test_nobody_waits_for_ever() -> None:
    scene = Scene(wait_s=0.01)
    assert (await scene.ask("one")).is_busy
    assert scene.room.waiting == 0


async def test_nobody_waits_in_too_long_a_queue() -> None:
    scene = Scene(max_waiting=1)
    waits = scene.asks("one")
    await settle()
    async with asyncio.timeout(5):
        assert (await scene.ask("one too many")).is_busy
    scene.ends_one()
    assert (await waits).attempts


async def test_places_that_become_free_at_once_are_all_given() -> None:
    scene = Scene()
    tasks = [scene.asks(str(number)) for number in range(6)]
    await settle()
    for _ in range(MIN_ROOM):
        scene.ends_one()
    await settle()
    assert scene.served == ["0", "1", "2", "3"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert scene.room.waiting == 0
