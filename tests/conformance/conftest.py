"""`--conformance FILE` keeps what became of each cell of the matrix, for tools/build_conformance.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", type=Path, help="write the matrix's results to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--conformance", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Results(config.getoption("--conformance")))


class _Results:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.cells: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        is_result = report.when == "call" or report.outcome == "failed" or report.outcome == "skipped"
        if "test_matrix.py" not in report.nodeid or not is_result:
            return
        feature, _, parameters = report.nodeid.rpartition("::test_")[2].partition("[")
        client, upstream, *way = parameters.rstrip("]").split("-")
        reason = dict(report.user_properties).get("limit", "")
        outcome = "limit" if reason and report.passed else report.outcome
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        if report.outcome == "failed":
            reason = str(report.longrepr).strip().splitlines()[-1][:200]
        self.cells.append(
            {
                "feature": feature,
                "upstream": upstream,
                "client": client,
                "way": "-".join(way),
                "outcome": outcome,
                "reason": reason,
            }
        )

    def pytest_sessionfinish(self) -> None:
        self.file.write_text(json.dumps(self.cells, indent=1))
