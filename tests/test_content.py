"""What is recorded of requests: nothing, unless the operator asks for it; then redacted, bounded, and only for a while."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.protocol import content
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.clock import FakeClock
from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, running
from tests.process import Process, serving

KEPT = "[log]\ncontent = true\n"
SECRETS = "my key is sk-abcdefgh12345678, mail kim@example.co.kr, 900101-1234567, 4111 1111 1111 1111, 010-1234-5678"
SHOWN = "my key is [key], mail [email], [resident number], [card], [phone]"
PICTURE = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 8).decode()


async def recorded(gateway: Gateway) -> dict[str, str]:
    entry = (await gateway.entries())[0]
    assert entry.content is not None
    return dict(msgspec.json.decode(entry.content))


async def test_by_default_nothing_is_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        assert (await gateway.entries())[0].content is None


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
async def test_both_sides_are_kept_redacted(tmp_path: Path, path: str, is_stream: bool) -> None:
    """In every protocol, plain and streamed. The caller's own answer is untouched, and a secret that comes in pieces is one."""
    async with running(tmp_path, KEPT) as gateway:
        said = {
            "messages": [{"role": "user", "content": SECRETS}],
            "input": SECRETS,
            "prompt": SECRETS,
            "max_tokens": 200,
        }
        names = {
            "/v1/messages": ("messages", "max_tokens"),
            "/v1/responses": ("input",),
            "/v1/completions": ("prompt",),
        }
        fields = {name: said[name] for name in names.get(path, ("messages",))}
        body = msgspec.json.encode({"model": "sandbox/echo", "stream": is_stream, **fields})
        status, _, answer = await gateway.post(body, path)
        assert status == 200
        assert is_stream or SECRETS.encode() in answer
        kept = await recorded(gateway)
        assert SHOWN in kept["request"]
        assert SHOWN in kept["answer"]
        for secret in SECRETS.split(", "):
            assert secret.split()[-1] not in kept["request"] + kept["answer"]


async def test_tool_calls_are_kept(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
    async with running(tmp_path, KEPT) as gateway:
        body = {
            "model": "sandbox/tools",
            "messages": [{"role": "user", "content": "x"}],
            "tools": [tool],
            "stream": True,
        }
        assert (await gateway.post(msgspec.json.encode(body)))[0] == 200
        assert '"tool":"lookup"' in (await recorded(gateway))["answer"]


async def test_files_and_numbers_are_left_out(tmp_path: Path) -> None:
    """A picture, a sound and a form's file are named by their size; so is a vector."""
    async with running(tmp_path, KEPT) as gateway:
        parts = [
            {"type": "text", "text": f"look: {PICTURE} there"},
            {"type": "image_url", "image_url": {"url": PICTURE}},
            {
                "type": "input_audio",
                "input_audio": {"data": base64.b64encode(b"tiny sound bytes").decode(), "format": "wav"},
            },
        ]
        assert (await gateway.chat(model="sandbox/echo", messages=[{"role": "user", "content": parts}]))[0] == 200
        kept = await recorded(gateway)
        assert kept["request"].count("[file, ") == 3
        assert "look: [file, " in kept["request"]
        for secret in (PICTURE[40:100], base64.b64encode(b"tiny sound bytes").decode()):
            assert secret not in kept["request"] + kept["answer"]
        body = msgspec.json.encode({"model": "sandbox/embed", "input": "x"})
        status, _, told = await gateway.post(body, "/v1/embeddings")
        assert status == 200, told
        assert "numbers left out" in (await recorded(gateway))["answer"]


async def test_a_form_is_kept_without_its_file(tmp_path: Path) -> None:
    head = "".join(
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("model", "sandbox/transcribe"), ("prompt", "kim@example.com speaks"))
    )
    file = '--B\r\nContent-Disposition: form-data; name="file"; filename="kim.mp3"\r\n\r\nSOUND-OF-KIM\r\n--B--\r\n'
    async with running(tmp_path, KEPT) as gateway:
        kind = {"content-type": "multipart/form-data; boundary=B"}
        assert (await gateway.post((head + file).encode(), "/v1/audio/transcriptions", **kind))[0] == 200
        kept = await recorded(gateway)
        assert "[email] speaks" in kept["request"]
        assert "[file, 12 bytes left out]" in kept["request"]
        assert "SOUND-OF-KIM" not in kept["request"]


async def test_a_record_is_bounded(tmp_path: Path) -> None:
    """However long what was said, the record ends; a secret across the cut is not half shown."""
    card = "4111 1111 1111 1111"
    long = "word " * (content.MAX_CHARS // 5 - 10) + card + " tail" * 100_000
    async with running(tmp_path, KEPT) as gateway:
        assert (await gateway.chat(model="sandbox/echo", messages=[{"role": "user", "content": long}]))[0] == 200
        kept = await recorded(gateway)
        for text in kept.values():
            assert len(text) <= content.MAX_CHARS + len(content.CUT)
            assert "4111" not in text


def test_a_secret_across_the_cut_is_not_half_shown() -> None:
    """Wherever the end of a record falls in it."""
    card = "4111 1111 1111 1111"
    for offset in range(-len(card) - 5, 5):
        text = ("word " * content.MAX_CHARS)[: content.MAX_CHARS + offset - 1] + " " + card + " tail" * 100
        assert "4111" not in content.safe(text)
        body = msgspec.json.encode([text])
        assert "4111" not in content.Recording(OPENAI_CHAT, body, ()).content()


def test_a_header_that_calls_json_a_form_changes_nothing() -> None:
    """The record is made while a request is settled: whatever a client's header says, it must not fail."""
    kept = content.Recording(OPENAI_CHAT, b'{"model": "m"}', ((b"content-type", b"multipart/form-data; boundary=x"),))
    assert msgspec.json.decode(kept.content())["request"] == '{"model":"m"}'


async def test_failures_are_kept_with_their_words(tmp_path: Path) -> None:
    """With content on, the record says what was asked and what the provider answered, redacted too."""

    def refuse(exchange: Exchange) -> None:
        exchange.answer(400, msgspec.json.encode({"error": {"message": f"no good: {SECRETS}"}}))

    upstream = RawServer(refuse)
    base = await upstream.start()
    provider = f'[providers.own]\nkind="custom"\nbase_url="{base}/v1"\napi_key="x"\nallow_private=true\nprice="free"\n'
    async with running(tmp_path, KEPT + provider) as gateway:
        assert (await gateway.chat(model="own/thing"))[0] == 400
        (entry,) = await gateway.entries()
        assert entry.tried[0].why is not None
        assert "no good: my key is [key]" in entry.tried[0].why
        assert "hello there" in (await recorded(gateway))["request"]
    await upstream.stop()


async def test_content_goes_after_its_days(tmp_path: Path) -> None:
    """The sweep takes content and expired answers; the entry, with its cost, stays."""
    clock = FakeClock()
    async with running(tmp_path, KEPT + "retention_days = 7\n", clock=clock) as gateway:
        body = msgspec.json.encode({"model": "sandbox/echo", "messages": [{"role": "user", "content": "hello"}]})
        assert (await gateway.post(body, **{"idempotency-key": "once"}))[0] == 200
        await gateway.entries()
        for days, dropped in ((0.9, 0), (0.2, 1), (5.8, 0), (0.2, 1), (9, 0)):
            clock.advance(days * 86_400)
            assert await asyncio.wrap_future(gateway.app.sweep.once()) == dropped
        (entry,) = await gateway.entries()
        assert entry.content is None
        assert entry.cost_nano > 0


# --- Canaries -----------------------------------------------------------------------------------------------------

PROMPT = "CANARY-PROMPT-7c1e"
HEADER = "CANARY-HEADER-99ab"
COOKIE = "CANARY-COOKIE-41d0"
UPSTREAM_KEY = "nv-CANARYKEY0123456789"
ANSWERED = "CANARY-ANSWER-c0de"
KEPT_ANSWER = "CANARY-KEPT-5a5a"
WRONG_KEY = "nk-CANARYCANAR-" + "Z" * 49


def upstream_says(exchange: Exchange) -> None:
    """Repeats what it was asked in every way that an upstream may, as the model's name wants it."""
    body = exchange.received.body
    model = msgspec.json.decode(body).get("model", "") if body[:1] == b"{" else ""
    said = body.decode("utf-8", "replace")
    if "ok" in model:
        message = {"role": "assistant", "content": ANSWERED + said}
        answer = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        exchange.answer(200, msgspec.json.encode(answer))
    elif "cut" in model:
        exchange.start(200, (("content-type", "text/event-stream"),))
        chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": ANSWERED + said}, "finish_reason": None}]}
        exchange.send(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        exchange.send(b"data: " + msgspec.json.encode({"error": {"message": said, "code": 500}}) + b"\n\n")
        exchange.end()
    elif "garbage" in model:
        exchange.answer(200, b"not json: " + body)
    else:
        status = int(model[-3:]) if model[-3:].isdigit() else 400
        exchange.answer(status, msgspec.json.encode({"error": {"message": said, "param": said, "type": said[:30]}}))


async def everything(gateway: Process) -> bytes:
    """Every path of a request, errors included; returns what callers were told by errors."""
    said = [{"role": "user", "content": PROMPT}]
    told = b""
    for model in ("ok", "cut", "garbage", "e400", "e401", "e402", "e404", "e429", "e500", "e503"):
        for is_stream in (False, True):
            body = {"model": f"up/{model}", "messages": said, "stream": is_stream, "user": PROMPT}
            await ask(gateway, body)
    for wrong in (
        {"model": "up/ok", "messages": said, "temperature": PROMPT},
        {"model": "up/ok", "messages": PROMPT},
        {"model": "no-such-model", "messages": said},
        {"model": "down/thing", "messages": said},
        {"model": "up/ok", "messages": said, "api_key": PROMPT},
        {"model": "up/ok", "messages": [{"role": "user", "content": [{"type": PROMPT}]}]},
    ):
        told += await ask(gateway, wrong)
    told += await ask(gateway, {"model": "up/ok", "messages": said}, WRONG_KEY)
    kept = {"model": "sandbox/echo", "messages": [{"role": "user", "content": KEPT_ANSWER}]}
    await ask(gateway, kept, more="idempotency-key: once\r\n")
    return told


async def ask(gateway: Process, body: Any, key: str = "", more: str = "") -> bytes:
    data = msgspec.json.encode(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key or gateway.key}\r\nx-own: {HEADER}\r\n"
        f"cookie: session={COOKIE}\r\n{more}connection: close\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        + data
    )
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return answer


async def test_nothing_of_a_prompt_or_a_secret_is_kept_anywhere(tmp_path: Path) -> None:
    """Canaries through every path: none is in the log, the database, the journal or the metrics, and no secret in an error.

    One thing is kept because it was asked for: an answer under an Idempotency-Key, for a day, in the database.
    """
    upstream = RawServer(upstream_says)
    base = await upstream.start()
    own = 'kind = "custom"\nallow_private = true\nprice = "free"\n'
    config = (
        f'log_level = "debug"\n[providers.up]\nbase_url = "{base}/v1"\napi_key = "{UPSTREAM_KEY}"\n{own}'
        f'[providers.down]\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "x"\n{own}'
    )
    log = tmp_path / "log"
    async with serving(tmp_path, config, log) as gateway:
        told = await everything(gateway)
        seen = {"metrics": await gateway.whole("GET", "/metrics"), **files(gateway.home)}
        gateway.process.terminate()
        await gateway.process.wait()
    await upstream.stop()
    seen |= {"log": log.read_bytes()} | {f"{name} after": data for name, data in files(gateway.home).items()}
    assert any(name.endswith(".journal") for name in seen)
    assert b"up/e500" in seen["naru.db after"]
    assert b"attempt failed" in seen["log"]
    assert b"api_key" in told
    for secret in (PROMPT, HEADER, COOKIE, UPSTREAM_KEY, WRONG_KEY, gateway.key, gateway.key[16:], ANSWERED):
        assert [name for name, data in seen.items() if secret.encode() in data] == [], secret
    for secret in (HEADER, COOKIE, UPSTREAM_KEY, WRONG_KEY, gateway.key):
        assert secret.encode() not in told
    kept = [name for name, data in seen.items() if KEPT_ANSWER.encode() in data]
    assert kept
    assert all(name.startswith("naru.db") for name in kept)


def files(home: Path) -> dict[str, bytes]:
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
