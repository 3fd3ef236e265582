"""The invariants of money.md, asked of the store itself. A finding is a sentence that says what contradicts what."""

from __future__ import annotations

from collections import defaultdict

import apsw
import msgspec

#: (what it means, a query that finds nothing when all is well: a name, what stands there, what should)
_CHECKS: tuple[tuple[str, str], ...] = (
    (
        "I1: {0} has {1} final entries",
        "SELECT request_id, count(*), 1 FROM ledger_entry GROUP BY 1 HAVING count(*) <> 1",
    ),
    (
        "I2: scope {0} says that {1} nano-USD are leased; its leases hold {2}",
        "SELECT id, leased_nano, coalesce((SELECT sum(granted_nano) FROM lease WHERE scope = scope.id), 0) AS held "
        "FROM scope WHERE leased_nano <> held",
    ),
    (
        "I3: scope {0} stands at {1} spent and {2} leased: below zero",
        "SELECT id, spent_nano, leased_nano FROM scope WHERE spent_nano < 0 OR leased_nano < 0",
    ),
    (
        # Where an operator lowered the amount below what was spent, nothing was overrun.
        "I4: strict budget {0} was exceeded by {1} nano-USD (limit {2})",
        "SELECT id, overrun_nano, limit_nano FROM scope WHERE mode = 'strict' AND overrun_nano > 0",
    ),
    (
        "I6: {0} ended as {2} and cost {1} nano-USD",
        "SELECT request_id, cost_nano, outcome FROM ledger_entry WHERE outcome IN ('failed', 'refused') AND cost_nano <> 0",
    ),
    (
        "I9: the credits of {0} are {1} nano-USD; what was put in and taken out is {2}",
        "SELECT owner, limit_nano, (SELECT coalesce(sum(amount_nano), 0) FROM credit WHERE credit.owner = scope.owner) AS put "
        "FROM scope WHERE mode = 'credit' AND limit_nano <> put",
    ),
    (
        "I11: the hour of {0} shows {1} nano-USD; its entries come to {2}",
        "SELECT start, sum(cost_nano) AS shown, (SELECT coalesce(sum(cost_nano), 0) FROM ledger_entry WHERE at >= start "
        "AND at < start + 3600) AS entered FROM rollup_hour GROUP BY start HAVING shown <> entered",
    ),
    (
        "I11: the day of {0} shows {1} nano-USD; its hours come to {2}",
        "SELECT start, sum(cost_nano) AS shown, (SELECT coalesce(sum(cost_nano), 0) FROM rollup_hour WHERE rollup_hour.start >= "
        "rollup_day.start AND rollup_hour.start < rollup_day.start + 86400) AS hours FROM rollup_day GROUP BY start "
        "HAVING shown <> hours",
    ),
    (
        "I11: the rollups count {1} requests; there are {2} entries",
        "SELECT '', (SELECT coalesce(sum(requests), 0) FROM rollup_hour) AS shown, (SELECT count(*) FROM ledger_entry) "
        "AS entries WHERE shown <> entries",
    ),
)
MAX_FINDINGS = 100

_scopes_of = msgspec.json.Decoder(tuple[str, ...]).decode


def problems(db: apsw.Connection) -> list[str]:
    found = [text.format(*row) for text, sql in _CHECKS for row in db.execute(f"{sql} LIMIT {MAX_FINDINGS}")]
    return (found + _replayed(db))[:MAX_FINDINGS]


def _replayed(db: apsw.Connection) -> list[str]:
    """I2, I8, I9: the ledger from zero gives what every scope says was spent. A parent is charged with its children, so its
    spending is theirs and its own by the same sum."""
    spent: dict[str, int] = defaultdict(int)
    for scopes, cost in db.execute(
        "SELECT scopes, sum(cost_nano) FROM ledger_entry WHERE scopes <> '[]' GROUP BY scopes"
    ):
        for scope in _scopes_of(scopes):
            spent[scope] += cost
    found = []
    for scope, said in db.execute("SELECT id, spent_nano FROM scope"):
        replayed = spent.pop(scope, 0)
        if replayed != said:
            found.append(f"I9: scope {scope} says {said} nano-USD were spent; its entries come to {replayed}")
    return found + [
        f"I9: {cost} nano-USD were charged to {scope}, which does not exist" for scope, cost in spent.items()
    ]
