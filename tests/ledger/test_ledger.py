"""Reserve and settle: one entry a request, nothing lost while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest

from naru.errors import Overloaded
from naru.ledger import ledger as module
from naru.ledger.ledger import Ask, Ledger, Settlement
from naru.ledger.pricing import PriceRow, Rate, make_price
from naru.protocol.messages import Usage
from naru.storage.records import LedgerEntry
from naru.storage.sqlite import SqliteStore
from naru.testing.clock import FakeClock

PRICE = make_price((PriceRow(rate=Rate(input=1_000_000_000, output=2_000_000_000)),), source="test")
ASK = Ask("r1", "k1", "m", "openai_chat", False)
DONE = Settlement("completed", 200, "p/m", "p", "um", PRICE, Usage(input=10, output=20, cached=4), None, 0.25, 1)


class Unreliable(SqliteStore):
    """A store whose disk is full while `is_full`."""

    is_full = False

    def append(self, entries: Sequence[LedgerEntry]) -> Future[None]:
        if not self.is_full:
            return super().append(entries)
        refused: Future[None] = Future()
        refused.set_exception(OSError(28, "No space left on device"))
        return refused


async def test_settling_prices_and_records(tmp_path: Path) -> None:
    """Cost, tokens, times and price version, as of the moment the request began."""
    store, clock = SqliteStore(tmp_path / "n.db"), FakeClock(now_s=5000.0)
    ledger = Ledger(store, clock)
    permit = ledger.reserve(ASK)
    clock.advance(1.5)
    assert permit.settle(DONE) == 10 * 1000 + 20 * 2000
    await ledger.close()
    (entry,) = store.entries(0, 1e12, 10).result()
    assert (entry.request_id, entry.at, entry.latency_us, entry.ttft_us) == ("r1", 5000.0, 1_500_000, 250_000)
    assert (entry.input, entry.output, entry.cached, entry.cost_nano) == (10, 20, 4, 50_000)
    assert (entry.price_version, entry.price_source) == (PRICE.version, "test")
    assert ledger.open_permits == 0
    store.close()


async def test_a_second_settlement_is_a_bug(tmp_path: Path) -> None:
    """It raises, and the entry stays one."""
    store = SqliteStore(tmp_path / "n.db")
    ledger = Ledger(store, FakeClock())
    permit = ledger.reserve(ASK)
    permit.settle(DONE)
    with pytest.raises(AssertionError, match="settled twice"):
        permit.settle(DONE)
    await ledger.close()
    assert len(store.entries(0, 1e12, 10).result()) == 1
    store.close()


async def test_failures_cost_nothing(tmp_path: Path) -> None:
    """No usage, no cost, even at a priced deployment."""
    store = SqliteStore(tmp_path / "n.db")
    ledger = Ledger(store, FakeClock())
    failed = msgspec.structs.replace(DONE, outcome="failed", status=502, usage=None)
    assert ledger.reserve(ASK).settle(failed) == 0
    await ledger.close()
    store.close()


async def test_entries_wait_while_the_store_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: they are kept, new requests are refused past the bound, and all are written when it is back."""
    monkeypatch.setattr(module, "FLUSH_S", 0.001)
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    store = Unreliable(tmp_path / "n.db")
    ledger = Ledger(store, FakeClock())
    store.is_full = True
    for number in range(3):
        ledger.reserve(msgspec.structs.replace(ASK, request_id=f"r{number}")).settle(DONE)
    async with asyncio.timeout(5):
        while not ledger.failed_writes:
            await asyncio.sleep(0.001)
    assert ledger.is_failing
    with pytest.raises(Overloaded, match="ledger cannot be written"):
        ledger.reserve(ASK)
    store.is_full = False
    await ledger.close()
    assert len(store.entries(0, 1e12, 10).result()) == 3
    store.close()
