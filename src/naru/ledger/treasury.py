"""The purses of this process: made of what the store says, filled by leases, emptied when a window ends.

The request path reads them without waiting. Only a purse that is dry, or a window that has just begun, sends it to the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import Future
from typing import TypeVar

from naru.clock import Clock
from naru.ledger.purses import CREDIT, EMPTY, Purse, Wallet, budgets_of, lineage, scope_of, wallet_of
from naru.ledger.refusals import usd
from naru.storage.port import Store
from naru.storage.records import AccountRecord, BudgetRecord, ScopeRecord

T = TypeVar("T")

#: A lease takes at most an eighth of a limit, and 20 USD, at a time.
SLICE_PARTS = 8
MAX_SLICE_NANO = 20_000_000_000
MIN_SLICE_NANO = 1_000


class Treasury:
    """`instance` names this process in the store's leases. `load` comes first."""

    def __init__(self, store: Store, clock: Clock, instance: str) -> None:
        self.store = store
        self.clock = clock
        self.instance = instance
        self.accounts: dict[str, AccountRecord] = {}
        self.budgets: dict[str, BudgetRecord] = {}
        self.purses: dict[str, Purse] = {}
        self._credits: dict[str, ScopeRecord] = {}
        self._wallets: dict[tuple[str, str | None], Wallet] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        #: Of what `load` last brought: a wallet made of an older one is not kept.
        self._version = 0

    async def load(self) -> None:
        """What the store has. Called again after the control plane changed accounts, budgets or credits."""
        accounts, budgets = await of(self.store.accounts()), await of(self.store.budgets())
        scopes = await of(self.store.scopes())
        self.accounts = {account.id: account for account in accounts}
        self.budgets = {budget.id: budget for budget in budgets}
        self._credits = {scope.owner: scope for scope in scopes if scope.mode == CREDIT}
        for scope in scopes:
            purse = self.purses.get(scope.id)
            if purse is not None:
                purse.limit = scope.limit_nano
        self._wallets.clear()
        self._version += 1

    def ready(self, owner: str, account: str | None, now: float) -> Wallet | None:
        """The wallet, if it needs nothing from the store now."""
        wallet = self._wallets.get((owner, account))
        return wallet if wallet is not None and now < wallet.until else None

    async def wallet(self, owner: str, account: str | None, now: float) -> Wallet:
        """The wallet for `now`, its purses made where they are new."""
        while True:
            version, wallet = self._version, await self._made(owner, account, now)
            if version == self._version:
                self._wallets[owner, account] = wallet
                return wallet

    async def _made(self, owner: str, account: str | None, now: float) -> Wallet:
        owners = lineage(owner, account, self.accounts)
        wanted = [(scope_of(each, now), self._words(each)) for each in budgets_of(owners, self.budgets.values())]
        credits = [self._credits[each] for each in owners if each in self._credits]
        wanted += [(scope, f"the prepaid credits of {self._name(scope.owner)}") for scope in credits]
        purses = [await self._purse(scope, words) for scope, words in wanted]
        return wallet_of(purses) if purses else EMPTY

    async def fill(self, purse: Purse, need: int) -> bool:
        """Leases until `need` is free; False when the scope has no more so much left. Callers wait for one another.

        Goes on without a caller that is cancelled: what the store has granted must reach the purse.
        """
        return await asyncio.shield(self._fill(purse, need))

    async def _fill(self, purse: Purse, need: int) -> bool:
        async with self._locks.setdefault(purse.scope.id, asyncio.Lock()):
            lacking = need - purse.free
            if lacking <= 0:
                return True
            want = max(lacking, min(purse.limit // SLICE_PARTS, MAX_SLICE_NANO), MIN_SLICE_NANO)
            granted = await of(self.store.lease(self.instance, purse.scope.id, lacking, want))
            purse.free += granted
            purse.granted += granted
            return purse.free >= need

    async def recall(self, owner: str) -> None:
        """Gives back what is free of an owner's scopes, so that the store can decide about all of it."""
        await self._give_back(purse for purse in self.purses.values() if purse.owner == owner)

    async def sweep(self) -> None:
        """Gives back what ended windows and full purses do not need."""
        now = self.clock.now()
        over = [purse for purse in self.purses.values() if now >= purse.ends_at and not purse.held]
        await self._give_back(over)
        for purse in over:
            if not purse.held:
                self.purses.pop(purse.scope.id, None)
                self._locks.pop(purse.scope.id, None)

    async def close(self) -> None:
        await self._give_back(self.purses.values())

    async def _give_back(self, purses: Iterable[Purse]) -> None:
        for purse in list(purses):
            if purse.free > 0 and purse.is_limit:
                amount, purse.free = purse.free, 0
                purse.granted -= amount
                await of(self.store.give_back(self.instance, purse.scope.id, amount))

    async def _purse(self, scope: ScopeRecord, words: str) -> Purse:
        purse = self.purses.get(scope.id)
        if purse is None:
            made = Purse(await of(self.store.open_scope(scope)), words)
            # Another request may have made it while this one waited.
            purse = self.purses.setdefault(scope.id, made)
        purse.words = words  # the amount may have been changed
        return purse

    def _words(self, budget: BudgetRecord) -> str:
        per = {"total": "", "day": " a day", "week": " a week", "month": " a month"}[budget.window]
        return f"the budget of {self._name(budget.owner)}: {usd(budget.amount_nano)} USD{per}"

    def _name(self, owner: str) -> str:
        account = self.accounts.get(owner)
        return f"the {account.kind} {account.name}" if account is not None else f"the key {owner}"


async def of(future: Future[T]) -> T:
    """What the store answers. It carries out what it was asked, also for a caller that is cancelled."""
    return await asyncio.shield(asyncio.wrap_future(future))
