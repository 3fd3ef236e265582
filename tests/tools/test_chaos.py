"""The chaos catalogue itself: every fault has a row, rows see what is there, and what differs is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tools.chaos import checks, report, run
from tools.chaos.rows import DIFFERS, RIGHT, Look, Result, Row, alone, beside_a_peer
from tools.chaos.upstreams import RESET, either, healthy

from naru.testing import Script

#: Fast, and of every kind: both sides, all three endings, real sockets below HTTP.
QUICK = {
    "A1 before commit", "A1 exhausted", "A2 before commit", "A2 after commit", "A6 after commit, FIN", "A7 FIN",
    "A11 grammar", "A13 exhausted", "A15 exhausted", "A16 before commit", "A24 expired", "A25 reused, RST",
    "A27 interleaved", "B2 FIN", "B2 RST", "B8 duplicates", "B16 later",
}  # fmt: skip
GROUP = run.Group("test", 3)


def test_every_fault_of_the_catalogue_has_a_row() -> None:
    rows = run.all_rows()
    assert {row.fault for row in rows} == {*(f"A{n}" for n in range(1, 31)), *(f"B{n}" for n in range(1, 18))}
    assert len({row.name for row in rows}) == len(rows)  # a name is a model's and a provider's
    assert {row.group for row in rows} == {group.name for lane in run.LANES for group in lane}


async def test_quick_rows_are_as_specified(tmp_path: Path) -> None:
    """One gateway process, the rows of QUICK, and nothing left behind."""
    rows = [row for row in run.all_rows() if f"{row.fault} {row.case}" in QUICK]
    assert len(rows) == len(QUICK)
    told: list[Result] = []
    results = await run.run_group(GROUP, rows, tmp_path, 1, told.append)
    assert len(told) == len(results) == len(rows) + 1
    assert [(each.row.name, report.seen(each).plain) for each in results if each.verdict != RIGHT] == []


async def test_what_is_not_as_specified_is_told(tmp_path: Path) -> None:
    """An upstream without the fault, an upstream without a peer, a check that breaks: each differs, and the rest runs."""

    async def breaks(stage: object, look: Look) -> None:
        raise RuntimeError("of its own")

    rows = [
        Row("A2", "no fault", "nothing", "failover", beside_a_peer(healthy()), checks.fails_over()),
        Row("A2", "no peer", "RST", "failover", alone(either(RESET, RESET)), checks.fails_over()),
        Row("A2", "false end", "RST", "an error event", alone(either(Script(), RESET)), checks.cut_off(None)),
        Row("A2", "broken", "nothing", "nothing", alone(healthy()), breaks),
    ]
    results = await run.run_group(GROUP, rows, tmp_path, 1, lambda result: None)
    assert [result.verdict for result in results] == [DIFFERS] * 4 + [RIGHT]
    out = io.StringIO()
    report.show(results, 1.0, Console(file=out, width=120))
    assert "! the check itself broke: RuntimeError of its own" in out.getvalue().replace("\n", " ")
    assert "1 faults, 5 rows: 1 as specified" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 120
    assert json.loads(report.as_json(results, 1.0))["rows"][0]["verdict"] == DIFFERS


def test_faults_are_chosen_by_number() -> None:
    rows = run.all_rows()
    assert {row.fault for row in run.chosen(rows, "a3, B5")} == {"A3", "B5"}
    assert run.chosen(rows, "") == rows
    with pytest.raises(ValueError, match="A31"):
        run.chosen(rows, "A31")
