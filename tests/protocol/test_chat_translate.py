"""Chat answers and streams against the typed messages: forms that only one side has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import UpstreamBroken, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Choice,
    Event,
    ExtraDelta,
    Finish,
    Image,
    Opaque,
    Reasoning,
    ReasoningDelta,
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
    WholePart,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from tests.protocol.samples import (
    DONE,
    HEAD,
    PLAIN,
    USAGE,
    Json,
    chunk,
    compact,
    datas,
    envelope,
    event,
    price,
    whole,
)

# --- Answers ------------------------------------------------------------------------------------------------------


def test_an_answer_of_another_dialect() -> None:
    """Usage with both details, signed thinking in blocks, media in the forms clients know, foreign extras left out."""
    parts = (
        Reasoning("t", "s", extra={"x": Raw(b"1")}),
        Text("a"),
        Text("b"),
        ToolCall("i", "f", "{}"),
        Image("data:x"),
        Opaque("other", "server_tool", Raw(b"{}")),
    )
    usage = Usage(10, 5, cached=4, cache_write=1, cache_write_1h=2, reasoning=3, is_estimated=True)
    response = Response(
        "r", "m", 9, (Choice(0, parts, "tool_calls", extra={"y": Raw(b"1")}),), usage, extra={"z": Raw(b"1")}
    )
    found = json.loads(OPENAI_CHAT.encode_response(response))
    assert found == {
        "id": "r",
        "object": "chat.completion",
        "created": 9,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "ab",
                    "refusal": None,
                    "reasoning_content": "t",
                    "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}],
                    "tool_calls": [{"id": "i", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                    "images": [{"type": "image_url", "image_url": {"url": "data:x"}}],
                },
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 3,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
            "naru": {"estimated": True},
        },
    }


@pytest.mark.parametrize(("parts", "content"), [((), ""), ((ToolCall("i", "f", ""),), None), ((Refusal("no"),), None)])
def test_content_where_there_is_no_text(parts: tuple[Any, ...], content: str | None) -> None:
    """Null beside calls and refusals, else empty."""
    response = Response("r", "m", 0, (Choice(0, parts, "stop"),))
    assert json.loads(OPENAI_CHAT.encode_response(response))["choices"][0]["message"]["content"] == content


def test_a_legacy_call_in_an_answer() -> None:
    """It has no id of its own; ours is minted, and it goes back in the old form."""
    data = whole({"content": None, "function_call": {"name": "f", "arguments": "{}"}}, "function_call")
    response = OPENAI_CHAT.decode_response(data, PLAIN)
    (call,) = response.choices[0].parts
    assert isinstance(call, ToolCall)
    assert (call.kind, call.name, response.choices[0].finish_reason) == ("function_call", "f", "tool_calls")
    again = json.loads(OPENAI_CHAT.encode_response(response))["choices"][0]
    assert again["finish_reason"] == "function_call"
    assert again["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in again["message"]


# --- Streams ------------------------------------------------------------------------------------------------------


def events_of(*pieces: bytes, quirks: Quirks = PLAIN) -> list[Event]:
    decoder = ChatStreamDecoder(quirks)
    events = [found for piece in pieces for found in decoder.feed(piece)]
    return events + decoder.close()


def test_events_of_a_stream() -> None:
    """Start, thinking, text, calls, finish, usage; padding is dropped, repeated fields are told once."""
    more: Json = {"obfuscation": "x9", "service_tier": "flex"}
    found = events_of(
        chunk({"role": "assistant", "content": ""}, **more),
        chunk({"reasoning": "r", "channel": "analysis"}, **more),
        chunk({"content": "c", "channel": "analysis"}, **{**more, "obfuscation": "y"}),
        chunk(
            {"tool_calls": [{"index": 3, "id": "a", "type": "function", "function": {"name": "get_", "arguments": ""}}]}
        ),
        chunk({"tool_calls": [{"index": 3, "function": {"name": "time", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 3, "function": {"arguments": "{}"}}]}),
        chunk({}, "stop", usage=USAGE),
        DONE,
    )
    assert found == [
        Start("chatcmpl-1", "up", 7, {"system_fingerprint": Raw(b'"fp"')}, "flex", "openai_chat"),
        ReasoningDelta("r"),
        ExtraDelta({"channel": Raw(b'"analysis"')}, 0),
        TextDelta("c"),
        ToolCallStart(0, "a", "get_time"),
        ToolCallDelta(0, "{}"),
        Finish("tool_calls"),
        UsageReport(Usage(12, 5, tier="flex")),
    ]


def test_a_call_without_arguments_is_told_at_its_end() -> None:
    """Its name might have gone on until then."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    found = events_of(chunk({"tool_calls": [call]}), chunk({"content": "x"}), chunk({}, "tool_calls"))
    assert found[1:] == [ToolCallStart(0, "a", "f"), TextDelta("x"), Finish("tool_calls")]
    (choice,) = accumulate(events_of(chunk({"tool_calls": [call]}), DONE)).choices
    assert choice.parts == (ToolCall("a", "f", ""),)


def test_an_error_is_raised_after_what_came_before_it() -> None:
    """The events of the same piece are not lost; the error comes with the next call, and shows at once."""
    decoder = ChatStreamDecoder(PLAIN)
    found = decoder.feed(chunk({"content": "a"}) + event({"error": {"message": "no", "code": 503}}) + DONE)
    assert found[-1] == TextDelta("a")
    assert isinstance(decoder.error, UpstreamRefused)
    for call in (lambda: decoder.feed(b""), decoder.close):
        with pytest.raises(UpstreamRefused):
            call()
    with pytest.raises(UpstreamRefused):
        ChatStreamDecoder(PLAIN).feed(event({"error": {"message": "no", "code": 503}}))


@pytest.mark.parametrize("cut_off", [b"", chunk({"content": "a"}), chunk({}, "stop")[:-30]])
def test_a_stream_that_was_cut(cut_off: bytes) -> None:
    """Without a finish reason it is no answer."""
    decoder = ChatStreamDecoder(PLAIN)
    decoder.feed(cut_off)
    with pytest.raises(UpstreamBroken) as caught:
        decoder.close()
    assert caught.value.code == "upstream_incomplete"


def streamed(events: list[Event], wants_usage: bool = False, **fields: Any) -> list[Any]:
    encoder = OPENAI_CHAT.stream_encoder(envelope(wants_usage, **fields), price)
    return datas(b"".join(map(encoder.event, events)) + encoder.close())


START = Start("id", "m", 3, {"foreign": Raw(b"1")}, None, "other")


def test_a_stream_of_another_dialect() -> None:
    """Role first, one id throughout, an empty finish chunk, usage for who asked, [DONE]; foreign extras left out."""
    found = streamed(
        [
            START,
            TextDelta("안녕"),
            ExtraDelta({"x": Raw(b"1")}, 0),
            ExtraDelta({"x": Raw(b"1")}),
            Finish("stop"),
            UsageReport(Usage(3, 4)),
        ],
        wants_usage=True,
    )
    assert found.pop() == "[DONE]"
    assert {(each["id"], each["created"], each["model"], each["object"]) for each in found} == {
        ("id", 3, "m", "chat.completion.chunk")
    }
    assert [each["choices"][0]["delta"] for each in found[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": "안녕"},
        {},
    ]
    assert [each["choices"][0]["finish_reason"] for each in found[:-1]] == [None, None, "stop"]
    assert [each["usage"] for each in found[:-1]] == [None] * 3
    assert found[-1]["choices"] == []
    assert found[-1]["usage"]["total_tokens"] == 7
    assert found[-1]["usage"]["naru"] == {"cost_usd": 0.000007}
    assert "foreign" not in found[0]


def test_who_did_not_ask_gets_no_usage_chunk() -> None:
    """And no null usage on the others."""
    found = streamed([START, TextDelta("a"), UsageReport(Usage(1, 1)), Finish("stop")])
    assert all("usage" not in each for each in found[:-1])


def test_usage_nobody_reported_is_estimated() -> None:
    """For who asked, and flagged."""
    found = streamed([START, TextDelta("x" * 40), Finish("stop")], wants_usage=True)
    assert (found[-2]["usage"]["completion_tokens"], found[-2]["usage"]["naru"]["estimated"]) == (10, True)


def test_calls_of_every_kind() -> None:
    """Index in every fragment, id and type in the first alone."""
    found = streamed(
        [
            START,
            ToolCallStart(0, "a", "f"),
            ToolCallStart(1, "b", "g", kind="custom"),
            ToolCallDelta(0, "{}"),
            ToolCallDelta(1, "free"),
            Finish("tool_calls"),
        ]
    )
    fragments = [each["choices"][0]["delta"].get("tool_calls") for each in found[1:-2]]
    assert fragments == [
        [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
        [{"index": 1, "id": "b", "type": "custom", "custom": {"name": "g", "input": ""}}],
        [{"index": 0, "function": {"arguments": "{}"}}],
        [{"index": 1, "custom": {"input": "free"}}],
    ]


def test_who_speaks_the_legacy_functions_hears_them() -> None:
    """A client of `functions` knows no tool_calls."""
    events: list[Event] = [START, ToolCallStart(0, "a", "f"), ToolCallDelta(0, "{}"), Finish("tool_calls")]
    found = streamed(events, functions=[{"name": "f"}])
    assert [each["choices"][0]["delta"] for each in found[1:-1]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        {},
    ]
    assert found[-2]["choices"][0]["finish_reason"] == "function_call"


def test_signed_thinking_in_a_stream() -> None:
    """The text as it comes, the signed block once it is whole; several blocks keep their borders."""
    events: list[Event] = [
        START,
        ReasoningDelta("a", part=0),
        ReasoningDelta("b", part=0),
        TextDelta("x"),
        ReasoningDelta("c", part=1),
        ReasoningDelta("", part=1, signature="s"),
        ReasoningDelta("", part=2, encrypted="e"),
        Finish("stop"),
    ]
    found = [each["choices"][0]["delta"] for each in streamed(events)[1:-2]]
    assert [delta["reasoning_content"] for delta in found if "reasoning_content" in delta] == ["a", "b", "c"]
    assert [block for delta in found for block in delta.get("thinking_blocks", [])] == [
        {"type": "thinking", "thinking": "ab"},
        {"type": "thinking", "thinking": "c", "signature": "s"},
        {"type": "redacted_thinking", "data": "e"},
    ]
    encoder = OPENAI_CHAT.stream_encoder(envelope(), price)
    stream = b"".join(map(encoder.event, events)) + encoder.close()
    (choice,) = accumulate(events_of(stream)).choices
    assert [part for part in choice.parts if isinstance(part, Reasoning)] == [
        Reasoning("ab"),
        Reasoning("c", "s"),
        Reasoning("", None, "e"),
    ]


def test_media_and_other_choices() -> None:
    """A generated image goes out in one delta; every choice begins with its role."""
    found = streamed(
        [START, WholePart(Image("data:x")), TextDelta("b", 1), TextDelta("c", 1), Finish("stop"), Finish("length", 1)]
    )
    assert found[1]["choices"][0]["delta"] == {"images": [{"type": "image_url", "image_url": {"url": "data:x"}}]}
    of_second = [each["choices"][0] for each in found[:-1] if each["choices"][0]["index"] == 1]
    assert [choice["delta"] for choice in of_second] == [
        {"role": "assistant", "content": ""},
        {"content": "b"},
        {"content": "c"},
        {},
    ]


def test_late_extras_of_the_same_dialect() -> None:
    """A field that comes late is told once, and the text after it is not disturbed."""
    start = replace(START, dialect="openai_chat", extra={"a": Raw(b"1")})
    events: list[Event] = [
        start,
        TextDelta("x"),
        ExtraDelta({"a": Raw(b"2"), "b": Raw(b"3")}),
        TextDelta("y"),
        Finish("stop"),
    ]
    encoder = OPENAI_CHAT.stream_encoder(envelope(), price)
    assert events_of(b"".join(map(encoder.event, events)) + encoder.close()) == events


def test_inline_thinking_in_events() -> None:
    """The tag becomes reasoning, held-back text is not lost at [DONE]."""
    found = events_of(
        chunk({"content": "<thi"}), chunk({"content": "nk>hm</think>a"}), DONE, quirks=Quirks(think_tag="inline")
    )
    assert found[1:] == [ReasoningDelta("hm"), TextDelta("a")]
    found = events_of(
        event({**HEAD, "choices": [{"index": 0, "delta": {"content": "<th"}}]}), DONE, quirks=Quirks(think_tag="inline")
    )
    assert found[1:] == [TextDelta("<th")]


def test_compact_samples_are_compact() -> None:
    """The makers of these tests write what a client's library writes."""
    assert compact({"a": [1, "안"]}) == '{"a":[1,"안"]}'.encode()
