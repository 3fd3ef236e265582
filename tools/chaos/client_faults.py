"""B1, B2, B14 to B16: clients that leave, hurry, ask for another protocol, or ask twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tools.chaos import checks
from tools.chaos.client import chat_body, read_answer, reset
from tools.chaos.rows import SLACK_S, Check, Look, Row, Stage, alone, until
from tools.chaos.upstreams import (
    BEGUN,
    HEALTHY_COST,
    SILENT,
    TEXT,
    WHOLE,
    Held,
    either,
    healthy,
    healthy_plain,
    stream,
)

PIPELINED = 100


def rows() -> list[Row]:
    patient = {"ttft_s": 20.0, "idle_s": 20.0, "total_s": 30.0}
    cancelled = "upstream aborted within 1 s, input (and what came) billed, cancelled"
    slow = either(stream(*WHOLE, pause_s=0.05), healthy_plain())
    return [
        Row("B1", "streamed", "FIN while the first content is waited for", cancelled,
            alone(either(SILENT, SILENT), **patient), leaves_waiting),
        Row("B1", "plain", "FIN while a plain answer is waited for", "finished upstream, settled in full (1.4)",
            held, leaves_plain),
        Row("B2", "FIN", "FIN in mid-stream", cancelled,
            alone(either(stream(*BEGUN, ending="hang"), SILENT), **patient), leaves("fin")),
        Row("B2", "RST", "RST in mid-stream", cancelled,
            alone(either(stream(*BEGUN, ending="hang"), SILENT), **patient), leaves("reset")),
        Row("B2", "half-close, plain", "shutdown(WR) right after a plain request, as nc does", "no cancel: the answer comes",
            alone(slow, **patient), half_closes),
        # A FIN is the same packet whether close() or shutdown(WR) sent it, and a stream must end within 1 s of a close.
        Row("B2", "half-close, stream", "shutdown(WR) in mid-stream", f"as a FIN, which it cannot be told from: {cancelled}",
            alone(either(stream(*BEGUN, ending="hang"), SILENT), **patient), leaves("half-close")),
        Row("B2", "after the end", "FIN once [DONE] was read, upstream still open", "success, no cancel (1.4)",
            alone(either(stream(*WHOLE, ending="hang"), SILENT), **patient), leaves_after_the_end),
        Row("B14", "pipelining", f"{PIPELINED} requests in one write", "answered in order, one connection",
            alone(healthy()), pipelined),
        Row("B15", "upgrade", "WebSocket upgrade to /v1/stream and /v1/chat/completions (no such endpoint yet)",
            "a clean HTTP refusal at once, no 101", alone(healthy()), refuses_upgrades),
        Row("B16", "concurrent", "5 requests with one Idempotency-Key at once", "one execution, 409 for the others",
            held, same_key_at_once),
        Row("B16", "later", "the same request again; streamed too", "the stored result, one execution, billed once",
            alone(slow), same_key_later),
        Row("B16", "other body", "another body under the same key", "422, nothing executed",
            alone(healthy()), same_key_other_body),
    ]  # fmt: skip


# --- Leaving ----------------------------------------------------------------------------------------------------------


async def leaves_waiting(stage: Stage, look: Look) -> None:
    async with stage.client.connection() as (_, writer):
        writer.write(stage.client.request(chat_body(stage.name, True)))
        await until(lambda: stage.bad.requests > 0, 5)
    await checks.saw_abort(stage, look)
    await checks.saw_entries(stage, look, 1, "cancelled", None)


async def held(stage: Stage) -> None:
    """A model whose upstream answers when it is told to."""
    stage.kept["held"] = Held()
    await alone(stage.kept["held"], ttft_s=20, total_s=30)(stage)


async def leaves_plain(stage: Stage, look: Look) -> None:
    upstream: Held = stage.kept["held"]
    async with stage.client.connection() as (_, writer):
        writer.write(stage.client.request(chat_body(stage.name)))
        await until(lambda: upstream.inside > 0, 5)
    await asyncio.sleep(0.3)
    look.saw("upstream still asked" if upstream.inside else "upstream cut", upstream.inside == 1)
    upstream.release()
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


def leaves(how: str) -> Check:
    async def check(stage: Stage, look: Look) -> None:
        async with stage.client.connection() as (reader, writer):
            writer.write(stage.client.request(chat_body(stage.name, True)))
            await asyncio.wait_for(reader.readuntil(b"were said"), 5)
            if how == "reset":
                reset(writer)
            elif how == "half-close":
                writer.write_eof()
                await until(lambda: stage.bad.aborted > 0, SLACK_S)
        await checks.saw_abort(stage, look)
        await checks.saw_entries(stage, look, 1, "cancelled", None)

    return check


async def half_closes(stage: Stage, look: Look) -> None:
    async with stage.client.connection() as (reader, writer):
        writer.write(stage.client.request(chat_body(stage.name)))
        writer.write_eof()
        answer = await read_answer(reader, time.monotonic(), 5)
    is_right = answer.status == 200 and answer.text == TEXT and answer.is_whole
    look.saw("200, whole" if is_right else checks.told(answer), is_right)
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


async def leaves_after_the_end(stage: Stage, look: Look) -> None:
    async with stage.client.connection() as (reader, writer):
        writer.write(stage.client.request(chat_body(stage.name, True)))
        await asyncio.wait_for(reader.readuntil(b"[DONE]"), 5)
    look.saw("[DONE] was read")
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


# --- Connections ------------------------------------------------------------------------------------------------------


async def pipelined(stage: Stage, look: Look) -> None:
    client = stage.client
    bodies = [chat_body(stage.name, user=f"number {place}") for place in range(PIPELINED)]
    data = b"".join(client.request(body, headers={"connection": "keep-alive"}) for body in bodies)
    ids = []
    async with client.connection() as (reader, writer):
        writer.write(data)
        for _ in range(PIPELINED):
            answer = await read_answer(reader, 0.0, 10)
            if answer.status != 200 or answer.text != TEXT:
                break
            ids.append(answer.request_id)
    look.saw(f"{len(ids)} of {PIPELINED} answered", len(ids) == PIPELINED)
    users = [received.body.partition(b'"number ')[2].partition(b'"')[0] for received in stage.bad.received]
    in_order = [int(user) for user in users if user] == list(range(len(users)))
    look.saw("in order" if in_order else "out of order", in_order and len(set(ids)) == len(ids))
    await checks.saw_entries(stage, look, PIPELINED, "completed", HEALTHY_COST)


async def refuses_upgrades(stage: Stage, look: Look) -> None:
    upgrade = {
        "connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "origin": "https://evil.example",
    }  # fmt: skip
    for path in ("/v1/stream", "/v1/chat/completions"):
        for what, key in (("", stage.client.key), (", no key", "")):
            head = stage.client.head("GET", path, {**upgrade, "authorization": f"Bearer {key}" if key else ""})
            answer = await stage.client.raw(head + b"\r\n", 3.0)
            is_right = 400 <= answer.status < 500 and answer.has_shape and answer.took_s < SLACK_S
            look.saw(f"{path}{what}: {answer.status} {answer.error.get('code')}", is_right)
    asked = stage.bad.requests
    look.saw(f"{asked} upstream requests", not asked)


# --- Idempotency ------------------------------------------------------------------------------------------------------


def keyed(stage: Stage, body: bytes) -> Any:
    return stage.client.post(body, idempotency_key=f"key-of-{stage.name}")


async def same_key_at_once(stage: Stage, look: Look) -> None:
    upstream: Held = stage.kept["held"]
    body = chat_body(stage.name)
    asking = [asyncio.ensure_future(keyed(stage, body)) for _ in range(5)]
    done, _ = await asyncio.wait(asking, timeout=2)
    refused = [task.result() for task in done]
    right = [a for a in refused if a.status == 409 and a.error.get("code") == "idempotency_in_progress"]
    look.saw(f"{len(right)} times 409", len(right) == 4)
    look.saw("with retry-after", all("retry-after" in answer.headers for answer in right))
    upstream.release()
    served = [answer for answer in await asyncio.gather(*asking) if answer.status == 200]
    look.saw(f"{len(served)} times 200", len(served) == 1)
    look.saw(f"{stage.bad.requests} executions", stage.bad.requests == 1)
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


async def same_key_later(stage: Stage, look: Look) -> None:
    for is_stream in checks.BOTH:
        body = chat_body(stage.name, is_stream)
        key = {"idempotency_key": f"{stage.name}-{is_stream}"}
        first, second = await stage.client.post(body, **key), await stage.client.post(body, **key)
        is_same = (first.status, first.body) == (second.status, second.body) and first.text == TEXT
        is_replay = second.headers.get("x-naru-idempotent-replay") == "true"
        look.saw(f"{'stream' if is_stream else 'plain'}: {'the same' if is_same else 'another'}", is_same and is_replay)
    look.saw(f"{stage.bad.requests} executions of 2", stage.bad.requests == 2)
    await checks.saw_entries(stage, look, 2, "completed", HEALTHY_COST)


async def same_key_other_body(stage: Stage, look: Look) -> None:
    first = await keyed(stage, chat_body(stage.name))
    other = await keyed(stage, chat_body(stage.name, user="somebody else"))
    look.saw(f"first {first.status}", first.status == 200)
    checks.saw_error(look, other, 422, "idempotency_mismatch", "other")
    look.saw(f"{stage.bad.requests} execution", stage.bad.requests == 1)
