"""Accounts, budgets, credits, codes and the audit log. See port.MoneyStore."""

from __future__ import annotations

from concurrent.futures import Future

import apsw
from msgspec.structs import replace

from naru.storage.records import AccountRecord, AuditRecord, BudgetRecord, CodeRecord, CreditRecord, ScopeRecord
from naru.storage.sqlite.rows import ACCOUNTS, AUDIT, BUDGETS, CODES, CREDITS, SCOPES
from naru.storage.sqlite.thread import Database

#: The end of a window that has none (ledger/windows.py).
NEVER = 253_402_300_800.0


def credit_scope(owner: str) -> str:
    """The id of the scope that an owner's prepaid credits are."""
    return f"credit:{owner}"


class Money:
    def __init__(self, database: Database) -> None:
        self._database = database

    def add_account(self, account: AccountRecord) -> Future[None]:
        return self._database.write(lambda db: ACCOUNTS.insert(db, account))

    def save_account(self, account: AccountRecord) -> Future[bool]:
        return self._database.write(lambda db: ACCOUNTS.save(db, account, "kind", "created_at"))

    def accounts(self) -> Future[list[AccountRecord]]:
        return self._database.read(lambda db: ACCOUNTS.all(db, "ORDER BY created_at, id"))

    def add_budget(self, budget: BudgetRecord) -> Future[None]:
        return self._database.write(lambda db: BUDGETS.insert(db, budget))

    def save_budget(self, budget: BudgetRecord) -> Future[bool]:
        def work(db: apsw.Connection) -> bool:
            # The window under way, or the last there was: those before it keep what held for them.
            db.execute(
                "UPDATE scope SET limit_nano = ? WHERE budget = ? AND starts_at = (SELECT max(starts_at) FROM scope AS other "
                "WHERE other.budget = scope.budget)",
                (budget.amount_nano, budget.id),
            )
            return BUDGETS.save(db, budget, "owner", "window", "time_zone", "created_at")

        return self._database.write(work)

    def budgets(self) -> Future[list[BudgetRecord]]:
        return self._database.read(lambda db: BUDGETS.all(db, "ORDER BY created_at, id"))

    def add_credit(self, credit: CreditRecord) -> Future[ScopeRecord | None]:
        return self._database.write(lambda db: _add_credit(db, credit))

    def credits(self, owner: str) -> Future[list[CreditRecord]]:
        return self._database.read(lambda db: CREDITS.all(db, "WHERE owner = ? ORDER BY at, id", (owner,)))

    def add_code(self, code: CodeRecord) -> Future[None]:
        return self._database.write(lambda db: CODES.insert(db, code))

    def codes(self) -> Future[list[CodeRecord]]:
        return self._database.read(lambda db: CODES.all(db, "ORDER BY created_at, id"))

    def redeem(self, digest: bytes, credit: CreditRecord) -> Future[CodeRecord | None]:
        def work(db: apsw.Connection) -> CodeRecord | None:
            code = CODES.one(db, "WHERE digest = ?", (digest,))
            if code is None or code.redeemed_at is not None:
                return None
            if code.expires_at is not None and credit.at >= code.expires_at:
                return None
            if _add_credit(db, replace(credit, amount_nano=code.amount_nano)) is None:
                return None
            used = replace(code, redeemed_at=credit.at, redeemed_by=credit.owner)
            CODES.save(db, used)
            return used

        return self._database.write(work)

    def note(self, record: AuditRecord) -> Future[None]:
        sql = "INSERT INTO audit (at, actor, action, target, detail) VALUES (?, ?, ?, ?, ?)"
        row = (record.at, record.actor, record.action, record.target, record.detail)

        def work(db: apsw.Connection) -> None:
            db.execute(sql, row)

        return self._database.write(work)

    def audit(self, limit: int, before: int | None = None) -> Future[list[AuditRecord]]:
        sql = "WHERE ? IS NULL OR id < ? ORDER BY id DESC LIMIT ?"
        return self._database.read(lambda db: AUDIT.all(db, sql, (before, before, limit)))


def _add_credit(db: apsw.Connection, credit: CreditRecord) -> ScopeRecord | None:
    if credit.reference is not None:
        used = CREDITS.one(db, "WHERE owner = ? AND reference = ?", (credit.owner, credit.reference))
        if used is not None:
            return None
    place = credit_scope(credit.owner)
    found = SCOPES.one(db, "WHERE id = ?", (place,))
    scope = found or ScopeRecord(place, credit.owner, "credit", 0.0, NEVER, 0)
    limit = scope.limit_nano + credit.amount_nano
    if credit.amount_nano < 0 and limit < scope.spent_nano + scope.leased_nano:
        return None
    if found is None:
        SCOPES.insert(db, scope)
    CREDITS.insert(db, credit)
    db.execute("UPDATE scope SET limit_nano = ? WHERE id = ?", (limit, place))
    return replace(scope, limit_nano=limit)
