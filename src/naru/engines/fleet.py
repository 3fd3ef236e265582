"""All engines of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from naru.config import EngineSettings
from naru.engines.supervisor import Supervisor, Use, World
from naru.errors import EngineUnavailable, NotFound
from naru.transport.connect import EngineAddress, Origin

#: When the gateway stops, its requests have had their time already.
LAST_GRACE_S = 5.0


class EngineFleet:
    """`use_of` gives the pool of an engine's connections."""

    def __init__(self, world: World, use_of: Callable[[Origin], Use | None]) -> None:
        self.world = world
        self.use_of = use_of
        self.supervisors: dict[str, Supervisor] = {}
        self._by_origin: dict[Origin, Supervisor] = {}
        self._is_running = False
        self._retiring: dict[Supervisor, asyncio.Task[None]] = {}

    async def open(self, origin: Origin, is_suspect: bool) -> EngineAddress:
        """Where the engine listens, once it is ready. Raises EngineUnavailable."""
        supervisor = self._by_origin.get(origin)
        if supervisor is None:
            raise EngineUnavailable(
                f"The engine {origin.host} was taken out of the configuration, or changed there, while this request waited. "
                "Try again."
            )
        return await supervisor.ready(is_suspect)

    def run(self) -> None:
        """Starts those that are to run from the start on; later ones too, from now on."""
        self._is_running = True
        for supervisor in self.supervisors.values():
            self._start(supervisor)

    def take(self, engines: Mapping[str, EngineSettings], drain_s: float) -> None:
        """Other settings. Whose process would be the same one goes on; the others are stopped, requests at them may take
        `drain_s` to finish, and what follows under the same name waits for that."""
        for name, supervisor in list(self.supervisors.items()):
            settings = engines.get(name)
            if settings is not None and settings.version == supervisor.settings.version:
                supervisor.settings = settings
            else:
                del self.supervisors[name]
                self._retiring[supervisor] = self._retire(supervisor, drain_s)
        for name, settings in engines.items():
            if name not in self.supervisors:
                self._add(settings)

    def _add(self, settings: EngineSettings) -> None:
        origin = Origin.of_engine(settings.name, settings.version)
        supervisor = self._by_origin.get(origin)
        if supervisor is not None and not supervisor.is_closing:
            # Taken out, and back again before it was stopped.
            self._retiring.pop(supervisor).cancel()
            supervisor.settings = settings
        else:
            before = [each for each in self._retiring if each.settings.name == settings.name]
            supervisor = Supervisor(settings, self.world, lambda: self.use_of(origin), before[-1] if before else None)
        self._by_origin[origin] = self.supervisors[settings.name] = supervisor
        if self._is_running:
            self._start(supervisor)

    def _start(self, supervisor: Supervisor) -> None:
        if supervisor.settings.start == "gateway":
            supervisor.start()

    def _retire(self, supervisor: Supervisor, drain_s: float) -> asyncio.Task[None]:
        async def retire() -> None:
            await supervisor.retire(drain_s)
            del self._retiring[supervisor]
            for origin, each in list(self._by_origin.items()):
                if each is supervisor:
                    del self._by_origin[origin]

        return asyncio.get_running_loop().create_task(retire())

    async def stop(self) -> None:
        """All of them, for good; comes back when no process is left."""
        everybody = [*self._retiring, *self.supervisors.values()]
        for task in self._retiring.values():
            task.cancel()
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        await asyncio.gather(*(each.close(LAST_GRACE_S) for each in everybody))
        self.supervisors, self._by_origin, self._retiring = {}, {}, {}

    # --- For operators ----------------------------------------------------------------------------------------------

    def named(self, name: str) -> Supervisor:
        """Raises NotFound."""
        found = self.supervisors.get(name)
        if found is None:
            known = ", ".join(self.supervisors) or "there is none"
            raise NotFound(f"There is no engine {name[:100]!r}. Engines: {known}.", code="engine_not_found")
        return found

    def restart(self, name: str) -> None:
        self.named(name).restart()

    def halt(self, name: str) -> None:
        self.named(name).stop()

    def shown(self, with_log: bool) -> list[dict[str, Any]]:
        """For the admin API. `since` is in Unix seconds. What an engine says may name files and people."""
        return [_shown(each, with_log) for each in self.supervisors.values()]


def _shown(engine: Supervisor, with_log: bool) -> dict[str, Any]:
    process = engine.process
    is_there = process is not None and not process.ended.done()
    log = {"log": list(engine.log.lines)} if with_log else {}
    return {
        "name": engine.settings.name,
        "engine": engine.settings.engine,
        "model": engine.settings.model,
        "models": list(engine.settings.served),
        "state": engine.state.value,
        "since": engine.since,
        "pid": process.pid if process is not None and is_there else None,
        "starts": engine.starts,
        "restarts": engine.restarts,
        "resident_bytes": engine.resident,
        "last_error": engine.trouble or None,
        "log_file": str(engine.log.path),
        **log,
    }
