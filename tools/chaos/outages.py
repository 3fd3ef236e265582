"""A22, A29, A30: a pool that is full, a deployment that flaps, a region that is gone. Small loads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from naru.testing import Exchange, FaultProxy, RawServer
from naru.testing.script import play
from tools.chaos.client import Answer, chat_body
from tools.chaos.rows import CONNECT_S, SLACK_S, TTFT_S, Look, Row, Stage, until
from tools.chaos.upstreams import (
    BEGUN,
    HTML,
    HTML_HEADERS,
    TEXT,
    BlackHole,
    Held,
    healthy,
    stream,
)

MOST_CONNECTIONS = 10
ABANDONED = 300
#: reliability.md 1.3: a breaker stays open for 30 s, then one probe is let through.
OPEN_S = 30.0


def rows() -> list[Row]:
    flap = "a deployment that fails every other request, at random, beside a healthy one"
    region = "both deployments of region A dead (one refuses, one is silent), region B (two) healthy"
    return [
        Row("A22", "exhausted", f"{MOST_CONNECTIONS} connections at the most, 50 requests that take long",
            "10 are served; 40 wait no longer than connect_s, then 503 with retry-after", full, fifty, "pools"),
        Row("A22", "abandoned", f"{ABANDONED} streams left by their clients, 10 at a time",
            "every connection comes free, the next request is served", leaky, all_abandoned, "pools"),
        Row("A29", "flapping", flap, "success >= 99 %, at most 1.2 attempts a request", flapping, flaps, "flapping"),
        Row("A29", "dead, then well", "a deployment that fails always, then recovers",
            "breaker opens (few attempts), probes, takes its share again", switched, dies_and_recovers, "flapping"),
        Row("A30", "dead", region, "failover to B: all answered, one connect time at the most, then ejection",
            two_regions, region_dead, "regions"),
        Row("A30", "recovery", "the region comes back under load", "one probe for each deployment, then its share again",
            herd, comes_back, "regions"),
    ]  # fmt: skip


# --- Pools ------------------------------------------------------------------------------------------------------------


async def full(stage: Stage) -> None:
    held = stage.kept["held"] = Held()
    stage.bad = await stage.server(held)
    stage.model(
        stage.provide("bad", stage.bad, f"max_connections = {MOST_CONNECTIONS}"), timeouts={"ttft_s": 10, "total_s": 20}
    )


async def fifty(stage: Stage, look: Look) -> None:
    held: Held = stage.kept["held"]
    asking = [asyncio.create_task(stage.client.chat(stage.name, True)) for _ in range(50)]
    done, _ = await asyncio.wait(asking, timeout=CONNECT_S + 2 * SLACK_S)
    refused = [task.result() for task in done]
    look.saw(f"{len(refused)} refused", len(refused) == 40)
    right = [a for a in refused if a.status == 503 and a.error.get("code") == "upstream_pool_exhausted"]
    look.saw(f"{len(right)} with 503 upstream_pool_exhausted", len(right) == len(refused))
    look.saw("with retry-after", all("retry-after" in answer.headers for answer in refused))
    slowest = max((answer.took_s for answer in refused), default=0.0)
    look.saw(f"the last after {slowest:.1f} s", slowest <= CONNECT_S + SLACK_S)
    held.release()
    served = [answer for answer in await asyncio.gather(*asking) if answer.status == 200 and answer.text == TEXT]
    look.saw(f"{len(served)} served, {held.most} at once", (len(served), held.most) == (10, 10))
    await saw_one_more(stage, look)


async def saw_one_more(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, True)
    look.saw(f"the next one {answer.status}", answer.status == 200)


async def leaky(stage: Stage) -> None:
    counted = 0

    def handler(exchange: Exchange) -> Awaitable[None] | None:
        nonlocal counted
        counted += 1
        script = stream(*BEGUN, ending="hang") if counted <= ABANDONED else None
        return play(exchange, script) if script is not None else healthy()(exchange)

    stage.bad = await stage.server(handler)
    stage.model(
        stage.provide("bad", stage.bad, f"max_connections = {MOST_CONNECTIONS}"), timeouts={"idle_s": 10, "total_s": 20}
    )


async def all_abandoned(stage: Stage, look: Look) -> None:
    gate = asyncio.Semaphore(MOST_CONNECTIONS)
    body = stage.client.request(chat_body(stage.name, True))
    refused = 0

    async def leave() -> None:
        nonlocal refused
        async with gate, stage.client.connection() as (reader, writer):
            writer.write(body)
            refused += not (await asyncio.wait_for(reader.readuntil(b"\r\n"), 10)).startswith(b"HTTP/1.1 200")
            await asyncio.wait_for(reader.readuntil(b"some words"), 10)

    await asyncio.gather(*(leave() for _ in range(ABANDONED)))
    look.saw(f"{ABANDONED - refused} of {ABANDONED} began", not refused)
    is_empty = await until(lambda: stage.bad.open_connections == 0, 3.0)
    look.saw(f"{stage.bad.open_connections} upstream connections left", is_empty)
    look.saw(f"{stage.bad.aborted} aborts seen", stage.bad.aborted == ABANDONED)
    await saw_one_more(stage, look)


# --- A load -----------------------------------------------------------------------------------------------------------


async def load(stage: Stage, requests: int, clients: int, pause_s: float = 0.0) -> list[Answer]:
    """So many requests, by so many clients, one after the other each. In the order in which they were begun.

    Three clients are as many as the retry budget lets fail at once (1.3: at least 3)."""
    answers: list[tuple[float, Answer]] = []
    left = requests

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            begun = time.monotonic()
            answers.append((begun, await stage.client.chat(stage.name, True)))
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(client() for _ in range(clients)))
    return [answer for _, answer in sorted(answers, key=lambda pair: pair[0])]


def saw_success(look: Look, answers: list[Answer], least: float) -> None:
    good = sum(answer.status == 200 and answer.text == TEXT and answer.is_done for answer in answers)
    look.saw(f"{100 * good / len(answers):.1f} % of {len(answers)} answered", good >= least * len(answers))


class Switch:
    """A handler that fails while `is_failing()`. `first` is when it was asked after `recover`, `herd` how many asked it
    before its first answer after that was out."""

    def __init__(self, is_failing: Callable[[], bool]) -> None:
        self.is_failing = is_failing
        self.asked = 0
        self.herd = 0
        self.is_proven = False

    async def __call__(self, exchange: Exchange) -> None:
        self.asked += 1
        if self.is_failing():
            exchange.answer(503, HTML, HTML_HEADERS)
            return
        self.herd += not self.is_proven
        await asyncio.sleep(0.1)  # long enough for a herd to show
        self.is_proven = True
        pending = healthy()(exchange)
        if pending is not None:
            await pending


async def flapping(stage: Stage) -> None:
    switch = stage.kept["switch"] = Switch(lambda: stage.random.random() < 0.5)
    stage.bad, stage.good = await stage.server(switch), await stage.server(healthy())
    equals(stage, stage.provide("bad", stage.bad), stage.provide("good", stage.good))


def equals(stage: Stage, *providers: str) -> None:
    """A model whose deployments are all of the same priority."""
    stage.model(*providers)
    stage.config[-2] = stage.config[-2].replace("priority = 2", "priority = 1")


async def flaps(stage: Stage, look: Look) -> None:
    answers = await load(stage, 300, 3)
    saw_success(look, answers, 0.99)
    asked = stage.bad.requests + stage.good.requests
    look.saw(f"{asked / len(answers):.2f} attempts a request", asked <= 1.2 * len(answers))
    look.saw(f"the flapping one got {stage.bad.requests}")


async def switched(stage: Stage) -> None:
    stage.kept["is_dead"] = True
    switch = stage.kept["switch"] = Switch(lambda: bool(stage.kept["is_dead"]))
    stage.bad, stage.good = await stage.server(switch), await stage.server(healthy())
    equals(stage, stage.provide("bad", stage.bad), stage.provide("good", stage.good))


async def dies_and_recovers(stage: Stage, look: Look) -> None:
    answers = await load(stage, 100, 3)
    saw_success(look, answers, 0.99)
    while_dead = stage.bad.requests
    look.saw(f"the dead one was asked {while_dead} times in 100", while_dead <= 10)
    stage.kept["is_dead"] = False
    await saw_return(stage, look, [stage.kept["switch"]], [stage.bad])


async def saw_return(stage: Stage, look: Look, switches: list[Switch], servers: list[RawServer]) -> None:
    """Light load until all are asked again, and a little more to see that they are asked as before."""
    started = time.monotonic()
    answers: list[Answer] = []
    while time.monotonic() - started < OPEN_S * 1.5 and not all(switch.is_proven for switch in switches):
        answers += await load(stage, 9, 3, 0.2)
    took_s = time.monotonic() - started
    is_back = all(switch.is_proven for switch in switches)
    look.saw(f"back after {took_s:.0f} s" if is_back else "not back", is_back)
    herd = max(switch.herd for switch in switches)
    look.saw(f"{herd} requests before its first answer", herd <= 1)
    before = [server.requests for server in servers]
    answers += await load(stage, 40, 3)
    share = sum(server.requests for server in servers) - sum(before)
    look.saw(f"then {share} of 40", share >= 10)
    saw_success(look, answers, 0.99)


# --- Regions ----------------------------------------------------------------------------------------------------------


async def two_regions(stage: Stage) -> None:
    """A: one whose port refuses, one that never makes a connection. B: two healthy ones, asked last: half of all are well,
    so that there is no panic (1.3: below half everybody is asked again)."""
    proxy = FaultProxy("127.0.0.1", 1)
    await proxy.start()
    stage.stoppers.append(proxy.stop)
    await proxy.refuse()
    hole = BlackHole()
    hole.start()
    stage.stoppers.append(hole.stop)
    region_b = [stage.provide(name, await stage.server(healthy())) for name in ("b1", "b2")]
    stage.model(
        stage.provider("a1", f"http://127.0.0.1:{proxy.port}"),
        stage.provider("a2", f"http://127.0.0.1:{hole.port}"),
        *region_b,
    )


async def region_dead(stage: Stage, look: Look) -> None:
    answers = await load(stage, 60, 3)
    saw_success(look, answers, 1.0)
    slowest = max(answer.took_s for answer in answers)
    look.saw(f"the slowest took {slowest:.1f} s", slowest <= CONNECT_S + SLACK_S)
    late = max(answer.took_s for answer in answers[-20:])
    look.saw(f"the last 20 at most {late * 1000:.0f} ms", late <= TTFT_S)


async def herd(stage: Stage) -> None:
    """A: two switched ones. B: two healthy ones, asked last."""
    stage.kept["is_dead"] = True
    stage.kept["switches"] = [Switch(lambda: bool(stage.kept["is_dead"])) for _ in range(2)]
    stage.kept["region"] = [await stage.server(switch) for switch in stage.kept["switches"]]
    region_b = [stage.provide(name, await stage.server(healthy())) for name in ("b1", "b2")]
    region = [stage.provide(f"a{place}", server) for place, server in enumerate(stage.kept["region"])]
    stage.model(*region, *region_b)
    stage.config[-2] = stage.config[-2].replace("priority = 2", "priority = 1")


async def comes_back(stage: Stage, look: Look) -> None:
    saw_success(look, await load(stage, 60, 3), 0.99)
    asked = sum(server.requests for server in stage.kept["region"])
    look.saw(f"A was asked {asked} times in 60", asked <= 20)
    stage.kept["is_dead"] = False
    await saw_return(stage, look, stage.kept["switches"], stage.kept["region"])
