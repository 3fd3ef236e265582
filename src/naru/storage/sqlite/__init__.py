"""SQLite: all of `storage.port.Store` over one connection in one thread."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import apsw

from naru.storage.records import KeyRecord, StoredAnswer
from naru.storage.sqlite.ledger import Entries, Leases
from naru.storage.sqlite.money import Money
from naru.storage.sqlite.rows import ANSWERS, KEYS
from naru.storage.sqlite.thread import Database

__all__ = ["SqliteStore"]


class SqliteStore(Leases, Entries, Money):
    """See `storage.port.Store`. Opening creates the file (mode 0600) and brings its schema up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path)

    def add_key(self, key: KeyRecord) -> Future[None]:
        return self._database.write(lambda db: KEYS.insert(db, key))

    def keys(self) -> Future[list[KeyRecord]]:
        return self._database.read(lambda db: KEYS.all(db, "ORDER BY created_at, id"))

    def save_key(self, key: KeyRecord) -> Future[bool]:
        return self._database.write(lambda db: KEYS.save(db, key, "digest", "created_at"))

    def keep_answer(self, answer: StoredAnswer) -> Future[None]:
        sql = ANSWERS.insert_sql.replace("INSERT", "INSERT OR REPLACE", 1)

        def work(db: apsw.Connection) -> None:
            db.execute(sql, ANSWERS.row(answer))

        return self._database.write(work)

    def answer(self, key_id: str, idempotency_key: str, now: float) -> Future[StoredAnswer | None]:
        sql = "WHERE key_id = ? AND idempotency_key = ? AND expires_at > ?"
        return self._database.read(lambda db: ANSWERS.one(db, sql, (key_id, idempotency_key, now)))

    def forget(self, now: float, requests_before: float | None) -> Future[int]:
        def work(db: apsw.Connection) -> int:
            db.execute("DELETE FROM answer WHERE expires_at <= ?", (now,))
            dropped = db.changes()
            if requests_before is not None:
                db.execute(
                    "UPDATE ledger_entry SET content = NULL WHERE at < ? AND content IS NOT NULL", (requests_before,)
                )
                dropped += db.changes()
            return dropped

        return self._database.write(work)

    def close(self) -> None:
        """Finishes what was asked for, then closes the file."""
        self._database.close()
