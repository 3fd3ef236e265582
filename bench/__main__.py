"""`python -m bench [--quick] [--only nginx|naru] [--json FILE]`: measures, prints a table, ends within four minutes."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from rich.console import Console

from bench import measures, report
from bench.measures import Figures, Plan
from bench.process import cores
from bench.targets import Direct, Naru, Nginx, Target, Unavailable
from bench.upstream import MockUpstream

LIMIT_S = 230.0
QUICK_LIMIT_S = 58.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, under a minute in all")
    parser.add_argument("--only", choices=["nginx", "naru"], help="measure one target alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    return parser.parse_args()


async def measure(target: Target, plan: Plan, upstream: MockUpstream, console: Console) -> Figures:
    """All figures of one target; what fails is said and left out, and the rest still measured."""
    steps: list[tuple[str, Callable[[], Awaitable[Figures]]]] = [
        ("latency", lambda: measures.latency(target, plan)),
        ("time to first token", lambda: measures.ttft(target, plan)),
    ]
    if target.name != "direct":
        steps = [
            ("cold start", lambda: measures.cold_start(target, plan)),
            ("memory", lambda: measures.memory(target, plan, upstream)),
            ("plain requests", lambda: measures.plain(target, plan)),
            *steps,
            ("streams", lambda: measures.chunks(target, plan)),
        ]
        if isinstance(target, Naru):
            steps.append(("translated streams", lambda: measures.translated(target, plan)))
    figures: Figures = {}
    for label, step in steps:
        console.print(f"  {target.name}: {label}", style="dim")
        try:
            figures.update(await step())
        except (OSError, Unavailable) as error:
            console.print(f"  {target.name}: {label} failed: {error}", style="red", markup=False)
            if not figures:
                break
    return figures


async def run(options: argparse.Namespace, console: Console) -> dict[str, Figures]:
    theirs, ours = cores()
    os.sched_setaffinity(0, ours)
    plan = measures.QUICK if options.quick else measures.FULL
    upstream = MockUpstream()
    await upstream.start()
    measured: dict[str, Figures] = {}
    current: Target = Direct(upstream.port)
    with tempfile.TemporaryDirectory(prefix="naru-bench-") as folder:
        makers: dict[str, Callable[[], Target]] = {
            "direct": lambda: Direct(upstream.port),
            "nginx": lambda: Nginx(Path(folder) / "nginx", upstream.port, theirs),
            "naru": lambda: Naru(Path(folder) / "naru", upstream.port, theirs),
        }
        try:
            async with asyncio.timeout(QUICK_LIMIT_S if options.quick else LIMIT_S):
                for name, make in makers.items():
                    if options.only not in (None, name) and name != "direct":
                        continue
                    try:
                        current = make()
                        if isinstance(current, Naru) and current.without:
                            console.print(f"  naru: measured without {', '.join(current.without)}", style="yellow")
                        measured[name] = await measure(current, plan, upstream, console)
                    except Unavailable as error:
                        console.print(f"{name} is left out: {error}", style="yellow", markup=False)
                    finally:
                        current.stop()
        except TimeoutError:
            console.print("Time is up; what is missing was not measured.", style="yellow")
        finally:
            current.stop()
            await upstream.stop()
    return measured


def main() -> int:
    options = arguments()
    console = Console(stderr=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    gc.freeze()
    measured = uvloop.run(run(options, console))
    report.show(measured, Console(width=None if sys.stdout.isatty() else 120))
    if options.json is not None:
        machine = {"python": sys.version.split()[0], "system": platform.platform(), "cores": os.cpu_count()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "figures": measured}, indent=2) + "\n")
    return 1 if report.errors(measured) else 0


if __name__ == "__main__":
    sys.exit(main())
