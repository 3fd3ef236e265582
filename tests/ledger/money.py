"""What the tests of the ledger share: a price, an envelope, a ledger on a store of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Raw

from naru.ledger.ledger import Ask, Ledger, Settlement
from naru.ledger.opening import open_ledger
from naru.ledger.pricing import Price, PriceRow, Rate, make_price
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Usage
from naru.storage.records import BudgetRecord, CreditRecord
from naru.storage.sqlite import SqliteStore
from naru.testing.clock import FakeClock

#: A token of input or output costs 1 nano-USD, so that costs are counts.
PRICE = make_price((PriceRow(rate=Rate(input=1_000_000, output=1_000_000)),), source="test")
SEGMENT = 1 << 16


class Answerer(msgspec.Struct):
    """A deployment as the holds see it."""

    price: Price | None = PRICE
    max_output: int | None = None


def envelope(read: int = 0, most: int | None = 100) -> Envelope:
    return Envelope({"messages": Raw(b"[]")}, "m", False, False, most, 1, read)


def ask(number: int, most: int | None = 100, owner: str = "k1", account: str | None = None) -> Ask:
    return Ask(f"r{number}", owner, "m", "openai_chat", True, owner, account, envelope(0, most), (Answerer(),))


def done(cost: int, outcome: str = "completed") -> Settlement:
    usage = None if outcome == "failed" else Usage(input=0, output=cost)
    return Settlement(outcome, 200, "p/m", "p", "um", PRICE, usage, None, 0.1, 1)


def budget(name: str, amount: int, owner: str = "k1", mode: str = "strict", window: str = "total") -> BudgetRecord:
    return BudgetRecord(name, owner, amount, window, "UTC", mode, 1.0)


def credit(name: str, amount: int, owner: str = "k1", reference: str | None = None) -> CreditRecord:
    return CreditRecord(name, owner, "topup" if amount > 0 else "refund", amount, 1.0, "test", reference=reference)


class Bank:
    """A ledger whose process can be killed: the store and the journal's folder outlive it."""

    def __init__(self, folder: Path, clock: FakeClock | None = None) -> None:
        self.folder = folder
        self.clock = clock or FakeClock()
        self.store = SqliteStore(folder / "naru.db")
        self.ledger: Ledger

    async def start(self) -> Ledger:
        self.ledger = await open_ledger(self.store, self.clock, self.folder / "journal", segment_bytes=SEGMENT)
        return self.ledger

    async def reload(self) -> None:
        await self.ledger.treasury.load()

    async def kill(self) -> None:
        """As SIGKILL does: what was in memory is gone, the journal and the store stay."""
        ledger = self.ledger
        for timer in (ledger._flush_timer, ledger._sync_timer):
            if timer is not None:
                timer.cancel()
        ledger.waiting.clear()
        self.store.close()
        ledger._syncer.shutdown()
        self.store = SqliteStore(self.folder / "naru.db")

    async def stop(self) -> None:
        await self.ledger.end()
        self.store.close()

    def spent(self, scope: str) -> int:
        return next(each.spent_nano for each in self.store.scopes().result() if each.id == scope)
