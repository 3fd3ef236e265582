"""Asking between requests, against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from naru.errors import UpstreamTimeout
from naru.probes import Probe, Prober
from naru.routing.fleet import Fleet
from naru.routing.load import LoadNames
from naru.routing.vitals import Load
from naru.testing import Exchange, RawServer
from naru.transport.connect import Connector, Origin
from naru.transport.upstream import UpstreamClient
from tests.routing.world import POLICY, deployment

NAMES = LoadNames(("running",), ("waiting",), ("kv",))
ONE, TWO = deployment("one"), deployment("two")


class Server:
    """Answers `/health` with `status`, `/metrics` with `gauges`."""

    def __init__(self) -> None:
        self.status = 200
        self.gauges = b"running 3\nwaiting 2\nkv 0.5\n"
        self.raw = RawServer(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        is_load = exchange.received.path == "/metrics"
        exchange.answer(200 if is_load else self.status, self.gauges if is_load else b"{}")

    @property
    def paths(self) -> list[str]:
        return [received.path for received in self.raw.received]


class Stage:
    def __init__(self, server: Server, client: UpstreamClient, base: str) -> None:
        self.server = server
        self.fleet = Fleet(POLICY)
        self.now = 100.0
        self.prober = Prober(self.fleet, lambda: self.now, Random(1))
        pool = client.pool(Origin.of(base, allow_private=True))
        self.probe = Probe("p", 0.01, pool, "/health", {"host": "x"}, (ONE, TWO), "/metrics", NAMES)

    def fail(self) -> None:
        vitals = self.fleet.of(ONE)
        for _ in range(POLICY.failures):
            vitals.began(self.now)
            vitals.ended(UpstreamTimeout("x"), self.now, Random(1))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    server = Server()
    base = await server.raw.start()
    client = UpstreamClient(Connector())
    made = Stage(server, client, base)
    yield made
    made.prober.stop()
    await client.close()
    await server.raw.stop()


async def test_what_it_tells_of_its_load_is_known(stage: Stage) -> None:
    """For every deployment that it serves."""
    await stage.prober.ask(stage.probe)
    expected = Load(waiting=2, running=3, kv_used=0.5, at=stage.now)
    assert stage.fleet.of(ONE).load == stage.fleet.of(TWO).load == expected


async def test_a_dead_server_is_left_alone_before_a_request_finds_out(stage: Stage) -> None:
    await stage.server.raw.stop()
    for _ in range(POLICY.failures):
        await stage.prober.ask(stage.probe)
    assert not stage.fleet.of(ONE).is_well(stage.now)
    assert stage.fleet.of(ONE).in_flight == 0


@pytest.mark.parametrize("status", [500, 503])
async def test_a_failing_health_page_counts(stage: Stage, status: int) -> None:
    stage.server.status = status
    for _ in range(POLICY.failures):
        await stage.prober.ask(stage.probe)
    assert not stage.fleet.of(ONE).is_well(stage.now)


async def test_a_refused_credential_closes_the_provider(stage: Stage) -> None:
    stage.server.status = 401
    await stage.prober.ask(stage.probe)
    assert "refuses the credential" in (stage.fleet.of(ONE).ailment(stage.now) or "")


async def test_a_page_that_is_not_there_says_nothing(stage: Stage) -> None:
    """404 is an answer of something that lives."""
    stage.server.status = 404
    for _ in range(POLICY.failures):
        await stage.prober.ask(stage.probe)
    assert stage.fleet.of(ONE).is_well(stage.now)


async def test_one_that_is_back_gets_one_request_to_prove_it(stage: Stage) -> None:
    """A health page is not the way of requests: the breaker does not close by it."""
    stage.fail()
    vitals = stage.fleet.of(ONE)
    assert not vitals.is_well(stage.now)
    await stage.prober.ask(stage.probe)
    assert vitals.is_well(stage.now)
    vitals.began(stage.now)
    assert not vitals.is_well(stage.now)


async def test_it_goes_on_until_it_is_stopped(stage: Stage) -> None:
    """Again and again, and never a path that costs."""
    stage.prober.start([stage.probe])
    async with asyncio.timeout(5):
        while stage.server.raw.requests < 6:
            await asyncio.sleep(0.005)
    stage.prober.stop()
    assert set(stage.server.paths) == {"/health", "/metrics"}
