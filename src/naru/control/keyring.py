"""Keys: make, change, rotate, revoke."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from naru import keys
from naru.control.accounts import Accounts
from naru.control.asks import (
    KeyChange,
    NewBudget,
    NewKey,
    Rotation,
    changed,
    check_metadata,
    check_name,
    check_networks,
    check_texts,
    chosen,
    span_s,
)
from naru.control.budgets import Budgets
from naru.control.desk import Actor, Desk
from naru.errors import BadRequest, Conflict
from naru.ledger.treasury import of
from naru.storage.records import BudgetRecord, KeyRecord

ROLES = tuple(keys.PREFIXES)
#: What the audit log says of a key. Never its digest.
AUDITED = ("name", "role", "account", "models", "addresses", "limits", "metadata", "expires_at", "principal")


class Keyring:
    def __init__(self, desk: Desk, accounts: Accounts, budgets: Budgets) -> None:
        self.desk = desk
        self.accounts = accounts
        self.budgets = budgets

    def all(self) -> list[KeyRecord]:
        return sorted(self.desk.auth.records.values(), key=lambda record: (record.created_at, record.id))

    async def create(self, new: NewKey, actor: Actor) -> tuple[KeyRecord, str]:
        """The record, and the key's text, which is not kept anywhere. It works as soon as this returns."""
        async with self.desk.changing:
            record, text = self._minted(self._checked(new, actor))
            # Looked over before anything is made, so that a wrong one leaves nothing behind.
            budget = self._budget(new, record.id) if new.budget is not None else None
            record = replace(record, account=await self._account(new, actor))
            if budget is not None:  # before the key: it never works without its budget
                await self.budgets.add(budget, actor)
            await self._add(record)
            await self.desk.note(actor, "key.create", record.id, audited(record))
        return record, text

    async def change(self, reference: str, change: KeyChange, actor: Actor) -> KeyRecord:
        async with self.desk.changing:
            record = self._changeable(reference, actor)
            made: dict[str, Any] = changed(change, **self._made(change))
            if "expires" in made:
                made["expires_at"] = self._end(made.pop("expires"))
            if "team" in made:
                made["account"] = await self.accounts.team(made.pop("team"), actor)
            record = replace(record, **made)
            await self._save(record)
            if "limits" in made:  # like the money, they belong to what the secrets of a rotated key share
                for other in self.all():
                    if other.owner == record.owner and other.id != record.id:
                        await self._save(replace(other, limits=record.limits))
            await self.desk.note(actor, "key.change", record.id, {name: audited(record)[name] for name in made})
        return record

    async def rotate(self, reference: str, rotation: Rotation, actor: Actor) -> tuple[KeyRecord, KeyRecord, str]:
        """(new, old, the new one's text). The new one has the old one's money and limits; the old one works on for the
        overlap."""
        async with self.desk.changing:
            old = self._changeable(reference, actor)
            now = self.desk.clock.now()
            if not old.is_active(now):
                raise Conflict(
                    f"The key {old.id} is {old.state(now)}, so there is nothing to rotate. `naru keys create` makes one.",
                    code="key_inactive",
                )
            ends = now + span_s(rotation.overlap, "overlap")
            ending = replace(old, expires_at=ends if old.expires_at is None else min(ends, old.expires_at))
            record, text = self._minted(replace(old, created_at=now, principal=old.owner))
            await self._add(record)
            await self._save(ending)
            await self.desk.note(actor, "key.rotate", old.id, {"new": record.id, "expires_at": ending.expires_at})
        return record, ending, text

    async def revoke(self, reference: str, actor: Actor) -> KeyRecord:
        """Refused from the next request on; requests under way finish. Revoking twice changes nothing."""
        async with self.desk.changing:
            return await self._revoke(self._changeable(reference, actor), actor)

    async def close_account(self, reference: str, revoke_keys: bool, actor: Actor) -> tuple[str, int]:
        """Closes an account; its keys must be revoked before, or are with it. (its id, how many keys were revoked.)"""
        async with self.desk.changing:
            account = self.accounts.closable(reference)
            now = self.desk.clock.now()
            active = [each for each in self.all() if each.account == account.id and each.is_active(now)]
            if active and not revoke_keys:
                raise Conflict(
                    f"{account.name!r} has {len(active)} active keys. Revoke them first, or send revoke_keys=true "
                    "(`naru accounts close --revoke-keys`).",
                    code="account_in_use",
                )
            # Who may not revoke one of them revokes none.
            for record in [self._changeable(each.id, actor) for each in active]:
                await self._revoke(record, actor)
            await self.accounts.close(account, actor)
        return account.id, len(active)

    # --- Parts ------------------------------------------------------------------------------------------------------

    def _checked(self, new: NewKey, actor: Actor) -> KeyRecord:
        chosen(new.role, ROLES, "role")
        if new.role != "caller":
            actor.must_be("owner")
        if new.account is not None and new.team is not None:
            raise BadRequest("Send account or team, not both: a team is an account.", param="account")
        return KeyRecord(
            "",
            check_name(new.name, "A key's name"),
            b"",
            new.role,
            self.desk.clock.now(),
            self._end(new.expires),
            models=check_texts(new.models, "models"),
            addresses=check_networks(new.addresses),
            limits=new.limits.record(),
            metadata=check_metadata(new.metadata),
        )

    def _end(self, expires: str | None) -> float | None:
        return self.desk.clock.now() + lasting_s(expires, "expires") if expires is not None else None

    def _minted(self, record: KeyRecord) -> tuple[KeyRecord, str]:
        minted = keys.mint(record.role, self.desk.entropy(keys.ENTROPY_BYTES))
        digest = keys.digest(self.desk.auth.pepper, minted.secret)
        principal = record.principal or minted.id
        return replace(record, id=minted.id, digest=digest, principal=principal), minted.text

    async def _account(self, new: NewKey, actor: Actor) -> str | None:
        if new.team is not None:
            return await self.accounts.team(new.team, actor)
        return self.accounts.open_one(new.account).id if new.account is not None else None

    def _budget(self, new: NewKey, owner: str) -> BudgetRecord:
        account = self.accounts.desk.account_or_none(new.account or new.team or "")
        zone = account.time_zone if account is not None else "UTC"
        return self.budgets.checked(NewBudget(owner, new.budget or "", time_zone=zone), owner, "budget")

    def _made(self, change: KeyChange) -> dict[str, Any]:
        if change.account is not UNSET and change.team is not UNSET:
            raise BadRequest("Send account or team, not both: a team is an account.", param="account")
        made: dict[str, Any] = {}
        if change.name is not UNSET:
            made["name"] = check_name(change.name, "A key's name")
        if change.models is not UNSET:
            made["models"] = check_texts(change.models, "models")
        if change.addresses is not UNSET:
            made["addresses"] = check_networks(change.addresses)
        if change.limits is not UNSET:
            made["limits"] = change.limits.record()
        if change.metadata is not UNSET:
            made["metadata"] = check_metadata(change.metadata)
        if change.account is not UNSET and change.account is not None:
            made["account"] = self.accounts.open_one(change.account).id
        return made

    def _changeable(self, reference: str, actor: Actor) -> KeyRecord:
        record = self.desk.key(reference)
        if record.role != "caller":
            actor.must_be("owner")
        return record

    async def _revoke(self, record: KeyRecord, actor: Actor) -> KeyRecord:
        if record.revoked_at is None:
            record = replace(record, revoked_at=self.desk.clock.now())
            await self._save(record)
            await self.desk.note(actor, "key.revoke", record.id, {"name": record.name})
        return record

    async def _add(self, record: KeyRecord) -> None:
        await of(self.desk.store.add_key(record))
        self.desk.auth.put(record)

    async def _save(self, record: KeyRecord) -> None:
        await of(self.desk.store.save_key(record))
        self.desk.auth.put(record)


def lasting_s(text: str, param: str) -> int:
    span = span_s(text, param)
    if span == 0:
        raise BadRequest(f"{param} is a span above zero, as in 30d.", param=param)
    return span


def audited(record: KeyRecord) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(record, name)) for name in AUDITED}
