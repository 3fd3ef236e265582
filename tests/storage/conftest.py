from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from naru.storage.port import Store
from naru.storage.sqlite import SqliteStore

Open = Callable[[], Store]


@pytest.fixture(params=["sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store as often as asked. Another implementation is another parameter."""
    stores: list[Store] = []

    def open_again() -> Store:
        stores.append(SqliteStore(tmp_path / "naru.db"))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store: Open) -> Store:
    return open_store()
