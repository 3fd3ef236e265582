"""SQLite through apsw: one connection, owned by one writer thread; callers hand it work through a queue.

apsw bundles a current SQLite. The system's own 3.40 has the WAL-reset corruption bug (fixed in 3.51.3), which a single
writer and checkpointer avoids as well.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from naru.errors import ConfigError
from naru.storage.migrations import MIGRATIONS
from naru.storage.records import KeyRecord, LedgerEntry, UsageRow

T = TypeVar("T")

ENTRY_FIELDS = LedgerEntry.__struct_fields__
INSERT_ENTRY = f"INSERT INTO ledger_entry({','.join(ENTRY_FIELDS)}) VALUES ({','.join('?' * len(ENTRY_FIELDS))})"
KEY_FIELDS = KeyRecord.__struct_fields__
GROUPS = {
    "key": "coalesce((SELECT name FROM key WHERE key.id = key_id), key_id)",
    "model": "model",
    "deployment": "deployment",
    "day": "strftime('%Y-%m-%d', at, 'unixepoch')",
}


class SqliteStore:
    """See `storage.port.Store`. Opening creates the file (mode 0600) and brings its schema up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: queue.SimpleQueue[tuple[Callable[[apsw.Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._db = _open(path)
        self._thread = threading.Thread(target=self._run, name="naru-store", daemon=True)
        self._thread.start()

    def append(self, entries: Sequence[LedgerEntry]) -> Future[None]:
        rows = [msgspec.structs.astuple(entry) for entry in entries]
        return self._submit(lambda db: _in_transaction(db, INSERT_ENTRY, rows))

    def entries(self, since: float, until: float, limit: int) -> Future[list[LedgerEntry]]:
        sql = f"SELECT {','.join(ENTRY_FIELDS)} FROM ledger_entry WHERE at >= ? AND at < ? ORDER BY at DESC, rowid DESC LIMIT ?"
        return self._submit(lambda db: [_entry(row) for row in db.execute(sql, (since, until, limit))])

    def usage(self, by: str, since: float, until: float, key_id: str | None = None) -> Future[list[UsageRow]]:
        sql = f"""
            SELECT {GROUPS[by]} AS grp, count(*), sum(outcome IN ('failed', 'refused')), sum(input), sum(output), sum(cached),
                   sum(cost_nano), CAST(avg(latency_us) AS INTEGER), CAST(avg(ttft_us) AS INTEGER)
            FROM ledger_entry WHERE at >= ? AND at < ? AND (? IS NULL OR key_id = ?)
            GROUP BY grp ORDER BY {"grp" if by == "day" else "sum(cost_nano) DESC, grp"}"""
        return self._submit(lambda db: [UsageRow(*row) for row in db.execute(sql, (since, until, key_id, key_id))])

    def add_key(self, key: KeyRecord) -> Future[None]:
        row = msgspec.structs.astuple(msgspec.structs.replace(key, models=()))[:-2]
        sql = f"INSERT INTO key({','.join(KEY_FIELDS)}) VALUES ({','.join('?' * len(KEY_FIELDS))})"
        models = msgspec.json.encode(key.models).decode()
        return self._submit(lambda db: _in_transaction(db, sql, [(*row, models, key.team)]))

    def keys(self) -> Future[list[KeyRecord]]:
        sql = f"SELECT {','.join(KEY_FIELDS)} FROM key ORDER BY created_at, id"
        return self._submit(lambda db: [_key(row) for row in db.execute(sql)])

    def revoke_key(self, key_id: str, at: float) -> Future[bool]:
        def revoke(db: apsw.Connection) -> bool:
            with db:
                db.execute("UPDATE key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (at, key_id))
                changed = db.changes()
            return changed > 0

        return self._submit(revoke)

    def close(self) -> None:
        """Finishes what was asked for, then closes the file."""
        self._work.put(None)
        self._thread.join()

    def _submit(self, work: Callable[[apsw.Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        self._work.put((work, future))
        return future

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            work, future = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work(self._db))
            except BaseException as error:  # the caller decides what an error means; this thread goes on
                future.set_exception(error)
        self._db.close()


def _open(path: Path) -> apsw.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        db = apsw.Connection(str(path))
        db.set_busy_timeout(5000)
        db.execute("PRAGMA journal_mode = wal")
        db.execute("PRAGMA synchronous = normal")
        _migrate(db, path)
    except (apsw.Error, OSError) as error:
        raise ConfigError(
            f"The store {path} cannot be used: {error}. Check the path, its permissions and free space."
        ) from error
    return db


def _migrate(db: apsw.Connection, path: Path) -> None:
    version = int(db.pragma("user_version"))
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"The store {path} was written by a newer Naru (schema {version}, this one knows {len(MIGRATIONS)}). "
            "Upgrade Naru, or point NARU_HOME elsewhere."
        )
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with db:
            db.execute(statements)
            db.pragma("user_version", number)


def _in_transaction(db: apsw.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    with db:
        db.executemany(sql, rows)


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    return msgspec.convert(dict(zip(ENTRY_FIELDS, row, strict=True)), LedgerEntry, strict=False)


def _key(row: tuple[Any, ...]) -> KeyRecord:
    fields = dict(zip(KEY_FIELDS, row, strict=True))
    fields["models"] = tuple(msgspec.json.decode(fields["models"], type=list[str]))
    return KeyRecord(**fields)
