"""What a journal says of requests that a dead process left behind. Pure: records in, entries out.

A request that was closed is charged as it was closed. One that was open is charged what its last progress says, or nothing
where no output had been seen (reliability.md 1.4, last row).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from naru.errors import ConfigError
from naru.ledger.events import Closed, Open, Progress, decode
from naru.ledger.journal import Position, Record
from naru.storage.records import LedgerEntry

#: As an offset: all of this segment and those before it is finished.
WHOLE = 2**62


def recovered(records: Iterable[Record], applied: Position, now: float, fx: str = "") -> tuple[list[LedgerEntry], int]:
    """The entries that the store does not have yet, and how many of them were left open. `applied`: how far the store has
    come; with WHOLE as offset nothing up to that segment is looked at again. `fx`: the rate of this process, for what was left
    open."""
    entries: list[LedgerEntry] = []
    opened: dict[str, Open] = {}
    progress: dict[str, Progress] = {}
    for record in records:
        segment = record.end[0]
        if applied[1] == WHOLE and segment <= applied[0]:
            continue
        try:
            happening = decode(record.payload)
        except msgspec.MsgspecError as error:
            raise ConfigError(
                f"The journal holds a record that this version cannot read (segment {segment}): {error}. Start the version "
                "that wrote it once, so that it can finish."
            ) from error
        if isinstance(happening, Open):
            opened[happening.request_id] = happening
        elif isinstance(happening, Progress):
            progress[happening.request_id] = happening
        else:
            opened.pop(happening.entry.request_id, None)
            if record.end > applied:
                entries.append(_closed(happening))
    entries += [_left_open(each, progress.get(each.request_id), now, fx) for each in opened.values()]
    return entries, len(opened)


def _closed(closed: Closed) -> LedgerEntry:
    return closed.entry


def _left_open(opened: Open, progress: Progress | None, now: float, fx: str) -> LedgerEntry:
    return LedgerEntry(
        request_id=opened.request_id,
        at=opened.at,
        key_id=opened.key_id,
        model=opened.model,
        deployment=progress.deployment if progress else "",
        provider=progress.provider if progress else "",
        upstream_model=progress.upstream_model if progress else "",
        dialect=opened.dialect,
        is_stream=opened.is_stream,
        outcome="recovered",
        status=500,
        error_code="process_died",
        input=progress.input if progress else 0,
        output=progress.output if progress else 0,
        cached=0,
        cache_write=0,
        reasoning=0,
        is_estimated=True,
        cost_nano=progress.cost_nano if progress else 0,
        price_version=progress.price_version if progress else None,
        price_source=progress.price_source if progress else None,
        latency_us=max(0, int((now - opened.at) * 1e6)),
        ttft_us=None,
        attempts=1 if progress else 0,
        provider_cost_nano=progress.cost_nano if progress else 0,
        user_hash=opened.user_hash,
        fx=fx,
        scopes=opened.scopes,
    )
