"""One SQLite connection, owned by one thread; callers hand it work through a queue and get futures.

apsw bundles a current SQLite. The system's own 3.40 has the WAL-reset corruption bug (fixed in 3.51.3), which a single
writer and checkpointer avoids as well.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import apsw

from naru.errors import ConfigError
from naru.storage.migrations import MIGRATIONS

T = TypeVar("T")
Work = Callable[[apsw.Connection], T]


class Database:
    """The thread and its connection. Opening creates the file (mode 0600) and brings its schema up to date."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._work: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._db = open_database(path)
        self._thread = threading.Thread(target=self._run, name="naru-store", daemon=True)
        self._thread.start()

    def read(self, work: Work[T]) -> Future[T]:
        future: Future[T] = Future()
        self._work.put((work, future))
        return future

    def write(self, work: Work[T]) -> Future[T]:
        """`work` in one transaction: whole, or not at all."""

        def transaction(db: apsw.Connection) -> T:
            with db:
                result = work(db)
            return result

        return self.read(transaction)

    def close(self) -> None:
        """Finishes what was asked for, then closes the file. A second call does nothing."""
        if self._thread.is_alive():
            self._work.put(None)
            self._thread.join()

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


def open_database(path: Path) -> apsw.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        db = apsw.Connection(str(path))
        db.set_busy_timeout(5000)
        db.execute("PRAGMA journal_mode = wal")
        # A commit is on the disk when it returns: then the journal's segments behind it may go.
        db.execute("PRAGMA synchronous = full")
        db.execute("PRAGMA foreign_keys = on")
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
