"""Gemini answers, whole and streamed: what they mean to others, and what others' answers become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from naru.errors import UpstreamBroken, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import (
    Audio,
    Choice,
    Finish,
    Image,
    LogprobsDelta,
    Opaque,
    Reasoning,
    Refusal,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
)
from tests.protocol.gemini.samples import PLAIN, USAGE, decoded, event, piece, stream_envelope
from tests.protocol.samples import compact, price

CALL = {"functionCall": {"name": "f", "args": {"x": 1.50}}, "thoughtSignature": "Eg=="}


def whole(value: Any) -> Response:
    return GEMINI.decode_response(compact(value), PLAIN)


# --- From Gemini ----------------------------------------------------------------------------------------------------


def test_calls_get_ids_and_keep_their_signature() -> None:
    """Gemini gives no id: ours are the same whole or streamed. STOP after a call is tool_calls."""
    answer = piece({"text": "t", "thought": True}, {"text": "a"}, CALL, CALL, finish="STOP")
    response = whole(answer)
    (choice,) = response.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.parts[:2] == (Reasoning("t"), Text("a"))
    first, second = choice.parts[2:]
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (first.name, first.arguments) == ("f", '{"x":1.5}')
    assert first.id != second.id
    assert (first.signature, first.extra) == ("Eg==", {})
    frames = [piece({"text": "t", "thought": True}), piece({"text": "a"}), piece(CALL), piece(CALL, finish="STOP")]
    assert accumulate(decoded([event(frame) for frame in frames])[0]) == response


def test_a_call_without_arguments() -> None:
    (call,) = whole(piece({"functionCall": {"id": "i", "name": "f"}}, finish="STOP")).choices[0].parts
    assert call == ToolCall("i", "f", "{}")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("CONTINUATION", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "stop"),
        ("SOMETHING_NEW", "stop"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    """The table of A0.2; Google's own word survives the way back to a Gemini client."""
    response = whole(piece({"text": "x"}, finish=reason))
    assert response.choices[0].finish_reason == finish
    again = json.loads(GEMINI.encode_response(response, stream_envelope()))
    assert again["candidates"][0]["finishReason"] == reason


def test_a_slip_without_content_is_another_attempt() -> None:
    """The model wrote a call nobody can read, and nothing else: retryable, before anything was shown."""
    answer = piece(finish="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: f(")
    with pytest.raises(UpstreamRefused, match=r"MALFORMED_FUNCTION_CALL: Malformed function call: f\(") as refused:
        whole(answer)
    assert (refused.value.status, refused.value.is_retryable) == (503, True)


@pytest.mark.parametrize("usage", [{}, {"usageMetadata": {"trafficType": "ON_DEMAND"}}])
def test_a_blocked_prompt_is_an_empty_filtered_answer(usage: dict[str, Any]) -> None:
    """No candidates (recorded with Model Armor): content_filter, whole and streamed, and the same for a Gemini client."""
    answer = {"promptFeedback": {"blockReason": "SAFETY"}, "responseId": "r", "modelVersion": "m", **usage}
    response = whole(answer)
    assert response.choices == (Choice(0, (), "content_filter"),)
    assert response.usage == (Usage() if usage else None)
    assert accumulate(decoded([event(answer)])[0]) == response
    again = json.loads(GEMINI.encode_response(response, stream_envelope()))
    assert "candidates" not in again
    assert again["promptFeedback"] == {"blockReason": "SAFETY"}


@pytest.mark.parametrize(
    ("wire", "usage"),
    [
        (USAGE, Usage(10, 12, reasoning=7)),
        ({**USAGE, "cachedContentTokenCount": 4, "toolUsePromptTokenCount": 3}, Usage(13, 12, cached=4, reasoning=7)),
        ({**USAGE, "totalTokenCount": 15}, Usage(10, 5, reasoning=5)),
        ({"promptTokenCount": 3}, Usage(3, 0)),
        ({"promptTokenCount": 3, "cachedContentTokenCount": 9}, Usage(3, 0, cached=3)),
        (
            {
                **USAGE,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}, {"modality": "AUDIO", "tokenCount": 6}],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            },
            Usage(10, 12, reasoning=7, audio_input=6, audio_output=5),
        ),
        ({"promptTokenCount": -1}, None),
        ({"promptTokenCount": 10**12}, None),
        ({"promptTokenCount": 4, "promptTokensDetails": "x"}, Usage(4, 0)),
        ("x", None),
    ],
)
def test_usage_as_billed(wire: Any, usage: Usage | None) -> None:
    """Thoughts are output, inside the candidates only where the total says so; cached is inside the prompt (C8)."""
    assert whole(piece({"text": "x"}, finish="STOP", usage=wire)).usage == usage


def test_logprobs_in_the_form_all_share() -> None:
    """OpenAI's form for others; Google's own, token ids and all, for a Gemini client."""
    result = {
        "chosenCandidates": [{"token": "é", "logProbability": -0.5, "tokenId": 7}],
        "topCandidates": [{"candidates": [{"token": "e", "logProbability": -1.5, "tokenId": 8}]}],
    }
    response = whole(piece({"text": "é"}, finish="STOP", logprobsResult=result))
    assert json.loads(bytes(response.choices[0].logprobs or b"")) == {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "e", "logprob": -1.5, "bytes": [101]}],
            }
        ],
        "refusal": None,
    }
    again = json.loads(GEMINI.encode_response(response, stream_envelope()))
    assert again["candidates"][0]["logprobsResult"] == result


def test_generated_media_and_googles_own_parts() -> None:
    parts = (
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "aGk="}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
    )
    response = whole(piece(*parts, finish="STOP"))
    image, sound, code = response.choices[0].parts
    assert image == Image("data:image/png;base64,aGk=")
    assert sound == Audio("aGk=", "L16;rate=24000")
    assert isinstance(code, Opaque)
    assert (code.dialect, code.kind) == ("gemini", "executableCode")
    again = json.loads(GEMINI.encode_response(response, stream_envelope()))
    assert again["candidates"][0]["content"]["parts"] == list(parts)


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"x", b'{"candidates":{}}', b'{"candidates":[1]}', b"\xff", b'{"candidates":[]}']
)
def test_garbage_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        GEMINI.decode_response(body, PLAIN)


def test_a_stream_that_was_cut_says_so() -> None:
    """Gemini marks no end: without a finish reason the connection closed too early."""
    events, error = decoded([event(piece({"text": "half"}))])
    assert [type(each).__name__ for each in events] == ["Start", "TextDelta"]
    assert isinstance(error, UpstreamBroken)
    assert error.code == "upstream_incomplete"


def test_an_error_inside_a_stream_ends_it() -> None:
    """What came before it is told first; the relay passes nothing of the error on."""
    stream = event(piece({"text": "a"})) + event(
        {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}
    )
    events, error = decoded([stream])
    assert events[-1] == TextDelta("a")
    assert isinstance(error, UpstreamRefused)
    assert error.status == 503
    relay = GEMINI.stream_relay(stream_envelope(), PLAIN, price)
    assert relay.feed(stream) == event(piece({"text": "a"}))
    assert relay.error is not None
    assert not relay.is_finished
    assert relay.close() == b""


def test_the_relay_is_finished_with_the_last_reason() -> None:
    """A connection that breaks after it takes nothing away; what still comes is passed on."""
    relay = GEMINI.stream_relay(stream_envelope(), PLAIN, price)
    relay.feed(event(piece({"text": "a"}, finish="STOP")))
    assert relay.is_finished
    assert b"naru" in relay.feed(event({"usageMetadata": USAGE}))
    assert relay.usage == Usage(10, 12, reasoning=7)
    assert relay.close() == b""


def test_a_stream_without_usage_gets_an_estimate() -> None:
    relay = GEMINI.stream_relay(stream_envelope(), PLAIN, price)
    frame = event(piece({"text": "안녕"}, finish="STOP"))
    assert relay.feed(frame) == frame
    last = json.loads(relay.close()[6:])
    assert last["usageMetadata"]["naru"]["estimated"] is True
    assert relay.usage is not None
    assert (relay.usage.output, relay.usage.is_estimated) == (2, True)


# --- From other dialects --------------------------------------------------------------------------------------------


def test_an_answer_of_another_dialect() -> None:
    """Foreign extras and parts stay out; a refusal is text; a call nobody can read is Gemini's own malformed call."""
    parts = (
        Text("a", {"x": Raw(b"1")}),
        Refusal("no"),
        Opaque("other", "server_tool", Raw(b"{}")),
        ToolCall("i", "f", '{"x'),
    )
    response = Response("r", "m", 0, (Choice(0, parts, "tool_calls", extra={"y": Raw(b"1")}),), extra={"z": Raw(b"1")})
    assert json.loads(GEMINI.encode_response(response, stream_envelope())) == {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "a"}, {"text": "no"}]},
                "index": 0,
                "finishReason": "MALFORMED_FUNCTION_CALL",
                "finishMessage": 'Malformed function call: f({"x)',
            }
        ],
        "modelVersion": "m",
        "responseId": "r",
    }


def test_a_stream_of_another_dialect() -> None:
    """Two choices at once, logprobs, a malformed call; the last event has reasons, usage and cost."""
    encoder = GEMINI.stream_encoder(stream_envelope(), price)
    logprobs = Raw(b'{"content":[{"token":"a","logprob":-1.0,"top_logprobs":[]}]}')
    events: list[Any] = [
        Start("r", "m", 0, extra={"z": Raw(b"1")}, dialect="openai_chat"),
        TextDelta("a"),
        TextDelta("b", 1),
        LogprobsDelta(logprobs),
        ToolCallStart(0, "i", "f"),
        ToolCallDelta(0, "{"),
        Finish("tool_calls"),
        Finish("length", 1),
        UsageReport(Usage(3, 4)),
    ]
    frames = [json.loads(data[6:]) for each in events if (data := encoder.event(each))]
    last = json.loads(encoder.close()[6:])
    assert [frame["candidates"][0]["index"] for frame in frames] == [0, 1, 0]
    assert frames[0]["candidates"][0]["content"]["parts"] == [{"text": "a"}]
    assert frames[2]["candidates"][0]["logprobsResult"]["chosenCandidates"] == [{"token": "a", "logProbability": -1.0}]
    assert [candidate["finishReason"] for candidate in last["candidates"]] == ["MALFORMED_FUNCTION_CALL", "MAX_TOKENS"]
    assert last["usageMetadata"] == {
        "promptTokenCount": 3,
        "candidatesTokenCount": 4,
        "totalTokenCount": 7,
        "naru": {"cost_usd": 0.000007},
    }
    assert all((frame["modelVersion"], frame["responseId"]) == ("m", "r") for frame in [*frames, last])


def test_a_stream_nobody_counted_is_estimated() -> None:
    encoder = GEMINI.stream_encoder(stream_envelope(), price)
    encoder.event(TextDelta("12345678"))
    last = json.loads(encoder.close()[6:])
    assert last["usageMetadata"]["candidatesTokenCount"] == 2
    assert last["usageMetadata"]["naru"]["estimated"] is True
