"""Leases, entries, rollups: what must be right to the nano-dollar. See port.LeaseStore and port.LedgerStore."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

import apsw

from naru.storage.port import ALL, Position
from naru.storage.records import LedgerEntry, Only, ScopeRecord, UsageRow, to_json
from naru.storage.sqlite.rows import ENTRIES, SCOPES
from naru.storage.sqlite.thread import Database
from naru.storage.sqlite.verify import problems

#: The start of an hour or a day, key, model, deployment.
_Group = tuple[int, str, str, str]
_FAILED = ("failed", "refused")
_ROLLUP = (
    "INSERT INTO {} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + "
    "excluded.requests, failed = failed + excluded.failed, input = input + excluded.input, output = output + excluded.output, "
    "cached = cached + excluded.cached, cost_nano = cost_nano + excluded.cost_nano, provider_cost_nano = provider_cost_nano + "
    "excluded.provider_cost_nano, latency_us = latency_us + excluded.latency_us, ttft_us = ttft_us + excluded.ttft_us, "
    "streams = streams + excluded.streams"
)
HOUR_S, DAY_S = 3600, 86_400
_GROUPS = {
    "key": "coalesce((SELECT name FROM key WHERE key.id = key_id), key_id)",
    "model": "model",
    "deployment": "deployment",
    "day": "local_day(start)",
}


class Leases:
    def __init__(self, database: Database) -> None:
        self._database = database

    def open_scope(self, scope: ScopeRecord) -> Future[ScopeRecord]:
        def work(db: apsw.Connection) -> ScopeRecord:
            found = SCOPES.one(db, "WHERE id = ?", (scope.id,))
            if found is None:
                SCOPES.insert(db, scope)
            return found or scope

        return self._database.write(work)

    def lease(self, instance: str, scope: str, need: int, want: int) -> Future[int]:
        def work(db: apsw.Connection) -> int:
            row = db.execute(
                "SELECT limit_nano - spent_nano - leased_nano FROM scope WHERE id = ?", (scope,)
            ).fetchone()
            left = max(0, row[0]) if row is not None else 0
            if left < need:
                return 0
            granted = min(left, want)
            if granted:
                db.execute("UPDATE scope SET leased_nano = leased_nano + ? WHERE id = ?", (granted, scope))
                db.execute(
                    "INSERT INTO lease VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET granted_nano = granted_nano + "
                    "excluded.granted_nano",
                    (instance, scope, granted),
                )
            return granted

        return self._database.write(work)

    def give_back(self, instance: str, scope: str, amount: int) -> Future[None]:
        def work(db: apsw.Connection) -> None:
            _shrink(db, instance, scope, amount)

        return self._database.write(work)

    def end_leases(self, instance: str) -> Future[None]:
        def work(db: apsw.Connection) -> None:
            held = db.execute("SELECT scope, granted_nano FROM lease WHERE instance = ?", (instance,)).fetchall()
            for scope, granted in held:
                _shrink(db, instance, str(scope), int(granted or 0))
            db.execute("DELETE FROM lease WHERE instance = ?", (instance,))

        return self._database.write(work)

    def scopes(self, owner: str | None = None) -> Future[list[ScopeRecord]]:
        sql = "WHERE ? IS NULL OR owner = ? ORDER BY starts_at, id"
        return self._database.read(lambda db: SCOPES.all(db, sql, (owner, owner)))


def _shrink(db: apsw.Connection, instance: str, scope: str, amount: int) -> int:
    """Takes up to `amount` from a lease; returns how much it was."""
    row = db.execute("SELECT granted_nano FROM lease WHERE instance = ? AND scope = ?", (instance, scope)).fetchone()
    taken = min(amount, row[0]) if row is not None else 0
    if taken:
        db.execute(
            "UPDATE lease SET granted_nano = granted_nano - ? WHERE instance = ? AND scope = ?",
            (taken, instance, scope),
        )
        db.execute("UPDATE scope SET leased_nano = leased_nano - ? WHERE id = ?", (taken, scope))
    return taken


class Entries:
    def __init__(self, database: Database) -> None:
        self._database = database

    def apply(self, instance: str, entries: Sequence[LedgerEntry], position: Position) -> Future[None]:
        def work(db: apsw.Connection) -> None:
            db.executemany(ENTRIES.insert_sql, [ENTRIES.row(entry) for entry in entries])
            _charge(db, instance, entries)
            _roll_up(db, entries)
            db.execute("INSERT OR REPLACE INTO journal_offset VALUES (?, ?, ?)", (instance, *position))

        return self._database.write(work)

    def position(self, instance: str) -> Future[Position]:
        def work(db: apsw.Connection) -> Position:
            row = db.execute("SELECT segment, offset FROM journal_offset WHERE instance = ?", (instance,)).fetchone()
            return (row[0], row[1]) if row is not None else (0, 0)

        return self._database.read(work)

    def entries(
        self, since: float, until: float, limit: int, before: str | None = None, only: Only = ALL
    ) -> Future[list[LedgerEntry]]:
        keys = None if only.keys is None else to_json(only.keys)
        filters = (
            keys,
            keys,
            *(each for value in (only.model, only.outcome, only.user_hash) for each in (value, value)),
        )
        sql = (
            "WHERE at >= ? AND at < ? AND (? IS NULL OR key_id IN (SELECT value FROM json_each(?))) "
            "AND (? IS NULL OR model = ?) AND (? IS NULL OR outcome = ?) AND (? IS NULL OR user_hash = ?) "
            "AND (? IS NULL OR (at, rowid) < (SELECT at, rowid FROM ledger_entry WHERE request_id = ?)) "
            "ORDER BY at DESC, rowid DESC LIMIT ?"
        )
        return self._database.read(lambda db: ENTRIES.all(db, sql, (since, until, *filters, before, before, limit)))

    def entry(self, request_id: str) -> Future[LedgerEntry | None]:
        return self._database.read(lambda db: ENTRIES.one(db, "WHERE request_id = ?", (request_id,)))

    def usage(
        self, by: str, since: float, until: float, keys: Sequence[str] | None = None, zone: str = "UTC"
    ) -> Future[list[UsageRow]]:
        group, order = _GROUPS[by], "grp" if by == "day" else "sum(cost_nano) DESC, grp"
        sql = f"""
            SELECT {group} AS grp, sum(requests), sum(failed), sum(input), sum(output), sum(cached), sum(cost_nano),
                   sum(latency_us) / sum(requests), sum(ttft_us) / nullif(sum(streams), 0)
            FROM rollup_hour WHERE start >= :since AND start < :until
                AND (:keys IS NULL OR key_id IN (SELECT value FROM json_each(:keys))) GROUP BY grp ORDER BY {order}"""
        first = int(since // HOUR_S) * HOUR_S
        given = {"since": first, "until": until, "keys": None if keys is None else to_json(keys)}

        def work(db: apsw.Connection) -> list[UsageRow]:
            day_of = _days_of(ZoneInfo(zone))
            db.create_scalar_function("local_day", day_of, 1, deterministic=True)
            return [UsageRow(*row) for row in db.execute(sql, given)]

        return self._database.read(work)

    def problems(self) -> Future[list[str]]:
        return self._database.read(problems)


def _days_of(zone: ZoneInfo) -> Callable[..., str]:
    """Says on which day of the zone an hour (Unix seconds) begins; each hour is looked at once."""

    @cache
    def day_of(start: int) -> str:
        return datetime.fromtimestamp(start, zone).strftime("%Y-%m-%d")

    return day_of


def _charge(db: apsw.Connection, instance: str, entries: Sequence[LedgerEntry]) -> None:
    """Each scope is charged once, with the sum of the batch. What was not leased beforehand is an overrun: no upper bound was
    held for it."""
    totals: dict[str, int] = defaultdict(int)
    for entry in entries:
        for scope in entry.scopes:
            totals[scope] += entry.cost_nano
    for scope, total in totals.items():
        overrun = total - _shrink(db, instance, scope, total)
        db.execute(
            "UPDATE scope SET spent_nano = spent_nano + ?, overrun_nano = overrun_nano + "
            "CASE mode WHEN 'advisory' THEN 0 ELSE max(0, min(?, spent_nano + ? + leased_nano - limit_nano)) END WHERE id = ?",
            (total, overrun, total, scope),
        )


def _roll_up(db: apsw.Connection, entries: Sequence[LedgerEntry]) -> None:
    hours: dict[_Group, list[LedgerEntry]] = defaultdict(list)
    for entry in entries:
        hours[int(entry.at // HOUR_S) * HOUR_S, entry.key_id, entry.model, entry.deployment].append(entry)
    sums = {group: _sums(within) for group, within in hours.items()}
    days: dict[_Group, list[int]] = {}
    for (start, key_id, model, deployment), row in sums.items():
        day = start // DAY_S * DAY_S, key_id, model, deployment
        days[day] = [a + b for a, b in zip(days[day], row, strict=True)] if day in days else row
    for table, rows in (("rollup_hour", sums), ("rollup_day", days)):
        db.executemany(_ROLLUP.format(table), [(*group, *row) for group, row in rows.items()])


def _sums(entries: list[LedgerEntry]) -> list[int]:
    """What an hour's row counts, in the order of its columns."""
    return [
        len(entries),
        sum(entry.outcome in _FAILED for entry in entries),
        sum(entry.input for entry in entries),
        sum(entry.output for entry in entries),
        sum(entry.cached for entry in entries),
        sum(entry.cost_nano for entry in entries),
        sum(entry.provider_cost_nano for entry in entries),
        sum(entry.latency_us for entry in entries),
        sum(entry.ttft_us or 0 for entry in entries),
        sum(entry.ttft_us is not None for entry in entries),
    ]
