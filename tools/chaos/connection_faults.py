"""A1 to A4, A21, A25, A26: what goes wrong before there is an answer."""

from __future__ import annotations

from typing import Literal

from naru.testing import FaultProxy, Script, scripted
from naru.testing.http import Handler, head
from naru.testing.script import JSON_HEADERS
from tools.chaos import checks
from tools.chaos.checks import PLAIN, STREAM, counts, cut_off, exhausted, fails_over
from tools.chaos.rows import CONNECT_S, TOTAL_S, TTFT_S, Look, Prepare, Row, Stage, alone, beside_a_peer
from tools.chaos.upstreams import (
    BEGUN,
    HEALTHY_COST,
    RESET,
    ROLE,
    SILENT,
    TEXT,
    RudeServer,
    answering,
    either,
    error_body,
    healthy,
    healthy_plain,
    stream,
)

HEAD_ONLY = stream(ending="hang")
ROLE_ONLY = stream(ROLE, ending="hang")


def rows() -> list[Row]:
    return [*refused(), *reset(), *hanging(), *others()]


def refused() -> list[Row]:
    fault = "connection refused"
    return [
        Row("A1", "before commit", fault, "failover: 200 from the peer, billed once", refusing(True), over_a_refusal),
        Row("A1", "exhausted", fault, "502 upstream_unreachable within the connect time, nothing billed",
            refusing(False), exhausted(502, "upstream_unreachable", within_s=CONNECT_S)),
        Row("A1", "health", f"{fault}, 8 times", "after 5 failures in a row it is asked no more",
            refusing(True), counts()),
    ]  # fmt: skip


def refusing(has_peer: bool) -> Prepare:
    async def prepare(stage: Stage) -> None:
        proxy = FaultProxy("127.0.0.1", 1)  # nothing is ever passed on
        await proxy.start()
        stage.stoppers.append(proxy.stop)
        await proxy.refuse()
        order = [stage.provider("bad", f"http://127.0.0.1:{proxy.port}")]
        if has_peer:
            stage.good = await stage.server(healthy())
            order.append(stage.provide("good", stage.good))
        stage.model(*order)

    return prepare


async def over_a_refusal(stage: Stage, look: Look) -> None:
    for is_stream in checks.BOTH:
        checks.saw_peer(look, await stage.client.chat(stage.name, is_stream), is_stream, CONNECT_S)
    await checks.saw_entries(stage, look, 2, "completed", HEALTHY_COST, attempts=2)


def reset() -> list[Row]:
    fault = "RST after the request was written"
    return [
        Row("A2", "before commit", fault, "failover: 200 from the peer, billed once",
            beside_a_peer(either(RESET, RESET)), fails_over()),
        Row("A2", "after commit", "RST in mid-stream", "error event, close, partial bill",
            beside_a_peer(either(stream(*BEGUN, ending="reset"), RESET)), cut_off(None)),
        Row("A2", "exhausted", fault, "502, nothing billed", alone(either(RESET, RESET)), exhausted(502, None)),
        Row("A2", "health", f"{fault}, 8 times", "after 5 failures in a row it is asked no more",
            beside_a_peer(either(RESET, RESET)), counts()),
    ]  # fmt: skip


def hanging() -> list[Row]:
    rows = [
        Row("A3", "before commit", "accepts, hangs before the head", "TTFT time-out, then failover; socket aborted",
            beside_a_peer(either(SILENT, SILENT)), after_the_first_time),
        Row("A3", "exhausted", "accepts, hangs before the head", "504 upstream_timeout, socket aborted",
            alone(either(SILENT, SILENT)), slow_and_alone),
        Row("A3", "exhausted, plain", "the same, asked for a plain answer", "504 upstream_timeout at the deadline",
            alone(either(SILENT, SILENT), total_s=1.5), exhausted(504, "upstream_timeout", PLAIN, 1.5)),
        Row("A3", "health", "accepts, hangs before the head, 8 times", "after 5 failures in a row it is asked no more",
            beside_a_peer(either(SILENT, SILENT)), counts()),
    ]  # fmt: skip
    for case, script in (("head only", HEAD_ONLY), ("head and role", ROLE_ONLY)):
        rows += [
            Row("A4", f"before commit, {case}", f"{case}, then nothing", "TTFT time-out, then failover; socket aborted",
                beside_a_peer(either(script, SILENT)), after_the_first_time),
            Row("A4", f"exhausted, {case}", f"{case}, then nothing", "504 upstream_timeout, socket aborted",
                alone(either(script, SILENT)), slow_and_alone),
        ]  # fmt: skip
    return rows


async def after_the_first_time(stage: Stage, look: Look) -> None:
    await fails_over(STREAM, TTFT_S)(stage, look)
    await checks.saw_abort(stage, look)


async def slow_and_alone(stage: Stage, look: Look) -> None:
    await exhausted(504, "upstream_timeout", STREAM, TTFT_S)(stage, look)
    await checks.saw_abort(stage, look)


# --- Redirects, reuse, early answers ----------------------------------------------------------------------------------


def others() -> list[Row]:
    reused = "keep-alive connection closed just as it is reused"
    once = "one transparent retry on a fresh connection, not counted"
    return [
        Row("A21", "exhausted", "301, 302, 307, 308 to another server", "never followed; 502",
            redirecting, nobody_was_asked),
        Row("A25", "reused, RST", f"{reused} (RST)", once, alone(reused_badly("reset")), on_a_fresh_connection),
        Row("A25", "reused, FIN", f"{reused} (FIN)", once, alone(reused_badly("fin")), on_a_fresh_connection),
        Row("A26", "before commit", "413 while 8 MB are still being uploaded", "413 relayed, sending stops",
            rude, stops_sending),
    ]  # fmt: skip


async def redirecting(stage: Stage) -> None:
    elsewhere = stage.good = await stage.server(healthy())
    statuses = iter((301, 302, 307, 308))
    target = (("location", f"http://127.0.0.1:{elsewhere.port}/v1/chat/completions"),)
    stage.bad = await stage.server(lambda exchange: answering(next(statuses), b"", target)(exchange))
    stage.model(stage.provide("bad", stage.bad))


async def nobody_was_asked(stage: Stage, look: Look) -> None:
    for _ in range(4):
        checks.saw_error(look, await stage.client.chat(stage.name), 502, None)
    asked = stage.good.requests
    look.saw("the redirect's target was asked" if asked else "the redirect's target was not asked", not asked)


def reused_badly(ending: Literal["fin", "reset"]) -> Handler:
    """The first answer keeps the connection; the next request on it is met by its end; a third is answered."""
    return scripted(healthy_plain(), Script(is_silent=True, ending=ending), healthy_plain())


async def on_a_fresh_connection(stage: Stage, look: Look) -> None:
    first = await stage.client.chat(stage.name)
    second = await stage.client.chat(stage.name)
    for answer in (first, second):
        look.saw(f"{answer.status}, {answer.attempts} attempt", (answer.status, answer.attempts) == (200, 1))
        if answer.text != TEXT:
            look.saw(checks.told(answer), False)
    made = (stage.bad.requests, stage.bad.connections)
    look.saw(f"{made[0]} upstream requests on {made[1]} connections", made == (3, 2))
    await checks.saw_entries(stage, look, 2, "completed", HEALTHY_COST, attempts=1)


UPLOAD_BYTES = 8_000_000


async def rude(stage: Stage) -> None:
    body = error_body("the request is too large for this model", "too_large")
    server = RudeServer(head(413, (*JSON_HEADERS, ("content-length", str(len(body))))) + body)
    stage.model(stage.provider("bad", await server.start()))
    stage.stoppers.append(server.stop)
    stage.kept["server"] = server


async def stops_sending(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, messages=[{"role": "user", "content": "x" * UPLOAD_BYTES}])
    checks.saw_error(look, answer, 413, "too_large")
    checks.saw_time(look, answer.took_s, TOTAL_S)
    taken = stage.kept["server"].taken
    look.saw(f"{taken / 1e6:.1f} of 8 MB were sent", taken < UPLOAD_BYTES)
    await checks.saw_entries(stage, look, 1, "failed", 0)
