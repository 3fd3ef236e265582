"""What this process may spend without asking: its share of each scope, in memory.

A purse holds what was leased of one scope and is neither held nor spent. A wallet is all the purses that a key's request has to
pass: its own budgets and credits, its team's, its organisation's. The purse of a team is the same object for all its keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from naru.ledger.windows import NEVER, period
from naru.storage.records import AccountRecord, BudgetRecord, ScopeRecord

CREDIT = "credit"


class Purse:
    """`free` is in nano-USD and may be below zero in a balanced budget, by what requests under way cost more than they held.

    `held` is the sum of the holds of open requests. `spent` is what was charged to the scope, by everybody, as far as this
    process knows.
    """

    __slots__ = ("ends_at", "free", "granted", "held", "is_strict", "limit", "owner", "scope", "spent", "words")

    def __init__(self, scope: ScopeRecord, words: str) -> None:
        self.scope = scope
        self.owner = scope.owner
        self.words = words
        self.limit = scope.limit_nano
        self.spent = scope.spent_nano
        self.ends_at = scope.ends_at
        self.is_strict = scope.mode in ("strict", CREDIT)
        self.free = 0
        self.granted = 0
        self.held = 0

    def __repr__(self) -> str:
        return f"<Purse {self.scope.id} free {self.free} held {self.held} spent {self.spent}/{self.limit}>"

    @property
    def is_limit(self) -> bool:
        """An advisory budget stops nobody."""
        return self.scope.mode != "advisory"


class Wallet(Struct, frozen=True):
    """The purses that a request passes, those that can refuse it first, the ids of their scopes, and when the first of their
    windows ends."""

    purses: tuple[Purse, ...]
    ids: tuple[str, ...]
    until: float


def wallet_of(purses: Iterable[Purse]) -> Wallet:
    found = tuple(purses)
    return Wallet(found, tuple(purse.scope.id for purse in found), min((each.ends_at for each in found), default=NEVER))


EMPTY = wallet_of(())


def lineage(owner: str, account: str | None, accounts: Mapping[str, AccountRecord]) -> list[str]:
    """Whose budgets hold for a key: its own, its account's, and so on upwards."""
    found = [owner]
    while account is not None and account in accounts and account not in found:
        found.append(account)
        account = accounts[account].parent
    return found


def scope_of(budget: BudgetRecord, at: float) -> ScopeRecord:
    """The scope of a budget's window that holds at `at`, nothing spent yet."""
    start, end = period(budget.window, at, budget.time_zone)
    return ScopeRecord(
        f"{budget.id}@{int(start)}", budget.owner, budget.mode, start, end, budget.amount_nano, budget=budget.id
    )


def budgets_of(owners: Iterable[str], budgets: Iterable[BudgetRecord]) -> list[BudgetRecord]:
    wanted = set(owners)
    return [budget for budget in budgets if budget.owner in wanted and budget.removed_at is None]
