"""One engine: started when it is wanted, watched while it runs, started anew when it falls, stopped when nobody needs it.

`_live` is the whole of it: for each state (states.py) a method that waits for what happens in that state and says what it was.
Only `_live` changes the state. Everybody else asks, by setting an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any, Protocol

import structlog
from msgspec import Struct

from naru.clock import Clock
from naru.config import EngineSettings
from naru.engines.asking import until_ready
from naru.engines.commands import Command, Site, command_for
from naru.engines.process import EngineLog, Process
from naru.engines.resident import resident_bytes
from naru.engines.states import Event, State, after, failures_after, is_hopeless, pause_s
from naru.errors import EngineUnavailable
from naru.transport.connect import EngineAddress

#: After SIGTERM; then SIGKILL.
GRACE_S = 10.0
#: A request waits for so much of a pause after a crash. With more to come it is told to come back later, or goes elsewhere.
PATIENCE_S = 5.0
#: An end is heard of so soon, if there was one.
SUSPECT_S = 0.5
#: How long requests may take to finish before an engine that grew too large is started anew.
DRAIN_S = 30.0
#: How often it is looked at while it runs.
LOOK_S = 5.0
DRAIN_LOOK_S = 0.05
#: Of an engine's last words in an error message.
MAX_WORDS = 300

log = structlog.get_logger("naru.engines")


class Use(Protocol):
    """Its connections: how many requests have one, how many wait for one, when the latest came free (on the loop's clock).
    `rest`: no request is given an old one any more; `resume`: they are again."""

    @property
    def in_use(self) -> int: ...
    @property
    def wanted(self) -> int: ...
    @property
    def last_used(self) -> float: ...

    def rest(self) -> None: ...

    def resume(self) -> None: ...


class World(Struct, frozen=True):
    """What all engines of a gateway share. `socket`: where Naru's own worker of that name listens."""

    site: Site
    environment: dict[str, str]
    socket: Callable[[str], Path]
    clock: Clock
    random: Random


class Supervisor:
    """`use` gives the pool of its connections, None while there is none. `before`: another one of the same name, whose process
    has to be gone first."""

    def __init__(
        self, settings: EngineSettings, world: World, use: Callable[[], Use | None], before: Supervisor | None = None
    ) -> None:
        self.settings = settings
        self.world = world
        self.use = use
        self.before = before
        self.loop = asyncio.get_running_loop()
        self.state = State.STOPPED
        self.since = world.clock.now()
        self.log = EngineLog(world.site.home / "logs" / f"engine-{settings.name}.log")
        self.process: Process | None = None
        self.address: EngineAddress = ""
        #: What went wrong last, in a sentence; "" after a start that went well.
        self.trouble = ""
        self.starts = 0
        self.restarts = 0
        self.failures = 0
        self.resident: int | None = None
        self.is_closing = False
        self.gone = asyncio.Event()
        self._ready_at = 0.0
        self._asked_at = 0.0
        self._resumes_at = 0.0
        self._was_too_large = False
        self._is_restart = False
        self._comes_again = False
        self._waiters: set[asyncio.Future[EngineAddress]] = set()
        self._wanted = asyncio.Event()
        self._start_asked = asyncio.Event()
        self._stop_asked = asyncio.Event()
        self._life = self.loop.create_task(self._live())

    def __repr__(self) -> str:
        return f"<Supervisor {self.settings.name} {self.state.value}, starts: {self.starts}>"

    # --- Asking -----------------------------------------------------------------------------------------------------

    async def ready(self, is_suspect: bool = False) -> EngineAddress:
        """Where it listens, once it does: starts it, or joins a start under way. `is_suspect`: it has just dropped a connection.
        Raises EngineUnavailable; how long to wait is the caller's to say."""
        self._asked_at = self.loop.time()
        process = self.process
        if is_suspect and process is not None and self.state is State.READY:
            # A process that was killed accepts connections until the system has closed its socket.
            await asyncio.wait({process.ended}, timeout=SUSPECT_S)
        is_ending = self.is_closing or self._stop_asked.is_set() or (process is not None and process.ended.done())
        if self.state is State.READY and not is_ending:
            return self.address
        left_s = self._resumes_at - self.loop.time() if self.state is State.BACKING_OFF else 0.0
        if self.is_closing or self.state is State.FAILED or left_s > PATIENCE_S:
            raise self._unavailable(left_s if left_s > 0 else None)
        waiter: asyncio.Future[EngineAddress] = self.loop.create_future()
        self._waiters.add(waiter)
        self._wanted.set()
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)

    def start(self) -> None:
        """Whether a request comes or not."""
        self._wanted.set()

    def restart(self) -> None:
        """At an operator's wish: at once, also what failed for good or waits. Requests under way at it are cut."""
        if self.state in (State.STARTING, State.READY, State.STOPPING):
            self._comes_again = True
            self._ask_to_stop()
        else:
            self._is_restart = True
            self._wanted.set()
            self._start_asked.set()

    def stop(self) -> None:
        """At an operator's wish: at once. The next request starts it again."""
        if self.state in (State.STARTING, State.READY, State.BACKING_OFF):
            self._comes_again = False
            self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        """From here on no request is given to the process, though its end takes a moment to begin."""
        self._stop_asked.set()
        if self.state is State.READY and (use := self.use()) is not None:
            use.rest()

    async def retire(self, drain_s: float) -> None:
        """It is in the settings no more: requests under way may finish, for so long at most."""
        until = self.loop.time() + drain_s
        while self.loop.time() < until and (use := self.use()) is not None and (use.in_use or use.wanted):
            await asyncio.sleep(DRAIN_LOOK_S)
        await self.close(GRACE_S)

    async def close(self, grace_s: float) -> None:
        """For good."""
        self.is_closing, self.trouble = True, "it was stopped"
        self._life.cancel()
        await asyncio.wait({self._life})
        if self.process is not None:
            await self.process.stop(grace_s)
        self.state = State.STOPPED
        self._tell_waiters(self._unavailable())
        self._remove_socket()
        self.gone.set()

    # --- Life -------------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        steps: dict[State, Callable[[], Awaitable[Event]]] = {
            State.STOPPED: self._stopped,
            State.STARTING: self._starting,
            State.READY: self._ready,
            State.STOPPING: self._stopping,
            State.BACKING_OFF: self._backing_off,
            State.FAILED: self._failed,
        }
        try:
            while True:
                self._enter(after(self.state, await steps[self.state]()))
        except Exception:
            # A mistake of ours. Whoever waits must hear of it, and nothing may run that nobody watches.
            log.exception("the supervision of an engine failed", engine=self.settings.name)
            self.trouble, self.is_closing = "Naru failed to run it; its log has the cause", True
            if self.process is not None:
                await self.process.stop(GRACE_S)
            self.state = State.FAILED
            self._tell_waiters(self._unavailable())

    def _enter(self, state: State) -> None:
        """What every way into a state has in common. No await: nobody sees anything between."""
        said = {"engine": self.settings.name, "was": self.state.value, "now": state.value, "why": self.trouble or None}
        log.info("an engine changed its state", **said)
        was, self.state, self.since = self.state, state, self.world.clock.now()
        use = self.use()
        if state is State.STARTING:
            self._wanted.clear()
            self._start_asked.clear()
            self.starts += 1
            self.restarts += self._is_restart
            self._is_restart = self._comes_again = False
        elif state is State.READY:
            self.trouble, self._ready_at = "", self.loop.time()
            self._wanted.clear()  # of those who came while it started
            if use is not None:
                use.resume()
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(self.address)
        elif state in (State.STOPPING, State.BACKING_OFF, State.FAILED):
            self._stop_asked.clear()
            if use is not None:
                use.rest()
            if state is not State.STOPPING:
                self._is_restart = True
            # Whoever waited for this start hears how it went; whoever came after a crash waits for the next one.
            if state is State.FAILED or (was is State.STARTING and not self._comes_again):
                self._wanted.clear()
                self._tell_waiters(self._unavailable())
        elif state is State.STOPPED and self._comes_again:
            self._is_restart = True
            self._wanted.set()

    async def _stopped(self) -> Event:
        self.resident = None
        self._stop_asked.clear()
        await self._wanted.wait()
        return Event.WANTED

    async def _starting(self) -> Event:
        if self.before is not None:
            await self.before.gone.wait()
            self.before = None
        self.process = None
        self.address = self._place()
        command = command_for(self.settings, self.world.site, self.address)
        try:
            self.process = await Process.start(command, self.world.environment, self.log)
        except FileNotFoundError:
            self.trouble = (
                f'its program "{command.argv[0]}" was not found. Install it, or give its path as command in '
                f"[engines.{self.settings.name}]"
            )
            return Event.HOPELESS
        except OSError as error:
            self.trouble = f"its program could not be started: {error.strerror or error}"
            return Event.HOPELESS
        return await self._until_ready(command, self.process)

    async def _until_ready(self, command: Command, process: Process) -> Event:
        asking = self.loop.create_task(until_ready(command, self.address))
        try:
            event = await self._first_of(process, self.settings.start_s, {asking})
        finally:
            asking.cancel()
        if event is not None:
            return event
        if asking.done() and not asking.cancelled():
            asking.result()
            return Event.UP
        await process.stop(0.0)
        self.trouble = f"it was not ready within start_s = {self.settings.start_s:g} s{self._last_words()}"
        self.failures = failures_after(self.failures, 0.0)
        return Event.CRASHED

    async def _ready(self) -> Event:
        process = self.process
        assert process is not None
        look_s = 0.0  # at once, then from time to time
        while True:
            event = await self._first_of(process, look_s)
            if event is not None:
                return event
            look_s = self._look_s()
            self.resident = await asyncio.to_thread(resident_bytes, process.pid)
            if self._is_too_large():
                return Event.STOP
            # Last: from here to the change of state nothing waits, so no request comes between.
            if self._is_idle():
                self.trouble = ""
                return Event.STOP

    async def _stopping(self) -> Event:
        process, until = self.process, self.loop.time() + (DRAIN_S if self._was_too_large else 0.0)
        assert process is not None
        while self.loop.time() < until and not process.ended.done() and (use := self.use()) is not None and use.in_use:
            await asyncio.wait({process.ended}, timeout=DRAIN_LOOK_S)
        await process.stop(GRACE_S)
        self._remove_socket()
        if not self._was_too_large:
            return Event.ENDED
        self._was_too_large = False
        self.failures = failures_after(self.failures, self.loop.time() - self._ready_at)
        return Event.CRASHED

    async def _backing_off(self) -> Event:
        wait_s = pause_s(self.failures, self.world.random)
        self._resumes_at = self.loop.time() + wait_s
        if wait_s > PATIENCE_S:
            self._tell_waiters(self._unavailable(wait_s))
        await self._any_set((self._stop_asked, self._start_asked), wait_s)
        if self._stop_asked.is_set():
            return Event.STOP
        is_kept = self.settings.start == "gateway" or self._comes_again
        return Event.WANTED if is_kept or self._wanted.is_set() else Event.STOP

    async def _failed(self) -> Event:
        await self._start_asked.wait()
        return Event.WANTED

    # --- What happened ----------------------------------------------------------------------------------------------

    async def _first_of(
        self, process: Process, timeout_s: float, others: Iterable[asyncio.Future[Any]] = ()
    ) -> Event | None:
        """What happened to the process or was asked of it; None: the time is over, or one of the others is done."""
        asked = self.loop.create_task(self._stop_asked.wait())
        try:
            each: set[asyncio.Future[Any]] = {process.ended, asked, *others}
            await asyncio.wait(each, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if process.ended.done():
            return self._judge(process.ended.result())
        if self._stop_asked.is_set():
            self.trouble = "" if self._comes_again else "it was stopped by an operator"
            return Event.STOP
        return None

    async def _any_set(self, events: Iterable[asyncio.Event], timeout_s: float) -> None:
        tasks = [self.loop.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    def _judge(self, code: int) -> Event:
        """Of a process that ended and was not asked to."""
        ran_s = self.loop.time() - self._ready_at if self.state is State.READY else 0.0
        self.failures = failures_after(self.failures, ran_s)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.trouble = f"it {how}{self._last_words()}"
        return Event.HOPELESS if is_hopeless(code) else Event.CRASHED

    def _is_idle(self) -> bool:
        idle_s, use = self.settings.idle_s, self.use()
        if not idle_s or (use is not None and (use.in_use or use.wanted)):
            return False
        used_at = max(self._ready_at, self._asked_at, use.last_used if use is not None else 0.0)
        return self.loop.time() - used_at >= idle_s

    def _is_too_large(self) -> bool:
        most = self.settings.memory_bytes
        if not most or self.resident is None or self.resident <= most:
            return False
        self.trouble = f"it held {self.resident / 1e9:.2f} GB of memory, over memory = {self.settings.memory}"
        self._comes_again = self._was_too_large = True
        return True

    def _look_s(self) -> float:
        """Often enough for what is asked: a tenth of the idle time."""
        idle_s = self.settings.idle_s
        return min(LOOK_S, max(idle_s / 10, 0.05)) if idle_s else LOOK_S

    # --- Words ------------------------------------------------------------------------------------------------------

    def _last_words(self) -> str:
        words = self.log.last_error
        return f": {words[:MAX_WORDS]}" if words else ""

    def _unavailable(self, retry_after_s: float | None = None) -> EngineUnavailable:
        why = self.trouble.rstrip(".") or "it does not run"
        return EngineUnavailable(
            f"The engine {self.settings.name} is not available: {why}.", retry_after_s=retry_after_s
        )

    def _tell_waiters(self, error: EngineUnavailable) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)

    def _place(self) -> EngineAddress:
        """Where the next process is to listen. A port is free now; if another takes it first, that start fails, and the next
        has another."""
        if self.settings.provider_kind == "engine":
            self._remove_socket()
            return str(self.world.socket(self.settings.name))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            return "127.0.0.1", int(probe.getsockname()[1])

    def _remove_socket(self) -> None:
        if self.settings.provider_kind == "engine" and self.before is None:
            with contextlib.suppress(FileNotFoundError):
                self.world.socket(self.settings.name).unlink()
