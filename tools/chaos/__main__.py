"""`python -m tools.chaos [--only A3,B5] [--json FILE] [--seed N]`: the fault catalogue, done to a running gateway.

Upstreams, clients and proxies are in this process, gateways are processes of their own; only loopback sockets are used.
Exits with 1 when something is not as the catalogue says.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

import uvloop
from rich.console import Console

from tools.chaos import report, run
from tools.chaos.rows import DIFFERS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults, such as A3,B5")
    parser.add_argument("--json", type=Path, help="where the result goes as JSON, too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sockets that break are what this is about
    progress = Console(stderr=True)
    started = time.monotonic()
    try:
        rows = run.chosen(run.all_rows(), options.only)
    except ValueError as error:
        parser.error(str(error))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(run.everything(rows, options.seed, lambda result: report.tell(result, progress)))
    took_s = time.monotonic() - started
    report.show(results, took_s, Console())
    if options.json is not None:
        options.json.write_bytes(report.as_json(results, took_s))
    return 0 if all(result.verdict != DIFFERS for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
