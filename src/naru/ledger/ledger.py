"""The money seam of the request path: `reserve` before anything is sent, `settle` exactly once, however the request ends.

Both are a few integer comparisons and a record in the journal, which outlives this process. The store hears of closed
requests in batches, together with how far the journal has come, in one transaction: replaying is without effect. While the
store does not take them they wait here, and once too many wait, new requests are refused rather than served unrecorded.

The billing rules are reliability.md 1.4; the rest is money.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import structlog

from naru.clock import Clock
from naru.errors import Overloaded
from naru.ledger import holds
from naru.ledger.alerts import Alerts
from naru.ledger.display import shown
from naru.ledger.events import Closed, Open, Progress, encode
from naru.ledger.holds import Candidate
from naru.ledger.journal import Journal, Position
from naru.ledger.pricing import Price, as_billed, cost_nano, unknown_service
from naru.ledger.purses import EMPTY, Wallet
from naru.ledger.refusals import cannot_pay, no_bound
from naru.ledger.treasury import Treasury
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Usage
from naru.storage.port import Store
from naru.storage.records import Attempt, LedgerEntry

FLUSH_S = 0.05
SYNC_S = 0.05
#: Unwritten entries past this mean that the store is down: about a minute of heavy traffic.
MAX_WAITING = 200_000
#: Room that is kept in the journal for the end of every open request.
CLOSE_BYTES = 1_024
NO_USAGE = Usage()
#: Names come from upstream, so what is kept of them is bounded.
MAX_WARNED = 1000

log = structlog.get_logger("naru.ledger")


class Ask(msgspec.Struct, frozen=True):
    """Who asks for what. `owner` and `account` say whose money it is; `candidates` who may answer."""

    request_id: str
    key_id: str
    model: str
    dialect: str
    is_stream: bool
    owner: str = ""
    account: str | None = None
    envelope: Envelope | None = None
    candidates: Sequence[Candidate] = ()
    user_hash: str = ""


class Settlement(msgspec.Struct, frozen=True):
    """How a request ended. `usage` is the upstream's or an estimate; None when nothing is owed. `tried` are all attempts, and
    `lost_nano` what is owed for those that gave the caller nothing. `plan` is the request's, as JSON."""

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
    tried: tuple[Attempt, ...] = ()
    lost_nano: int = 0
    content: str | None = None
    plan: str = ""


class Permit:
    """The right to make one request and the duty to settle it. The second `settle` is a bug and says so.

    `holds` are what is held in each purse of the wallet, in nano-USD. `fx` is the rate that its figures are shown at, of the
    time when it began.
    """

    __slots__ = ("_ledger", "ask", "at", "fx", "holds", "is_settled", "segment", "started", "wallet")

    def __init__(self, ledger: Ledger, ask: Ask, wallet: Wallet, held: tuple[int, ...]) -> None:
        self._ledger = ledger
        self.ask = ask
        self.at = ledger.clock.now()
        self.started = ledger.clock.monotonic()
        self.wallet = wallet
        self.fx = ledger.fx
        self.holds = held
        self.segment = 0
        self.is_settled = False

    def cost(self, price: Price, usage: Usage) -> int:
        """Nano-dollars for `usage` at the time the request began."""
        return cost_nano(price, usage, self.at)

    def shown_cost(self, price: Price, usage: Usage) -> int:
        """The same, for the caller's eyes: in the display currency too."""
        return shown(self.cost(price, usage), self.fx)

    def progress(self, so_far: Settlement) -> None:
        """Notes what a stream would cost if it ended here: what is charged if this process dies."""
        if not self.is_settled:
            self._ledger.note(self, so_far)

    def settle(self, end: Settlement) -> int:
        """Writes the entry; returns the cost in nano-dollars."""
        assert not self.is_settled, f"{self.ask.request_id} is settled twice"
        self.is_settled = True
        return self._ledger.record(self, end)


class Ledger:
    """`fx` is the rate at which a display currency is shown, kept in every entry ("1390 KRW/USD")."""

    def __init__(
        self, store: Store, clock: Clock, journal: Journal, treasury: Treasury, alerts: Alerts, fx: str = ""
    ) -> None:
        self.store = store
        self.clock = clock
        self.journal = journal
        self.treasury = treasury
        self.alerts = alerts
        self.fx = fx
        self.history = holds.History()
        self.open: dict[str, Permit] = {}
        self.waiting: list[LedgerEntry] = []
        self.failed_writes = 0
        self.is_failing = False
        self._position: Position = journal.position
        self._warned: set[tuple[str, str]] = set()
        self._writing: Future[None] | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._syncer = ThreadPoolExecutor(1, "naru-journal")
        self._loop = asyncio.get_running_loop()

    @property
    def open_permits(self) -> int:
        return len(self.open)

    # --- Reserve --------------------------------------------------------------------------------------------------

    def reserve_now(self, ask: Ask) -> Permit | None:
        """The permit, if the store need not be asked: nearly always. None: `reserve` asks it.

        Raises Overloaded (ledger_unavailable).
        """
        self._check_room()
        wallet = self.treasury.ready(ask.owner, ask.account, self.clock.now())
        if wallet is None:
            return None
        if not wallet.purses:
            return self._opened(ask, EMPTY, ())
        held = self._holds(ask, wallet)
        for purse, hold in zip(wallet.purses, held, strict=True):
            if purse.free < hold and purse.is_limit:
                return None
        return self._opened(ask, wallet, held)

    async def reserve(self, ask: Ask) -> Permit:
        """The same, with leases from the store. Raises BudgetExceeded, InsufficientCredits, BadRequest (a strict budget needs
        to know how long the answer may be), Overloaded."""
        while True:
            self._check_room()
            wallet = await self.treasury.wallet(ask.owner, ask.account, self.clock.now())
            held = self._holds(ask, wallet)
            for purse, hold in zip(wallet.purses, held, strict=True):
                if purse.is_limit and purse.free < hold and not await self.treasury.fill(purse, hold):
                    raise cannot_pay(purse, hold, self.clock.now())
            # While one purse was filled another may have been drawn on, or a window have ended.
            if (permit := self.reserve_now(ask)) is not None:
                return permit

    def _holds(self, ask: Ask, wallet: Wallet) -> tuple[int, ...]:
        envelope = ask.envelope
        if not wallet.purses or envelope is None or not ask.candidates:
            return (0,) * len(wallet.purses)
        now = self.clock.now()
        bound = usual = None
        found = []
        for purse in wallet.purses:
            if not purse.is_limit:
                found.append(0)
            elif purse.is_strict:
                bound = holds.upper_bound(envelope, ask.candidates, now) if bound is None else bound
                if bound is None:
                    raise no_bound(purse)
                found.append(bound)
            else:
                usual = self._usual(ask, envelope, now) if usual is None else usual
                found.append(usual)
        return tuple(found)

    def _usual(self, ask: Ask, envelope: Envelope, now: float) -> int:
        p95 = self.history.p95(ask.key_id, ask.model)
        if p95 is None:
            return holds.expected(envelope, ask.candidates, now)
        return max(p95, holds.input_cost(envelope, ask.candidates, now))

    def _check_room(self) -> None:
        has_room = self.journal.has_room((len(self.open) + 1) * CLOSE_BYTES)
        if len(self.waiting) >= MAX_WAITING or not has_room:
            raise Overloaded(
                "The ledger cannot be written, so no request is served unrecorded. Try again shortly; the operator should check "
                "the disk.",
                code="ledger_unavailable",
                retry_after_s=5,
            )

    def _opened(self, ask: Ask, wallet: Wallet, held: tuple[int, ...]) -> Permit:
        permit = Permit(self, ask, wallet, held)
        record = Open(
            ask.request_id,
            permit.at,
            ask.key_id,
            ask.model,
            ask.dialect,
            ask.is_stream,
            wallet.ids,
            held,
            ask.user_hash,
        )
        permit.segment, _ = self.journal.append(encode(record))
        for purse, hold in zip(wallet.purses, held, strict=True):
            purse.free -= hold
            purse.held += hold
        self.open[ask.request_id] = permit
        return permit

    # --- Settle ---------------------------------------------------------------------------------------------------

    def note(self, permit: Permit, so_far: Settlement) -> None:
        price, usage = so_far.price, so_far.usage or NO_USAGE
        cost = permit.cost(price, usage) if price is not None else 0
        record = Progress(
            permit.ask.request_id, so_far.deployment, so_far.provider, so_far.upstream_model,
            price.version if price else None, price.source if price else None, usage.input, usage.output, cost,
        )  # fmt: skip
        try:
            self.journal.append(encode(record))
        except OSError as error:  # the answer goes on; if this process dies too, it is charged what was noted before
            log.error("the journal cannot be written", why=str(error))

    def record(self, permit: Permit, end: Settlement) -> int:
        cost, entry = self._entry(permit, end)
        del self.open[permit.ask.request_id]
        try:
            self._position = self.journal.append(encode(Closed(msgspec.structs.replace(entry, content=None))))
        except OSError as error:
            # The entry still goes to the store; only a death of this process before that would lose it.
            log.error("the journal cannot be written", why=str(error))
            self.is_failing = True
        if permit.wallet.purses:
            self._charge(permit, cost)
        if end.outcome == "completed":
            self.history.add(permit.ask.key_id, permit.ask.model, cost)
        self.waiting.append(entry)
        if self._flush_timer is None:
            self._flush_timer = self._loop.call_later(FLUSH_S, self._flush)
        if self._sync_timer is None:
            self._sync_timer = self._loop.call_later(SYNC_S, self._sync)
        return cost

    def _entry(self, permit: Permit, end: Settlement) -> tuple[int, LedgerEntry]:
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
        return cost, LedgerEntry(
            ask.request_id, permit.at, ask.key_id, ask.model, end.deployment, end.provider, end.upstream_model, ask.dialect,
            ask.is_stream, end.outcome, end.status, end.error_code, usage.input, usage.output, usage.cached,
            usage.cache_write + usage.cache_write_1h, usage.reasoning, usage.is_estimated, cost,
            price.version if price else None, price.source if price else None,
            int((self.clock.monotonic() - permit.started) * 1e6), None if end.ttft_s is None else int(end.ttft_s * 1e6),
            end.attempts, unit, units, cost + end.lost_nano, end.tried, ask.user_hash, permit.fx, permit.wallet.ids, end.content,
            usage.tier, usage.server_tools, end.plan,
        )  # fmt: skip

    def _charge(self, permit: Permit, cost: int) -> None:
        for purse, hold in zip(permit.wallet.purses, permit.holds, strict=True):
            purse.held -= hold
            if purse.is_limit:
                purse.free += hold - cost
            before, purse.spent = purse.spent, purse.spent + cost
            self.alerts.spent(purse, before, permit.at)

    def _warn_of_unknown(self, price: Price, usage: Usage, model: str) -> None:
        """Once for each: the operator has to give a price, or the estimate stays one."""
        for name in unknown_service(price, usage):
            if (model, name) not in self._warned and len(self._warned) < MAX_WARNED:
                self._warned.add((model, name))
                log.warning("a tier or tool has no price, so what it costs is estimated", model=model, name=name)

    # --- To the store -----------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_timer = None
        if not self.waiting or self._writing is not None:
            return
        batch, self.waiting = self.waiting, []
        position = self._position
        self._writing = self.store.apply(self.treasury.instance, batch, position)
        self._writing.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._written, batch, position, done)
        )

    def _written(self, batch: list[LedgerEntry], position: Position, done: Future[None]) -> None:
        self._writing = None
        error = done.exception()
        self.is_failing = error is not None
        if error is not None:
            self.failed_writes += 1
            log.error("the store does not take entries", entries=len(batch), why=str(error))
            self.waiting = batch + self.waiting  # nothing is lost: tried again until the store takes them
        else:
            oldest = next(iter(self.open.values())).segment if self.open else position[0]
            self.journal.remove_before(min(oldest, position[0]))
        if self.waiting and self._flush_timer is None:
            delay = 1.0 if self.is_failing else FLUSH_S
            self._flush_timer = self._loop.call_later(delay, self._flush)

    def _sync(self) -> None:
        self._sync_timer = None
        self._syncer.submit(self.journal.sync)

    async def durable(self) -> None:
        """Waits until all that was recorded so far is on the disk."""
        await self._loop.run_in_executor(self._syncer, self.journal.sync)

    async def close(self) -> None:
        """Writes what waits, gives leases back. Raises the store's error if it does not take it."""
        while self._writing is not None:
            await asyncio.sleep(0.005)
        for timer in (self._flush_timer, self._sync_timer):
            if timer is not None:
                timer.cancel()
        self._flush_timer = self._sync_timer = None
        if self.waiting:
            batch, self.waiting = self.waiting, []
            await asyncio.wrap_future(self.store.apply(self.treasury.instance, batch, self._position))

    async def end(self) -> None:
        """`close`, for good: leases are given back, the journal is closed."""
        await self.close()
        await self.treasury.close()
        await self.durable()
        self._syncer.shutdown()
        self.journal.close()
