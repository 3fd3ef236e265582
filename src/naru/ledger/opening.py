"""How a ledger begins: what a process that died left in its journal goes to the store first, then a journal of this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from naru.clock import Clock
from naru.errors import ConfigError
from naru.ledger.alerts import Alert, Alerts
from naru.ledger.journal import SEGMENT_BYTES, Journal, read_records, segments
from naru.ledger.ledger import Ledger
from naru.ledger.recovery import WHOLE, recovered
from naru.ledger.treasury import Treasury
from naru.storage.port import Store

#: The name of this process in the leases of the store: a NARU_HOME has one at a time.
INSTANCE = "local"

log = structlog.get_logger("naru.ledger")


def no_one(alert: Alert) -> None:
    """For who wants alerts in the log alone."""


async def open_ledger(
    store: Store,
    clock: Clock,
    folder: Path,
    tell: Callable[[Alert], None] = no_one,
    fx: str = "",
    segment_bytes: int = SEGMENT_BYTES,
) -> Ledger:
    """`folder` is the journal's. Raises ConfigError where it cannot be read or written."""
    await _recover(store, clock, folder, fx)
    try:
        journal = Journal(folder, segment_bytes)
    except OSError as error:
        raise ConfigError(f"The journal in {folder} cannot be written: {error.strerror}. Free some space.") from error
    journal.remove_before(journal.number)
    treasury = Treasury(store, clock, INSTANCE)
    await treasury.load()
    # Not `treasury.budgets.get`: `load` puts another table in its place.
    alerts = Alerts(lambda budget: treasury.budgets.get(budget), tell)
    return Ledger(store, clock, journal, treasury, alerts, fx)


async def _recover(store: Store, clock: Clock, folder: Path, fx: str) -> None:
    left = segments(folder)
    applied = await asyncio.wrap_future(store.position(INSTANCE))
    entries, were_open = recovered(read_records(folder), applied, clock.now(), fx)
    if were_open:
        # Where an ending could not be written to the journal (a full disk) the store may know it all the same.
        closed, open_ = entries[:-were_open], entries[-were_open:]
        known = [await asyncio.wrap_future(store.entry(each.request_id)) is not None for each in open_]
        entries = closed + [each for each, is_known in zip(open_, known, strict=True) if not is_known]
    if left:
        await asyncio.wrap_future(store.apply(INSTANCE, entries, (left[-1][0], WHOLE)))
    await asyncio.wrap_future(store.end_leases(INSTANCE))
    if entries:
        log.warning("the last process did not stop cleanly", recovered=len(entries), were_open=were_open)
