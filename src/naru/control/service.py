"""What the control plane can do, free of HTTP. The admin API and the command line are thin layers over it."""

from __future__ import annotations

from typing import Any

from naru.control.accounts import Accounts
from naru.control.asks import NewKey
from naru.control.budgets import Budgets
from naru.control.credits import Credits
from naru.control.desk import LOCAL_ACTOR, Actor, Desk
from naru.control.keyring import Keyring
from naru.control.reports import Reports
from naru.control.shown import shown_limits
from naru.storage.port import Store
from naru.storage.records import KeyRecord

__all__ = ["Control", "NewKey"]


class Control:
    """All of it, by concern."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.accounts = Accounts(desk)
        self.budgets = Budgets(desk)
        self.keys = Keyring(desk, self.accounts, self.budgets)
        self.credits = Credits(desk)
        self.reports = Reports(desk)

    @property
    def store(self) -> Store:
        return self.desk.store

    async def create_key(self, new: NewKey, actor: Actor = LOCAL_ACTOR) -> tuple[KeyRecord, str]:
        return await self.keys.create(new, actor)

    async def revoke_key(self, reference: str, actor: Actor = LOCAL_ACTOR) -> KeyRecord:
        return await self.keys.revoke(reference, actor)

    async def own(self, key: KeyRecord) -> dict[str, Any]:
        """What a caller may know of its own key: its limits, budgets and credits. Its account's figures are not its own."""
        return {
            "key": {"id": key.id, "name": key.name, "expires_at": key.expires_at, "models": key.models},
            "limits": shown_limits(key.limits),
            "budgets": await self.budgets.shown(key.owner),
            "credits": await self.credits.balance(key.owner),
        }
