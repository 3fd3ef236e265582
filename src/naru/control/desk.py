"""What every part of the control plane works with: the store, the keys in memory, the purses, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from msgspec import Struct

from naru import keys
from naru.clock import Clock
from naru.errors import BadRequest, Forbidden, NotFound
from naru.gateway.auth import Auth
from naru.ledger.treasury import Treasury, of
from naru.storage.port import Store
from naru.storage.records import AccountRecord, AuditRecord, KeyRecord, to_json

T = TypeVar("T")

ID_CHARS = 12
ID_BYTES = 9


class Actor(Struct, frozen=True):
    """Who asks: a key's id, or `local` for the command line of the gateway's own machine."""

    id: str
    role: str

    def must_be(self, role: str) -> None:
        if keys.RANKS.index(self.role) < keys.RANKS.index(role):
            raise Forbidden(
                f"Only an {role} may do this; you are {self.role}. Ask whoever runs this gateway.", code="role_required"
            )


LOCAL_ACTOR = Actor("local", "owner")


class Desk:
    """`entropy` gives so many random bytes. `krw_per_usd` turns won into dollars; `fx` is that rate in words where amounts are
    shown in won too ("1390 KRW/USD"), else empty."""

    def __init__(
        self, store: Store, auth: Auth, clock: Clock, treasury: Treasury, entropy: Callable[[int], bytes]
    ) -> None:
        self.store = store
        self.auth = auth
        self.clock = clock
        self.treasury = treasury
        self.entropy = entropy
        self.krw_per_usd: Decimal | None = None
        self.fx = ""
        #: Changes happen one after the other: each reads what it changes.
        self.changing = asyncio.Lock()

    async def note(self, actor: Actor, action: str, target: str, detail: Mapping[str, Any]) -> None:
        """`detail` holds no secret."""
        await of(self.store.note(AuditRecord(self.clock.now(), actor.id, action, target, to_json(detail))))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{keys.base62(int.from_bytes(self.entropy(ID_BYTES)), ID_CHARS)}"

    # --- Who is meant ---------------------------------------------------------------------------------------------

    def key(self, reference: str) -> KeyRecord:
        """By id, or by name when one key has it: of a rotated one, the newest."""
        found = self.key_or_none(reference)
        if found is None:
            raise NotFound(f"There is no key {reference[:100]!r}. `naru keys list` shows them.", code="key_not_found")
        return found

    def key_or_none(self, reference: str) -> KeyRecord | None:
        found = self.auth.records.get(reference)
        if found is not None:
            return found
        named = [record for record in self.auth.records.values() if record.name == reference]
        if len({record.owner for record in named}) > 1:
            named = [record for record in named if record.is_active(self.clock.now())] or named
        if len({record.owner for record in named}) > 1:
            raise BadRequest(
                f"{len(named)} keys are named {reference[:100]!r}. Use the id: {', '.join(r.id for r in named)}."
            )
        return max(named, key=lambda record: record.created_at, default=None)

    def account(self, reference: str) -> AccountRecord:
        found = self.account_or_none(reference)
        if found is None:
            raise NotFound(
                f"There is no account {reference[:100]!r}. `naru accounts list` shows them.", code="account_not_found"
            )
        return found

    def account_or_none(self, reference: str) -> AccountRecord | None:
        accounts = self.treasury.accounts
        named = (account for account in accounts.values() if account.name == reference)
        return accounts.get(reference) or next(named, None)

    def owner(self, reference: str) -> str:
        """The id under which an account or a key has budgets and credits."""
        account, key = self.account_or_none(reference), self.key_or_none(reference)
        if account is not None and key is not None and account.id != reference:
            raise BadRequest(
                f"An account and a key are named {reference[:100]!r}. Use the id: {account.id} is the account, {key.id} the key."
            )
        if account is not None:
            return account.id
        if key is None:
            raise NotFound(
                f"There is no account or key {reference[:100]!r}. `naru accounts list` and `naru keys list` show them.",
                code="account_not_found",
            )
        return key.owner

    def owner_name(self, owner: str) -> str:
        account = self.treasury.accounts.get(owner)
        if account is not None:
            return account.name
        named = [record for record in self.auth.records.values() if record.owner == owner]
        return max(named, key=lambda record: record.created_at).name if named else owner

    def zone_of(self, owner: str) -> str:
        """Of the account, or of the account that a key belongs to."""
        records = (each for each in self.auth.records.values() if each.owner == owner)
        record = max(records, key=lambda each: each.created_at, default=None)
        account = self.treasury.accounts.get((record.account or "") if record is not None else owner)
        return account.time_zone if account is not None else "UTC"

    def keys_below(self, account: str) -> tuple[str, ...]:
        """The ids of the keys of an account and of those under it, also of revoked ones."""
        wanted, size = {account}, 0
        while len(wanted) > size:
            size = len(wanted)
            wanted |= {each.id for each in self.treasury.accounts.values() if each.parent in wanted}
        return tuple(record.id for record in self.auth.records.values() if record.account in wanted)

    def keys_of(self, owner: str) -> tuple[str, ...]:
        """The ids of all the keys that spend an owner's money: rotated ones too."""
        if owner in self.treasury.accounts:
            return self.keys_below(owner)
        return tuple(record.id for record in self.auth.records.values() if record.owner == owner)
