"""Sound and images from the client's socket to the ledger and back, by the official client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.testing.http import Exchange, RawServer
from naru.testing.sandbox.media import wav
from tests.harness import Gateway, another_key, running

SOUND = ("speech.wav", wav(20_000), "audio/wav")
HEARD = "Sandbox heard 2.500 seconds of sound in speech.wav, sha256 "
HOUR = "{ per_hour = 0.36 }"
FORM = "multipart/form-data; boundary=B"


def form(model: str, *more: str, file: bytes = b"sound") -> bytes:
    fields = "".join(f'--B\r\nContent-Disposition: form-data; name="{each}\r\n' for each in more)
    head = f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n{fields}--B\r\n'
    return (
        head.encode()
        + b'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n'
        + file
        + b"\r\n--B--\r\n"
    )


@pytest.fixture(params=["fast", "asgi"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with nothing but the sandbox."""
    async with running(tmp_path, way=request.param) as made:
        yield made


@contextlib.asynccontextmanager
async def upstream(handler: Callable[[Exchange], Any]) -> AsyncIterator[tuple[RawServer, str]]:
    server = RawServer(handler)
    try:
        yield server, await server.start()
    finally:
        await server.stop()


def table(origin: str, price: str, name: str = "up") -> str:
    return f"""
    [providers.{name}]
    kind = "custom"
    base_url = "{origin}/v1"
    api_key = "secret"
    allow_private = true
    price = {price}
    """


def answering(body: Any, content_type: str = "application/json", status: int = 200) -> Callable[[Exchange], None]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda exchange: exchange.answer(status, data, (("content-type", content_type),))


async def posted(gateway: Gateway, path: str, /, **body: Any) -> tuple[int, dict[str, str], Any]:
    status, headers, answer = await gateway.post(json.dumps(body).encode(), path)
    return status, headers, json.loads(answer)


async def uploaded(gateway: Gateway, body: bytes, path: str = "/v1/audio/transcriptions", kind: str = FORM) -> Any:
    status, headers, answer = await gateway.post(body, path, content_type=kind)
    return status, headers, answer


# --- The sandbox, by the official client ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form_name", "content_type", "begins"),
    [
        ("json", "application/json", HEARD),
        ("text", "text/plain; charset=utf-8", HEARD),
        ("srt", "text/plain; charset=utf-8", "1\n00:00:00,000 --> 00:00:02,500\n" + HEARD),
        ("vtt", "text/vtt; charset=utf-8", "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n" + HEARD),
        ("verbose_json", "application/json", HEARD),
    ],
)
async def test_transcription(gateway: Gateway, form_name: Any, content_type: str, begins: str) -> None:
    """Every format, with the upstream's own type and one entry. Tokens are told in JSON alone: the rest is estimated."""
    raw = await gateway.openai.audio.transcriptions.with_raw_response.create(
        model="sandbox/transcribe", file=SOUND, response_format=form_name, prompt="two words",
        timestamp_granularities=["word", "segment"],
    )  # fmt: skip
    answer: Any = raw.parse()
    text = answer if isinstance(answer, str) else answer.text
    assert text.startswith(begins)
    assert raw.headers["content-type"] == content_type
    (entry,) = await gateway.entries()
    assert (entry.unit, entry.units, entry.outcome) == ("second", 3, "completed")
    assert (entry.dialect, entry.deployment) == ("transcription", "sandbox/transcribe")
    assert entry.is_estimated is (form_name != "json")
    if form_name == "json":
        # 32 tokens read, 30 of them sound at 0.30, 11 written: USD a million
        assert (entry.input, entry.output, entry.cost_nano) == (32, 11, 30 * 300 + 2 * 100 + 11 * 400)
    assert raw.headers["x-naru-cost-usd"] == f"0.{entry.cost_nano:09d}"
    assert raw.headers["x-naru-deployment"] == "sandbox/transcribe"
    assert raw.headers["x-request-id"] == entry.request_id


async def test_transcription_in_events(gateway: Gateway) -> None:
    """The last event's usage has the cost."""
    stream = await gateway.openai.audio.transcriptions.create(model="sandbox/transcribe", file=SOUND, stream=True)
    events: list[Any] = [event async for event in stream]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == events[-1].text
    assert events[-1].text.startswith(HEARD)
    (entry,) = await gateway.entries()
    assert (entry.input, entry.output, entry.is_stream, entry.is_estimated) == (30, 11, True, False)
    assert entry.cost_nano == 30 * 300 + 11 * 400
    assert events[-1].usage.naru == {"cost_usd": pytest.approx(entry.cost_nano / 1e9)}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
async def test_translation(gateway: Gateway) -> None:
    answer = await gateway.openai.audio.translations.create(model="sandbox/transcribe", file=SOUND)
    assert answer.text.startswith(HEARD)
    (entry,) = await gateway.entries()
    assert (entry.dialect, entry.cost_nano) == ("translation", 30 * 300 + 11 * 400)


async def test_speech(gateway: Gateway) -> None:
    """A WAV that plays, chunk by chunk, billed by the characters of its text; the cost is told before."""
    async with gateway.openai.audio.speech.with_streaming_response.create(
        model="sandbox/speech", input="안녕, hello", voice="alloy", response_format="wav"
    ) as answer:
        data = await answer.read()
        headers = answer.headers
    with wave.open(io.BytesIO(data)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (8000, 9 * 500)
    assert headers["content-type"] == "audio/wav"
    assert headers["x-naru-deployment"] == "sandbox/speech"
    (entry,) = await gateway.entries()
    assert (entry.unit, entry.units, entry.is_estimated, entry.cost_nano) == ("character", 9, False, 9 * 500)
    assert (entry.input, entry.output, entry.outcome, entry.is_stream) == (0, 0, "completed", True)
    assert headers["x-naru-cost-usd"] == "0.000004500"
    assert entry.ttft_us is not None


async def test_speech_in_events(gateway: Gateway) -> None:
    async with gateway.openai.audio.speech.with_streaming_response.create(
        model="sandbox/speech", input="hello there", voice="alloy", stream_format="sse"
    ) as answer:
        text = await answer.text()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert sound == wav(11 * 500)
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["naru"] == {"cost_usd": 0.0000055}
    (entry,) = await gateway.entries()
    assert (entry.units, entry.input, entry.output, entry.cost_nano) == (11, 2, 22, 11 * 500)


@pytest.mark.parametrize("kind", ["b64_json", "url"])
async def test_images(gateway: Gateway, kind: Any) -> None:
    raw = await gateway.openai.images.with_raw_response.generate(
        model="sandbox/image", prompt="a cat", n=2, response_format=kind
    )
    answer = raw.parse()
    assert answer.data is not None
    first, second = (getattr(each, kind).removeprefix("data:image/png;base64,") for each in answer.data)
    assert first != second
    assert base64.b64decode(first).startswith(b"\x89PNG\r\n\x1a\n")
    (entry,) = await gateway.entries()
    assert (entry.input, entry.output, entry.unit, entry.units) == (2, 200, "image", 2)
    assert entry.cost_nano == 2 * 100 + 200 * 800
    assert raw.headers["x-naru-cost-usd"] == f"0.{entry.cost_nano:09d}"


async def test_images_in_events(gateway: Gateway) -> None:
    stream = await gateway.openai.images.generate(model="sandbox/image", prompt="a cat", stream=True, partial_images=2)
    events = [event async for event in stream]
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "partial_image", "completed"]
    (entry,) = await gateway.entries()
    assert (entry.units, entry.is_stream, entry.is_estimated, entry.cost_nano) == (1, True, False, 2 * 100 + 100 * 800)


async def test_edits(gateway: Gateway) -> None:
    """Images sent are input of their own price."""
    answer = await gateway.openai.images.edit(
        model="sandbox/image", prompt="a cat", image=[("a.png", b"one"), ("b.png", b"two")], n=1
    )
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 200
    (entry,) = await gateway.entries()
    assert (entry.dialect, entry.cost_nano) == ("edits", 2 * 100 + 200 * 200 + 100 * 800)


# --- What is refused --------------------------------------------------------------------------------------------------


async def test_the_wrong_kind_of_model_is_named(gateway: Gateway) -> None:
    cases: list[tuple[str, Any, str]] = [
        ("speech", gateway.openai.audio.speech.create(model="sandbox/echo", input="x", voice="v"), "sandbox/speech"),
        ("images", gateway.openai.images.generate(model="sandbox/speech", prompt="x"), "sandbox/image"),
        (
            "transcription",
            gateway.openai.audio.transcriptions.create(model="sandbox/image", file=SOUND),
            "sandbox/transcribe",
        ),
        ("chat", gateway.openai.chat.completions.create(model="sandbox/image", messages=[]), ""),
    ]
    for name, call, able in cases:
        with pytest.raises(openai.BadRequestError) as caught:
            await call
        if name != "chat":
            assert caught.value.code == "wrong_endpoint"
            assert able in caught.value.message
            assert "sandbox/embed" not in caught.value.message
    assert {(entry.outcome, entry.cost_nano) for entry in await gateway.entries()} <= {("failed", 0)}


async def test_a_form_that_is_broken_is_a_clear_400(gateway: Gateway) -> None:
    """Nothing reaches the provider, and there is no entry."""
    whole = form("sandbox/transcribe")
    cases = [
        (whole[:-10], FORM, 400, "invalid_multipart"),
        (b"", FORM, 400, "invalid_multipart"),
        (whole, "multipart/form-data", 400, "invalid_multipart"),
        (whole, "application/json", 415, "unsupported_media_type"),
        (whole, "", 415, "unsupported_media_type"),
        (b'{"model": "sandbox/transcribe"}', "application/json", 415, "unsupported_media_type"),
        (whole.replace(b'name="file"', b'name="sound"'), FORM, 400, "invalid_value"),
        (whole.replace(b'name="model"', b'name="model_"'), FORM, 400, "invalid_value"),
    ]
    for body, kind, expected, code in cases:
        status, _, answer = await uploaded(gateway, body, kind=kind)
        error = json.loads(answer)["error"]
        assert (status, error["code"], error["type"]) == (expected, code, "invalid_request_error")
        assert len(error["message"]) > 40
    assert gateway.app._sandbox is not None
    assert gateway.app._sandbox.requests == 0
    assert await gateway.entries() == []


async def test_uploads_respect_the_limit_of_the_body(tmp_path: Path) -> None:
    async with running(tmp_path, "[server]\nmax_body_bytes = 10000") as gateway:
        with pytest.raises(openai.APIStatusError) as caught:
            await gateway.openai.audio.transcriptions.create(model="sandbox/transcribe", file=SOUND)
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
        assert await gateway.entries() == []


async def test_a_key_for_other_models_is_refused(gateway: Gateway) -> None:
    """By the model in the form."""
    key = await another_key(gateway, models=("sandbox/echo",))
    status, _, answer = await gateway.post(
        form("sandbox/transcribe"), "/v1/audio/transcriptions", content_type=FORM, authorization=f"Bearer {key}"
    )
    assert (status, json.loads(answer)["error"]["code"]) == (403, "model_not_allowed")


async def test_another_method_is_405(gateway: Gateway) -> None:
    answer = await gateway.raw(b"GET /v1/images/generations HTTP/1.1\r\nhost: naru\r\nconnection: close\r\n\r\n")
    assert b" 405 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("model", ["transcribe", "speech", "image"])
async def test_faults_come_in_openais_shape(gateway: Gateway, model: str) -> None:
    """Whatever the provider does before its first content, nothing is billed for it."""
    for query, expected in (
        ("status=429&retry_after=7", 429),
        ("status=401", 502),
        ("error_200=1", 500),
        ("html=1", 502),
    ):
        name = f"sandbox/{model}?{query}"
        if model == "transcribe":
            status, headers, answer = await uploaded(gateway, form(name))
        elif model == "speech":
            status, headers, answer = await gateway.post(
                json.dumps({"model": name, "input": "x", "voice": "v"}).encode(), "/v1/audio/speech"
            )
        else:
            status, headers, answer = await gateway.post(
                json.dumps({"model": name, "prompt": "x"}).encode(), "/v1/images/generations"
            )
        assert status == expected, answer
        assert set(json.loads(answer)["error"]) == {"message", "type", "param", "code"}
        if expected == 429:
            assert headers["retry-after"] == "7"
    entries = await gateway.entries()
    assert {(entry.outcome, entry.cost_nano) for entry in entries} == {("failed", 0)}
    assert len(entries) == 4


# --- Towards the upstream ---------------------------------------------------------------------------------------------


async def test_the_form_reaches_the_upstream_byte_for_byte(tmp_path: Path) -> None:
    """But for the model's name: its bytes, its type, its boundary; and none of the caller's key."""
    sound = bytes(range(256)) * 50 + b"\r\n--Bx--B\r\n--"
    sound = sound.replace(b"\r\n--B", b"\r\n-- B")
    config = '[models.hear]\ndeployments = [{ provider = "up", model = "whisper-large" }]'
    async with (
        upstream(answering({"text": "hi", "usage": {"type": "duration", "seconds": 9}})) as (server, origin),
        running(tmp_path, table(origin, HOUR) + config) as gateway,
    ):
        status, _, answer = await uploaded(gateway, form("hear", 'language"\r\n\r\nko', file=sound))
        assert (status, json.loads(answer)) == (200, {"text": "hi", "usage": {"type": "duration", "seconds": 9}})
        (received,) = server.received
        assert received.body == form("whisper-large", 'language"\r\n\r\nko', file=sound)
        assert received.target == "/v1/audio/transcriptions"
        assert received.header("content-type") == FORM
        assert received.header("authorization") == "Bearer secret"
        assert received.header("accept") == "*/*"
        (entry,) = await gateway.entries()
        assert (entry.units, entry.is_estimated, entry.cost_nano) == (9, False, 900_000)


async def test_a_rate_limited_upload_goes_to_the_next_deployment(tmp_path: Path) -> None:
    """The whole form again, for the second one's model."""
    config = """
    [models.hear]
    deployments = [{ provider = "up", model = "a" }, { provider = "two", model = "b", priority = 2 }]
    """
    async with (
        upstream(answering({"error": {"message": "slow down"}}, status=429)) as (first, one),
        upstream(answering({"text": "hi", "duration": 1.5})) as (second, two),
        running(tmp_path, table(one, HOUR) + table(two, HOUR, "two") + config) as gateway,
    ):
        status, headers, _ = await uploaded(gateway, form("hear"))
        assert (status, headers["x-naru-attempts"], headers["x-naru-deployment"]) == (200, "2", "two/b")
        assert [each.body for each in (*first.received, *second.received)] == [form("a"), form("b")]
        (entry,) = await gateway.entries()
        assert (entry.units, entry.attempts, entry.cost_nano) == (2, 2, 200_000)


async def test_speech_fails_over_until_the_first_sound(tmp_path: Path) -> None:
    """An answer that is no sound is no content."""
    config = """
    [models.say]
    deployments = [{ provider = "up", model = "a" }, { provider = "two", model = "b", priority = 2 }]
    """
    price = "{ per_million_characters = 15 }"
    async with (
        upstream(answering(b"<html>", "text/html")) as (_, one),
        upstream(answering(b"\xff\xfbsound", "audio/mpeg")) as (server, two),
        running(tmp_path, table(one, price) + table(two, price, "two") + config) as gateway,
    ):
        body = json.dumps({"model": "say", "input": "hello", "voice": {"id": "v"}, "speed": 1.25}).encode()
        status, headers, answer = await gateway.post(body, "/v1/audio/speech")
        assert (status, answer, headers["content-type"]) == (200, b"\xff\xfbsound", "audio/mpeg")
        assert (headers["x-naru-attempts"], headers["x-naru-cost-usd"]) == ("2", "0.000075000")
        assert json.loads(server.received[0].body) == {**json.loads(body), "model": "b"}
        (entry,) = await gateway.entries()
        assert entry.cost_nano == 75_000


async def test_a_whole_answer_to_a_stream_is_passed_on(tmp_path: Path) -> None:
    """whisper-1 ignores `stream`."""
    async with (
        upstream(answering({"text": "hi", "usage": {"type": "duration", "seconds": 60}})) as (_, origin),
        running(tmp_path, table(origin, "{ per_minute = 0.006 }")) as gateway,
    ):
        status, headers, answer = await uploaded(gateway, form("up/whisper-1", 'stream"\r\n\r\ntrue'))
        assert (status, json.loads(answer)["text"]) == (200, "hi")
        assert headers["x-naru-cost-usd"] == "0.006000000"
        (entry,) = await gateway.entries()
        assert entry.cost_nano == 6_000_000


async def test_an_image_larger_than_an_error_is_passed_on(tmp_path: Path) -> None:
    """Also where a stream was asked for and a whole answer came."""
    answer = {"created": 1, "data": [{"b64_json": "A" * 3_000_000}]}
    async with (
        upstream(answering(answer)) as (_, origin),
        running(tmp_path, table(origin, "{ per_image = 0.04 }")) as gateway,
    ):
        for is_stream in (False, True):
            status, _, told = await posted(
                gateway, "/v1/images/generations", model="up/m", prompt="x", stream=is_stream
            )
            assert (status, told) == (200, answer)
        entries = await gateway.entries()
        assert [(entry.unit, entry.units, entry.cost_nano, entry.is_estimated) for entry in entries] == [
            ("image", 1, 40_000_000, False)
        ] * 2


# --- Money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "path", "body", "code"),
    [
        ("{ per_image = 1 }", "/v1/audio/speech", {"input": "x", "voice": "v"}, "model_unpriced"),
        ("{ per_hour = 1 }", "/v1/images/generations", {"prompt": "x"}, "model_unpriced"),
        (
            "{ per_hour = 1 }",
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}]},
            "model_unpriced",
        ),
        ("{ per_hour = 1 }", "/v1/embeddings", {"input": "x"}, "model_unpriced"),
    ],
)
async def test_a_price_in_other_units_is_none(
    tmp_path: Path, price: str, path: str, body: dict[str, Any], code: str
) -> None:
    """Never a silent zero: nothing is sent."""
    async with (
        upstream(answering({})) as (server, origin),
        running(tmp_path, table(origin, price)) as gateway,
    ):
        status, _, answer = await posted(gateway, path, model="up/m", **body)
        assert (status, answer["error"]["code"]) == (402, code)
        assert "per_image" in answer["error"]["message"]
        assert not server.received


async def test_free_is_free_of_every_unit(tmp_path: Path) -> None:
    async with (
        upstream(answering({"data": [{}]})) as (_, origin),
        running(tmp_path, table(origin, '"free"')) as gateway,
    ):
        assert (await posted(gateway, "/v1/images/generations", model="up/m", prompt="x"))[0] == 200
        (entry,) = await gateway.entries()
        assert (entry.cost_nano, entry.units) == (0, 1)


async def test_a_token_price_bills_what_was_told_in_seconds(tmp_path: Path) -> None:
    """At the ten tokens a second of OpenAI's audio, and marked as an estimate."""
    async with (
        upstream(answering({"text": "four", "usage": {"type": "duration", "seconds": 9}})) as (_, origin),
        running(tmp_path, table(origin, "{ input = 1, audio_input = 3, output = 2 }")) as gateway,
    ):
        await uploaded(gateway, form("up/m"))
        (entry,) = await gateway.entries()
        assert (entry.input, entry.output, entry.is_estimated, entry.cost_nano) == (90, 1, True, 90 * 3_000 + 2_000)


async def test_a_shorter_recording_is_billed_for_the_least(tmp_path: Path) -> None:
    async with (
        upstream(answering({"text": "hi", "duration": 2.1})) as (_, origin),
        running(tmp_path, table(origin, "{ per_hour = 0.111, least = 10 }")) as gateway,
    ):
        await uploaded(gateway, form("up/m"))
        (entry,) = await gateway.entries()
        assert (entry.units, entry.cost_nano) == (3, 308_334)  # 10 seconds at 30,833.3 nano-dollars, rounded up


async def test_a_file_says_how_long_it_is_where_nobody_else_does(tmp_path: Path) -> None:
    async with (
        upstream(answering(b"hi", "text/plain")) as (_, origin),
        running(tmp_path, table(origin, HOUR)) as gateway,
    ):
        body = form("up/m", 'response_format"\r\n\r\ntext', file=wav(20_000))
        status, headers, answer = await uploaded(gateway, body)
        assert (status, answer, headers["content-type"]) == (200, b"hi", "text/plain")
        (entry,) = await gateway.entries()
        assert (entry.units, entry.is_estimated, entry.cost_nano) == (3, True, 300_000)


# --- In mid-answer ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["fast", "asgi"])
async def test_sound_that_breaks_off_breaks_off(tmp_path: Path, way: str) -> None:
    """No words in the middle of sound, and no end that looks like one."""
    async with running(tmp_path, way=way) as gateway:
        with pytest.raises(Exception, match="incomplete chunked read"):
            async with gateway.openai.audio.speech.with_streaming_response.create(
                model="sandbox/speech?cut_after=3", input="hello " * 20, voice="v"
            ) as answer:
                await answer.read()
        (entry,) = await gateway.entries()
        assert (entry.outcome, entry.error_code, entry.cost_nano) == ("partial", "upstream_incomplete", 120 * 500)


async def test_events_that_break_off_say_so(gateway: Gateway) -> None:
    stream = await gateway.openai.audio.transcriptions.create(
        model="sandbox/transcribe?cut_after=3", file=SOUND, stream=True
    )
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.is_estimated, entry.input) == ("partial", True, 30)
    assert entry.output > 0


async def test_a_client_that_leaves_pays_for_what_was_asked(gateway: Gateway) -> None:
    """The provider's connection is closed at once; the characters were all read."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    body = json.dumps({"model": "sandbox/speech?hang_after=2", "input": "hello " * 20, "voice": "v"}).encode()
    head = f"POST /v1/audio/speech HTTP/1.1\r\nhost: naru\r\nauthorization: Bearer {gateway.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode() + body)
    assert b"200" in await reader.readline()
    await reader.readuntil(b"RIFF")
    writer.close()
    async with asyncio.timeout(10):
        await sandbox.watch.until(lambda: sandbox.aborted == 1)
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.units, entry.cost_nano) == ("cancelled", 120, 120 * 500)


async def test_a_client_that_leaves_an_upload_lets_it_finish(gateway: Gateway) -> None:
    """Providers bill a plain call in full either way."""
    sandbox = gateway.app._sandbox
    assert sandbox is not None
    body = form("sandbox/transcribe?ttft_ms=50")
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: naru\r\nauthorization: Bearer {gateway.key}\r\n"
        f"content-type: {FORM}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(head.encode() + body)
    await writer.drain()
    async with asyncio.timeout(10):
        while sandbox.requests == 0:
            await asyncio.sleep(0)
    writer.close()
    (entry,) = await gateway.entries()
    assert (entry.outcome, entry.is_estimated) == ("completed", False)


# --- Around it --------------------------------------------------------------------------------------------------------


async def test_explain_knows_units(gateway: Gateway) -> None:
    """What it would cost at most, for what JSON can ask."""
    status, _, found = await posted(
        gateway, "/v1/explain", path="/v1/audio/speech", model="sandbox/speech", input="hello", voice="v"
    )
    assert status == 200
    assert found["attempts"][0]["cost_usd_at_most"] == "0.000002500"
    status, _, found = await posted(gateway, "/v1/explain", path="/v1/audio/transcriptions", model="sandbox/transcribe")
    assert (status, found["error"]["code"]) == (415, "unsupported_media_type")


async def test_sound_and_images_may_be_slow_to_begin(tmp_path: Path) -> None:
    """The time to the first content is for text: here `total_s` alone bounds the wait."""
    config = """
    [models.say]
    deployments = [{ provider = "sandbox", model = "sandbox/speech?ttft_ms=400" }]
    timeouts = { ttft_s = 0.01, total_s = 60 }
    [models.late]
    deployments = [{ provider = "sandbox", model = "sandbox/speech?hang=1" }]
    timeouts = { total_s = 0.2 }
    """
    async with running(tmp_path, config) as gateway:
        answer = await gateway.openai.audio.speech.create(model="say", input="hi", voice="v")
        assert answer.content == wav(2 * 500)
        with pytest.raises(openai.InternalServerError) as caught:
            await gateway.openai.audio.speech.create(model="late", input="hi", voice="v")
        assert caught.value.code == "upstream_timeout"


async def test_catalogue_models_have_the_endpoints_they_are_known_for(tmp_path: Path) -> None:
    """A chat model asked for images, and an image model asked to speak, are refused before anything is sent."""
    config = '[providers.openai]\nbase_url = "http://127.0.0.1:9/v1"\napi_key = "sk-x"\nallow_private = true'
    async with running(tmp_path, config) as gateway:
        for path, body, able in (
            ("/v1/images/generations", {"model": "gpt-5-mini", "prompt": "x"}, "gpt-image-2"),
            ("/v1/audio/speech", {"model": "gpt-image-2", "input": "x", "voice": "v"}, "tts-1"),
            ("/v1/images/edits", {"model": "openai/tts-1", "prompt": "x"}, "gpt-image-2"),
        ):
            status, _, answer = await posted(gateway, path, **body)
            assert (status, answer["error"]["code"]) == (400, "wrong_endpoint")
            assert able in answer["error"]["message"]
