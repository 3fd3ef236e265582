"""Two equal deployments, killed and revived at random times under load, never both at once.

`kill` is a process that died (connections reset, new ones refused), `hang` one that was stopped: connections are taken and
nothing comes back, until it is replaced. Who is asked next is the gateway's affair; nobody may notice before the first word.
A stream that was flowing out of a killed process says that it was cut; with `continue_cut` the other deployment goes on with it,
and nobody notices that either.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from naru.storage.records import LedgerEntry
from tools.drills.found import Check, Found, ms, nothing_left, quantile, share
from tools.drills.gateway import CONFIG, providers, serving
from tools.drills.load import ask_all
from tools.drills.questions import Answer, Question, nonce
from tools.drills.upstreams import Upstream, standing

RATE_PER_S = 200.0
SUCCESS = 0.9995
AMPLIFICATION = 1.2
#: As a patient caller would have it, in small: reliability.md 1.5 scales its times too.
MODEL = """
[routing]
breaker_open_s = 1
breaker_max_open_s = 5
[models.m]
timeouts = { connect_s = 1, ttft_s = 1, idle_s = 1, total_s = 4 }
deployments = [{ provider = "a", model = "x" }, { provider = "b", model = "x" }]
"""
GOES_ON = "continue_cut = true\n"
How = Literal["kill", "hang"]


class Outage(msgspec.Struct, frozen=True):
    """`which` of the two is away from `begins` to `ends`, in seconds from the beginning."""

    which: int
    how: How
    begins: float
    ends: float


class Seen(msgspec.Struct, frozen=True):
    """All that the verdict is made of. `calls` is how many the upstreams received."""

    answers: Sequence[Answer]
    calls: int
    outages: Sequence[Outage]
    entries: Sequence[LedgerEntry]
    contradictions: Sequence[str]
    gauges: dict[str, float]
    goes_on: bool = False


def outages(random: Random, seconds: float) -> list[Outage]:
    """One after the other. Some begin before the last one's breaker has closed again; a hang may outlive total_s."""
    found: list[Outage] = []
    at = 0.2 + random.uniform(0.0, min(1.0, seconds / 10))
    while at < seconds - 0.5:
        how: How = "hang" if random.random() < 0.4 else "kill"
        lasts_s = random.uniform(2.0, 8.0) if how == "hang" else random.uniform(0.5, 3.0)
        ends = min(at + lasts_s, seconds)
        found.append(Outage(random.randrange(2), how, at, ends))
        at = ends + random.uniform(0.3, 2.0)
    return found


def questions(random: Random, seconds: float) -> list[Question]:
    """Half of them streams of 0.2 to 0.5 s."""
    return [
        Question(nonce(random), random.randint(8, 20), random.random() < 0.5, (number + random.random()) / RATE_PER_S)
        for number in range(int(RATE_PER_S * seconds))
    ]


def verdict(seen: Seen) -> tuple[Check, ...]:
    answers, total = seen.answers, len(seen.answers)
    ends = Counter(answer.ending for answer in answers)
    early = [answer for answer in answers if answer.is_before_commit]
    reasons = Counter(f"{'stream' if a.question.is_stream else 'plain'} {a.why or a.ending}" for a in early)
    saved = total - len(early)
    silent = sum(answer.ending == "broken" and answer.ttft_s is not None for answer in answers)
    lies = [answer for answer in answers if answer.ending in ("false", "foreign")]
    attempts = sum(entry.attempts for entry in seen.entries)
    most = max(seen.calls, attempts)
    kinds = Counter(outage.how for outage in seen.outages)
    plain = [a.took_s for a in answers if a.ending == "whole" and not a.question.is_stream]
    first = [a.ttft_s for a in answers if a.ttft_s is not None and a.question.is_stream]
    return (
        Check(
            "one of two is away, again and again", f"{total:,} requests, {kinds['kill']} kills, {kinds['hang']} hangs"
        ),
        Check(
            f"at least {SUCCESS:.2%} do not fail before their first word",
            f"{share(saved, total)}; failed: {dict(reasons) if reasons else 'none'}",
            saved >= SUCCESS * total,
        ),
        Check(
            f"at least {SUCCESS:.2%} are answered whole, streams that were cut included"
            if seen.goes_on
            else "streams cut in the middle, which nobody can save without continue_cut",
            f"{ends['cut']} cut; answered whole, cuts counted as failures: {share(ends['whole'], total)}",
            ends["whole"] >= SUCCESS * total if seen.goes_on else None,
        ),
        Check("a cut stream says so: an error and no [DONE]", f"{silent} did not", not silent),
        Check("no answer is passed off as whole that is not", f"{len(lies)} {lies[:2] if lies else ''}", not lies),
        Check(
            f"calls are at most {AMPLIFICATION}x the requests",
            f"{seen.calls / total:.3f}x received, {attempts / total:.3f}x made",
            most <= AMPLIFICATION * total,
        ),
        Check(
            "how long answers took",
            f"first word p50 {ms(quantile(first, 0.5))}, p99 {ms(quantile(first, 0.99))}, at most {ms(max(first, default=0))}; "
            f"plain p50 {ms(quantile(plain, 0.5))}, p99 {ms(quantile(plain, 0.99))}, at most {ms(max(plain, default=0))}",
        ),
        *books(seen),
    )


def books(seen: Seen) -> tuple[Check, ...]:
    """What the ledger says, against what the callers were told."""
    by_id = {entry.request_id: entry for entry in seen.entries}
    answers = [answer for answer in seen.answers if answer.request_id]
    missing = sum(answer.request_id not in by_id for answer in answers)
    extra = len(seen.entries) - len(seen.answers)
    told = sum(answer.cost_nano or 0 for answer in answers)
    ends = {answer.request_id for answer in answers if answer.cost_nano is not None}
    charged = sum(entry.cost_nano for entry in seen.entries if entry.request_id in ends)
    rest = Counter(entry.outcome for entry in seen.entries if entry.request_id not in ends)
    owed = sum(entry.cost_nano for entry in seen.entries if entry.request_id not in ends and entry.outcome != "partial")
    return (
        Check("the ledger agrees with itself", str(list(seen.contradictions)[:3]), not seen.contradictions),
        Check(
            "one entry for each request",
            f"{len(seen.entries):,} entries, {missing} answers without one, {extra:+d} entries",
            not missing and not extra,
        ),
        Check(
            "what was charged is what the answers told",
            f"{charged:,} and {told:,} nano-USD; without a told price: {dict(rest)}, of them uncut {owed} nano-USD",
            charged == told and not owed,
        ),
        nothing_left(seen.gauges),
    )


async def resume(seconds: float = 40.0, seed: int = 1, is_inside: bool = False) -> Found:
    """The same, with answers that are gone on with."""
    return await run(seconds, seed, is_inside, goes_on=True)


async def run(seconds: float = 40.0, seed: int = 1, is_inside: bool = False, goes_on: bool = False) -> Found:
    random = Random(seed)
    loop = asyncio.get_running_loop()
    pair = [Upstream(name, lambda: random.uniform(0.02, 0.05), pace_s=0.024) for name in "ab"]
    planned = outages(random, seconds)
    began = loop.time()
    async with standing(*pair):
        with tempfile.TemporaryDirectory(prefix="naru-drill-") as name:
            named = {each.name: each.port for each in pair}
            model = MODEL + GOES_ON if goes_on else MODEL
            config = CONFIG.format(more=providers(named, kind="vllm" if goes_on else "custom") + model)
            async with serving(Path(name), config, is_inside) as gateway:
                asking = asyncio.create_task(ask_all(gateway.port, gateway.key, questions(random, seconds)))
                try:
                    await _happen(planned, pair)
                    answers = await asking
                finally:
                    asking.cancel()
                gauges, contradictions = await gateway.gauges(), await gateway.contradictions()
            entries = gateway.entries()
    calls = sum(len(each.arrivals) for each in pair)
    found = verdict(Seen(answers, calls, planned, entries, contradictions, gauges, goes_on))
    return Found("resume" if goes_on else "kill", found, loop.time() - began)


async def _happen(planned: Sequence[Outage], pair: Sequence[Upstream]) -> None:
    began = asyncio.get_running_loop().time()

    async def until(at: float) -> None:
        await asyncio.sleep(max(0.0, began + at - asyncio.get_running_loop().time()))

    for outage in planned:
        victim = pair[outage.which]
        await until(outage.begins)
        if outage.how == "kill":
            await victim.die()
        else:
            victim.hang()
        await until(outage.ends)
        await victim.revive()
