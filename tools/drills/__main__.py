"""`python -m tools.drills [--only kill,resume,region,slow,cancel] [--seconds N] [--times N] [--seed N]
[--json FILE]`

Five experiments against a running gateway over real sockets, each bounded and seeded: providers that die, a region that is lost,
a provider that is slow, callers that leave. Exit code 1 when one of them shows what it must not.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from naru import log
from tools.drills import cancel, kill, region, slow
from tools.drills.found import Found

Drill = Callable[[float, int], Awaitable[Found]]
#: Each with its usual length: seconds of its main phase; of cancel, how many requests.
DRILLS: dict[str, tuple[Drill, float]] = {
    "kill": (kill.run, 40.0),
    "resume": (kill.resume, 40.0),
    "region": (region.run, 7.0),
    "slow": (slow.run, 10.0),
    "cancel": (cancel.run, 10_000.0),
}


def shown(found: list[Found]) -> Table:
    table = Table("drill", "what was asked", "what was seen", "verdict", show_lines=False)
    for each in found:
        for place, check in enumerate(each.checks):
            style = {True: "green", False: "bold red", None: "dim"}[check.holds]
            name = f"{each.drill}\n({each.seconds:.0f} s)" if not place else ""
            table.add_row(
                name, check.asked, check.seen, f"[{style}]{check.word}[/]", end_section=check is each.checks[-1]
            )
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(DRILLS), help="some of them, with commas in between")
    parser.add_argument("--seconds", type=float, help="how long the main phase of all but cancel lasts")
    parser.add_argument("--times", type=int, help="how many requests cancel gives up")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file for what was found")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(DRILLS):
        parser.error(f"there is no drill {', '.join(sorted(unknown))}; there are {', '.join(DRILLS)}")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sockets that break are what this is about
    log.configure("critical")
    found = []
    for name in wanted:
        drill, usual = DRILLS[name]
        wanted_of_it = options.times if name == "cancel" else options.seconds
        print(f"{name} …", file=sys.stderr, flush=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found.append(runner.run(drill(wanted_of_it or usual, options.seed)))
    Console(width=160 if not sys.stdout.isatty() else None).print(shown(found))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    return int(any(each.is_failed for each in found))


if __name__ == "__main__":
    sys.exit(main())
