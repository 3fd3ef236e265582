"""Idempotency-Key: one execution, one charge, one ledger entry, however often the same is asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.cache import idempotency
from naru.testing.clock import FakeClock
from naru.testing.http import Exchange, RawServer
from tests.harness import MESSAGES, another_key, running

ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "thing",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}  # fmt: skip
SPOKEN = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"thing","choices":[{"index":0,"delta":'
    b'{"role":"assistant","content":"hi"},"finish_reason":null}]}\n\n'
)
EVENTS = (("content-type", "text/event-stream"),)
ONCE = {"idempotency-key": "8f2c-once"}
WAYS = pytest.mark.parametrize("way", ["fast", "asgi"])


def asked(model: str = "sandbox/echo", **more: Any) -> bytes:
    return msgspec.json.encode({"model": model, "messages": MESSAGES, **more})


def config(base: str) -> str:
    return (
        f'[providers.own]\nkind = "custom"\nbase_url = "{base}/v1"\napi_key = "x"\nallow_private = true\n'
        "price = { input = 1, output = 2 }\n"
    )


@contextlib.asynccontextmanager
async def behind(folder: Path, handler: Callable[[Exchange], Any], way: str = "fast") -> AsyncIterator[Any]:
    """(gateway, upstream)."""
    upstream = RawServer(handler)
    base = await upstream.start()
    try:
        async with running(folder, config(base), way) as gateway:
            yield gateway, upstream
    finally:
        await upstream.stop()


def code(body: bytes) -> str:
    return str(msgspec.json.decode(body)["error"]["code"])


@WAYS
async def test_a_plain_answer_is_told_again(tmp_path: Path, way: str) -> None:
    """The same bytes and headers, marked as a replay; one entry, one charge, one call upstream."""
    async with behind(tmp_path, lambda e: e.answer(200, msgspec.json.encode(ANSWER)), way) as (gateway, upstream):
        status, headers, body = await gateway.post(asked("own/thing"), **ONCE)
        again = await gateway.post(asked("own/thing"), **ONCE)
        assert (status, again[0], again[2]) == (200, 200, body)
        assert "x-naru-idempotent-replay" not in headers
        assert again[1]["x-naru-idempotent-replay"] == "true"
        for name in ("x-request-id", "x-naru-cost-usd", "content-type"):
            assert again[1][name] == headers[name]
        assert upstream.requests == 1
        (entry,) = await gateway.entries()
        assert entry.request_id == headers["x-request-id"]


@WAYS
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_stream_is_told_again_as_a_stream(tmp_path: Path, way: str, path: str) -> None:
    """Every event to the last, in chunks; the usage and cost are those of the first; one entry."""
    async with running(tmp_path, way=way) as gateway:
        body = msgspec.json.encode(
            {"model": "sandbox/echo", "messages": MESSAGES, "input": "hello there", "max_tokens": 50, "stream": True}
        )
        first = await gateway.post(body, path, **ONCE)
        again = await gateway.post(body, path, **ONCE)
        assert first[0] == again[0] == 200
        assert b"there" in first[2]
        assert again[2] == first[2]
        assert (again[1]["transfer-encoding"], again[1]["content-type"]) == ("chunked", first[1]["content-type"])
        assert again[1]["x-naru-idempotent-replay"] == "true"
        assert len(await gateway.entries()) == 1


async def test_without_the_header_nothing_is_kept(tmp_path: Path) -> None:
    async with behind(tmp_path, lambda e: e.answer(200, msgspec.json.encode(ANSWER))) as (gateway, upstream):
        for _ in range(2):
            assert "x-naru-idempotent-replay" not in (await gateway.post(asked("own/thing")))[1]
        assert upstream.requests == 2


@WAYS
async def test_while_the_first_runs_others_wait(tmp_path: Path, way: str) -> None:
    """409 with a wait for the same, 422 for another body; the answer once it is there. Nothing runs twice."""
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        exchange.answer(200, msgspec.json.encode(ANSWER))

    async with behind(tmp_path, slow, way) as (gateway, upstream):
        first = asyncio.create_task(gateway.post(asked("own/thing"), **ONCE))
        await upstream.watch.until(lambda: upstream.requests == 1)
        status, headers, body = await gateway.post(asked("own/thing"), **ONCE)
        assert (status, code(body), headers["retry-after"]) == (409, "idempotency_in_progress", "1")
        status, _, body = await gateway.post(asked("own/thing", temperature=1), **ONCE)
        assert (status, code(body)) == (422, "idempotency_mismatch")
        go.set()
        assert (await first)[0] == 200
        assert (await gateway.post(asked("own/thing"), **ONCE))[1]["x-naru-idempotent-replay"] == "true"
        assert upstream.requests == 1
        assert len(await gateway.entries()) == 1


async def test_one_execution_of_fifty_at_once(tmp_path: Path) -> None:
    """Whoever comes first executes; all others get 409 or its answer."""
    async with behind(tmp_path, lambda e: e.answer(200, msgspec.json.encode(ANSWER))) as (gateway, upstream):
        told = await asyncio.gather(*(gateway.post(asked("own/thing"), **ONCE) for _ in range(50)))
        assert {status for status, _, _ in told} <= {200, 409}
        assert upstream.requests == 1
        assert len(await gateway.entries()) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", asked(temperature=0.5)), ("/v1/completions", asked(prompt="hello"))],
)
async def test_another_request_under_the_same_key(tmp_path: Path, path: str, body: bytes) -> None:
    """Another body or another path is no retry: 422, and the first answer stays."""
    async with running(tmp_path) as gateway:
        original = asked(prompt="hello")
        assert (await gateway.post(original, **ONCE))[0] == 200
        status, _, told = await gateway.post(body, path, **ONCE)
        assert (status, code(told)) == (422, "idempotency_mismatch")
        assert (await gateway.post(original, **ONCE))[1]["x-naru-idempotent-replay"] == "true"


async def test_a_key_is_its_owners(tmp_path: Path) -> None:
    """The same word under another caller's key is another one: no answer of somebody else's."""
    async with running(tmp_path) as gateway:
        assert (await gateway.post(asked(), **ONCE))[0] == 200
        other = await another_key(gateway)
        _, headers, _ = await gateway.post(asked(), authorization=f"Bearer {other}", **ONCE)
        assert "x-naru-idempotent-replay" not in headers
        assert len(await gateway.entries()) == 2


@pytest.mark.parametrize("key", [" ", "x" * 256, "k\xe9", "k\tb"])
async def test_what_is_no_key(tmp_path: Path, key: str) -> None:
    """Empty, too long, not printable: 400 that says what one is."""
    async with running(tmp_path) as gateway:
        line = f"idempotency-key: {key}\r\n".encode("latin-1")
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\nconnection: close\r\n"
        body = asked()
        answer = await gateway.raw(head.encode() + line + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"255 printable" in answer
        assert await gateway.entries() == []


async def test_two_keys_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        body = asked()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\nconnection: close\r\n"
        lines = b"idempotency-key: a\r\nidempotency-key: b\r\ncontent-length: %d\r\n\r\n" % len(body)
        assert b" 400 " in (await gateway.raw(head.encode() + lines + body))[:20]


async def test_errors_of_an_execution_are_told_again(tmp_path: Path) -> None:
    """A 500 that came from upstream is the answer (Stripe's rule); the caller who wants another try takes another key."""

    def fail(exchange: Exchange) -> None:
        exchange.answer(500, b'{"error":{"message":"broken","type":"server_error"}}')

    async with behind(tmp_path, fail) as (gateway, upstream):
        first = await gateway.post(asked("own/thing"), **ONCE)
        seen = upstream.requests
        again = await gateway.post(asked("own/thing"), **ONCE)
        assert first[0] == again[0] == 500
        assert again[2] == first[2]
        assert again[1]["x-naru-idempotent-replay"] == "true"
        assert upstream.requests == seen


async def test_refusals_are_not_kept(tmp_path: Path) -> None:
    """Bad input, an unknown model, nothing sent upstream, a rate limit: the same key works once what was wrong is right."""
    limited = True

    def answer(exchange: Exchange) -> None:
        if limited:
            exchange.answer(429, b'{"error":{"message":"slow down"}}')
        else:
            exchange.answer(200, msgspec.json.encode(ANSWER))

    upstream = RawServer(answer)
    base = await upstream.start()
    down = config("http://127.0.0.1:9").replace("providers.own", "providers.down")
    async with running(tmp_path, config(base) + down) as gateway:
        assert (await gateway.post(b'{"model": 1}', **ONCE))[0] == 400
        assert (await gateway.post(asked("no-such-model"), **ONCE))[0] == 404
        assert (await gateway.post(asked("down/thing"), **ONCE))[0] == 502
        assert (await gateway.post(asked("own/thing"), **ONCE))[0] == 429
        limited = False
        status, headers, _ = await gateway.post(asked("own/thing"), **ONCE)
        assert (status, "x-naru-idempotent-replay" in headers) == (200, False)
    await upstream.stop()


@WAYS
async def test_a_plain_call_whose_client_left_is_there_for_the_retry(tmp_path: Path, way: str) -> None:
    """It is finished and billed once; the retry gets it without a second call."""
    go = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await go.wait()
        exchange.answer(200, msgspec.json.encode(ANSWER))

    async with behind(tmp_path, slow, way) as (gateway, upstream):
        body = asked("own/thing")
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        writer.write(head.encode() + b"idempotency-key: 8f2c-once\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await upstream.watch.until(lambda: upstream.requests == 1)
        writer.close()
        await writer.wait_closed()
        go.set()
        (entry,) = await gateway.entries()
        assert entry.outcome == "completed"
        status, headers, _ = await gateway.post(body, **ONCE)
        assert (status, headers["x-naru-idempotent-replay"]) == (200, "true")
        assert upstream.requests == 1


async def test_a_stream_whose_client_left_is_not_kept(tmp_path: Path) -> None:
    """Half of an answer is none: the next one under the key executes."""
    half = True

    async def speak(exchange: Exchange) -> None:
        exchange.start(200, EVENTS)
        exchange.send(SPOKEN)
        if half:
            await exchange.hang()
        exchange.send(b"data: [DONE]\n\n")
        exchange.end()

    async with behind(tmp_path, speak) as (gateway, upstream):
        body = asked("own/thing", stream=True)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        writer.write(head.encode() + b"idempotency-key: 8f2c-once\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await reader.readuntil(b'"hi"')
        writer.close()
        await writer.wait_closed()
        await upstream.watch.until(lambda: upstream.aborted == 1)
        assert (await gateway.entries())[0].outcome == "cancelled"
        half = False
        status, headers, _ = await gateway.post(body, **ONCE)
        assert (status, "x-naru-idempotent-replay" in headers) == (200, False)
        assert upstream.requests == 2


async def test_answers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger one reaches its caller, says that it was not stored, and the next call executes."""
    monkeypatch.setattr(idempotency, "MAX_ANSWER_BYTES", 100)
    async with behind(tmp_path, lambda e: e.answer(200, msgspec.json.encode(ANSWER))) as (gateway, upstream):
        for count in (1, 2):
            status, headers, _ = await gateway.post(asked("own/thing"), **ONCE)
            assert (status, headers["x-naru-idempotent-stored"], upstream.requests) == (200, "false", count)


async def test_a_form_is_the_same_under_another_boundary(tmp_path: Path) -> None:
    """HTTP libraries make up a boundary at every try; the file decides."""

    def form(boundary: str, sound: bytes = b"RIFF....") -> tuple[bytes, str]:
        name = f'--{boundary}\r\nContent-Disposition: form-data; name="model"\r\n\r\nsandbox/transcribe\r\n--{boundary}\r\n'
        file = b'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + sound
        return name.encode() + file + f"\r\n--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"

    async with running(tmp_path) as gateway:
        told = []
        for boundary, sound in (("aaa", b"sound"), ("bbb", b"sound"), ("bbb", b"other")):
            body, kind = form(boundary, sound)
            told.append(await gateway.post(body, "/v1/audio/transcriptions", **ONCE, **{"content-type": kind}))
        assert [status for status, _, _ in told] == [200, 200, 422]
        assert told[1][1]["x-naru-idempotent-replay"] == "true"


async def test_answers_outlive_the_process_and_end_after_a_day(tmp_path: Path) -> None:
    """What was answered stands in the store: a restarted gateway tells it, until 24 hours are over."""
    clock = FakeClock()
    upstream = RawServer(lambda e: e.answer(200, msgspec.json.encode(ANSWER)))
    base = await upstream.start()
    async with running(tmp_path, config(base), clock=clock) as gateway:
        key = gateway.key
        assert (await gateway.post(asked("own/thing"), **ONCE))[0] == 200
    given = {**ONCE, "authorization": f"Bearer {key}"}
    async with running(tmp_path, config(base), clock=clock) as gateway:
        clock.advance(24 * 3600 - 1)
        assert (await gateway.post(asked("own/thing"), **given))[1]["x-naru-idempotent-replay"] == "true"
        clock.advance(1)
        assert "x-naru-idempotent-replay" not in (await gateway.post(asked("own/thing"), **given))[1]
    assert upstream.requests == 2
    await upstream.stop()
