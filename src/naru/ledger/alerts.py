"""Says, once for each window, that a budget has come to a fraction of its amount."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from msgspec import Struct

from naru.ledger.purses import CREDIT, Purse
from naru.storage.records import BudgetRecord

log = structlog.get_logger("naru.budget")


class Alert(Struct, frozen=True):
    """`per_mille` of the amount is spent. Money in nano-USD, times in Unix seconds."""

    scope: str
    owner: str
    budget: str | None
    words: str
    per_mille: int
    limit_nano: int
    spent_nano: int
    window_starts: float
    window_ends: float
    at: float


class Alerts:
    """`tell` hears of every alert (the webhook). `budget` finds a budget by its id."""

    def __init__(self, budget: Callable[[str], BudgetRecord | None], tell: Callable[[Alert], None]) -> None:
        self._budget = budget
        self._tell = tell

    def spent(self, purse: Purse, before: int, at: float) -> None:
        """`before` is what had been spent until now. Costs nothing while no mark is passed."""
        limit = purse.limit
        if limit <= 0 or purse.spent * 1000 < limit * self.least(purse):
            return
        for mark in self._marks(purse):
            if before * 1000 < limit * mark <= purse.spent * 1000:
                self._say(purse, mark, at)

    def least(self, purse: Purse) -> int:
        return min(self._marks(purse), default=1_000_000)

    def _marks(self, purse: Purse) -> tuple[int, ...]:
        if purse.scope.mode == CREDIT:
            return (900, 1000)
        budget = self._budget(purse.scope.budget or "")
        return budget.alerts if budget is not None else ()

    def _say(self, purse: Purse, mark: int, at: float) -> None:
        scope = purse.scope
        alert = Alert(
            scope.id,
            scope.owner,
            scope.budget,
            purse.words,
            mark,
            purse.limit,
            purse.spent,
            scope.starts_at,
            scope.ends_at,
            at,
        )
        log.warning("budget alert", scope=scope.id, spent=f"{mark / 10:g} %", of=purse.words)
        self._tell(alert)
