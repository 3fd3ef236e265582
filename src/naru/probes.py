"""Asking providers whether they are there, and how busy, between requests. Off unless `probe_s` says otherwise; what is asked
never costs anything: a health page, metrics, a list of models.

A probe that fails counts as a failed call, so a server that died is left alone before a request finds out. One that succeeds
closes no breaker, because a health page is not the way that requests take: it only lets the next request try at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec
import structlog

from naru.errors import NaruError, UpstreamAuth, UpstreamRefused
from naru.routing.fleet import Fleet
from naru.routing.load import LoadNames, load_of
from naru.routing.table import Deployment
from naru.transport.get import get
from naru.transport.upstream import Pool

MAX_TIMEOUT_S = 5.0

log = structlog.get_logger("naru.probes")


class Probe(msgspec.Struct, frozen=True):
    """One provider: where it is asked, with what, and whom that concerns. `load_path` "": it does not tell how busy it is."""

    provider: str
    every_s: float
    pool: Pool
    path: str
    headers: Mapping[str, str]
    deployments: tuple[Deployment, ...]
    load_path: str = ""
    load_names: LoadNames | None = None


class Prober:
    """Runs probes until it is stopped. `now` is the clock of the fleet."""

    def __init__(self, fleet: Fleet, now: Callable[[], float], random: Random) -> None:
        self.fleet = fleet
        self.now = now
        self.random = random
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, probes: Sequence[Probe]) -> None:
        """In place of those that ran before."""
        self.stop()
        self._tasks = [asyncio.get_running_loop().create_task(self._run(probe)) for probe in probes]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _run(self, probe: Probe) -> None:
        while True:
            await self.ask(probe)
            # With some chance, or all gateways would ask in the same moment.
            await asyncio.sleep(probe.every_s * self.random.uniform(0.8, 1.2))

    async def ask(self, probe: Probe) -> None:
        """Once."""
        try:
            await self._is_there(probe)
        except NaruError as error:
            log.info("a probe failed", provider=probe.provider, code=error.code, why=error.loggable)
            for deployment in probe.deployments:
                self.fleet.of(deployment).probed(error, self.now(), self.random)
            return
        for deployment in probe.deployments:
            self.fleet.of(deployment).probed(None, self.now(), self.random)
        if probe.load_names is not None and probe.load_path:
            await self._tells_load(probe, probe.load_names)

    async def _is_there(self, probe: Probe) -> None:
        answer = await get(probe.pool, probe.path, probe.headers, self._timeout_s(probe))
        if answer.status in (401, 403):
            raise UpstreamAuth(answer.status)
        if answer.status >= 500 or answer.status == 429:
            raise UpstreamRefused(f"The probe was answered with status {answer.status}.", status=answer.status)

    async def _tells_load(self, probe: Probe, names: LoadNames) -> None:
        try:
            answer = await get(probe.pool, probe.load_path, probe.headers, self._timeout_s(probe))
        except NaruError:
            return  # the next probe will tell whether it is there
        load = load_of(answer.body.decode("utf-8", "replace"), names, self.now()) if answer.status == 200 else None
        for deployment in probe.deployments:
            self.fleet.of(deployment).load = load

    def _timeout_s(self, probe: Probe) -> float:
        return min(probe.every_s, MAX_TIMEOUT_S)
