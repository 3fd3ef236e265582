"""Usage, estimates and streams of the media endpoints."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.errors import BadRequest, UpstreamError
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.media import EDITS, IMAGES, SPEECH, TRANSCRIPTION
from naru.protocol.media.measures import sound_seconds
from naru.protocol.media.usage import whole_seconds
from naru.protocol.messages import Media, Usage
from naru.testing.sandbox.media import wav
from tests.protocol.media.test_multipart import FILE, MODEL, content_type, form

QUIRKS = Quirks()


def transcription(*more: tuple[str, bytes, bytes], sound: bytes = b"x" * 16_000) -> Envelope:
    body = form(b"B", [(FILE[0], b"", sound), MODEL, *more])
    return TRANSCRIPTION.read(body, "", [(b"content-type", content_type(b"B"))])


def speech(**fields: Any) -> Envelope:
    return SPEECH.read(json.dumps({"model": "m", "input": "one two three", "voice": "v", **fields}).encode())


def images(**fields: Any) -> Envelope:
    return IMAGES.read(json.dumps({"model": "m", "prompt": "a cat", **fields}).encode())


# --- Requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), [(b"true", True), (b"False", False), (b"1", True), (b"", False)])
def test_a_forms_stream_is_read_as_servers_read_it(value: bytes, expected: bool) -> None:
    assert transcription(('name="stream"', b"", value)).is_stream is expected


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ([MODEL], "file"),
        ([FILE, FILE, MODEL], "file"),
        ([('name="file"', b"", b"no filename"), MODEL], "file"),
        ([FILE], "model"),
        ([FILE, MODEL, MODEL], "model"),
        ([FILE, ('name="model"; filename="m"', b"", b"m")], "model"),
        ([FILE, ('name="model"', b"", b"")], "model"),
        ([FILE, ('name="model"', b"", b"\xff")], "model"),
        ([FILE, MODEL, ('name="stream"', b"", b"maybe")], "stream"),
        ([FILE, MODEL, ('name="api_base"', b"", b"http://evil")], "api_base"),
        ([FILE, MODEL, ('name="prompt"', b"", b"a"), ('name="prompt"', b"", b"b")], "prompt"),
    ],
)
def test_a_form_that_cannot_be_served_names_its_field(parts: list[tuple[str, bytes, bytes]], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        TRANSCRIPTION.read(form(b"B", parts), "", [(b"content-type", content_type(b"B"))])
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (SPEECH, {"input": ""}, "input"),
        (SPEECH, {"input": 5}, "input"),
        (SPEECH, {"input": "x", "stream_format": "mp3"}, "stream_format"),
        (IMAGES, {}, "prompt"),
        (IMAGES, {"prompt": "x", "n": 0}, "n"),
        (IMAGES, {"prompt": "x", "stream": "yes"}, "stream"),
        (IMAGES, {"prompt": "x", "svg": {"model": "gpt-6-astra"}}, "svg"),
        (IMAGES, {"prompt": "x", "output_format": "svg"}, "output_format"),
    ],
)
def test_json_that_cannot_be_served_names_its_field(dialect: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        dialect.read(json.dumps({"model": "m", **fields}).encode())
    assert caught.value.param == param


def test_edits_come_as_a_form_or_as_json() -> None:
    """Images sent count as input."""
    pictures = [('name="image[]"; filename="a.png"', b"", b"1"), ('name="image[]"; filename="b.png"', b"", b"2")]
    body = form(b"B", [*pictures, MODEL, ('name="prompt"', b"", b"a cat"), ('name="n"', b"", b"2")])
    formed = EDITS.read(body, "", [(b"content-type", content_type(b"B"))])
    told = {"model": "m", "prompt": "a cat", "n": 2, "images": [{"file_id": "a"}, {"file_id": "b"}]}
    plain = EDITS.read(json.dumps(told).encode(), "", [(b"content-type", b"application/json")])
    assert formed.estimate == plain.estimate
    assert formed.estimate is not None
    assert formed.estimate.media == Media("image", 2, True, image_input=2 * 1056, image_output=2 * 1056)


@pytest.mark.parametrize("field", ["svg", "svg[model]"])
def test_a_second_model_in_a_form_is_refused(field: str) -> None:
    picture = ('name="image"; filename="a.png"', b"", b"1")
    body = form(b"B", [picture, MODEL, (f'name="{field}"', b"", b"gpt-6-astra")])
    with pytest.raises(BadRequest) as caught:
        EDITS.read(body, "", [(b"content-type", content_type(b"B"))])
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", field)


# --- Measures ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 80_000), st.binary(max_size=5), st.binary(max_size=5))
def test_a_wav_says_how_long_it_is(samples: int, before: bytes, after: bytes) -> None:
    """Rounded up, wherever it stands in a body, and also where its writer did not know how long it would be."""
    sound = wav(samples)
    seconds = -(-samples // 8000)
    assert sound_seconds(before + sound + after, len(before), len(before) + len(sound)) == seconds
    unknown = sound[:40] + struct.pack("<I", 0xFFFFFFFF) + sound[44:]
    assert sound_seconds(unknown, 0, len(unknown)) == seconds
    listed = sound[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + sound[36:]
    assert sound_seconds(listed, 0, len(listed)) == seconds


@given(st.binary(max_size=100))
def test_anything_has_a_length(data: bytes) -> None:
    for sound in (data, b"RIFF\0\0\0\0WAVE" + data, b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + data):
        assert sound_seconds(sound, 0, len(sound)) >= 1


@pytest.mark.parametrize(
    ("told", "billed"),
    [(8.470000267028809, 9), (9, 9), (9.000000190734863, 9), (0.2, 1), (0, None), (-1, None), (1e12, None)],
)
def test_a_started_second_is_billed(told: float, billed: int | None) -> None:
    """As OpenAI reports it: a duration of 8.47 has a usage of 9 seconds."""
    assert whole_seconds(told) == billed


def told(envelope: Envelope, **answer: Any) -> Usage:
    usage = TRANSCRIPTION.relay_whole(json.dumps({"text": "four", **answer}).encode(), envelope, QUIRKS).usage
    assert usage is not None
    return usage


def test_tokens_of_a_transcription() -> None:
    details = {"audio_tokens": 14, "text_tokens": 2}
    usage = {
        "type": "tokens",
        "input_tokens": 16,
        "output_tokens": 5,
        "total_tokens": 21,
        "input_token_details": details,
    }
    assert told(transcription(), usage=usage) == Usage(16, 5, audio_input=14, media=Media("second", 2, True))


def test_seconds_of_a_transcription() -> None:
    """From the usage, else from the duration, else from the file; tokens are then a guess at ten a second."""
    by_usage = told(transcription(), duration=8.47, usage={"type": "duration", "seconds": 9})
    assert by_usage == Usage(90, 1, audio_input=90, is_estimated=True, media=Media("second", 9))
    assert told(transcription(), duration=8.47).media == Media("second", 9)
    assert told(transcription()).media == Media("second", 2, True)
    assert told(transcription(sound=wav(8001))).media == Media("second", 2, True)


@pytest.mark.parametrize(
    "usage", [None, {}, 5, {"input_tokens": -5}, {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 1e15}]
)
def test_a_usage_that_cannot_be_right_is_none(usage: Any) -> None:
    assert told(transcription(), usage=usage).is_estimated


def test_text_formats_are_passed_on() -> None:
    envelope = transcription(('name="response_format"', b"", b"srt"))
    whole = TRANSCRIPTION.relay_whole(b"1\n00:00\nhi\n", envelope, QUIRKS)
    assert (whole.body, whole.content_type) == (b"1\n00:00\nhi\n", b"")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"error": {"message": "no"}}', b'{"text": 5}', b"\xff"])
@pytest.mark.parametrize("dialect", [TRANSCRIPTION, SPEECH, IMAGES])
def test_garbage_is_an_upstream_error(dialect: Any, body: bytes) -> None:
    envelope = {"transcription": transcription, "speech": speech, "images": images}[dialect.name]()
    with pytest.raises(UpstreamError):
        dialect.relay_whole(body, envelope, QUIRKS)


def test_images_are_counted_where_no_tokens_are_told() -> None:
    """As many as came, not as many as were asked for."""
    usage = IMAGES.relay_whole(b'{"data": [{}, {}]}', images(n=3, quality="low"), QUIRKS).usage
    assert usage is not None
    assert usage.media == Media("image", 2, False, 0, 3 * 272)
    assert usage.is_estimated


def test_image_tokens_by_kind() -> None:
    """Without output details every output token is an image's."""
    usage = {"input_tokens": 50, "output_tokens": 100, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40}}
    answer = {"data": [{}], "usage": usage}
    found = IMAGES.relay_whole(json.dumps(answer).encode(), images(), QUIRKS).usage
    assert found == Usage(50, 100, media=Media("image", 1, False, 40, 100))
    usage["output_tokens_details"] = {"text_tokens": 30, "image_tokens": 70}
    found = IMAGES.relay_whole(json.dumps(answer).encode(), images(), QUIRKS).usage
    assert found == Usage(50, 100, media=Media("image", 1, False, 40, 70))


# --- Streams ----------------------------------------------------------------------------------------------------------


def events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in told)


DELTAS = events({"type": "transcript.text.delta", "delta": "안녕"}, {"type": "transcript.text.delta", "delta": " hi"})
DONE = {
    "type": "transcript.text.done",
    "text": "안녕 hi",
    "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 3},
}
CHUNKS = (
    b'data: {"object":"transcription.chunk","choices":[{"delta":{"content":"hi"}}]}\n\n'
    b'data: {"object":"transcription.chunk","choices":[],"usage":{"prompt_tokens":14,"completion_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)


def run(relay: Any, data: bytes, cuts: list[int]) -> bytes:
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    out = b"".join(relay.feed(data[start:end]) for start, end in pairwise(places))
    return out + relay.close()


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(cuts)
def test_a_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    """Events pass as they are; the last one has its usage's cost added."""
    for data, untouched in ((DELTAS + events(DONE), DELTAS), (CHUNKS, b"data: [DONE]\n\n")):
        relay = TRANSCRIPTION.media_relay(transcription(), QUIRKS, lambda usage: 1_500)
        assert relay.takes(b"text/event-stream; charset=utf-8")
        out = run(relay, data, cuts)
        assert untouched in out
        assert out.count(b"\n\n") == data.count(b"\n\n")
        assert b'"naru":{"cost_usd":0.0000015}' in out
        assert (relay.is_finished, relay.error, relay.has_content) == (True, None, True)
        assert relay.usage == Usage(14, 3, media=Media("second", 2, True))


@given(st.integers(0, len(DELTAS + events(DONE)) - 3))
def test_a_stream_that_is_cut_says_so(place: int) -> None:
    relay = TRANSCRIPTION.media_relay(transcription(), QUIRKS, lambda usage: 0)
    relay.feed((DELTAS + events(DONE))[:place])
    relay.close()
    assert relay.error is not None
    assert not relay.is_finished


@pytest.mark.parametrize(
    "data",
    [
        events({"type": "error", "error": {"message": "no", "code": "x"}}),
        b'event: error\ndata: {"message": "no"}\n\n',
        b'data: {"error": {"message": "no"}}\n\n',
        b"data: {\n\n",
    ],
)
def test_errors_in_the_stream_end_it(data: bytes) -> None:
    relay = TRANSCRIPTION.media_relay(transcription(), QUIRKS, lambda usage: 0)
    assert relay.feed(DELTAS + data + events(DONE)) == DELTAS
    assert relay.error is not None
    assert (relay.feed(DELTAS), relay.close()) == (b"", b"")


@given(cuts, st.binary(min_size=1, max_size=50))
def test_sound_passes_as_it_is(cuts: list[int], sound: bytes) -> None:
    relay = SPEECH.media_relay(speech(), QUIRKS, lambda usage: 0)
    assert relay.takes(b"audio/mpeg")
    assert not relay.is_events
    assert run(relay, sound, cuts) == sound
    assert (relay.is_finished, relay.error, relay.usage) == (True, None, None)


def test_no_sound_at_all_is_an_error() -> None:
    relay = SPEECH.media_relay(speech(), QUIRKS, lambda usage: 0)
    assert relay.takes(b"audio/mpeg")
    relay.close()
    assert relay.error is not None


def test_only_speech_takes_sound() -> None:
    assert not IMAGES.media_relay(images(), QUIRKS, lambda usage: 0).takes(b"audio/mpeg")
    assert not SPEECH.media_relay(speech(), QUIRKS, lambda usage: 0).takes(b"text/html")


def test_an_image_of_many_megabytes_is_one_event() -> None:
    data = events({"type": "image_generation.completed", "b64_json": "A" * 8_000_000, "usage": None})
    relay = IMAGES.media_relay(images(n=3), QUIRKS, lambda usage: 0)
    assert relay.takes(b"text/event-stream")
    assert run(relay, data, list(range(0, len(data), 64 * 1024))) == data
    assert relay.usage is not None
    assert relay.usage.media is not None
    assert (relay.usage.media.units, relay.usage.media.is_estimated, relay.usage.is_estimated) == (1, False, True)
