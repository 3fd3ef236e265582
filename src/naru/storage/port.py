"""What Naru asks of a store. One suite (tests/storage/) runs on every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from naru.storage.records import KeyRecord, LedgerEntry, UsageRow


class Store(Protocol):
    """All calls return at once; the work is done in order by the store's own thread, and the future says how it went."""

    def append(self, entries: Sequence[LedgerEntry]) -> Future[None]: ...

    def entries(self, since: float, until: float, limit: int) -> Future[list[LedgerEntry]]: ...

    def usage(self, by: str, since: float, until: float, key_id: str | None = None) -> Future[list[UsageRow]]: ...

    def add_key(self, key: KeyRecord) -> Future[None]: ...

    def keys(self) -> Future[list[KeyRecord]]: ...

    def revoke_key(self, key_id: str, at: float) -> Future[bool]: ...

    def close(self) -> None: ...
