"""Reserve and settle: one entry a request, budgets to the nano-dollar, nothing lost while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from naru.errors import BadRequest, BudgetExceeded, InsufficientCredits, Overloaded
from naru.ledger import ledger as module
from naru.ledger.ledger import Ledger, Permit
from naru.storage.port import Position
from naru.storage.records import AccountRecord, LedgerEntry
from naru.storage.sqlite import SqliteStore
from tests.ledger.money import PRICE, Bank, ask, budget, credit, done


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Bank]:
    made = Bank(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_settling_prices_and_records(bank: Bank) -> None:
    """Cost, tokens, times and price version, as of the moment the request began."""
    permit = await bank.ledger.reserve(ask(1))
    began = bank.clock.now()
    bank.clock.advance(1.5)
    assert permit.settle(done(20)) == 20
    await bank.ledger.close()
    (entry,) = bank.store.entries(0, 1e12, 10).result()
    assert (entry.request_id, entry.at, entry.latency_us, entry.ttft_us) == ("r1", began, 1_500_000, 100_000)
    assert (entry.output, entry.cost_nano, entry.provider_cost_nano) == (20, 20, 20)
    assert (entry.price_version, entry.price_source) == (PRICE.version, "test")
    assert bank.ledger.open_permits == 0


async def test_a_second_settlement_is_a_bug(bank: Bank) -> None:
    permit = await bank.ledger.reserve(ask(1))
    permit.settle(done(1))
    with pytest.raises(AssertionError, match="settled twice"):
        permit.settle(done(1))


async def test_failures_cost_nothing(bank: Bank) -> None:
    assert (await bank.ledger.reserve(ask(1))).settle(done(5, "failed")) == 0


async def test_without_budgets_the_store_is_never_waited_for(bank: Bank) -> None:
    await bank.ledger.treasury.wallet("k1", None, 0)
    assert bank.ledger.reserve_now(ask(1)) is not None


# --- Budgets ----------------------------------------------------------------------------------------------------------


async def test_a_strict_budget_holds_the_most_that_may_come(bank: Bank) -> None:
    """Three holds of 100 fit into 300, the fourth does not, though nothing is spent yet; what is settled below makes room."""
    bank.store.add_budget(budget("b", 300)).result()
    await bank.reload()
    permits = [await bank.ledger.reserve(ask(number)) for number in range(3)]
    with pytest.raises(BudgetExceeded, match=r"the budget of the key k1: 0\.0000003 USD") as caught:
        await bank.ledger.reserve(ask(3))
    assert (caught.value.status, caught.value.code) == (402, "budget_exceeded")
    permits[0].settle(done(10))
    with pytest.raises(BudgetExceeded):
        await bank.ledger.reserve(ask(4))  # 90 are free
    assert (await bank.ledger.reserve(ask(5, most=90))).settle(done(90)) == 90
    for permit in permits[1:]:
        permit.settle(done(100))
    await bank.ledger.close()
    assert bank.spent("b@0") == 300
    assert bank.store.problems().result() == []


async def test_fifty_at_once_on_room_for_twenty_admit_twenty(bank: Bank) -> None:
    bank.store.add_budget(budget("b", 2_000)).result()
    await bank.reload()
    found = await asyncio.gather(*(bank.ledger.reserve(ask(n)) for n in range(50)), return_exceptions=True)
    assert sum(isinstance(each, Permit) for each in found) == 20
    assert sum(isinstance(each, BudgetExceeded) for each in found) == 30
    for each in found:
        if isinstance(each, Permit):
            each.settle(done(100))
    await bank.ledger.close()
    assert bank.spent("b@0") == 2_000


async def test_all_scopes_or_none(bank: Bank) -> None:
    """Key, team and organisation: the poorest decides, and a refusal holds nothing in the others."""
    bank.store.add_account(AccountRecord("o", "organisation", "Acme", 1.0)).result()
    bank.store.add_account(AccountRecord("t", "team", "research", 1.0, "o")).result()
    for name, owner, amount in (("bk", "k1", 1_000), ("bt", "t", 150), ("bo", "o", 10_000)):
        bank.store.add_budget(budget(name, amount, owner)).result()
    await bank.reload()
    permit = await bank.ledger.reserve(ask(1, account="t"))
    with pytest.raises(BudgetExceeded, match="the team research"):
        await bank.ledger.reserve(ask(2, account="t"))
    assert [purse.held for purse in permit.wallet.purses] == [100, 100, 100]
    permit.settle(done(60))
    other = await bank.ledger.reserve(ask(3, most=90, owner="k2", account="t"))  # another key of the team
    other.settle(done(90))
    await bank.ledger.close()
    assert [bank.spent(f"{name}@0") for name in ("bk", "bt", "bo")] == [60, 150, 150]
    assert bank.store.problems().result() == []


async def test_an_answer_without_a_known_end_has_no_place_in_a_strict_budget(bank: Bank) -> None:
    bank.store.add_budget(budget("b", 10**12)).result()
    await bank.reload()
    with pytest.raises(BadRequest, match="max_tokens") as caught:
        await bank.ledger.reserve(ask(1, most=None))
    assert caught.value.code == "max_tokens_required"


async def test_a_balanced_budget_learns_what_requests_cost(bank: Bank) -> None:
    """At first a page is held for an answer of any length, then what such requests cost; what goes beyond is charged."""
    bank.store.add_budget(budget("b", 10_000, mode="balanced")).result()
    await bank.reload()
    for number in range(8):
        permit = await bank.ledger.reserve(ask(number, most=None))
        assert permit.holds == (1_024,)
        permit.settle(done(50))
    permit = await bank.ledger.reserve(ask(9, most=None))
    assert permit.holds == (50,)
    permit.settle(done(700))
    await bank.ledger.close()
    assert bank.spent("b@0") == 8 * 50 + 700
    assert bank.store.problems().result() == []


async def test_a_balanced_budget_overshoots_by_what_is_under_way_at_most(bank: Bank) -> None:
    bank.store.add_budget(budget("b", 1_000, mode="balanced")).result()
    await bank.reload()
    permit = await bank.ledger.reserve(ask(1, most=900))
    permit.settle(done(5_000))
    await bank.ledger.close()
    with pytest.raises(BudgetExceeded):
        await bank.ledger.reserve(ask(2, most=1))
    (scope,) = bank.store.scopes().result()
    assert (scope.spent_nano, scope.overrun_nano) == (5_000, 4_000)
    assert bank.store.problems().result() == []


async def test_an_advisory_budget_stops_nobody_and_counts(bank: Bank) -> None:
    bank.store.add_budget(budget("b", 10, mode="advisory")).result()
    await bank.reload()
    (await bank.ledger.reserve(ask(1, most=None))).settle(done(500))
    await bank.ledger.close()
    assert bank.spent("b@0") == 500
    assert bank.store.problems().result() == []


async def test_a_new_window_has_its_whole_amount(bank: Bank) -> None:
    """What is under way at midnight is charged to the day on which it began."""
    bank.store.add_budget(budget("b", 100, window="day")).result()
    await bank.reload()
    late = await bank.ledger.reserve(ask(1))
    with pytest.raises(BudgetExceeded, match="a day") as caught:
        await bank.ledger.reserve(ask(2))
    assert caught.value.retry_after_s == 86_400
    bank.clock.advance(86_400)
    today = await bank.ledger.reserve(ask(3))
    late.settle(done(100))
    today.settle(done(40))
    await bank.ledger.close()
    first, second = sorted(bank.store.scopes().result(), key=lambda scope: scope.starts_at)
    assert (first.spent_nano, second.spent_nano) == (100, 40)
    await bank.ledger.treasury.sweep()
    assert all(scope.leased_nano == 0 for scope in bank.store.scopes().result() if scope.id == first.id)


async def test_a_clock_set_back_opens_no_second_budget(bank: Bank) -> None:
    bank.store.add_budget(budget("b", 100, window="day")).result()
    await bank.reload()
    (await bank.ledger.reserve(ask(1))).settle(done(100))
    await bank.ledger.close()
    bank.clock.jump(86_400)
    (await bank.ledger.reserve(ask(2))).settle(done(100))
    await bank.ledger.close()
    bank.clock.jump(-86_400)
    await bank.reload()
    with pytest.raises(BudgetExceeded):
        await bank.ledger.reserve(ask(3))


async def test_prepaid_credits_are_spent_and_topped_up(bank: Bank) -> None:
    """A reference counts once; no more is paid back than is there."""
    bank.store.add_credit(credit("c1", 150, reference="bill 1")).result()
    await bank.reload()
    (await bank.ledger.reserve(ask(1))).settle(done(100))
    with pytest.raises(InsufficientCredits, match="the prepaid credits of the key k1"):
        await bank.ledger.reserve(ask(2))
    await bank.ledger.close()
    assert bank.store.add_credit(credit("c2", 150, reference="bill 1")).result() is None
    assert bank.store.add_credit(credit("c3", 100)).result() is not None
    (await bank.ledger.reserve(ask(3))).settle(done(80))
    await bank.ledger.close()
    await bank.ledger.treasury.recall("k1")
    assert bank.store.add_credit(credit("c4", -71)).result() is None
    assert bank.store.add_credit(credit("c5", -70)).result() is not None
    assert bank.store.problems().result() == []


async def test_credits_that_come_while_a_wallet_is_made_are_in_it(bank: Bank) -> None:
    """Each window's purse is asked for at the store in turn; what is loaded meanwhile must not be overwritten."""
    for number in range(8):
        bank.store.add_budget(budget(f"b{number}", 1000)).result()
    await bank.reload()
    bank.store.add_credit(credit("c1", 150)).result()
    treasury, now = bank.ledger.treasury, bank.clock.now()
    await asyncio.gather(treasury.wallet("k1", None, now), treasury.load())
    wallet = treasury.ready("k1", None, now) or await treasury.wallet("k1", None, now)
    assert len(wallet.ids) == 9


async def test_a_lease_for_a_caller_that_gave_up_is_not_lost(tmp_path: Path) -> None:
    class Telling(SqliteStore):
        asked = asyncio.Event()

        def lease(self, instance: str, scope: str, need: int, want: int) -> Future[int]:
            self.asked.set()
            return super().lease(instance, scope, need, want)

    bank = Bank(tmp_path)
    bank.store.close()
    bank.store = store = Telling(tmp_path / "naru.db")
    store.add_budget(budget("b", 800)).result()
    ledger = await bank.start()
    asking = asyncio.create_task(ledger.reserve(ask(1)))
    await store.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (purse,) = ledger.treasury.purses.values()
    assert await ledger.treasury.fill(purse, 1)  # waits for the one under way
    (scope,) = store.scopes().result()
    assert purse.free == purse.granted == scope.leased_nano > 0
    await bank.stop()


# --- The store away ---------------------------------------------------------------------------------------------------


class Unreliable(SqliteStore):
    """A store whose disk is full while `is_full`."""

    is_full = False

    def apply(self, instance: str, entries: Sequence[LedgerEntry], position: Position) -> Future[None]:
        if not self.is_full:
            return super().apply(instance, entries, position)
        refused: Future[None] = Future()
        refused.set_exception(OSError(28, "No space left on device"))
        return refused


async def _failing(ledger: Ledger) -> None:
    async with asyncio.timeout(5):
        while not ledger.failed_writes:
            await asyncio.sleep(0.001)


async def test_entries_wait_while_the_store_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost: they are kept, new requests are refused past the bound, and all are written when it is back."""
    monkeypatch.setattr(module, "FLUSH_S", 0.001)
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    bank = Bank(tmp_path)
    bank.store.close()
    bank.store = store = Unreliable(tmp_path / "naru.db")
    ledger = await bank.start()
    store.is_full = True
    for number in range(3):
        (await ledger.reserve(ask(number))).settle(done(7))
    await _failing(ledger)
    assert ledger.is_failing
    with pytest.raises(Overloaded, match="ledger cannot be written"):
        await ledger.reserve(ask(9))
    store.is_full = False
    await ledger.close()
    assert len(store.entries(0, 1e12, 10).result()) == 3
    await bank.stop()


async def test_a_store_that_never_came_back_is_made_up_for_at_the_next_start(tmp_path: Path) -> None:
    bank = Bank(tmp_path)
    bank.store.close()
    bank.store = store = Unreliable(tmp_path / "naru.db")
    ledger = await bank.start()
    store.is_full = True
    (await ledger.reserve(ask(1))).settle(done(7))
    await bank.kill()
    await bank.start()
    (entry,) = bank.store.entries(0, 1e12, 10).result()
    assert (entry.request_id, entry.outcome, entry.cost_nano) == ("r1", "completed", 7)
    await bank.stop()
