"""A13 to A18, A28: answers that say no, and figures that cannot be believed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from email.utils import formatdate
from typing import Any

from naru.testing import Exchange, Script
from naru.testing.http import Handler
from naru.testing.script import JSON_HEADERS
from tools.chaos import checks
from tools.chaos.checks import PLAIN, STREAM, counts, cut_off, exhausted, fails_over
from tools.chaos.client import LEAK
from tools.chaos.rows import Look, Row, Stage, alone, beside_a_peer
from tools.chaos.upstreams import (
    BEGUN,
    DONE,
    HEALTHY_COST,
    HTML,
    HTML_HEADERS,
    PRICE_INPUT,
    PRICE_OUTPUT,
    ROLE,
    STOP,
    TEXT,
    TOLD,
    answering,
    chunk,
    either,
    error_body,
    event,
    healthy,
    healthy_plain,
    in_turn,
    says,
    stream,
)

BAD_STATUSES = (500, 502, 503, 504, 529)
FINAL_STATUSES = (400, 404, 413, 422)
#: reliability.md A13: whatever a provider asks for, five minutes are the most.
MAX_WAIT_S = 300


def rows() -> list[Row]:
    return [*limited(), *failing(), *final(), *unauthorised(), *inside(), *usages()]


# --- 429 --------------------------------------------------------------------------------------------------------------


def busy(**headers: str) -> Handler:
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return answering(429, error_body("slow down", "rate_limit_exceeded"), (*JSON_HEADERS, *given))


def limited() -> list[Row]:
    return [
        Row("A13", "before commit", "429 with retry-after: 30", "failover: 200 from the peer, billed once",
            beside_a_peer(busy(retry_after="30")), fails_over(STREAM)),
        Row("A13", "exhausted", "two deployments: 429 for 7 s and for 3 s", "429 with the smallest wait, 3 s",
            two_busy, smallest_wait),
        Row("A13", "forms", "seconds, ms header, HTTP-date, garbage, 9999999", "each understood, 300 s at most",
            forms, understood),
        Row("A13", "cool-down", "429 with retry-after: 30, asked again at once", "cooled down: not asked again",
            beside_a_peer(busy(retry_after="30")), cools_down),
        Row("A13", "cool-down ends", "429 with retry-after: 1", "asked again once the second is over",
            beside_a_peer(in_turn(busy(retry_after="1"), healthy())), comes_back),
        Row("A13", "not an ejection", "8 times 429 with retry-after-ms: 20, 50 ms apart", "asked each time",
            beside_a_peer(busy(retry_after_ms="20")), is_not_ejected),
        Row("A14", "before commit", "429 without a wait", "failover: 200 from the peer, billed once",
            beside_a_peer(busy()), fails_over(STREAM)),
        Row("A14", "exhausted", "429 without a wait, no peer", "429, and a retry-after of our own (1.3)",
            alone(busy()), own_wait),
        Row("A14", "cool-down", "429 without a wait, asked again at once", "cooled down: not asked again",
            beside_a_peer(busy()), cools_down),
    ]  # fmt: skip


async def two_busy(stage: Stage) -> None:
    stage.bad, stage.good = await stage.server(busy(retry_after="7")), await stage.server(busy(retry_after="3"))
    stage.model(stage.provide("bad", stage.bad), stage.provide("good", stage.good))


async def smallest_wait(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name)
    checks.saw_error(look, answer, 429, "rate_limit_exceeded")
    saw_wait(look, answer.headers, 3, 3)
    await checks.saw_entries(stage, look, 1, "failed", 0)


def saw_wait(look: Look, headers: dict[str, str], low: int, high: int, what: str = "") -> None:
    said = headers.get("retry-after", "")
    is_right = said.isdigit() and low <= int(said) <= high
    look.saw(f"{what}retry-after {said or 'missing'}", is_right)


#: What the provider sends, and between what the client's own retry-after must then be, in seconds.
FORMS: dict[str, tuple[dict[str, str], int, int]] = {
    "seconds": ({"retry_after": "9"}, 9, 9),
    "ms": ({"retry_after_ms": "4200"}, 5, 5),
    "date": ({"retry_after": "DATE"}, 18, 21),
    "9999999": ({"retry_after": "9999999"}, MAX_WAIT_S, MAX_WAIT_S),
    "garbage": ({"retry_after": "soon, perhaps"}, 1, MAX_WAIT_S),
}


async def forms(stage: Stage) -> None:
    for form, (headers, _, _) in FORMS.items():

        def refuse(exchange: Exchange, headers: dict[str, str] = headers) -> Awaitable[None] | None:
            date = formatdate(time.time() + 20, usegmt=True)  # 20 s from when it is asked
            return busy(**{name: value.replace("DATE", date) for name, value in headers.items()})(exchange)

        stage.model(stage.provide(form, await stage.server(refuse)), part=f"-{form}")


async def understood(stage: Stage, look: Look) -> None:
    for form, (_, low, high) in FORMS.items():
        answer = await stage.client.chat(f"{stage.name}-{form}")
        if answer.status != 429:
            look.saw(f"{form}: {answer.status}", False)
        saw_wait(look, answer.headers, low, high, f"{form}: ")


async def own_wait(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name)
    checks.saw_error(look, answer, 429, "rate_limit_exceeded")
    saw_wait(look, answer.headers, 1, MAX_WAIT_S)


async def cools_down(stage: Stage, look: Look) -> None:
    answers = [await stage.client.chat(stage.name) for _ in range(4)]
    failed = sum(answer.status != 200 for answer in answers)
    look.saw(f"{4 - failed} of 4 answered", not failed)
    look.saw(f"the limited one was asked {stage.bad.requests} times", stage.bad.requests == 1)


async def comes_back(stage: Stage, look: Look) -> None:
    first = await stage.client.chat(stage.name)
    look.saw(f"{first.status}, {first.attempts} attempts", (first.status, first.attempts) == (200, 2))
    await asyncio.sleep(1.3)
    second = await stage.client.chat(stage.name)
    is_back = second.deployment.startswith(f"{stage.name}-bad")
    look.saw(f"after 1.3 s {'asked' if is_back else 'not asked'} again", is_back and second.status == 200)


async def is_not_ejected(stage: Stage, look: Look) -> None:
    failed = 0
    for _ in range(8):
        failed += (await stage.client.chat(stage.name)).status != 200
        await asyncio.sleep(0.05)
    look.saw(f"{8 - failed} of 8 answered", not failed)
    look.saw(f"the limited one was asked {stage.bad.requests} times", stage.bad.requests == 8)


# --- 5xx, 4xx, 401 ----------------------------------------------------------------------------------------------------


def failing() -> list[Row]:
    fault = "500, 502, 503, 504, 529 with a page of HTML"

    def each() -> Handler:
        return in_turn(*(answering(status, HTML, HTML_HEADERS) for status in BAD_STATUSES))

    return [
        Row("A15", "before commit", fault, "failover each time: 200 from the peer, billed once",
            beside_a_peer(each()), five_failovers),
        Row("A15", "exhausted", f"{fault}, no peer", "an error in OpenAI's shape, no HTML",
            alone(each()), five_errors),
        Row("A15", "health", "8 times 503 with HTML", "after 5 failures in a row it is asked no more",
            beside_a_peer(answering(503, HTML, HTML_HEADERS)), counts()),
    ]  # fmt: skip


async def five_failovers(stage: Stage, look: Look) -> None:
    answers = [await stage.client.chat(stage.name, place % 2 == 1) for place in range(5)]
    good = sum(a.status == 200 and a.text == TEXT and a.attempts == 2 for a in answers)
    look.saw(f"{good} of 5: 200, 2 attempts", good == 5)
    for answer in answers:
        checks.saw_no_leak(look, answer)
    await checks.saw_entries(stage, look, 5, "completed", HEALTHY_COST, attempts=2)


async def five_errors(stage: Stage, look: Look) -> None:
    for place in range(5):
        answer = await stage.client.chat(stage.name, place % 2 == 1)
        found = str(answer.status) if answer.has_shape else f"{answer.status} {answer.body[:30]!r}"
        look.saw(found, answer.has_shape and 500 <= answer.status < 600)
        checks.saw_no_leak(look, answer)
    await checks.saw_entries(stage, look, 5, "failed", 0)


def final() -> list[Row]:
    def each() -> Handler:
        return in_turn(*(answering(status, error_body(f"wrong {status}", "bad_thing")) for status in FINAL_STATUSES))

    return [
        Row("A16", "before commit", "400, 404, 413, 422 from the provider", "passed through in OpenAI's shape, no retry",
            beside_a_peer(each()), passed_through),
        Row("A16", "health", "8 times 400", "does not count: asked each time",
            beside_a_peer(answering(400, error_body("wrong", "bad_thing"))), does_not_count),
    ]  # fmt: skip


async def passed_through(stage: Stage, look: Look) -> None:
    for status in FINAL_STATUSES:
        answer = await stage.client.chat(stage.name, status == 404)
        is_right = answer.status == status and answer.has_shape and answer.error["message"] == f"wrong {status}"
        look.saw(f"{answer.status} {answer.error.get('code')}", is_right and answer.error["code"] == "bad_thing")
    asked = stage.good.requests
    look.saw(f"the peer was asked {asked} times", not asked)
    await checks.saw_entries(stage, look, 4, "failed", 0, attempts=1)


async def does_not_count(stage: Stage, look: Look) -> None:
    answers = [await stage.client.chat(stage.name) for _ in range(8)]
    look.saw(f"{sum(a.status == 400 for a in answers)} of 8: 400", all(a.status == 400 for a in answers))
    look.saw(f"it was asked {stage.bad.requests} times", stage.bad.requests == 8)


def unauthorised() -> list[Row]:
    def refusing(status: int) -> Handler:
        return answering(status, error_body(f"{LEAK}: key sk-123 of org-9 is revoked", "invalid_api_key"))

    both = "401, 403 with the provider's own words"
    return [
        # One request each: the second would not be sent to it any more.
        Row("A17", "before commit, 401", "401 with the provider's own words", "failover: 200 from the peer, billed once",
            beside_a_peer(refusing(401)), fails_over(PLAIN)),
        Row("A17", "before commit, 403", "403 with the provider's own words", "failover: 200 from the peer, billed once",
            beside_a_peer(refusing(403)), fails_over(STREAM)),
        Row("A17", "exhausted", f"{both}, no peer", "502 upstream_auth, never 401; none of the provider's words",
            alone(in_turn(refusing(401), refusing(403))), exhausted(502, "upstream_auth")),
        Row("A17", "health", "401, asked again at once", "the credential is out of use: not asked again",
            beside_a_peer(refusing(401)), is_disabled),
        Row("A17", "alert", "401", "the operator is told: a warning in the log names the deployment",
            beside_a_peer(refusing(401)), alerts),
    ]  # fmt: skip


async def is_disabled(stage: Stage, look: Look) -> None:
    answers = [await stage.client.chat(stage.name) for _ in range(4)]
    look.saw(f"{sum(a.status == 200 for a in answers)} of 4 answered", all(a.status == 200 for a in answers))
    look.saw(f"the refused credential was used {stage.bad.requests} times", stage.bad.requests == 1)


async def alerts(stage: Stage, look: Look) -> None:
    await stage.client.chat(stage.name)
    lines = [line for line in stage.gateway.log.splitlines() if f"{stage.name}-bad" in line and line.startswith("{")]
    levels = sorted({str(json.loads(line).get("level")) for line in lines})
    look.saw(f"logged as {', '.join(levels) or 'nothing'}", bool({"warning", "error"} & set(levels)))
    look.saw("none of the provider's words in it", not any(LEAK in line for line in lines))


# --- Errors inside an answer of 200 -------------------------------------------------------------------------------------


def inside() -> list[Row]:
    body = error_body("the engine fell over", None, "server_error")
    plain = Script(pieces=(body,))
    as_json = Script(pieces=(body,))
    first = either(stream(event(body)), plain)
    return [
        Row("A18", "before commit, event", "200 whose first event, or body, is an error", "failover",
            beside_a_peer(first), fails_over()),
        Row("A18", "before commit, body", "200 with an error as JSON, to a streamed request too", "failover",
            beside_a_peer(either(as_json, plain)), fails_over()),
        Row("A18", "after commit", "an error as an event in mid-stream", "error event, no [DONE], partial bill",
            beside_a_peer(either(stream(*BEGUN, event(body)), plain)), cut_off(None)),
        Row("A18", "exhausted", "200 with an error in it, no peer", "5xx in OpenAI's shape, nothing billed",
            alone(either(stream(event(body)), plain)), an_error),
    ]  # fmt: skip


async def an_error(stage: Stage, look: Look) -> None:
    for is_stream in checks.BOTH:
        answer = await stage.client.chat(stage.name, is_stream)
        look.saw(f"{answer.status} {answer.error.get('type')}", 500 <= answer.status < 600 and answer.has_shape)
    await checks.saw_entries(stage, look, 2, "failed", 0)


# --- Usage --------------------------------------------------------------------------------------------------------------

HUGE = 10**18
#: What a client may be charged at most for these few words, estimated or not: a millionth of what HUGE would cost.
MOST_NANO = 1_000_000_000_000


def usages() -> list[Row]:
    def told(*usages: Any) -> tuple[Script, Script]:
        chunks = [event(chunk(None, usage=usage)) for usage in usages]
        return stream(ROLE, says(TEXT), STOP, *chunks, DONE), healthy_plain(usage=usages[-1] if usages else None)

    def usage(prompt: Any, completion: Any) -> dict[str, Any]:
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": 0}

    null = event({**chunk({}, "stop"), "usage": None})
    exact = "charged to the token, not an estimate"
    made: list[tuple[str, tuple[Script, Script], str, Any]] = [
        ("absent", told(), "charged by an estimate that says so", by_estimate),
        ("null", (stream(ROLE, says(TEXT), null, DONE), healthy_plain(usage=None)),
         "charged by an estimate that says so", by_estimate),
        ("negative", told(usage(-10, -5)), "never a negative charge", never_negative),
        ("huge", told(usage(HUGE, HUGE)), "clamped or estimated", never_negative),
        ("float", told(usage(10.0, 5.0)), exact, exactly(10, 5)),
        ("twice", told(usage(1, 1), usage(10, 5)), "the last one counts", exactly(10, 5)),
        ("no choices", (stream(ROLE, says(TEXT), STOP, TOLD, DONE), healthy_plain()), exact, exactly(10, 5)),
    ]  # fmt: skip
    return [Row("A28", case, f"usage: {case}", expected, alone(either(*scripts)), check)
            for case, scripts, expected, check in made]  # fmt: skip


async def charged(stage: Stage, look: Look) -> list[dict[str, Any]]:
    for is_stream in checks.BOTH:
        answer = await stage.client.chat(stage.name, is_stream)
        if answer.status != 200 or answer.text != TEXT:
            look.saw(f"{answer.status} {checks.told(answer)}", False)
    entries = await stage.gateway.entries(stage.name, 2)
    look.saw(f"{len(entries)} entries", len(entries) == 2)
    return entries


async def by_estimate(stage: Stage, look: Look) -> None:
    for entry in await charged(stage, look):
        look.saw(checks.shown(entry), entry["is_estimated"] and entry["cost_nano"] > 0)


async def never_negative(stage: Stage, look: Look) -> None:
    for entry in await charged(stage, look):
        look.saw(checks.shown(entry), 0 <= entry["cost_nano"] <= MOST_NANO)
        look.saw(f"{entry['input']:,} + {entry['output']:,} tokens", entry["input"] >= 0 and entry["output"] >= 0)


def exactly(prompt: int, completion: int) -> Any:
    cost = int((prompt * PRICE_INPUT + completion * PRICE_OUTPUT) * 1000)

    async def check(stage: Stage, look: Look) -> None:
        for entry in await charged(stage, look):
            look.saw(checks.shown(entry), entry["cost_nano"] == cost and not entry["is_estimated"])

    return check
