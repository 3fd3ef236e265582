"""Two regions, the near one first; it is lost for a while, refused or silent, and comes back.

Who asks after the loss may wait for one connect time at most, and only until the region is known to be gone. While it is away
it is asked by probes alone, and so it is when it comes back, until they have shown that it is well.

A probe is a request of somebody's: in a silent region it costs that caller one connect time. These are told apart.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Literal

import msgspec

from tools.drills.found import Check, Found, ms, quantile
from tools.drills.gateway import CONFIG, providers, serving
from tools.drills.load import ask_all
from tools.drills.questions import Answer, Question, steady
from tools.drills.upstreams import Arrival, Upstream, standing

RATE_PER_S = 100.0
CONNECT_S = 1.0
BUCKET_S = 0.25
#: A bucket is normal when its p99 is within this of the far region's own.
NORMAL = 1.5
BACK_WITHIN_S = 2.0
NEAR_S, FAR_S = 0.03, 0.08
MODEL = """
[routing]
breaker_open_s = 2
breaker_max_open_s = 4
[models.m]
timeouts = {{ connect_s = {connect_s}, ttft_s = {connect_s}, idle_s = 2, total_s = 10 }}
deployments = [{deployments}]
"""
FAR_ONLY = "x-naru-region: far\r\n"
How = Literal["refused", "silent"]


class Times(msgspec.Struct, frozen=True):
    """Seconds from the beginning: asked of the far region alone until `calm`, of both until `lost`, `healed`, and `end`."""

    calm: float
    lost: float
    healed: float
    end: float

    @classmethod
    def of(cls, seconds: float) -> Times:
        """`seconds` is how long the region is away."""
        calm = max(0.3, seconds * 1.4)  # as long as the retry budget remembers: a gateway that has run for a while
        lost = calm + max(0.2, seconds * 0.2)
        # A probe that failed just before the return is followed by the longest rest of a breaker.
        return cls(calm, lost, lost + seconds, lost + 2 * seconds)


class Return(msgspec.Struct, frozen=True):
    """What a healed deployment received: `early` calls before it had answered the first one, `all` calls in all."""

    deployment: str
    early: int
    all: int


class Seen(msgspec.Struct, frozen=True):
    """`answers` of the whole run, their questions' `at` being when they were asked; `near` is how many deployments were lost."""

    how: How
    near: int
    times: Times
    answers: Sequence[Answer]
    returns: Sequence[Return]


def buckets(answers: Sequence[Answer], begins: float, ends: float) -> list[tuple[float, float]]:
    """(when a bucket begins, p99 of the time to the first word of those asked in it); no answer is as bad as can be."""
    found: dict[int, list[float]] = {}
    for answer in answers:
        at = answer.question.at
        if begins <= at < ends:
            found.setdefault(int((at - begins) / BUCKET_S), []).append(
                answer.ttft_s if answer.ttft_s is not None else float("inf")
            )
    return [(begins + place * BUCKET_S, quantile(values, 0.99)) for place, values in sorted(found.items())]


def back_after(found: Sequence[tuple[float, float]], limit_s: float, lost: float) -> float | None:
    """Seconds from the loss to the first of two normal buckets in a row; None when there are no such two."""
    for (at, one), (_, two) in pairwise(found):
        if one <= limit_s and two <= limit_s:
            return at - lost
    return None


def verdict(seen: Seen) -> tuple[Check, ...]:
    times, answers = seen.times, seen.answers
    calm = [a.ttft_s for a in answers if a.ttft_s is not None and a.question.at < times.calm]
    limit_s = NORMAL * quantile(calm, 0.99)
    after = [a for a in answers if times.lost <= a.question.at < times.healed]
    back_s = back_after(buckets(answers, times.lost, times.healed), limit_s, times.lost)
    failed = Counter(a.why or a.ending for a in answers if a.ending != "whole" and a.ttft_s is None)
    waited = [a.ttft_s for a in after if a.ttft_s is not None]
    settled = [a.ttft_s or float("inf") for a in after if a.question.at >= times.lost + BACK_WITHIN_S]
    slow = sum(each > limit_s for each in settled)
    shown = "  ".join(f"{p99 * 1000:.0f}" for _, p99 in buckets(answers, times.lost, times.healed)[:12])
    name = f"{seen.near} near, {seen.how}: "
    return (
        Check(
            f"{name}p99 of the first word, every {BUCKET_S:g} s from the loss",
            f"{shown} ms; the far region alone: p99 {ms(quantile(calm, 0.99))}",
        ),
        Check(
            f"{name}normal again ({NORMAL:g}x) within {BACK_WITHIN_S:g} s",
            "never" if back_s is None else f"after {back_s:.2f} s (buckets by when they were asked)",
            back_s is not None and back_s <= BACK_WITHIN_S,
        ),
        Check(
            f"{name}from then on p99 is normal, probes included",
            f"p99 {ms(quantile(settled, 0.99))} of {len(settled)}; slower than {ms(limit_s)}: {slow}",
            quantile(settled, 0.99) <= limit_s if settled else None,
        ),
        Check(f"{name}nobody fails before the first word", str(dict(failed)) if failed else "nobody", not failed),
        Check(
            f"{name}nobody waits for more than one connect time",
            f"at most {ms(max(waited, default=0))}",
            max(waited, default=0) < 2 * CONNECT_S,
        ),
        returned(name, seen.returns),
    )


def returned(name: str, returns: Sequence[Return]) -> Check:
    told = ", ".join(f"{each.deployment} {each.early} then {each.all - each.early}" for each in returns)
    is_back = all(each.all > each.early for each in returns)
    return Check(
        f"{name}it comes back by one probe each, and then for all",
        f"calls before and after its first answer: {told}",
        is_back and all(each.early == 1 for each in returns),
    )


def return_of(upstream: str, arrivals: Sequence[Arrival], healed_at: float) -> Return:
    since = sorted((each for each in arrivals if each.at >= healed_at), key=lambda each: each.at)
    if not since:
        return Return(upstream, 0, 0)
    first_end = min((each.ended_at for each in since if each.ended_at), default=float("inf"))
    # The loop's clock counts milliseconds: who comes in the one in which the first answer ended comes after it.
    return Return(upstream, sum(each.at < first_end for each in since), len(since))


def questions(random: Random, times: Times) -> list[Question]:
    asked = steady(random, RATE_PER_S, times.end)
    return [msgspec.structs.replace(each, headers=FAR_ONLY) if each.at < times.calm else each for each in asked]


async def one(how: How, near: int, seconds: float, seed: int, is_inside: bool = False) -> Seen:
    random = Random(seed)
    times = Times.of(seconds)
    nearby = [Upstream(f"near{n}", lambda: random.uniform(0.9, 1.1) * NEAR_S) for n in range(1, near + 1)]
    faraway = [Upstream(f"far{n}", lambda: random.uniform(0.9, 1.1) * FAR_S) for n in (1, 2)]
    all_of_them = [*nearby, *faraway]
    deployments = ", ".join(
        f'{{ provider = "{each.name}", model = "x", region = "{each.name[:-1]}", priority = {1 + (each in faraway)} }}'
        for each in all_of_them
    )
    config = MODEL.format(connect_s=CONNECT_S, deployments=deployments)
    loop = asyncio.get_running_loop()
    async with standing(*all_of_them):
        declared = "".join(providers({each.name: each.port}, f'region = "{each.name[:-1]}"') for each in all_of_them)
        with tempfile.TemporaryDirectory(prefix="naru-drill-") as name:
            async with serving(Path(name), CONFIG.format(more=declared + config), is_inside) as gateway:
                began = loop.time()
                asking = asyncio.create_task(ask_all(gateway.port, gateway.key, questions(random, times)))
                try:
                    await asyncio.sleep(times.lost)
                    for each in nearby:
                        await (each.die() if how == "refused" else each.vanish())
                    await asyncio.sleep(max(0.0, began + times.healed - loop.time()))
                    healed_at = loop.time()
                    for each in nearby:
                        await each.revive()
                    answers = await asking
                finally:
                    asking.cancel()
    returns = [return_of(each.name, each.arrivals, healed_at) for each in nearby]
    return Seen(how, near, times, answers, returns)


async def run(seconds: float = 7.0, seed: int = 1, is_inside: bool = False) -> Found:
    """`seconds` is how long the region is away, each of four times."""
    began = asyncio.get_running_loop().time()
    checks: list[Check] = []
    for near in (2, 3):
        for how in ("refused", "silent"):
            checks += verdict(await one(how, near, seconds, seed, is_inside))
    return Found("region", tuple(checks), asyncio.get_running_loop().time() - began)
