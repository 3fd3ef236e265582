"""A process that died: what was closed is charged as it was closed, what was open by its last progress, each once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from naru.errors import ConfigError
from naru.ledger.journal import segments
from tests.ledger.money import Bank, ask, budget, done


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncIterator[Bank]:
    made = Bank(tmp_path)
    made.store.add_budget(budget("b", 10_000)).result()
    await made.start()
    yield made
    await made.stop()


async def test_what_was_closed_and_not_yet_written_is_charged(bank: Bank) -> None:
    (await bank.ledger.reserve(ask(1))).settle(done(30))
    await bank.kill()
    await bank.start()
    (entry,) = bank.store.entries(0, 1e12, 10).result()
    assert (entry.outcome, entry.cost_nano, entry.output) == ("completed", 30, 30)
    assert bank.spent("b@0") == 30


async def test_what_was_open_is_charged_by_its_progress(bank: Bank) -> None:
    """The last one counts. Without any nothing was seen, and nothing is charged."""
    seen = await bank.ledger.reserve(ask(1))
    await bank.ledger.reserve(ask(2))
    for cost in (5, 40):
        seen.progress(done(cost, "partial"))
    await bank.kill()
    await bank.start()
    costs = {entry.request_id: (entry.outcome, entry.cost_nano) for entry in bank.store.entries(0, 1e12, 10).result()}
    assert costs == {"r1": ("recovered", 40), "r2": ("recovered", 0)}
    assert bank.spent("b@0") == 40
    assert bank.store.problems().result() == []


async def test_an_ending_that_only_the_store_knows_is_not_made_again(bank: Bank) -> None:
    """As after a disk that was too full for the journal: the entry stands in the store, the journal has the opening alone."""
    permit = await bank.ledger.reserve(ask(1))
    offset = bank.ledger.journal.offset
    permit.settle(done(30))
    await bank.ledger.close()
    await bank.kill()
    _, path = segments(bank.folder / "journal")[-1]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(bank.ledger.journal.offset - offset))
    await bank.start()
    (entry,) = bank.store.entries(0, 1e12, 10).result()
    assert (entry.outcome, entry.cost_nano, bank.spent("b@0")) == ("completed", 30, 30)


async def test_no_lease_outlives_its_process(bank: Bank) -> None:
    await bank.ledger.reserve(ask(1))
    await bank.kill()
    await bank.start()
    (scope,) = bank.store.scopes().result()
    assert (scope.leased_nano, scope.spent_nano) == (0, 0)
    assert (await bank.ledger.reserve(ask(2, most=10_000))).settle(done(10_000)) == 10_000


async def test_dying_again_and_again_charges_once(bank: Bank) -> None:
    """Also a death right after the recovery, with nothing done in between, and with older closed requests in the store."""
    (await bank.ledger.reserve(ask(1))).settle(done(10))
    await bank.ledger.close()
    streaming = await bank.ledger.reserve(ask(2))
    (await bank.ledger.reserve(ask(3))).settle(done(20))
    streaming.progress(done(7, "partial"))
    for _ in range(3):
        await bank.kill()
        await bank.start()
    found = bank.store.entries(0, 1e12, 10).result()
    assert sorted((entry.request_id, entry.cost_nano) for entry in found) == [("r1", 10), ("r2", 7), ("r3", 20)]
    assert bank.spent("b@0") == 37
    assert bank.store.problems().result() == []


async def test_a_clean_stop_leaves_nothing_to_recover(bank: Bank) -> None:
    (await bank.ledger.reserve(ask(1))).settle(done(10))
    await bank.ledger.end()
    await bank.start()
    assert len(bank.store.entries(0, 1e12, 10).result()) == 1
    assert len(segments(bank.folder / "journal")) == 1


async def test_segments_go_once_all_in_them_is_written(bank: Bank) -> None:
    """An open request keeps the segment it was opened in, and those behind it."""
    long = await bank.ledger.reserve(ask(0))
    for number in range(1, 300):
        (await bank.ledger.reserve(ask(number))).settle(done(1))
    await bank.ledger.close()
    assert segments(bank.folder / "journal")[0][0] == long.segment
    long.settle(done(1))
    (await bank.ledger.reserve(ask(1000))).settle(done(1))
    bank.ledger._flush()
    await bank.ledger.close()
    assert len(segments(bank.folder / "journal")) == 1


async def test_a_record_of_a_newer_version_stops_the_start(bank: Bank) -> None:
    """It is not skipped: money may stand in it."""
    bank.ledger.journal.append(b"\x91\x63")
    await bank.kill()
    with pytest.raises(ConfigError, match="cannot read"):
        await bank.start()
    for _, path in segments(bank.folder / "journal"):
        path.unlink()
    await bank.start()
