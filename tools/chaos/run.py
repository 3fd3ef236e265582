"""Runs rows: one gateway process for each group of them, groups in lanes beside each other, every wait bounded."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from tools.chaos import (
    answer_faults,
    bad_requests,
    client_faults,
    connection_faults,
    names_and_tls,
    outages,
    size_faults,
    slow_clients,
    stream_faults,
)
from tools.chaos.gateway import Gateway
from tools.chaos.rows import Look, Result, Row, Stage

#: However long a row may take at the most, its preparation included.
ROW_S = 120.0
Told = Callable[[Result], None]


MODULES = (
    connection_faults, stream_faults, size_faults, answer_faults, names_and_tls, outages, client_faults, slow_clients,
    bad_requests,
)  # fmt: skip


class Group(msgspec.Struct, frozen=True):
    """`together`: how many of its rows run at once; where they fail over, no more than the retry budget lets (1.3: 3).
    `server`: lines of the [server] table."""

    name: str
    together: int
    server: tuple[str, ...] = ()


MAIN = Group("main", 3)
MEMORY = Group("memory", 1)
WAITS = Group("waits", 20)
POOLS = Group("pools", 1)
FLAPPING = Group("flapping", 1)
REGIONS = Group("regions", 1)
#: Groups of a lane run one after the other, lanes at the same time.
LANES = ((MAIN, POOLS, MEMORY), (WAITS,), (FLAPPING,), (REGIONS,))


def all_rows() -> list[Row]:
    """In the order of the catalogue."""
    found = [row for module in MODULES for row in module.rows()]
    return sorted(found, key=lambda row: (row.fault[0], int(row.fault[1:])))


def chosen(rows: list[Row], only: str) -> list[Row]:
    """The rows of the faults that `only` names. Raises ValueError for an unknown one."""
    wanted = [name.strip().upper() for name in only.split(",") if name.strip()]
    known = {row.fault for row in rows}
    if unknown := [name for name in wanted if name not in known]:
        raise ValueError(f"no such fault: {', '.join(unknown)}. There are A1 to A30 and B1 to B17.")
    return [row for row in rows if not wanted or row.fault in wanted]


async def everything(rows: list[Row], seed: int, told: Told) -> list[Result]:
    """All results, in the order of `rows`; what each gateway was left with comes last."""
    with tempfile.TemporaryDirectory(prefix="naru-chaos-") as name:
        lanes = [_lane(lane, rows, Path(name), seed, told) for lane in LANES]
        found = [result for lane in await asyncio.gather(*lanes) for result in lane]
    order = {row.name: place for place, row in enumerate(rows)}
    return sorted(found, key=lambda result: order.get(result.row.name, len(order)))


async def _lane(lane: Iterable[Group], rows: list[Row], folder: Path, seed: int, told: Told) -> list[Result]:
    found: list[Result] = []
    for group in lane:
        mine = [row for row in rows if row.group == group.name]
        if mine:
            (folder / group.name).mkdir()
            found += await run_group(group, mine, folder / group.name, seed, told)
    return found


async def run_group(group: Group, rows: list[Row], folder: Path, seed: int, told: Told) -> list[Result]:
    """One gateway, and every row of the group done to it."""
    async with contextlib.AsyncExitStack() as stack:
        stages = []
        for row in rows:
            stage = Stage(row.name, seed)
            stack.push_async_callback(_stop, stage)
            await row.prepare(stage)
            stages.append(stage)
        config = [line for stage in stages for line in stage.config]
        gateway = Gateway(folder, "\n".join(["[server]", *group.server, *config]) + "\n")
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        gate = asyncio.Semaphore(group.together)
        tasks = [_run(row, stage, gateway, gate, told) for row, stage in zip(rows, stages, strict=True)]
        results = list(await asyncio.gather(*tasks))
        results.append(await _afterwards(group, gateway, told))
    return results


async def _stop(stage: Stage) -> None:
    # A handler that stumbles over a peer that left is no finding, and the rest has to be stopped too.
    with contextlib.suppress(ExceptionGroup):
        await stage.stop()


async def _run(row: Row, stage: Stage, gateway: Gateway, gate: asyncio.Semaphore, told: Told) -> Result:
    async with gate:
        stage.gateway = gateway
        look = Look()
        started = time.monotonic()
        try:
            async with asyncio.timeout(ROW_S):
                await row.check(stage, look)
        except Exception as error:  # a row that breaks is a row that is not as specified, and the others go on
            look.saw(f"the check itself broke: {type(error).__name__} {error}"[:200], False)
        result = Result(row, look, time.monotonic() - started)
        told(result)
        return result


async def _afterwards(group: Group, gateway: Gateway, told: Told) -> Result:
    row = Row(
        "end", f"of {group.name}", "every row above", "nothing in flight, a ledger without contradictions",
        _nothing, _no_check, group.name,
    )  # fmt: skip
    started = time.monotonic()
    look = Look()
    left = await gateway.leftovers()
    look.saw("; ".join(left)[:300] if left else "gauges 0, ledger clean", not left)
    crashes = gateway.log.count("Traceback")
    look.saw(f"{crashes} tracebacks in the log" if crashes else "no traceback in the log", not crashes)
    result = Result(row, look, time.monotonic() - started)
    told(result)
    return result


async def _nothing(stage: Stage) -> None: ...


async def _no_check(stage: Stage, look: Look) -> None: ...
