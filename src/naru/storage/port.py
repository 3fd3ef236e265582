"""What Naru asks of a store: small ports by concern, and a store is all of them. One suite (tests/storage/) runs on every
implementation.

All calls return at once; the work is done in order by the store's own thread, and the future says how it went. A call is one
transaction: it happens whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from naru.storage.records import (
    AccountRecord,
    AuditRecord,
    BudgetRecord,
    CodeRecord,
    CreditRecord,
    KeyRecord,
    LedgerEntry,
    Only,
    ScopeRecord,
    StoredAnswer,
    UsageRow,
)

Position = tuple[int, int]
ALL = Only()


class KeyStore(Protocol):
    def add_key(self, key: KeyRecord) -> Future[None]: ...

    def keys(self) -> Future[list[KeyRecord]]: ...

    def save_key(self, key: KeyRecord) -> Future[bool]:
        """Writes what may change of a key: everything but its id, digest and time of making. False: there is none."""
        ...


class LeaseStore(Protocol):
    """Quota in slices: what a process holds of a scope stands in the store until it is spent or given back, so that all of
    them together never have more than the limit."""

    def open_scope(self, scope: ScopeRecord) -> Future[ScopeRecord]:
        """The scope as it stands, made from this record where it is new."""
        ...

    def lease(self, instance: str, scope: str, need: int, want: int) -> Future[int]:
        """Grants up to `want`, or nothing where less than `need` is left; returns what was granted, in nano-USD."""
        ...

    def give_back(self, instance: str, scope: str, amount: int) -> Future[None]: ...

    def end_leases(self, instance: str) -> Future[None]:
        """What the instance still held is free again. Only after all that it spent was applied."""
        ...

    def scopes(self, owner: str | None = None) -> Future[list[ScopeRecord]]: ...


class LedgerStore(Protocol):
    def apply(self, instance: str, entries: Sequence[LedgerEntry], position: Position) -> Future[None]:
        """Writes entries, charges their scopes, moves the leases, adds to the rollups and notes how far the instance's journal
        has come, all in one transaction. An entry at or before a position noted earlier must not come again."""
        ...

    def position(self, instance: str) -> Future[Position]: ...

    def entries(
        self, since: float, until: float, limit: int, before: str | None = None, only: Only = ALL
    ) -> Future[list[LedgerEntry]]:
        """Newest first; `before` is the request id to go on after."""
        ...

    def entry(self, request_id: str) -> Future[LedgerEntry | None]: ...

    def usage(
        self, by: str, since: float, until: float, keys: Sequence[str] | None = None, zone: str = "UTC"
    ) -> Future[list[UsageRow]]:
        """Of these keys, or of all. Whole hours: of the days of a `zone` that is off by a half hour, each has the hours that
        begin in it."""
        ...

    def problems(self) -> Future[list[str]]:
        """What contradicts the invariants of the ledger (money.md), one sentence each; empty when all is well."""
        ...


class MoneyStore(Protocol):
    def add_account(self, account: AccountRecord) -> Future[None]: ...

    def save_account(self, account: AccountRecord) -> Future[bool]: ...

    def accounts(self) -> Future[list[AccountRecord]]: ...

    def add_budget(self, budget: BudgetRecord) -> Future[None]: ...

    def save_budget(self, budget: BudgetRecord) -> Future[bool]:
        """The amount holds at once, also for the window under way."""
        ...

    def budgets(self) -> Future[list[BudgetRecord]]: ...

    def add_credit(self, credit: CreditRecord) -> Future[ScopeRecord | None]:
        """The owner's credits after it. None, and nothing is changed, when the reference was used before, or more would be
        taken out than is there and not leased."""
        ...

    def credits(self, owner: str) -> Future[list[CreditRecord]]: ...

    def add_code(self, code: CodeRecord) -> Future[None]: ...

    def codes(self) -> Future[list[CodeRecord]]: ...

    def redeem(self, digest: bytes, credit: CreditRecord) -> Future[CodeRecord | None]:
        """Turns a code into credit, once. `credit.amount_nano` is taken from the code. None: no such code, expired at
        `credit.at`, or redeemed before."""
        ...

    def note(self, record: AuditRecord) -> Future[None]: ...

    def audit(self, limit: int, before: int | None = None) -> Future[list[AuditRecord]]: ...


class AnswerStore(Protocol):
    def keep_answer(self, answer: StoredAnswer) -> Future[None]: ...

    def answer(self, key_id: str, idempotency_key: str, now: float) -> Future[StoredAnswer | None]: ...

    def forget(self, now: float, requests_before: float | None) -> Future[int]:
        """Drops expired answers, and the content of requests older than `requests_before`. How many."""
        ...


class Store(KeyStore, LeaseStore, LedgerStore, MoneyStore, AnswerStore, Protocol):
    def close(self) -> None: ...
