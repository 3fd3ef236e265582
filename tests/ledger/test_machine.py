"""The ledger against a pure model of it: whatever is done in whatever order, crashes among it, the invariants of money.md hold
after every step.

The model knows what every request cost, which scopes it was charged to, and what the limits are; nothing of leases, journals
or tables. I5 and I7 (what the upstream reported, what it counted) are shown by the torture run, which has upstreams.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from naru.errors import BudgetExceeded, InsufficientCredits
from naru.ledger.ledger import Permit
from naru.ledger.windows import period
from naru.storage.records import AccountRecord
from naru.testing.clock import FakeClock
from tests.ledger.money import Bank, ask, budget, credit, done

KEYS = {"k1": "t", "k2": "t", "k3": None}
#: owner, mode, window, first amount
BUDGETS = {
    "strict": ("k1", "strict", "total", 1_000),
    "daily": ("t", "strict", "day", 900),
    "balanced": ("o", "balanced", "month", 3_000),
    "advisory": ("k3", "advisory", "total", 100),
}
LINES = {"k1": ("k1", "t", "o"), "k2": ("k2", "t", "o"), "k3": ("k3",)}


@dataclass
class Asked:
    """A request as the model sees it."""

    number: int
    key: str
    most: int
    scopes: tuple[str, ...]
    permit: Permit
    shown: int = 0


@dataclass
class Model:
    spent: dict[str, int] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=lambda: {name: each[3] for name, each in BUDGETS.items()})
    credits: int = 0
    references: set[str] = field(default_factory=set)

    def close(self, asked: Asked, cost: int) -> None:
        self.costs[f"r{asked.number}"] = cost
        for scope in asked.scopes:
            self.spent[scope] = self.spent.get(scope, 0) + cost


class LedgerMachine(RuleBasedStateMachine):
    requests = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="naru-ledger-"))
        self.clock = FakeClock()
        self.model = Model()
        self.open: dict[int, Asked] = {}
        self.count = 0

    def run(self, coroutine):  # type: ignore[no-untyped-def]
        return self.loop.run_until_complete(coroutine)

    @initialize()
    def begin(self) -> None:
        async def start() -> None:
            self.bank = Bank(self.folder, self.clock)
            store = self.bank.store
            store.add_account(AccountRecord("o", "organisation", "org", 1.0)).result()
            store.add_account(AccountRecord("t", "team", "team", 1.0, "o")).result()
            for name, (owner, mode, window, amount) in BUDGETS.items():
                store.add_budget(budget(name, amount, owner, mode, window)).result()
            await self.bank.start()

        self.run(start())

    def scopes_of(self, key: str) -> tuple[str, ...]:
        now = self.clock.now()
        names = [name for name, (owner, *_) in BUDGETS.items() if owner in LINES[key]]
        found = [f"{name}@{int(period(BUDGETS[name][2], now, 'UTC')[0])}" for name in names]
        has_credits = key == "k2" and (self.model.credits or self.model.references)
        return (*found, "credit:k2") if has_credits else tuple(found)

    # --- Requests -------------------------------------------------------------------------------------------------

    @rule(target=requests, key=st.sampled_from(sorted(KEYS)), most=st.integers(0, 400))
    def reserve(self, key: str, most: int) -> Asked | None:
        self.count += 1
        number, scopes = self.count, self.scopes_of(key)
        try:
            permit = self.run(self.bank.ledger.reserve(ask(number, most, key, KEYS[key])))
        except (BudgetExceeded, InsufficientCredits):
            assert not self.fits(scopes, most), "refused though there is room"
            return None
        assert self.strictly_fits(scopes, most), "admitted though there is no room"
        assert set(permit.wallet.ids) == set(scopes)
        asked = self.open[number] = Asked(number, key, most, scopes, permit)
        return asked

    def limit(self, scope: str) -> int:
        return self.model.credits if scope == "credit:k2" else self.model.amounts[scope.partition("@")[0]]

    def left(self, scope: str) -> int:
        held = sum(each.most for each in self.open.values() if scope in each.scopes)
        return self.limit(scope) - self.model.spent.get(scope, 0) - held

    def strictly_fits(self, scopes: tuple[str, ...], most: int) -> bool:
        strict = [scope for scope in scopes if scope.startswith(("strict", "daily", "credit"))]
        return all(self.left(scope) >= most for scope in strict)

    def fits(self, scopes: tuple[str, ...], most: int) -> bool:
        """Balanced budgets hold what such requests usually cost, which the model does not know: they may have refused."""
        balanced = [scope for scope in scopes if scope.startswith("balanced")]
        return (
            self.strictly_fits(scopes, most)
            and all(self.left(scope) >= 2 * most for scope in balanced)
            and not balanced
        )

    def take(self, asked: Asked | None) -> Asked | None:
        return self.open.pop(asked.number, None) if asked is not None else None

    @rule(asked=consumes(requests), share=st.integers(0, 100))
    def settle(self, asked: Asked | None, share: int) -> None:
        if (mine := self.take(asked)) is not None:
            cost = mine.most * share // 100
            assert mine.permit.settle(done(cost)) == cost
            self.model.close(mine, cost)

    @rule(asked=consumes(requests))
    def void(self, asked: Asked | None) -> None:
        if (mine := self.take(asked)) is not None:
            assert mine.permit.settle(done(mine.most, "failed")) == 0
            self.model.close(mine, 0)

    @rule(asked=requests, share=st.integers(0, 100))
    def progress(self, asked: Asked | None, share: int) -> None:
        if asked is not None and asked.number in self.open:
            asked.shown = asked.most * share // 100
            asked.permit.progress(done(asked.shown, "partial"))

    # --- The process ----------------------------------------------------------------------------------------------

    @rule(writes_first=st.booleans())
    def crash(self, writes_first: bool) -> None:
        async def again() -> None:
            if writes_first:
                await self.bank.ledger.close()
            await self.bank.kill()
            await self.bank.start()

        self.run(again())
        for asked in self.open.values():
            self.model.close(asked, asked.shown)
        self.open.clear()

    @precondition(lambda self: not self.open)
    @rule()
    def restart(self) -> None:
        async def again() -> None:
            await self.bank.ledger.end()
            await self.bank.start()

        self.run(again())

    @rule(hours=st.sampled_from([1, 7, 24, 24 * 31]))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * 3600)
        self.run(self.bank.ledger.treasury.sweep())

    # --- The operator ---------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(sorted(BUDGETS)), amount=st.integers(0, 4_000))
    def change_budget(self, name: str, amount: int) -> None:
        owner, mode, window, _ = BUDGETS[name]

        async def change() -> None:
            await self.bank.ledger.close()
            await self.bank.ledger.treasury.recall(owner)
            assert self.bank.store.save_budget(budget(name, amount, owner, mode, window)).result()
            await self.bank.reload()

        self.run(change())
        self.model.amounts[name] = amount

    @rule(amount=st.integers(1, 500), reference=st.sampled_from(["a", "b", "c", "d"]))
    def top_up(self, amount: int, reference: str) -> None:
        done_once = reference in self.model.references
        found = self.bank.store.add_credit(credit(f"c{self.count}{reference}", amount, "k2", reference)).result()
        assert (found is None) == done_once, "a reference counts once"
        if not done_once:
            self.model.references.add(reference)
            self.model.credits += amount
        self.run(self.bank.reload())

    @precondition(lambda self: self.model.credits)
    @rule(amount=st.integers(1, 500))
    def refund(self, amount: int) -> None:
        self.count += 1
        self.run(self.bank.ledger.close())
        self.run(self.bank.ledger.treasury.recall("k2"))
        left = self.left("credit:k2")
        found = self.bank.store.add_credit(credit(f"f{self.count}", -amount, "k2")).result()
        assert (found is not None) == (amount <= left), "what is paid back was neither spent nor held"
        if found is not None:
            self.model.credits -= amount
        self.run(self.bank.reload())

    # --- What always holds ----------------------------------------------------------------------------------------

    @invariant()
    def the_ledger_agrees(self) -> None:
        if not hasattr(self, "bank"):
            return
        self.run(self.bank.ledger.close())
        store = self.bank.store
        assert store.problems().result() == []  # I1 to I4, I6, I8, I9, I11 as the store sees them
        entries = {entry.request_id: entry.cost_nano for entry in store.entries(0, 1e12, 100_000).result()}
        assert entries == self.model.costs
        scopes = {scope.id: scope for scope in store.scopes().result()}
        assert {name: scope.spent_nano for name, scope in scopes.items() if scope.spent_nano} == {
            name: spent for name, spent in self.model.spent.items() if spent
        }
        purses = self.bank.ledger.treasury.purses
        held: dict[str, int] = {}
        for asked in self.open.values():
            for scope, hold in zip(asked.permit.wallet.ids, asked.permit.holds, strict=True):
                held[scope] = held.get(scope, 0) + hold
        assert {name: purse.held for name, purse in purses.items() if purse.held} == {  # I2, I10
            name: hold for name, hold in held.items() if hold
        }
        for name, purse in purses.items():
            if purse.is_limit:
                assert scopes[name].leased_nano == max(0, purse.free + purse.held), (
                    purse
                )  # every lease is accounted for
        totals = {row.group: row.cost_nano for row in store.usage("model", 0, 1e12).result()}
        assert totals.get("m", 0) == sum(self.model.costs.values())

    def teardown(self) -> None:
        if hasattr(self, "bank"):
            self.run(self.bank.ledger.end())
            self.bank.store.close()
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
