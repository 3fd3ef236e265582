"""Three equal deployments, of which one becomes twenty times slower, with `strategy = "latency"` and hedging.

Phases, all under the same load: all three healthy; one slow, its first seconds (what it takes to notice) told apart; then the
same without hedging, for comparison, at deployments that nothing is known of. What hedging costs is read from the ledger.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

import msgspec

from naru.storage.records import LedgerEntry
from tools.drills.found import Check, Found, ms, nothing_left, quantile, share
from tools.drills.gateway import CONFIG, providers, serving
from tools.drills.load import ask_all
from tools.drills.questions import Answer, steady
from tools.drills.upstreams import Arrival, Upstream, standing

RATE_PER_S = 60.0
MEDIAN_S, SIGMA, SLOWER = 0.06, 0.25, 20.0
#: As parts of a phase's length. A slow one is long enough for the memory of its slowness to fade, and for it to be tried again.
LEARNING, SLOW = 0.3, 2.8
WITHIN = 1.5
EXTRA_COST = 0.05
AT_ONCE_S = 0.1
#: Prompts that are long beside their answers: what a hedge wastes is the prompt, so this is its dearest case.
PADDING = 40
TIMES = "strategy = 'latency'\ntimeouts = { connect_s = 1, ttft_s = 10, idle_s = 5, total_s = 20 }\n"
NAMES = ("a", "b", "c")


class Phase(msgspec.Struct, frozen=True):
    """`learning` are the answers of its first seconds, `settled` the rest. `entries` are those of the settled ones."""

    learning: Sequence[Answer] = ()
    settled: Sequence[Answer] = ()
    entries: Sequence[LedgerEntry] = ()

    @property
    def p99(self) -> float:
        return quantile(_first(self.settled), 0.99)

    @property
    def extra_cost(self) -> float:
        """What is owed for attempts that lost, as a part of all that is owed."""
        return _part(self.entries)


class Seen(msgspec.Struct, frozen=True):
    """`healthy`, `slow` with hedging, then `bare_healthy` and `bare_slow` without. `arrivals` by deployment, of the hedged ones.
    `failures` is how often the gateway took a deployment for failing. `entries` are the hedged phases', learning included."""

    healthy: Phase
    slow: Phase
    bare_healthy: Phase
    bare_slow: Phase
    arrivals: dict[str, Sequence[Arrival]]
    entries: Sequence[LedgerEntry]
    failures: float
    gauges: dict[str, float]


def _first(answers: Iterable[Answer]) -> list[float]:
    return [float("inf") if answer.ttft_s is None else answer.ttft_s for answer in answers]


def _lost(entries: Iterable[LedgerEntry]) -> int:
    return sum(tried.cost_nano for entry in entries for tried in entry.tried)


def _part(entries: Sequence[LedgerEntry]) -> float:
    owed = sum(entry.provider_cost_nano for entry in entries)
    return _lost(entries) / owed if owed else 0.0


def closings(arrivals: dict[str, Sequence[Arrival]]) -> tuple[list[float], int]:
    """(seconds from the winner's first content until the loser's upstream saw its connection closed, losers never closed)."""
    winners = {each.nonce: each for calls in arrivals.values() for each in calls if each.ended_at}
    took, kept = [], 0
    pairs = Counter(each.nonce for calls in arrivals.values() for each in calls)
    for calls in arrivals.values():
        for each in calls:
            winner = winners.get(each.nonce)
            if pairs[each.nonce] < 2 or winner is None or each is winner:
                continue
            if each.left_at:
                took.append(each.left_at - winner.first_at)
            else:
                kept += 1
    return took, kept


def second_calls(seen: Seen) -> tuple[int, int]:
    """(those that stand in no entry, all that arrived). One that lost before it arrived stands in its entry all the same."""
    noted = {entry.request_id: len(entry.tried) for entry in seen.entries}
    asked = {
        answer.question.nonce: noted.get(answer.request_id, 0)
        for phase in (seen.healthy, seen.slow)
        for answer in (*phase.learning, *phase.settled)
    }
    arrived = Counter(each.nonce for calls in seen.arrivals.values() for each in calls)
    unnoted = sum(max(0, times - 1 - asked.get(whose, 0)) for whose, times in arrived.items())
    return unnoted, sum(times - 1 for times in arrived.values())


def verdict(seen: Seen) -> tuple[Check, ...]:
    took, kept = closings(seen.arrivals)
    lost = [tried for entry in seen.entries for tried in entry.tried]
    hedged = sum(len(entry.tried) > 0 for entry in seen.entries)
    other = [tried for tried in lost if tried.error != "hedge_lost"]
    unnoted, doubled = second_calls(seen)
    failed = [
        a.why or a.ending for phase in _phases(seen) for a in (*phase.learning, *phase.settled) if a.ending != "whole"
    ]
    return (
        Check(
            "one of three becomes twenty times slower",
            f"p99 of the first word: healthy {ms(seen.healthy.p99)}; learning {ms(quantile(_first(seen.slow.learning), 0.99))} "
            f"(at most {ms(max(_first(seen.slow.learning), default=0))}); then {ms(seen.slow.p99)}",
        ),
        Check(
            f"p99 of the first word within {WITHIN:g}x of when all were healthy",
            f"{seen.slow.p99 / seen.healthy.p99 if seen.healthy.p99 else 0:.2f}x",
            seen.slow.p99 <= WITHIN * seen.healthy.p99,
        ),
        Check(
            f"at {EXTRA_COST:.0%} extra cost at most",
            f"healthy {seen.healthy.extra_cost:.2%}, slow {seen.slow.extra_cost:.2%}, in all {_part(seen.entries):.2%} of what "
            f"is owed; {hedged} of {len(seen.entries)} requests ({share(hedged, len(seen.entries))}) were asked twice",
            max(seen.healthy.extra_cost, seen.slow.extra_cost, _part(seen.entries)) <= EXTRA_COST,
        ),
        Check(
            "without hedging, for comparison",
            f"p99 healthy {ms(seen.bare_healthy.p99)}; learning {ms(quantile(_first(seen.bare_slow.learning), 0.99))}; "
            f"then {ms(seen.bare_slow.p99)} ({seen.bare_slow.p99 / seen.bare_healthy.p99 if seen.bare_healthy.p99 else 0:.2f}x)",
        ),
        Check("everybody is answered", str(failed[:3]) if failed else "all whole", not failed),
        Check(
            "a loser is no answer and no failure: it stands in its entry as lost, once",
            f"{doubled} second calls arrived, {unnoted} without a note; {len(lost)} notes (the rest were given up on the way), "
            f"{len(other)} for another reason, {len(lost) - hedged} too many; {seen.failures:.0f} failures counted",
            not unnoted and len(lost) == hedged and not other and not seen.failures,
        ),
        Check(
            f"a loser's connection is closed within {ms(AT_ONCE_S)}",
            f"{len(took)} closed: p50 {ms(quantile(took, 0.5))}, p99 {ms(quantile(took, 0.99))} after the winner's first word; "
            f"{kept} went on",
            not kept and quantile(took, 0.99) <= AT_ONCE_S,
        ),
        nothing_left(seen.gauges),
    )


def _phases(seen: Seen) -> tuple[Phase, ...]:
    return seen.healthy, seen.slow, seen.bare_healthy, seen.bare_slow


class _Stage:
    """The three, and who is slow at the moment."""

    def __init__(self, random: Random, median_s: float) -> None:
        self.random = random
        self.median_s = median_s
        self.factor = dict.fromkeys(NAMES, 1.0)
        self.upstreams = [Upstream(name, lambda name=name: self._delay(name), pace_s=0.01) for name in NAMES]

    def _delay(self, name: str) -> float:
        return self.random.lognormvariate(0.0, SIGMA) * self.median_s * self.factor[name]

    def config(self) -> str:
        """Two models of the same three: what is learnt of one says nothing of the other."""
        ports = {each.name: each.port for each in self.upstreams}
        return CONFIG.format(
            more=providers(ports)
            + f"[models.m]\n{TIMES}hedge = {{ after = 'p95', budget = {EXTRA_COST} }}\n{_deployments('x')}"
            + f"[models.bare]\n{TIMES}{_deployments('y')}"
        )


def _deployments(model: str) -> str:
    each = ", ".join(f'{{ provider = "{name}", model = "{model}" }}' for name in NAMES)
    return f"deployments = [{each}]\n"


async def run(seconds: float = 10.0, seed: int = 1, is_inside: bool = False, median_s: float = MEDIAN_S) -> Found:
    """`seconds` is how long the healthy phase lasts; all others are parts of it."""
    random = Random(seed)
    stage = _Stage(random, median_s)
    loop = asyncio.get_running_loop()
    began = loop.time()
    answers: dict[str, list[Answer]] = {}
    async with standing(*stage.upstreams, is_mortal=False):
        with tempfile.TemporaryDirectory(prefix="naru-drill-") as name:
            async with serving(Path(name), stage.config(), is_inside) as gateway:

                async def phase(called: str, model: str, slow: float, share_of: float = 1.0) -> None:
                    stage.factor["a"] = slow
                    asked = [
                        msgspec.structs.replace(each, model=model, padding=PADDING)
                        for each in steady(random, RATE_PER_S, seconds * share_of)
                    ]
                    answers[called] = await ask_all(gateway.port, gateway.key, asked)

                await phase("healthy", "m", 1.0)
                await phase("slow", "m", SLOWER, SLOW)
                arrivals = {each.name: tuple(each.arrivals) for each in stage.upstreams}
                await phase("bare healthy", "bare", 1.0, 0.5)
                await phase("bare slow", "bare", SLOWER, SLOW)
                failures = sum(
                    value for name, value in (await gateway.metrics()).items() if "attempts_failed_total" in name
                )
                gauges = await gateway.gauges()
            entries = gateway.entries()
    found = verdict(_seen(answers, entries, seconds, arrivals, (failures, gauges)))
    return Found("slow", found, loop.time() - began)


def _seen(
    answers: dict[str, list[Answer]],
    entries: Sequence[LedgerEntry],
    seconds: float,
    arrivals: dict[str, Sequence[Arrival]],
    rest: tuple[float, dict[str, float]],
) -> Seen:
    by_id = {entry.request_id: entry for entry in entries}
    phases = {}
    for called, those in answers.items():
        learning_s = LEARNING * seconds if called.endswith("slow") else 0.0
        settled = [each for each in those if each.question.at >= learning_s]
        phases[called] = Phase(
            [each for each in those if each.question.at < learning_s],
            settled,
            [by_id[each.request_id] for each in settled if each.request_id in by_id],
        )
    hedged = [entry for entry in entries if entry.model == "m"]
    return Seen(
        phases["healthy"], phases["slow"], phases["bare healthy"], phases["bare slow"], arrivals, hedged, *rest,
    )  # fmt: skip
