"""The money seam of the request path: `reserve` before anything is sent, `settle` exactly once, however the request ends.

The billing rules are reliability.md 1.4. Entries are handed to the store in batches; while the store does not take them they
wait here, and once too many wait, new requests are refused rather than served unrecorded.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import msgspec
import structlog

from naru.clock import Clock
from naru.errors import Overloaded
from naru.ledger.pricing import Price, as_billed, cost_nano, unknown_service
from naru.protocol.messages import Usage
from naru.storage.port import Store
from naru.storage.records import LedgerEntry

FLUSH_S = 0.05
#: Unwritten entries past this mean that the store is down: about a minute of heavy traffic.
MAX_WAITING = 200_000
NO_USAGE = Usage()
#: Names come from upstream, so what is kept of them is bounded.
MAX_WARNED = 1000

log = structlog.get_logger("naru.ledger")


class Ask(msgspec.Struct, frozen=True):
    """Who asks for what, known before any deployment is chosen."""

    request_id: str
    key_id: str
    model: str
    dialect: str
    is_stream: bool


class Settlement(msgspec.Struct, frozen=True):
    """How a request ended. `usage` is the upstream's or an estimate; None when nothing is owed."""

    outcome: str
    status: int
    deployment: str = ""
    provider: str = ""
    upstream_model: str = ""
    price: Price | None = None
    usage: Usage | None = None
    error_code: str | None = None
    ttft_s: float | None = None
    attempts: int = 0


class Permit:
    """The right to make one request and the duty to settle it. The second `settle` is a bug and says so."""

    __slots__ = ("_ledger", "ask", "at", "is_settled", "started")

    def __init__(self, ledger: Ledger, ask: Ask, at: float, started: float) -> None:
        self._ledger = ledger
        self.ask = ask
        self.at = at
        self.started = started
        self.is_settled = False

    def cost(self, price: Price, usage: Usage) -> int:
        """Nano-dollars for `usage` at the time the request began."""
        return cost_nano(price, usage, self.at)

    def settle(self, end: Settlement) -> int:
        """Writes the entry; returns the cost in nano-dollars."""
        assert not self.is_settled, f"{self.ask.request_id} is settled twice"
        self.is_settled = True
        return self._ledger.record(self, end)


class Ledger:
    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.waiting: list[LedgerEntry] = []
        self.open_permits = 0
        self.failed_writes = 0
        self.is_failing = False
        self._warned: set[tuple[str, str]] = set()
        self._writing: Future[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def reserve(self, ask: Ask) -> Permit:
        """Raises Overloaded (ledger_unavailable) when the store has not taken entries for too long."""
        if len(self.waiting) >= MAX_WAITING:
            raise Overloaded(
                "The ledger cannot be written, so no request is served unrecorded. Try again shortly; the operator should check "
                "the disk.",
                code="ledger_unavailable",
                retry_after_s=5,
            )
        self.open_permits += 1
        return Permit(self, ask, self.clock.now(), self.clock.monotonic())

    def record(self, permit: Permit, end: Settlement) -> int:
        self.open_permits -= 1
        ask, usage, price = permit.ask, end.usage or NO_USAGE, end.price
        unit, units = "", 0
        if price is not None and (usage.media is not None or usage.tier or usage.server_tools):
            self._warn_of_unknown(price, usage, end.upstream_model)
            usage = as_billed(price, usage)
            if usage.media is not None:
                unit, units = usage.media.unit, usage.media.units
            elif usage.server_tools:
                unit, units = usage.server_tools[0]
        cost = permit.cost(price, usage) if price is not None and end.usage is not None else 0
        self.waiting.append(
            LedgerEntry(
                ask.request_id, permit.at, ask.key_id, ask.model, end.deployment, end.provider, end.upstream_model, ask.dialect,
                ask.is_stream, end.outcome, end.status, end.error_code, usage.input, usage.output, usage.cached,
                usage.cache_write + usage.cache_write_1h, usage.reasoning, usage.is_estimated, cost,
                price.version if price else None, price.source if price else None,
                int((self.clock.monotonic() - permit.started) * 1e6), None if end.ttft_s is None else int(end.ttft_s * 1e6),
                end.attempts, unit, units,
            )
        )  # fmt: skip
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_S, self._flush)
        return cost

    def _warn_of_unknown(self, price: Price, usage: Usage, model: str) -> None:
        """Once for each: the operator has to give a price, or the estimate stays one."""
        for name in unknown_service(price, usage):
            if (model, name) not in self._warned and len(self._warned) < MAX_WARNED:
                self._warned.add((model, name))
                log.warning("a tier or tool has no price, so what it costs is estimated", model=model, name=name)

    def _flush(self) -> None:
        self._flush_timer = None
        if not self.waiting or self._writing is not None:
            return
        batch, self.waiting = self.waiting, []
        self._writing = self.store.append(batch)
        self._writing.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._written, batch, done))

    def _written(self, batch: list[LedgerEntry], done: Future[None]) -> None:
        self._writing = None
        self.is_failing = done.exception() is not None
        if self.is_failing:
            self.failed_writes += 1
            self.waiting = batch + self.waiting  # nothing is lost: tried again until the store takes them
        if self.waiting and self._flush_timer is None:
            delay = 1.0 if self.is_failing else FLUSH_S
            self._flush_timer = self._loop.call_later(delay, self._flush)

    async def close(self) -> None:
        """Writes what waits. Raises the store's error if it does not take it."""
        while self._writing is not None:
            await asyncio.sleep(0.005)
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self.waiting:
            batch, self.waiting = self.waiting, []
            await asyncio.wrap_future(self.store.append(batch))
