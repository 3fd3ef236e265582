"""Converse's answers, streams and errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from naru.errors import UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL
from naru.protocol.bedrock import BEDROCK
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Image, Reasoning, Response, Text, TextDelta, ToolCall, Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.sandbox.bedrock import event, frame
from tests.protocol.bedrock.samples import (
    CALLS_STREAM,
    CLAUDE,
    ERROR_STREAM,
    GPT,
    NOVA,
    START,
    STREAMS,
    TEXT_STREAM,
    answer,
    begin,
    compact,
    delta,
    end,
    exception,
    metadata,
    stop,
)
from tests.protocol.samples import PLAIN, cut, envelope, json_values, price

LAW = settings(max_examples=60, deadline=None)
WEATHER = {
    "toolUse": {"toolUseId": "t", "name": "get_weather", "input": {"city": "서울", "days": 1.5}, "type": "tool_use"}
}


def decoded(pieces: list[bytes], quirks: Quirks = CLAUDE) -> tuple[list[Event], UpstreamError | None]:
    decoder = BEDROCK.stream_decoder(quirks)
    events: list[Event] = []
    try:
        for data in pieces:
            events += decoder.feed(data)
        events += decoder.feed(b"")
        return events + decoder.close(), None
    except UpstreamError as error:
        return events, error


def streamed(*pieces: bytes, quirks: Quirks = CLAUDE) -> Response:
    events, error = decoded([b"".join(pieces)], quirks)
    assert error is None
    return accumulate(events)


# --- Whole ----------------------------------------------------------------------------------------------------------


def test_a_whole_answer() -> None:
    """Thinking with its signature or encrypted, text, calls with every digit; names as the caller wrote them."""
    told = {"reasoningContent": {"reasoningText": {"text": "음", "signature": "c2ln"}}}
    hidden = {"reasoningContent": {"redactedContent": "aGk="}}
    call = {"toolUse": {"toolUseId": "u", "name": "a__u002e__b", "input": {}}}
    body = answer(told, hidden, {"text": "네"}, {"text": "."}, WEATHER, call, stop="tool_use")
    response = BEDROCK.decode_response(body, CLAUDE)
    (choice,) = response.choices
    assert choice.parts == (
        Reasoning("음", "c2ln"),
        Reasoning("", encrypted="aGk="),
        Text("네."),
        ToolCall("t", "get_weather", '{"city":"서울","days":1.5}'),
        ToolCall("u", "a.b", "{}"),
    )
    assert choice.finish_reason == "tool_calls"
    assert response.usage == Usage(20, 5)
    assert response.id.startswith("chatcmpl-")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"inputTokens": 3, "outputTokens": 5}, Usage(3, 5)),
        ({"cacheReadInputTokens": 100, "cacheWriteInputTokens": 50}, Usage(153, 5, cached=100, cache_write=50)),
        (
            {
                "cacheWriteInputTokens": 50,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 30}, {"ttl": "5m", "inputTokens": 20}],
            },
            Usage(53, 5, cache_write=20, cache_write_1h=30),
        ),
        ({"inputTokens": -1}, None),
        ({"inputTokens": 10**12}, None),
    ],
)
def test_usage(usage: dict[str, Any], expected: Usage | None) -> None:
    """inputTokens are those beside the cache; what cannot be believed is no usage."""
    counts = {"inputTokens": 3, "outputTokens": 5, "totalTokens": 8, **usage}
    assert BEDROCK.decode_response(answer({"text": "a"}, usage=counts), CLAUDE).usage == expected


def test_a_stream_of_openais_models_counts_the_cache_inside() -> None:
    """Measured so: what the stream counts twice is billed once."""
    counts = {"inputTokens": 4_995, "cacheWriteInputTokens": 4_993}
    ends = (START, delta(0, text="a"), stop("end_turn"), metadata(**counts))
    assert streamed(*ends, quirks=GPT).usage == Usage(4_995, 5, cache_write=4_993)
    assert streamed(*ends).usage == Usage(9_988, 5, cache_write=4_993)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_stop_reasons(reason: str, finish: str) -> None:
    assert BEDROCK.decode_response(answer({"text": "a"}, stop=reason), CLAUDE).choices[0].finish_reason == finish
    assert streamed(START, delta(0, text="a"), stop(reason), metadata()).choices[0].finish_reason == finish


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_an_answer_that_was_given_up_is_an_error_that_another_try_may_mend(reason: str) -> None:
    with pytest.raises(UpstreamRefused, match=reason) as caught:
        BEDROCK.decode_response(answer({"text": "a"}, stop=reason), CLAUDE)
    assert caught.value.is_retryable
    _, error = decoded([START + delta(0, text="a") + stop(reason)])
    assert isinstance(error, UpstreamRefused)


def test_the_stop_sequence_that_was_met() -> None:
    more = {"additionalModelResponseFields": {"stop_sequence": "###"}}
    whole = BEDROCK.decode_response(answer({"text": "a"}, stop="stop_sequence", **more), CLAUDE)
    assert whole.choices[0].stop_sequence == "###"
    assert streamed(START, delta(0, text="a"), stop("stop_sequence", **more)).choices[0].stop_sequence == "###"


def test_the_tool_that_stands_for_the_answer_is_the_answer() -> None:
    use = {"toolUse": {"toolUseId": "t", "name": ANSWER_TOOL, "input": {"a": 1}}}
    (choice,) = BEDROCK.decode_response(answer(use, stop="tool_use"), NOVA).choices
    assert (choice.parts, choice.finish_reason) == ((Text('{"a":1}'),), "stop")
    pieces = [delta(0, toolUse={"input": text}) for text in ('{"a"', ":1}")]
    (found,) = streamed(START, begin(0, "t", ANSWER_TOOL), *pieces, end(0), stop("tool_use"), metadata()).choices
    assert (found.parts, found.finish_reason) == ((Text('{"a":1}'),), "stop")


def test_what_aws_runs_itself_is_no_call_of_the_callers() -> None:
    use = {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "input": {}, "type": "server_tool_use"}}
    cited = {"citationsContent": {"content": [{"text": "it says"}], "citations": [{"title": "t"}]}}
    body = answer(use, {"toolResult": {"toolUseId": "t", "content": []}}, cited)
    assert BEDROCK.decode_response(body, NOVA).choices[0].parts == (Text("it says"),)
    first = begin(0, "t", "nova_grounding", type="server_tool_use") + delta(0, toolUse={"input": "{}"}) + end(0)
    assert streamed(START, first, delta(1, text="a"), stop("end_turn")).choices[0].parts == (Text("a"),)


def test_pictures() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "aGk="}}}
    assert BEDROCK.decode_response(answer(image), NOVA).choices[0].parts == (Image("data:image/png;base64,aGk="),)
    assert streamed(START, delta(0, **image), stop("end_turn")).choices[0].parts == (
        Image("data:image/png;base64,aGk="),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        b'{"output":{}}',
        b'{"output":{"message":[]}}',
        b'{"output":{"message":{"content":[7]}}}',
    ],
)
def test_garbage_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        BEDROCK.decode_response(body, CLAUDE)


# --- Streams --------------------------------------------------------------------------------------------------------


def test_a_stream_of_text() -> None:
    response = streamed(TEXT_STREAM)
    assert response.choices[0].parts == (Reasoning("오늘은", "c2ln"), Text("안녕 👋"))
    assert (response.choices[0].finish_reason, response.usage) == ("stop", Usage(20, 5))


def test_a_stream_of_calls() -> None:
    """A call without a piece has {} as its arguments."""
    response = streamed(CALLS_STREAM)
    assert response.choices[0].parts == (
        Text("보자"),
        ToolCall("tooluse_a", "get_weather", '{"location":"서울"}'),
        ToolCall("tooluse_b", "get_time", "{}"),
    )
    assert response.choices[0].finish_reason == "tool_calls"


def test_redacted_thinking_streams() -> None:
    pieces = (
        START,
        delta(0, reasoningContent={"redactedContent": "aGk="}),
        end(0),
        delta(1, text="a"),
        stop("end_turn"),
    )
    assert streamed(*pieces).choices[0].parts == (Reasoning("", encrypted="aGk="), Text("a"))


@pytest.mark.parametrize(
    ("whole", "stream"),
    [
        (
            answer({"reasoningContent": {"reasoningText": {"text": "음", "signature": "s"}}}, {"text": "안녕"}),
            [delta(0, reasoningContent={"text": "음"}), delta(0, reasoningContent={"signature": "s"}), end(0),
             delta(1, text="안"), delta(1, text="녕"), end(1), stop("end_turn")],
        ),
        (
            answer({"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}, stop="tool_use"),
            [begin(0, "t", "f"), delta(0, toolUse={"input": '{"a":'}), delta(0, toolUse={"input": "1}"}), end(0),
             stop("tool_use")],
        ),
    ],
)  # fmt: skip
def test_law_2_a_stream_adds_up_to_the_whole(whole: bytes, stream: list[bytes]) -> None:
    """But for the id."""
    response = BEDROCK.decode_response(whole, CLAUDE)
    assert replace(streamed(START, *stream, metadata()), id="") == replace(response, id="")


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("throttlingException", 429),
        ("modelStreamErrorException", 502),
        ("internalServerException", 500),
        ("serviceUnavailableException", 503),
        ("validationException", 400),
    ],
)
def test_exceptions_inside_a_stream(name: str, status: int) -> None:
    events, error = decoded([START + delta(0, text="안") + exception(name, "words")])
    assert events[-1] == TextDelta("안")
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.message) == (status, "words")


def test_error_frames() -> None:
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "words"}
    _, error = decoded([START + frame(headers, b"")])
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.message) == (500, "words")


def test_a_stream_that_was_cut() -> None:
    for stream in (b"", START, START + delta(0, text="안"), (START + delta(0, text="안") + stop("end_turn"))[:-3]):
        _, error = decoded([stream])
        assert isinstance(error, UpstreamBroken)
        assert error.code == "upstream_incomplete"


def test_a_stream_without_its_usage_is_whole_all_the_same() -> None:
    assert streamed(START, delta(0, text="안"), stop("end_turn")).usage is None


def test_events_that_nobody_knows_yet_change_nothing() -> None:
    new = event("somethingNew", {"contentBlockIndex": 0, "delta": {"new": {}}}) + delta(0, new={"a": 1})
    assert streamed(START, new, delta(0, text="a"), stop("end_turn")).choices[0].parts == (Text("a"),)


@pytest.mark.parametrize("stream", [TEXT_STREAM, CALLS_STREAM])
def test_an_openai_client_gets_it_all(stream: bytes) -> None:
    events, _ = decoded([stream])
    encoder = OPENAI_CHAT.stream_encoder(envelope(True), price)
    written = b"".join(map(encoder.event, events)) + encoder.close()
    decoder = OPENAI_CHAT.stream_decoder(PLAIN)
    found = accumulate([*decoder.feed(written), *decoder.close()])
    told = accumulate(events)
    assert found.usage == told.usage
    assert [part for part in found.choices[0].parts if not isinstance(part, Reasoning)] == [
        part for part in told.choices[0].parts if not isinstance(part, Reasoning)
    ]


# --- Laws -----------------------------------------------------------------------------------------------------------

pieces = st.sampled_from(
    [
        START,
        delta(0, text="안녕"),
        delta(0, reasoningContent={"text": "음"}),
        begin(1, "a", "f"),
        delta(1, toolUse={"input": '{"x":1}'}),
        end(1),
        stop("tool_use"),
        metadata(),
        exception("throttlingException"),
        event("contentBlockDelta", {"delta": 7}),
        frame({":event-type": "contentBlockDelta", ":message-type": "event"}, b"\xff{"),
        delta(0, text="x")[:-1] + b"\x00",
    ]
)


@LAW
@given(st.lists(pieces, max_size=8).map(b"".join), st.lists(st.integers(0, 3_000), max_size=12))
def test_law_1_the_cuts_never_show(stream: bytes, places: list[int]) -> None:
    """Whole = byte by byte = random splits."""

    def told(parts: list[bytes]) -> Any:
        events, error = decoded(parts)
        return events, None if error is None else (type(error), error.message)

    assert told([stream]) == told(cut(stream, places)) == told([bytes([byte]) for byte in stream])


@LAW
@given(st.sampled_from([*STREAMS, answer(WEATHER)]), st.integers(0, 2_000), st.binary(max_size=3), json_values)
def test_law_5_damage_gives_one_error(data: bytes, place: int, new: bytes, value: Any) -> None:
    """Bytes lost, added or flipped, and values of any type, give events or one UpstreamError."""
    at = place % len(data)
    kinds = [":event-type", "contentBlockDelta"]
    for damaged in (
        data[:at] + new + data[at + 1 :],
        compact({"output": value}),
        compact({"output": {"message": {"content": [value]}}}),
        frame(dict([kinds]), json.dumps({"delta": value}).encode()),
    ):
        decoded([damaged])
        with suppress(UpstreamError):
            BEDROCK.decode_response(damaged, CLAUDE)
        BEDROCK.decode_error(500, damaged, CLAUDE)


# --- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"message": "m"}, (400, None, False)),
        (400, {"message": "Input is too long for requested model."}, (400, "context_length_exceeded", False)),
        (400, {"__type": "ServiceQuotaExceededException", "message": "m"}, (429, "rate_limit_exceeded", True)),
        (
            400,
            {"__type": "com.amazon.coral#ThrottlingException:http://x", "message": "m"},
            (429, "rate_limit_exceeded", True),
        ),
        (404, {"message": "m"}, (404, "model_not_found", False)),
        (408, {"message": "m"}, (504, None, True)),
        (424, {"message": "m", "originalStatusCode": 500}, (502, None, True)),
        (429, {"message": "m"}, (429, "rate_limit_exceeded", True)),
        (429, {"__type": "ModelNotReadyException", "message": "m"}, (503, "overloaded", True)),
        (500, {"message": "m"}, (500, None, True)),
        (503, {"message": "m"}, (503, None, True)),
    ],
)
def test_errors(status: int, body: Any, expected: tuple[int, str | None, bool]) -> None:
    error = BEDROCK.decode_error(status, compact(body), CLAUDE)
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.code, error.is_retryable) == expected
    assert error.message == body["message"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, {"message": "You don't have access to the model with the specified model ID."}),
        (403, {"Message": "User: arn:aws:iam::1:user/x is not authorized"}),
        (400, {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}),
        (400, {"__type": "ExpiredTokenException", "message": "The token is expired"}),
    ],
)
def test_a_refused_credential_is_the_operators(status: int, body: Any) -> None:
    error = BEDROCK.decode_error(status, compact(body), CLAUDE)
    assert isinstance(error, UpstreamAuth)
    assert "arn:" not in error.message


@pytest.mark.parametrize("body", [b"", b"<html>x</html>", b"[]", b'{"message":[]}', b"\xff"])
def test_noise_is_not_relayed(body: bytes) -> None:
    error = BEDROCK.decode_error(502, body, CLAUDE)
    assert "no readable message" in error.message


def test_the_error_stream_reaches_its_reader() -> None:
    events, error = decoded([ERROR_STREAM])
    assert events[-1] == TextDelta("안")
    assert isinstance(error, UpstreamRefused)
    assert error.code == "rate_limit_exceeded"
