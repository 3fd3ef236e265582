"""CLOVA Studio's answers, streams and errors, from samples constructed after its documentation."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.clova import CLOVA
from naru.protocol.messages import Event, Reasoning, Response, Text, TextDelta, ToolCall, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.clova.samples import (
    CALLS_STREAM,
    ERROR_STREAM,
    SIGNAL,
    TEXT_STREAM,
    THINKS,
    V1_STREAM,
    V3,
    WEATHER,
    answer,
    call_start,
    compact,
    fragment,
    result,
    sse,
    token,
)
from tests.protocol.samples import PLAIN, cut, envelope, json_values, price

STREAMS = [TEXT_STREAM, CALLS_STREAM, ERROR_STREAM, V1_STREAM]
LAW = settings(max_examples=60, deadline=None)


def decoded(pieces: list[bytes]) -> tuple[list[Event], UpstreamError | None]:
    decoder = CLOVA.stream_decoder(THINKS)
    events: list[Event] = []
    try:
        for data in pieces:
            events += decoder.feed(data)
        return events + decoder.close(), None
    except UpstreamError as error:
        return events, error


def streamed(*pieces: bytes) -> Response:
    events, error = decoded([b"".join(pieces)])
    assert error is None
    return accumulate(events)


# --- Whole ----------------------------------------------------------------------------------------------------------


def test_a_whole_answer() -> None:
    """Thinking, text and calls; arguments as text; thinking inside the output; the total is not believed."""
    message = {"content": "네", "thinkingContent": "음", "toolCalls": [WEATHER]}
    response = CLOVA.decode_response(answer(message, "tool_calls"), V3)
    (choice,) = response.choices
    assert choice.parts == (
        Reasoning("음"),
        Text("네"),
        ToolCall("call_x", "get_weather", '{"location":"서울","days":1.5}'),
    )
    assert choice.finish_reason == "tool_calls"
    assert response.usage == Usage(134, 48, reasoning=12)
    assert response.created == 1744218663
    assert response.id.startswith("chatcmpl-")
    assert response.extra["seed"] == Raw(b"1354242582")


def test_milliseconds_are_seconds() -> None:
    assert CLOVA.decode_response(answer({}, created=1744218663123), V3).created == 1744218663


def test_v1() -> None:
    """stopReason in capitals, lengths for usage."""
    body = {
        "status": {"code": "20000"},
        "result": {"message": {"role": "assistant", "content": "네"}, "stopReason": "LENGTH", "inputLength": 7, "outputLength": 2},
    }  # fmt: skip
    response = CLOVA.decode_response(compact(body), V3)
    assert response.choices[0].finish_reason == "length"
    assert response.usage == Usage(7, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"result":{}}',
        b'{"result":{"message":[]}}',
        b'{"result":{"message":{"toolCalls":[{}]}}}',
    ],
)
def test_garbage_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        CLOVA.decode_response(body, V3)


def test_an_error_with_a_status_of_200() -> None:
    body = compact({"status": {"code": "42901", "message": "Too many requests - rate exceeded"}, "result": None})
    with pytest.raises(UpstreamRefused, match="rate exceeded") as refused:
        CLOVA.decode_response(body, V3)
    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")


# --- Streams --------------------------------------------------------------------------------------------------------


def test_a_stream_of_text() -> None:
    """The result repeats it all and is told only for its reason, usage and filters."""
    response = streamed(TEXT_STREAM)
    assert response.choices[0].parts == (Reasoning("오늘은"), Text("안녕 👋"))
    assert response.choices[0].finish_reason == "stop"
    assert response.usage == Usage(20, 5)
    assert "aiFilter" in response.extra


def test_a_stream_of_calls() -> None:
    """A new id is a new call; pieces without one belong to the latest; a call without pieces has the result's arguments."""
    response = streamed(CALLS_STREAM)
    assert response.choices[0].parts == (
        ToolCall("call_z", "get_weather", '{"location":"서울"}'),
        ToolCall("call_y", "get_time", "{}"),
    )
    assert response.choices[0].finish_reason == "tool_calls"


def test_the_result_adds_what_no_token_said() -> None:
    """The end of a text, a whole text, a whole call; never a text once more, nor one that says something else."""
    assert streamed(token({"content": "안"}), result({"content": "안녕"})).choices[0].parts == (Text("안녕"),)
    assert streamed(result({"content": "안녕"})).choices[0].parts == (Text("안녕"),)
    assert streamed(token({"content": "안녕"}), result({"content": "안"})).choices[0].parts == (Text("안녕"),)
    assert streamed(token({"content": "안녕"}), result({"content": "다른 말"})).choices[0].parts == (Text("안녕"),)
    (call,) = streamed(result({"toolCalls": [WEATHER]})).choices[0].parts
    assert call == ToolCall("call_x", "get_weather", '{"location":"서울","days":1.5}')


def test_v1_streams() -> None:
    response = streamed(V1_STREAM)
    assert response.choices[0].parts == (Text("네"),)
    assert (response.choices[0].finish_reason, response.usage) == ("stop", Usage(7, 2))


@pytest.mark.parametrize(
    ("whole", "stream"),
    [
        (
            answer({"content": "안녕", "thinkingContent": "음"}),
            [token({"thinkingContent": "음"}), token({"content": "안녕"})],
        ),
        (
            answer({"toolCalls": [{**WEATHER, "function": {"name": "f", "arguments": {"a": 1}}}]}, "tool_calls"),
            [token(call_start("call_x", "f")), token(fragment('{"a":')), token(fragment("1}"))],
        ),
    ],
)
def test_law_2_a_stream_adds_up_to_the_whole(whole: bytes, stream: list[bytes]) -> None:
    """But for the id, which the stream's own events have, and the whole has not."""
    response = CLOVA.decode_response(whole, THINKS)
    body = json.loads(whole)["result"]
    found = streamed(*stream, sse("result", body), SIGNAL)
    assert replace(found, id="", created=0) == replace(response, id="", created=0)


def test_spaces_after_the_colons_change_nothing() -> None:
    with_spaces = token({"content": "안"}, " ") + result({"content": "안녕"}, space=" ")
    assert streamed(with_spaces) == streamed(token({"content": "안"}), result({"content": "안녕"}))


def test_an_error_inside_a_stream() -> None:
    events, error = decoded([ERROR_STREAM])
    assert events[-1] == TextDelta("안")
    assert isinstance(error, UpstreamRefused)
    assert error.status == 429


def test_a_stream_that_was_cut() -> None:
    """Without its result a stream is not whole, whatever it said."""
    for stream in (token({"content": "안"}), token({"content": "안"}) + SIGNAL, b""):
        _, error = decoded([stream])
        assert isinstance(error, UpstreamBroken)
        assert error.code == "upstream_incomplete"


@pytest.mark.parametrize("stream", [TEXT_STREAM, CALLS_STREAM])
def test_an_openai_client_gets_it_all(stream: bytes) -> None:
    events, _ = decoded([stream])
    encoder = OPENAI_CHAT.stream_encoder(envelope(True), price)
    written = b"".join(map(encoder.event, events)) + encoder.close()
    decoder = OPENAI_CHAT.stream_decoder(PLAIN)
    found = accumulate([*decoder.feed(written), *decoder.close()])
    told = accumulate(events)
    assert (found.choices, found.usage) == (told.choices, told.usage)
    whole = OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(told, envelope()), PLAIN)
    assert whole.choices == told.choices


# --- Laws -----------------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        token({"content": "안녕"}),
        token({"thinkingContent": "음"}, " "),
        token(call_start("a", "f")),
        token(call_start("b", "g")),
        token(fragment('{"x":1}')),
        result({"content": "안녕"}),
        SIGNAL,
        sse("error", {"status": {"code": "50000"}}),
        b"event:token\ndata:{\n\n",
        b": keep-alive\n\n",
    ]
)


@LAW
@given(
    st.lists(pieces, max_size=8).map(b"".join),
    st.lists(st.integers(0, 3_000), max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_law_1_the_cuts_never_show(stream: bytes, places: list[int], end: bytes) -> None:
    """Whole = byte by byte = random splits."""
    stream = stream.replace(b"\n", end)

    def told(parts: list[bytes]) -> Any:
        events, error = decoded(parts)
        return events, None if error is None else (type(error), error.message)

    assert told([stream]) == told(cut(stream, places)) == told(cut(stream, list(range(len(stream)))))


@LAW
@given(
    st.sampled_from([*STREAMS, answer({"toolCalls": [WEATHER]})]),
    st.integers(0, 2_000),
    st.binary(max_size=3),
    json_values,
)
def test_law_5_damage_gives_one_error(data: bytes, place: int, new: bytes, value: Any) -> None:
    """Bytes lost, added or flipped, and values of any type, give events or one UpstreamError."""
    at = place % len(data)
    for damaged in (
        data[:at] + new + data[at + 1 :],
        compact({"result": value}),
        sse("token", compact({"message": value})),
    ):
        decoded([damaged])
        with suppress(UpstreamError):
            CLOVA.decode_response(damaged, V3)
        CLOVA.decode_error(500, damaged, V3)


# --- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "40000", (400, "40000", False)),
        (400, "40002", (400, "unsupported_parameter", False)),
        (400, "40003", (400, "context_length_exceeded", False)),
        (400, "40055", (400, "40055", False)),
        (400, "40080", (404, "model_not_found", False)),
        (400, "40082", (404, "model_not_found", False)),
        (400, "40083", (503, "no_resource", True)),
        (408, "40800", (408, "40800", True)),
        (413, "41300", (413, "41300", False)),
        (424, "42400", (503, "failed_dependency", True)),
        (429, "42901", (429, "rate_limit_exceeded", True)),
        (429, "42902", (503, "overloaded", True)),
        (429, "42903", (503, "overloaded", True)),
        (500, "50000", (500, "50000", True)),
        (504, "50400", (504, "50400", True)),
    ],
)
def test_error_codes(status: int, code: str, expected: tuple[int, str, bool]) -> None:
    """The five digits tell a full quota from a full GPU, and a long prompt from a wrong one (A1.7)."""
    error = CLOVA.decode_error(status, compact({"status": {"code": code, "message": "m"}, "result": None}), V3)
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.code, error.is_retryable) == expected
    assert error.message == "m"


@pytest.mark.parametrize(("status", "code"), [(401, "40103"), (401, "40170"), (403, "40300"), (200, "40101")])
def test_a_refused_credential_is_the_operators(status: int, code: str) -> None:
    body = compact({"status": {"code": code, "message": "m"}})
    if status == 200:
        with pytest.raises(UpstreamAuth):
            CLOVA.decode_response(body, V3)
    else:
        assert isinstance(CLOVA.decode_error(status, body, V3), UpstreamAuth)


@pytest.mark.parametrize("body", [b"", b"<html>x</html>", b'{"status":7}', b'{"error":{"code":"x","message":[]}}'])
def test_noise_is_not_relayed(body: bytes) -> None:
    error = CLOVA.decode_error(502, body, V3)
    assert error.message == "The provider answered with status 502 and no readable message."


def test_the_compatible_endpoints_shape_is_read_too() -> None:
    error = CLOVA.decode_error(500, compact({"error": {"message": "Internal Server Error", "code": "50000"}}), V3)
    assert (error.message, error.code) == ("Internal Server Error", "50000")
