"""Budgets: make, change, remove, and how they stand."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from naru.control.asks import BudgetChange, NewBudget, check_alerts, chosen
from naru.control.desk import Actor, Desk
from naru.control.money import read_allowance, usd
from naru.errors import BadRequest, Conflict, NotFound
from naru.ledger.purses import scope_of
from naru.ledger.treasury import of
from naru.ledger.windows import WINDOWS, check_zone
from naru.storage.records import BudgetRecord

MODES = ("strict", "balanced", "advisory")


class Budgets:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def create(self, new: NewBudget, actor: Actor) -> BudgetRecord:
        async with self.desk.changing:
            return await self.add(self.checked(new, self.desk.owner(new.owner)), actor)

    def checked(self, new: NewBudget, owner: str, param: str = "amount") -> BudgetRecord:
        """The record, not yet kept. Raises BadRequest, or Conflict where the owner has one for the same window."""
        allowance = read_allowance(new.amount, self.desk.krw_per_usd, param)
        if allowance.window and new.window and allowance.window != new.window:
            raise BadRequest(
                f"The amount says {allowance.window}, window says otherwise. Send one of them.", param="window"
            )
        window = chosen(allowance.window or new.window or "total", WINDOWS, "window")
        zone = check_zone(new.time_zone) if new.time_zone is not None else self.desk.zone_of(owner)
        for other in self.of(owner):
            if (other.window, other.time_zone) == (window, zone):
                raise Conflict(
                    f"{self.desk.owner_name(owner)!r} has the budget {other.id} for this window already: "
                    f"{usd(other.amount_nano)} USD. Change that one, or remove it first.",
                    code="budget_exists",
                )
        return BudgetRecord(
            self.desk.new_id("bud"),
            owner,
            allowance.amount.nano,
            window,
            zone,
            chosen(new.mode, MODES, "mode"),
            self.desk.clock.now(),
            check_alerts(new.alerts),
        )

    async def add(self, record: BudgetRecord, actor: Actor) -> BudgetRecord:
        """The caller holds `desk.changing`."""
        await of(self.desk.store.add_budget(record))
        await self.desk.treasury.load()
        detail = {"owner": record.owner, "amount_usd": usd(record.amount_nano), "window": record.window}
        detail |= {"time_zone": record.time_zone, "mode": record.mode}
        await self.desk.note(actor, "budget.create", record.id, detail)
        return record

    async def change(self, budget_id: str, change: BudgetChange, actor: Actor) -> BudgetRecord:
        """Holds at once, for the window under way too."""
        async with self.desk.changing:
            record = self.one(budget_id)
            detail: dict[str, Any] = {}
            if change.amount is not UNSET:
                allowance = read_allowance(change.amount, self.desk.krw_per_usd)
                if allowance.window and allowance.window != record.window:
                    raise BadRequest("A budget's window stays. Remove it, and make another one.", param="amount")
                detail |= {"amount_usd": usd(allowance.amount.nano), "before_usd": usd(record.amount_nano)}
                record = replace(record, amount_nano=allowance.amount.nano)
            if change.alerts is not UNSET:
                record = replace(record, alerts=check_alerts(change.alerts))
                detail["alerts"] = record.alerts
            await self._save(record)
            await self.desk.note(actor, "budget.change", record.id, detail)
        return record

    async def remove(self, budget_id: str, actor: Actor) -> BudgetRecord:
        async with self.desk.changing:
            record = replace(self.one(budget_id), removed_at=self.desk.clock.now())
            await self._save(record)
            await self.desk.note(actor, "budget.remove", record.id, {"owner": record.owner})
        return record

    async def _save(self, record: BudgetRecord) -> None:
        # What this process holds of it goes back first, so that the store decides about all of it.
        await self.desk.treasury.recall(record.owner)
        await of(self.desk.store.save_budget(record))
        await self.desk.treasury.load()

    def one(self, budget_id: str) -> BudgetRecord:
        found = self.desk.treasury.budgets.get(budget_id)
        if found is None or found.removed_at is not None:
            raise NotFound(
                f"There is no budget {budget_id[:100]!r}. `naru budgets list` shows them.", code="budget_not_found"
            )
        return found

    def of(self, owner: str | None = None) -> list[BudgetRecord]:
        """Those that hold, of an owner or of all."""
        budgets = self.desk.treasury.budgets.values()
        return [each for each in budgets if each.removed_at is None and owner in (None, each.owner)]

    async def shown(self, owner: str | None = None) -> list[dict[str, Any]]:
        scopes = {scope.id: scope for scope in await of(self.desk.store.scopes(owner))}
        found = []
        for budget in self.of(owner):
            fresh = scope_of(budget, self.desk.clock.now())
            purse = self.desk.treasury.purses.get(fresh.id)
            # What ended in the last moments is in the purse, and not yet in the store.
            spent = max(scopes.get(fresh.id, fresh).spent_nano, purse.spent if purse is not None else 0)
            found.append(self._shown(budget, spent, purse.held if purse is not None else 0))
        return found

    def _shown(self, budget: BudgetRecord, spent: int, held: int) -> dict[str, Any]:
        window = scope_of(budget, self.desk.clock.now())
        is_endless = budget.window == "total"
        return {
            "id": budget.id,
            "owner": budget.owner,
            "owner_name": self.desk.owner_name(budget.owner),
            "amount_nano": budget.amount_nano,
            "amount_usd": usd(budget.amount_nano),
            "window": budget.window,
            "time_zone": budget.time_zone,
            "mode": budget.mode,
            "alerts": [mark / 1000 for mark in budget.alerts],
            "spent_nano": spent,
            "held_nano": held,
            "left_nano": budget.amount_nano - spent - held,
            "spent_usd": usd(spent),
            "held_usd": usd(held),
            "left_usd": usd(budget.amount_nano - spent - held),
            "window_starts_at": None if is_endless else window.starts_at,
            "window_ends_at": None if is_endless else window.ends_at,
        }
