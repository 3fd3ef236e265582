"""The contract of a store. Every implementation runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from naru.errors import ConfigError
from naru.storage.migrations import MIGRATIONS
from naru.storage.port import Store
from naru.storage.records import KeyRecord, LedgerEntry
from naru.storage.sqlite import SqliteStore

ENTRY = LedgerEntry(
    request_id="r1", at=1000.5, key_id="k1", model="m", deployment="p/m", provider="p", upstream_model="um", dialect="openai_chat",
    is_stream=True, outcome="completed", status=200, error_code=None, input=10, output=20, cached=5, cache_write=0, reasoning=3,
    is_estimated=False, cost_nano=12_345, price_version="v", price_source="s", latency_us=1500, ttft_us=700, attempts=1,
)  # fmt: skip
KEY = KeyRecord("k1", "mine", b"\x01" * 32, "caller", 1.0, None, None, ("a", "b"), "team")

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store as often as asked."""
    stores: list[Store] = []

    def open_again() -> Store:
        stores.append(SqliteStore(tmp_path / "naru.db"))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


def test_entries_come_back_as_they_were(open_store: Open) -> None:
    """Every field, booleans and missing values included, newest first, also after the store was closed and opened."""
    store = open_store()
    failed = msgspec.structs.replace(ENTRY, request_id="r2", at=2000.0, ttft_us=None, error_code="x", is_stream=False)
    store.append([ENTRY, failed]).result()
    store.close()
    again = open_store()
    assert again.entries(0, 1e12, 10).result() == [failed, ENTRY]
    assert again.entries(1500, 1e12, 10).result() == [failed]
    assert again.entries(0, 1e12, 1).result() == [failed]


def test_a_request_has_one_entry(open_store: Open) -> None:
    """A second entry for the same request is refused, and the batch it came in leaves nothing behind."""
    store = open_store()
    store.append([ENTRY]).result()
    with pytest.raises(apsw.ConstraintError):
        store.append([msgspec.structs.replace(ENTRY, request_id="r9"), ENTRY]).result()
    assert store.entries(0, 1e12, 10).result() == [ENTRY]


def test_usage_adds_up_by_each_grouping(open_store: Open) -> None:
    """Requests, failures, tokens and cost, for all keys or one."""
    store = open_store()
    store.add_key(KEY).result()
    entries = [
        msgspec.structs.replace(ENTRY, request_id=f"r{n}", at=86_400.0 * n, key_id="k1" if n % 2 else "k2")
        for n in range(4)
    ]
    entries.append(msgspec.structs.replace(ENTRY, request_id="f", outcome="failed", cost_nano=0, ttft_us=None))
    store.append(entries).result()
    (by_model,) = store.usage("model", 0, 1e12).result()
    assert (by_model.requests, by_model.failed, by_model.input, by_model.cost_nano) == (5, 1, 50, 4 * 12_345)
    assert {row.group: row.requests for row in store.usage("key", 0, 1e12).result()} == {"mine": 3, "k2": 2}
    assert [row.group for row in store.usage("day", 0, 1e12).result()] == [
        "1970-01-01",
        "1970-01-02",
        "1970-01-03",
        "1970-01-04",
    ]
    (own,) = store.usage("deployment", 0, 1e12, key_id="k2").result()
    assert own.requests == 2


def test_keys_come_back_and_can_be_revoked_once(open_store: Open) -> None:
    """Digest, limits and team survive; revoking a revoked key changes nothing."""
    store = open_store()
    store.add_key(KEY).result()
    assert store.keys().result() == [KEY]
    assert store.revoke_key("k1", 5.0).result() is True
    assert store.revoke_key("k1", 9.0).result() is False
    assert store.keys().result()[0].revoked_at == 5.0


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
