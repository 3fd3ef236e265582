"""Teams and organisations: make, change, close."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from naru.control.asks import AccountChange, NewAccount, changed, check_metadata, check_name, chosen
from naru.control.desk import Actor, Desk
from naru.errors import BadRequest, Conflict
from naru.ledger.treasury import of
from naru.ledger.windows import check_zone
from naru.storage.records import AccountRecord

KINDS = ("organisation", "team")


class Accounts:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def all(self) -> list[AccountRecord]:
        return list(self.desk.treasury.accounts.values())

    async def create(self, new: NewAccount, actor: Actor) -> AccountRecord:
        chosen(new.kind, KINDS, "kind")
        async with self.desk.changing:
            parent = self._parent(new.parent, new.kind) if new.parent is not None else None
            record = AccountRecord(
                self.desk.new_id("org" if new.kind == "organisation" else "team"),
                new.kind,
                self._free_name(new.name),
                self.desk.clock.now(),
                parent,
                time_zone=check_zone(new.time_zone),
                limits=new.limits.record(),
                metadata=check_metadata(new.metadata),
            )
            return await self._add(record, actor)

    async def team(self, reference: str, actor: Actor) -> str:
        """The id of the team with this id or name, made where it is new. The caller holds `desk.changing`."""
        found = self.desk.account_or_none(reference)
        if found is None:
            name = check_name(reference, "A team's name", "team")
            found = await self._add(AccountRecord(self.desk.new_id("team"), "team", name, self.desk.clock.now()), actor)
        return _open(found).id

    def open_one(self, reference: str) -> AccountRecord:
        """Raises NotFound, or Conflict where it is closed."""
        return _open(self.desk.account(reference))

    async def change(self, reference: str, change: AccountChange, actor: Actor) -> AccountRecord:
        async with self.desk.changing:
            record = self.desk.account(reference)
            made: dict[str, Any] = {}
            if change.name is not UNSET and change.name != record.name:
                made["name"] = self._free_name(change.name)
            if change.parent is not UNSET and change.parent is not None:
                made["parent"] = self._parent(change.parent, record.kind)
            if change.time_zone is not UNSET:
                made["time_zone"] = check_zone(change.time_zone)
            if change.limits is not UNSET:
                made["limits"] = change.limits.record()
            if change.metadata is not UNSET:
                made["metadata"] = check_metadata(change.metadata)
            made = changed(change, **made)
            record = replace(record, **made)
            await of(self.desk.store.save_account(record))
            await self.desk.treasury.load()
            await self.desk.note(
                actor, "account.change", record.id, {n: msgspec.to_builtins(v) for n, v in made.items()}
            )
        return record

    def closable(self, reference: str) -> AccountRecord:
        """Raises Conflict where it is closed, or open teams are under it."""
        account = self.open_one(reference)
        below = [each.name for each in self.all() if each.parent == account.id and each.closed_at is None]
        if below:
            raise Conflict(
                f"{account.name!r} has open teams: {', '.join(below[:10])}. Close them first.", code="account_in_use"
            )
        return account

    async def close(self, account: AccountRecord, actor: Actor) -> None:
        """Nothing of it is deleted: its entries, credits and budgets stay in the books."""
        await of(self.desk.store.save_account(replace(account, closed_at=self.desk.clock.now())))
        await self.desk.treasury.load()
        await self.desk.note(actor, "account.close", account.id, {"name": account.name})

    def _free_name(self, name: str) -> str:
        check_name(name, "An account's name")
        found = self.desk.account_or_none(name)
        if found is not None:
            closed = ", and is closed" if found.closed_at is not None else ""
            raise Conflict(
                f"The {found.kind} {found.id} is named {name!r} already{closed}. Choose another name.",
                code="account_exists",
            )
        return name

    def _parent(self, reference: str, kind: str) -> str:
        parent = self.open_one(reference)
        if parent.kind != "organisation" or kind != "team":
            raise BadRequest("Teams belong to organisations; nothing else has a parent.", param="parent")
        return parent.id

    async def _add(self, record: AccountRecord, actor: Actor) -> AccountRecord:
        await of(self.desk.store.add_account(record))
        await self.desk.treasury.load()
        detail = {"kind": record.kind, "name": record.name, "parent": record.parent, "time_zone": record.time_zone}
        await self.desk.note(actor, "account.create", record.id, detail)
        return record


def _open(account: AccountRecord) -> AccountRecord:
    if account.closed_at is not None:
        raise Conflict(f"The {account.kind} {account.name!r} is closed. Use another account.", code="account_closed")
    return account
