"""What is SQLite's own: the file, its schema, and findings about damage that only somebody at the file can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from naru.errors import ConfigError
from naru.storage.migrations import MIGRATIONS
from naru.storage.records import KeyRecord, LimitRecord
from naru.storage.sqlite import SqliteStore
from tests.storage.samples import AUDIT, BUDGET, CREDIT, SCOPE, entry

DIGEST = b"\x07" * 32
OLD_ENTRY = (
    "INSERT INTO ledger_entry (request_id, at, key_id, model, deployment, provider, upstream_model, dialect, is_stream, outcome, "
    "status, input, output, cached, cache_write, reasoning, is_estimated, cost_nano, latency_us, ttft_us, attempts) "
    "VALUES (?, ?, 'k1', 'm', 'p/m', 'p', 'um', 'openai_chat', 1, ?, 200, 10, 20, 0, 0, 0, 0, ?, 1000, 500, 1)"
)


def old_store(path: Path, version: int) -> None:
    """A file as schema `version` left it, with keys and entries."""
    db = apsw.Connection(str(path))
    for statements in MIGRATIONS[:version]:
        db.execute(statements)
    db.pragma("user_version", version)
    key = "INSERT INTO key (id, name, digest, role, created_at, models, team) VALUES (?, ?, ?, ?, 1.0, ?, ?)"
    db.execute(key, ("k1", "alice", DIGEST, "caller", '["m"]', "web"))
    db.execute(key, ("k2", "boss", DIGEST, "admin", "[]", None))
    db.execute(OLD_ENTRY, ("r1", 1000.0, "completed", 7))
    db.execute(OLD_ENTRY, ("r2", 90_000.0, "failed", 0))
    if version == 2:
        db.execute("UPDATE ledger_entry SET unit = 'seconds', units = 3 WHERE request_id = 'r1'")
    db.close()


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_store_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    """Keys with their teams, entries and sums; who could do everything still can."""
    path = tmp_path / "naru.db"
    old_store(path, version)
    store = SqliteStore(path)
    alice, boss = store.keys().result()
    assert alice == KeyRecord(
        "k1", "alice", DIGEST, "caller", 1.0, models=("m",), account="team-web", limits=LimitRecord(), principal="k1"
    )
    assert (boss.role, boss.account, boss.owner) == ("owner", None, "k2")
    assert [(each.id, each.kind, each.name) for each in store.accounts().result()] == [("team-web", "team", "web")]
    entries = store.entries(0, 1e12, 10).result()
    assert [(each.request_id, each.cost_nano, each.provider_cost_nano) for each in entries] == [
        ("r2", 0, 0),
        ("r1", 7, 7),
    ]
    assert (entries[1].unit, entries[1].units) == (("seconds", 3) if version == 2 else ("", 0))
    days = store.usage("day", 0, 1e12).result()
    assert [(row.group, row.requests, row.failed, row.cost_nano) for row in days] == [
        ("1970-01-01", 1, 0, 7),
        ("1970-01-02", 1, 1, 0),
    ]
    assert store.problems().result() == []
    store.apply("a", [entry("r8"), entry("r9")], (1, 1)).result()
    assert store.problems().result() == []
    store.close()
    SqliteStore(path).close()


def test_the_file_is_private(tmp_path: Path) -> None:
    """Mode 0600, whatever the umask."""
    store = SqliteStore(tmp_path / "deep" / "naru.db")
    store.close()
    assert (tmp_path / "deep" / "naru.db").stat().st_mode & 0o777 == 0o600


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """An older program never touches what it does not know."""
    path = tmp_path / "naru.db"
    SqliteStore(path).close()
    with apsw.Connection(str(path)) as db:
        db.pragma("user_version", len(MIGRATIONS) + 1)
    db.close()
    with pytest.raises(ConfigError, match="newer Naru"):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Never repaired silently."""
    path = tmp_path / "naru.db"
    path.write_bytes(b"hello, I am not a database" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"hello")


@pytest.mark.parametrize("sql", ["DELETE FROM ledger_entry", "UPDATE ledger_entry SET cost_nano = 0"])
def test_entries_are_never_changed_or_deleted(tmp_path: Path, sql: str) -> None:
    """Not even by somebody at the file."""
    filled(tmp_path).close()
    db = apsw.Connection(str(tmp_path / "naru.db"))
    with pytest.raises(apsw.ConstraintError, match="never"):
        db.execute(sql)
    db.close()


@pytest.mark.parametrize("sql", ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"])
def test_the_audit_log_is_never_changed(tmp_path: Path, sql: str) -> None:
    filled(tmp_path).close()
    db = apsw.Connection(str(tmp_path / "naru.db"))
    with pytest.raises(apsw.ConstraintError, match="never"):
        db.execute(sql)
    db.close()


def filled(folder: Path) -> SqliteStore:
    store = SqliteStore(folder / "naru.db")
    store.add_budget(BUDGET).result()
    store.open_scope(SCOPE).result()
    store.add_credit(CREDIT).result()
    store.lease("a", SCOPE.id, 1, 1000).result()
    store.apply("a", [entry("r1", cost_nano=7, scopes=(SCOPE.id,))], (1, 1)).result()
    store.note(AUDIT).result()
    assert store.problems().result() == []
    return store


def unguarded(sql: str) -> Callable[[apsw.Connection], object]:
    return lambda db: db.execute("DROP TRIGGER ledger_entry_stays; DROP TRIGGER ledger_entry_holds;" + sql)


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE scope SET leased_nano = leased_nano + 1 WHERE mode = 'strict'", "I2"),
        ("UPDATE lease SET granted_nano = 0", "I2"),
        ("UPDATE scope SET spent_nano = 8 WHERE mode = 'strict'", "I9"),
        ("UPDATE scope SET overrun_nano = 1 WHERE mode = 'strict'", "I4"),
        ("UPDATE ledger_entry SET outcome = 'failed'", "I6"),
        ("UPDATE ledger_entry SET cost_nano = 8", "I9"),
        ("UPDATE ledger_entry SET scopes = '[\"nowhere\"]'", "I9"),
        ("UPDATE credit SET amount_nano = 1", "I9"),
        ("UPDATE rollup_hour SET cost_nano = 1", "I11"),
        ("UPDATE rollup_day SET cost_nano = 1", "I11"),
        ("UPDATE rollup_hour SET requests = 5", "I11"),
        ("DELETE FROM ledger_entry", "I11"),
    ],
)
def test_damage_is_found_and_named(tmp_path: Path, sql: str, finding: str) -> None:
    """Each invariant that the store can check for itself."""
    store = filled(tmp_path)
    store._database.write(unguarded(sql)).result()
    assert finding in {found.partition(":")[0] for found in store.problems().result()}
    store.close()
