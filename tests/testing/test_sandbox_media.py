"""The sandbox's sound and images by the official client alone: the same every time, and wrong in the ways asked for."""

from __future__ import annotations

import base64
import zlib
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from naru.testing import Sandbox
from naru.testing.sandbox.media import png, wav

FILE = ("a.wav", wav(12_000), "audio/wav")


@pytest.fixture
async def client() -> AsyncIterator[AsyncOpenAI]:
    sandbox = Sandbox()
    made = AsyncOpenAI(base_url=await sandbox.start(), api_key="any", max_retries=0)
    yield made
    await made.close()
    await sandbox.stop()


async def test_answers_are_the_same_every_time(client: AsyncOpenAI) -> None:
    for _ in range(2):
        heard = await client.audio.transcriptions.create(model="transcribe", file=FILE)
        assert (
            heard.text == f"Sandbox heard 1.500 seconds of sound in a.wav, sha256 {sha256(FILE[1]).hexdigest()[:16]}."
        )
        said = await client.audio.speech.create(model="speech", input="hello", voice="v", response_format="pcm")
        assert said.content == wav(5 * 500)[44:]
        drawn = await client.images.generate(model="image", prompt="a cat")
        assert drawn.data is not None
        assert base64.b64decode(drawn.data[0].b64_json or "") == png(b"0 a cat")


async def test_a_file_that_is_no_wav_is_measured_in_bytes(client: AsyncOpenAI) -> None:
    heard = await client.audio.transcriptions.create(model="transcribe", file=("a.mp3", b"x" * 8001))
    assert "8001 bytes" in heard.text
    assert heard.usage is not None
    assert heard.usage.type == "tokens"
    assert heard.usage.input_tokens == 20


def test_pictures_are_whole() -> None:
    """The dots, uncompressed: a filter byte and sixteen dots of three bytes for each line."""
    picture = png(b"seed")
    size = int.from_bytes(picture[33:37], "big")
    assert picture[37:41] == b"IDAT"
    assert len(zlib.decompress(picture[41 : 41 + size])) == 16 * (1 + 16 * 3)


@pytest.mark.parametrize(
    ("query", "expected"), [("none", None), ("null", None), ("zero", 0), ("negative", -20), ("float", 20.5)]
)
async def test_usage_is_told_as_asked_for(client: AsyncOpenAI, query: str, expected: Any) -> None:
    raw = await client.audio.transcriptions.with_raw_response.create(model=f"transcribe?usage={query}", file=FILE)
    usage = raw.http_response.json().get("usage")
    assert (None if usage is None else usage["input_tokens"]) == expected


async def test_a_bad_request_names_its_field(client: AsyncOpenAI) -> None:
    calls = [
        (client.audio.transcriptions.create(model="transcribe", file=FILE, response_format="x"), "response_format"),  # type: ignore[call-overload]
        (client.audio.speech.create(model="speech", input="x" * 5000, voice="v"), "input"),
        (client.images.generate(model="image", prompt="x", n=11), "n"),
    ]
    for call, param in calls:
        with pytest.raises(openai.BadRequestError) as caught:
            await call
        assert caught.value.param == param


async def test_a_stream_without_its_last_event(client: AsyncOpenAI) -> None:
    stream = await client.audio.transcriptions.create(model="transcribe?done=0", file=FILE, stream=True)
    assert {event.type async for event in stream} == {"transcript.text.delta"}
