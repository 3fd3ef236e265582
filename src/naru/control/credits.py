"""Prepaid credits and redemption codes."""

from __future__ import annotations

import hmac
from typing import Any

from naru.control.asks import NewCode, NewCredit, Redemption, check_text, chosen, span_s
from naru.control.desk import Actor, Desk
from naru.control.money import NANO_PER_USD, read_amount, usd
from naru.errors import BadRequest, Conflict, NotFound
from naru.ledger.treasury import of
from naru.storage.records import CodeRecord, CreditRecord, KeyRecord, ScopeRecord

KINDS = ("topup", "refund", "adjust")
CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which are misread
CODE_CHARS, CODE_GROUP, CODE_BYTES = 20, 5, 13
#: Room in 64 bits, whatever is added to it at the same time.
MAX_TOTAL_NANO = 1_000_000_000 * NANO_PER_USD


class Credits:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def add(self, owner: str, new: NewCredit, actor: Actor) -> CreditRecord:
        """Raises BadRequest, Conflict (reference_used, refund_too_large); nothing is changed then."""
        chosen(new.kind, KINDS, "kind")
        amount = read_amount(new.amount, self.desk.krw_per_usd, may_be_negative=new.kind == "adjust")
        if amount.nano == 0:
            raise BadRequest(
                "An amount of nothing changes nothing. Write one above zero.", code="invalid_amount", param="amount"
            )
        record = CreditRecord(
            self.desk.new_id("crd"),
            owner,
            new.kind,
            -amount.nano if new.kind == "refund" else amount.nano,
            self.desk.clock.now(),
            actor.id,
            amount.said,
            amount.fx,
            check_text(new.reference, "reference", 200) or None if new.reference is not None else None,
            check_text(new.note, "note"),
        )
        async with self.desk.changing:
            await self._put(record)
            detail = {"owner": owner, "amount": amount.said, "nano": record.amount_nano, "fx": amount.fx}
            await self.desk.note(actor, f"credit.{new.kind}", record.id, detail | {"reference": record.reference})
        return record

    async def _put(self, record: CreditRecord) -> None:
        before = await self._scope(record.owner)
        if before.limit_nano + record.amount_nano > MAX_TOTAL_NANO:
            raise BadRequest(
                f"Credits come to at most {MAX_TOTAL_NANO // NANO_PER_USD:,} USD in all.",
                code="invalid_amount",
                param="amount",
            )
        if record.amount_nano < 0:
            await self.desk.treasury.recall(record.owner)
        after = await of(self.desk.store.add_credit(record))
        await self.desk.treasury.load()
        if after is None:
            raise await self._refusal(record)

    async def _refusal(self, record: CreditRecord) -> Conflict:
        used = [each for each in await of(self.desk.store.credits(record.owner)) if each.reference == record.reference]
        if record.reference is not None and used:
            return Conflict(
                f"The reference {record.reference!r} was used for {used[0].id} ({used[0].amount}). Nothing was changed.",
                code="reference_used",
            )
        scope = await self._scope(record.owner)
        return Conflict(
            f"{usd(-record.amount_nano)} USD cannot be taken out: {usd(self._available(scope))} USD are available. Nothing was "
            "changed.",
            code="refund_too_large",
        )

    async def shown(self, owner: str) -> dict[str, Any]:
        """The entries, and the equation: put in - spent - held = available."""
        entries = await of(self.desk.store.credits(owner))
        return {
            "owner": owner,
            "owner_name": self.desk.owner_name(owner),
            "data": [shown_credit(entry) for entry in entries],
            "balance": self._balance(await self._scope(owner)),
        }

    async def balance(self, owner: str) -> dict[str, Any] | None:
        """None where nothing was ever put in: then no credits are asked for."""
        scope = await self._scope_or_none(owner)
        return self._balance(scope) if scope is not None else None

    async def balances(self) -> list[dict[str, Any]]:
        scopes = [scope for scope in await of(self.desk.store.scopes()) if scope.mode == "credit"]
        return [
            {"owner": each.owner, "owner_name": self.desk.owner_name(each.owner), **self._balance(each)}
            for each in scopes
        ]

    def _balance(self, scope: ScopeRecord) -> dict[str, Any]:
        spent, held = self._spent_and_held(scope)
        figures = {
            "put_in": scope.limit_nano,
            "spent": spent,
            "held": held,
            "available": scope.limit_nano - spent - held,
        }
        return {f"{name}_nano": nano for name, nano in figures.items()} | {
            f"{name}_usd": usd(nano) for name, nano in figures.items()
        }

    def _available(self, scope: ScopeRecord) -> int:
        spent, held = self._spent_and_held(scope)
        return scope.limit_nano - spent - held

    def _spent_and_held(self, scope: ScopeRecord) -> tuple[int, int]:
        purse = self.desk.treasury.purses.get(scope.id)
        if purse is None:
            return scope.spent_nano, 0
        # What ended in the last moments is in the purse, and not yet in the store.
        return max(scope.spent_nano, purse.spent), purse.held

    async def _scope(self, owner: str) -> ScopeRecord:
        return await self._scope_or_none(owner) or ScopeRecord("", owner, "credit", 0.0, 0.0, 0)

    async def _scope_or_none(self, owner: str) -> ScopeRecord | None:
        found = (scope for scope in await of(self.desk.store.scopes(owner)) if scope.mode == "credit")
        return next(found, None)

    # --- Codes ------------------------------------------------------------------------------------------------------

    async def create_code(self, new: NewCode, actor: Actor) -> tuple[CodeRecord, str]:
        """The record, and the code's text, which is not kept anywhere."""
        amount = read_amount(new.amount, self.desk.krw_per_usd)
        if amount.nano == 0:
            raise BadRequest("A code is worth more than nothing.", code="invalid_amount", param="amount")
        now = self.desk.clock.now()
        expires_at = now + span_s(new.expires, "expires") if new.expires is not None else None
        text = self._new_text()
        note = check_text(new.note, "note")
        record = CodeRecord(self.desk.new_id("code"), self._digest(text), amount.nano, now, expires_at, note=note)
        async with self.desk.changing:
            await of(self.desk.store.add_code(record))
            detail = {"amount": amount.said, "nano": amount.nano, "fx": amount.fx, "expires_at": expires_at}
            await self.desk.note(actor, "code.create", record.id, detail)
        return record, text

    async def codes(self) -> list[CodeRecord]:
        return await of(self.desk.store.codes())

    async def redeem_by(self, key: KeyRecord, redemption: Redemption) -> CreditRecord:
        """For a caller: into the credits of its key, or of its account."""
        chosen(redemption.to, ("key", "account"), "to")
        if redemption.to == "account" and key.account is None:
            raise BadRequest("This key belongs to no account. Redeem the code for the key itself.", param="to")
        owner = key.owner if redemption.to == "key" else key.account or ""
        return await self.redeem(redemption.code, owner, Actor(key.id, key.role))

    async def redeem(self, text: str, owner: str, actor: Actor) -> CreditRecord:
        """Raises NotFound (code_not_found), Conflict (code_used, code_expired)."""
        digest = self._digest(text)
        async with self.desk.changing:
            code = await self._usable(digest)
            said = f"{usd(code.amount_nano)} USD"
            credit = CreditRecord(
                self.desk.new_id("crd"),
                owner,
                "code",
                code.amount_nano,
                self.desk.clock.now(),
                actor.id,
                said,
                note=code.id,
            )
            if await of(self.desk.store.redeem(digest, credit)) is None:
                raise Conflict("This code was redeemed a moment ago.", code="code_used")
            await self.desk.treasury.load()
            await self.desk.note(actor, "code.redeem", code.id, {"owner": owner, "nano": code.amount_nano})
        return credit

    async def _usable(self, digest: bytes) -> CodeRecord:
        code = next((each for each in await self.codes() if hmac.compare_digest(each.digest, digest)), None)
        if code is None:
            raise NotFound("There is no such code. Copy it again, with all its characters.", code="code_not_found")
        if code.redeemed_at is not None:
            raise Conflict("This code was redeemed before. A code counts once.", code="code_used")
        if code.expires_at is not None and self.desk.clock.now() >= code.expires_at:
            raise Conflict("This code has expired. Ask whoever gave it to you for another.", code="code_expired")
        return code

    def _new_text(self) -> str:
        number = int.from_bytes(self.desk.entropy(CODE_BYTES))
        letters = "".join(CODE_ALPHABET[number >> 5 * place & 31] for place in range(CODE_CHARS))
        return "-".join(letters[place : place + CODE_GROUP] for place in range(0, CODE_CHARS, CODE_GROUP))

    def _digest(self, text: str) -> bytes:
        """Whatever the case and the dashes. Another purpose than the digests of keys, so another beginning."""
        plain = text[:200].upper().replace("-", "").replace(" ", "")
        return hmac.digest(self.desk.auth.pepper, b"code:" + plain.encode("utf-8", "replace"), "sha256")


def shown_credit(entry: CreditRecord) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at,
        "kind": entry.kind,
        "amount_nano": entry.amount_nano,
        "amount_usd": usd(entry.amount_nano),
        "said": entry.amount,
        "fx": entry.fx or None,
        "reference": entry.reference,
        "actor": entry.actor,
        "note": entry.note,
    }


def shown_code(code: CodeRecord, now: float) -> dict[str, Any]:
    state = "redeemed" if code.redeemed_at is not None else "active"
    if state == "active" and code.expires_at is not None and now >= code.expires_at:
        state = "expired"
    return {
        "id": code.id,
        "state": state,
        "amount_nano": code.amount_nano,
        "amount_usd": usd(code.amount_nano),
        "created_at": code.created_at,
        "expires_at": code.expires_at,
        "redeemed_at": code.redeemed_at,
        "redeemed_by": code.redeemed_by,
        "note": code.note,
    }
