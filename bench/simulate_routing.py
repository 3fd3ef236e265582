"""`python -m bench.simulate_routing [--quick] [--json FILE] [--svg FILE]`: a thousand deployments in five regions at 100,000
requests a second, one of the regions lost for a while. Naru's own strategies, by its own code, beside round robin and an
ideal that knows everything. A simulation: nothing is sent. The same seed gives the same figures, to the digit."""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from bench.routing_figure import figure
from bench.simulated_policies import Policy, gateways
from bench.simulated_world import World, arrivals, servers
from bench.simulation import SLICES_PER_S, Outcome, Simulation
from naru.routing.table import Hedge

POLICIES = (
    Policy("round robin", kind="round robin"),
    Policy("random", kind="random"),
    Policy("weighted", strategy="weighted"),
    Policy("least_busy", strategy="least_busy"),
    Policy("latency", strategy="latency"),
    Policy("latency, hedge", strategy="latency", hedge=Hedge()),
    Policy("cost", strategy="cost"),
    Policy("least_busy, prefix", strategy="least_busy", affinity="prefix"),
    Policy("least_busy, 10 gateways", strategy="least_busy", gateways=10),
    Policy("latency, 10 gateways", strategy="latency", gateways=10),
    Policy("ideal", kind="ideal"),
)
#: The same for less: a twentieth of the deployments and of the requests.
QUICK = World(deployments=50, rate_per_s=5_000.0, conversations=2_500)
#: p99 is back to normal when it is at most so many times what it was before the loss. More than the time-out never is.
NORMAL = 1.5
#: Who arrived so shortly before the loss may still have been waiting for the first content then.
CALM_S = 0.5
#: After the first answers were missed, breakers had this long to open.
SETTLED_S = 0.2


class Found(msgspec.Struct, frozen=True):
    """What a run of one policy came to. Times to first content in seconds, of those who got one; shares from 0 to 1. `before`
    is after the warm-up and half a second before the loss, `during` while the region is lost."""

    policy: str
    requests: int
    p50_before_s: float
    p99_before_s: float
    p999_before_s: float
    p50_during_s: float
    p99_during_s: float
    #: Of those who arrived while the region was lost and were answered, who waited for longer than one time-out.
    late_during: float
    #: Of all requests: nobody was asked, all who were asked failed, the answer was cut by the loss.
    refused: float
    failed: float
    cut: float
    attempts_per_request: float
    hedged: float
    #: Of the attempts while the region is lost, those made there; and of those when breakers have had the time to open.
    to_the_lost: float
    to_the_lost_later: float
    #: Seconds from the loss until p99 was normal and stayed so; None: not before the region came back, or never.
    normal_after_s: float | None
    #: 1 is the mean of what the deployments cost, by weight.
    price: float
    #: Of the prompts that were read, those whose beginning was remembered.
    warm: float
    #: p99 of the requests that arrived in each slice; 0 where there were none.
    p99_s: tuple[float, ...]


def quantile(ordered: Sequence[float], part: float) -> float:
    """The nearest rank; nan of nothing."""
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else math.nan


def simulate(policy: Policy, world: World) -> Found:
    made, asked = servers(world), arrivals(world)
    run = Simulation(world, made, asked, gateways(policy, made, world))
    run.run()
    return found(policy, world, run, sum(s.price * s.weight for s in made) / sum(s.weight for s in made))


def found(policy: Policy, world: World, run: Simulation, mean_price: float) -> Found:
    count = len(run.outcomes)
    before = _between(run, world.warm_s, min(world.lost_at - CALM_S, world.seconds))
    during = _between(run, world.lost_at, world.back_at)
    slices = _slices(run, world)
    return Found(
        policy=policy.name,
        requests=count,
        p50_before_s=quantile(before, 0.5),
        p99_before_s=quantile(before, 0.99),
        p999_before_s=quantile(before, 0.999),
        p50_during_s=quantile(during, 0.5),
        p99_during_s=quantile(during, 0.99),
        late_during=sum(first >= world.ttft_s for first in during) / max(1, len(during)),
        refused=run.outcomes.count(Outcome.REFUSED) / count,
        failed=run.outcomes.count(Outcome.FAILED) / count,
        cut=run.outcomes.count(Outcome.CUT) / count,
        attempts_per_request=sum(run.attempts) / count,
        hedged=run.hedges / count,
        to_the_lost=_lost_part(run, world.lost_at, world.back_at),
        to_the_lost_later=_lost_part(run, world.lost_at + world.ttft_s + SETTLED_S, world.back_at),
        normal_after_s=_normal_after(slices, quantile(before, 0.99), world),
        price=run.paid / max(1, sum(first >= 0 for first in run.ttft_s)) / mean_price,
        warm=run.warm / max(1, run.started),
        p99_s=tuple(slices),
    )


def _between(run: Simulation, since: float, until: float) -> list[float]:
    times = zip(run.asked.at, run.ttft_s, strict=True)
    return sorted(first for at, first in times if since <= at < until and first >= 0)


def _slices(run: Simulation, world: World) -> list[float]:
    found: list[list[float]] = [[] for _ in range(math.ceil(world.seconds * SLICES_PER_S))]
    for at, first in zip(run.asked.at, run.ttft_s, strict=True):
        if first >= 0:
            found[int(at * SLICES_PER_S)].append(first)
    return [quantile(sorted(times), 0.99) if times else 0.0 for times in found]


def _lost_part(run: Simulation, since: float, until: float) -> float:
    those = slice(round(since * SLICES_PER_S), round(until * SLICES_PER_S))
    return sum(run.to_the_lost[those]) / max(1, sum(run.attempts[those]))


def _normal_after(slices: Sequence[float], before_s: float, world: World) -> float | None:
    first, end = round(world.lost_at * SLICES_PER_S), round(world.back_at * SLICES_PER_S)
    bar_s = min(NORMAL * before_s, world.ttft_s)
    bad = [place for place in range(first, min(end, len(slices))) if slices[place] > bar_s]
    last = max(bad, default=first - 1)
    return None if last + 1 >= end or before_s > bar_s else (last + 1 - first) / SLICES_PER_S


# --- What is shown ----------------------------------------------------------------------------------------------------


def _ms(seconds: float) -> str:
    return f"{1_000 * seconds:,.0f}"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}"


COLUMNS: tuple[tuple[str, Callable[[Found], str]], ...] = (
    ("p50 ms", lambda row: _ms(row.p50_before_s)),
    ("p99 ms", lambda row: _ms(row.p99_before_s)),
    ("p99.9 ms", lambda row: _ms(row.p999_before_s)),
    ("p99 in the loss", lambda row: _ms(row.p99_during_s)),
    ("late in the loss %", lambda row: _percent(row.late_during)),
    ("normal after s", lambda row: "-" if row.normal_after_s is None else f"{row.normal_after_s:.1f}"),
    ("to the lost %", lambda row: _percent(row.to_the_lost)),
    ("refused, failed %", lambda row: _percent(row.refused + row.failed)),
    ("cut %", lambda row: _percent(row.cut)),
    ("attempts", lambda row: f"{row.attempts_per_request:.3f}"),
    ("price", lambda row: f"{row.price:.2f}"),
    ("warm %", lambda row: f"{100 * row.warm:.0f}"),
)


def table(rows: Iterable[Found], world: World) -> Table:
    title = f"{world.deployments:,} deployments, {world.rate_per_s:,.0f} requests/s, seed {world.seed}"
    made = Table(title=title, title_justify="left")
    made.add_column("policy", no_wrap=True)
    for name, _ in COLUMNS:
        made.add_column(name, justify="right")
    for row in rows:
        made.add_row(row.policy, *(show(row) for _, show in COLUMNS))
    return made


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simulate_routing", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the deployments and of the requests")
    parser.add_argument("--seed", type=int, default=World().seed)
    parser.add_argument("--only", action="append", metavar="POLICY", help="this policy alone; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the world and the figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw p99 over time there")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    world = msgspec.structs.replace(QUICK if options.quick else World(), seed=options.seed)
    console = Console(stderr=True)
    gc.freeze()
    gc.disable()  # what is made here is freed by its last name; a run makes millions
    rows = []
    for policy in POLICIES:
        if options.only is None or policy.name in options.only:
            console.print(f"  {policy.name}", style="dim")
            rows.append(simulate(policy, world))
    Console(width=None if sys.stdout.isatty() else 160).print(table(rows, world))
    if options.json is not None:
        answer = {"world": msgspec.to_builtins(world), "figures": msgspec.to_builtins(rows)}
        options.json.write_text(json.dumps(answer, indent=2) + "\n")
    if options.svg is not None:
        options.svg.write_text(figure({row.policy: row.p99_s for row in rows}, world, SLICES_PER_S))
    return 0


if __name__ == "__main__":
    sys.exit(main())
