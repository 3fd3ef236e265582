"""Streams and answers across dialects: what the official client makes of foreign events, and what is made of odd streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from naru.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.anthropic_messages.decoder import MessagesStreamDecoder
from naru.protocol.messages import (
    Choice,
    Event,
    Finish,
    Image,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
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
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from naru.protocol.seal import unseal
from tests.protocol.anthropic_messages.samples import (
    PLAIN,
    STOP,
    THINKING,
    block_delta,
    block_start,
    block_stop,
    datas,
    envelope,
    event,
    message_delta,
    message_start,
    sdk_message,
    text_stream,
)
from tests.protocol.samples import DONE, Json, chunk, compact, price
from tests.protocol.samples import event as chat_event

START = Start("chatcmpl-1", "qwen3-max", 7, dialect="openai_chat")


def written(*events: Event, **fields: Any) -> bytes:
    encoder = ANTHROPIC_MESSAGES.stream_encoder(envelope(**fields), price)
    return b"".join(encoder.event(each) for each in (START, *events)) + encoder.close()


def decoded(stream: bytes) -> list[Event]:
    decoder = MessagesStreamDecoder(PLAIN)
    return [*decoder.feed(stream), *decoder.close()]


# --- Foreign events to the official client ----------------------------------------------------------------------------


def test_an_openai_stream_reaches_claudes_client() -> None:
    """Text, interleaved parallel calls, usage after the finish: one block at a time, all of it there."""
    calls: list[Json] = [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": '":2}'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    details = {"cached_tokens": 5, "cache_write_tokens": 2}
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17, "prompt_tokens_details": details}
    stream = b"".join(
        [
            chunk({"role": "assistant", "content": "Let me "}),
            chunk({"content": "check."}),
            *map(chunk, calls),
            chunk({}, "tool_calls"),
            chat_event({"id": "c", "created": 7, "model": "up", "choices": [], "usage": usage}),
            DONE,
        ]
    )
    decoder = ChatStreamDecoder(PLAIN)
    encoder = ANTHROPIC_MESSAGES.stream_encoder(envelope(), price)
    events = [*decoder.feed(stream), *decoder.close()]
    message = sdk_message(b"".join(map(encoder.event, events)) + encoder.close())
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Let me check."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
    ]
    assert message.id == "msg_chatcmpl-1"
    assert message.stop_reason == "tool_use"
    found = message.usage
    assert (found.input_tokens, found.cache_read_input_tokens, found.cache_creation_input_tokens) == (5, 5, 2)
    assert found.output_tokens == 5


def test_calls_one_after_the_other_are_not_held_back() -> None:
    """As soon as a call's arguments are whole, the next one is written as it comes."""
    encoder = ANTHROPIC_MESSAGES.stream_encoder(envelope(), price)
    for each in (START, ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x":1}')):
        encoder.event(each)
    kinds = [value["type"] for value in datas(encoder.event(ToolCallStart(1, "b", "g")))]
    assert kinds == ["content_block_stop", "content_block_start"]
    assert datas(encoder.event(ToolCallDelta(1, "{")))[0]["delta"] == {"type": "input_json_delta", "partial_json": "{"}


def test_text_between_the_fragments_of_a_call_waits() -> None:
    """No fragment is lost and no block is opened twice; a call that never becomes whole is closed at the finish."""
    message = sdk_message(
        written(
            ToolCallStart(0, "a", "f"),
            ToolCallDelta(0, '{"x":'),
            TextDelta("meanwhile"),
            ToolCallStart(1, "b", "g"),
            ToolCallDelta(0, "1}"),
            TextDelta("then"),
            Finish("tool_calls"),
        )
    )
    assert [block.type for block in message.content] == ["tool_use", "text", "tool_use", "text"]
    assert [getattr(block, "input", None) or getattr(block, "text", None) for block in message.content] == [
        {"x": 1},
        "meanwhile",
        None,
        "then",
    ]


def test_what_is_not_for_this_client_is_left_out() -> None:
    """Other choices, empty deltas, media, another dialect's own parts."""
    stream = written(
        TextDelta("a"),
        TextDelta("second choice", 1),
        TextDelta(""),
        ToolCallStart(0, "x", "f", choice=1),
        WholePart(Image("https://x")),
        WholePart(Opaque("gemini", "grounding", Raw(b"{}"))),
        TextDelta("b"),
        Finish("stop"),
        Finish("length", 1),
    )
    message = sdk_message(stream)
    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": "ab"}]
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("events", "reason", "sequence"),
    [
        ([Finish("stop")], "end_turn", None),
        ([Finish("stop", stop_sequence="END")], "stop_sequence", "END"),
        ([Finish("length")], "max_tokens", None),
        ([Finish("content_filter")], "refusal", None),
        ([RefusalDelta("I will not."), Finish("stop")], "refusal", None),
        ([ToolCallStart(0, "a", "f")], "tool_use", None),
    ],
)
def test_every_reason_to_stop_has_its_word(events: list[Event], reason: str, sequence: str | None) -> None:
    """Also of a stream without a finish."""
    message = sdk_message(written(*events))
    assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


def test_thinking_is_shown_to_who_asked() -> None:
    """Without having asked, a client would take the first block for the answer."""
    events = [ReasoningDelta("hm"), ReasoningDelta("m"), TextDelta("a"), Finish("stop")]
    assert [block.type for block in sdk_message(written(*events)).content] == ["text"]
    for fields in ({"thinking": {"type": "disabled"}}, {"enable_thinking": False}):
        assert len(sdk_message(written(*events, **fields)).content) == 1
    for fields in (THINKING, {"enable_thinking": True}, {"reasoning_effort": "low"}):
        message = sdk_message(written(*events, **fields))
        assert message.content[0].to_dict() == {"type": "thinking", "thinking": "hmm", "signature": ""}


def test_what_another_provider_signed_comes_back_as_its_own() -> None:
    """One signature, at the end of the block, that says whose it is."""
    start = Start("r", "gemini", 0, dialect="gemini")
    events = [start, ReasoningDelta("t"), ReasoningDelta("", signature="S"), ReasoningDelta("", part=1, encrypted="E")]
    message = sdk_message(written(*events, Finish("stop"), **THINKING))
    seals = [unseal(block.signature) for block in message.content if block.type == "thinking"]
    assert [(s.dialect, s.signature, s.encrypted) for s in seals if s] == [("gemini", "S", None), ("gemini", None, "E")]


def test_usage_at_both_ends() -> None:
    """An estimate at the start, what was billed and what it cost at the end; an estimate where nothing was told."""
    usage = Usage(input=100, output=20, cached=60, cache_write=10, cache_write_1h=5, reasoning=7)
    values = datas(written(TextDelta("hi"), Finish("stop"), UsageReport(usage)))
    assert values[0]["message"]["usage"]["input_tokens"] > 0
    assert values[0]["message"]["usage"]["naru"] == {"estimated": True}
    assert values[-2]["usage"] == {
        "input_tokens": 25,
        "cache_creation_input_tokens": 15,
        "cache_read_input_tokens": 60,
        "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 7},
        "naru": {"cost_usd": 0.00012},
    }
    untold = datas(written(TextDelta("hi" * 50), Finish("stop")))[-2]["usage"]
    assert untold["output_tokens"] == 25
    assert untold["naru"]["estimated"] is True


def test_whole_answers_of_other_dialects() -> None:
    """Every field that clients read unasked is there."""
    parts = (Reasoning("t", "s"), Text("a"), Refusal("no"), ToolCall("c", "f", "{bad"), Image("https://x"))
    response = Response(
        "r1", "m", 7, (Choice(0, parts, "tool_calls"), Choice(1, (Text("b"),), "stop")), dialect="gemini"
    )
    answer = json.loads(ANTHROPIC_MESSAGES.encode_response(response, envelope(**THINKING)))
    thought, *rest = answer["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "t")
    assert rest == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "no"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"naru_unparsed_arguments": "{bad"}},
    ]
    assert (answer["id"], answer["type"], answer["role"], answer["stop_reason"]) == (
        "msg_r1",
        "message",
        "assistant",
        "tool_use",
    )
    assert answer["stop_sequence"] is None
    assert answer["usage"]["output_tokens"] > 0
    assert answer["usage"]["naru"] == {"estimated": True}
    assert len(json.loads(ANTHROPIC_MESSAGES.encode_response(response, envelope()))["content"]) == 3


# --- Odd upstreams ----------------------------------------------------------------------------------------------------


def test_a_tool_that_stands_for_the_answer_is_text() -> None:
    """Whole, streamed, and beside a real call."""
    answer = {"type": "tool_use", "id": "a", "name": "naru_structured_answer", "input": {"x": 1}}
    whole = compact({"id": "m", "model": "c", "content": [answer], "stop_reason": "tool_use"})
    response = ANTHROPIC_MESSAGES.decode_response(whole, PLAIN)
    assert response.choices == (Choice(0, (Text('{"x":1}'),), "stop"),)
    pieces = [block_delta(0, type="input_json_delta", partial_json=piece) for piece in ('{"x"', ":1}")]
    stream = message_start() + block_start(0, **{**answer, "input": {}}) + b"".join(pieces) + block_stop(0)
    assert accumulate(decoded(stream + message_delta("tool_use") + STOP)).choices == response.choices
    real = block_start(1, type="tool_use", id="b", name="f__u002e__g", input={}) + block_stop(1)
    choice = accumulate(decoded(stream + real + message_delta("tool_use") + STOP)).choices[0]
    assert choice.parts[1] == ToolCall("b", "f.g", "{}")
    assert choice.finish_reason == "tool_calls"


def test_input_given_at_the_start_of_a_call() -> None:
    """Some compatible servers send it whole; no fragment at all means no arguments."""
    stream = message_start() + block_start(0, type="tool_use", id="a", name="f", input={"x": 1}) + block_stop(0)
    assert accumulate(decoded(stream + message_delta("tool_use") + STOP)).choices[0].parts == (
        ToolCall("a", "f", '{"x":1}'),
    )


def test_server_tools_stay_whole() -> None:
    """Their input, however it came in pieces, is in the block that Anthropic gets back."""
    stream = (
        message_start()
        + block_start(0, type="server_tool_use", id="s", name="web_search", input={})
        + block_delta(0, type="input_json_delta", partial_json='{"q"')
        + block_delta(0, type="input_json_delta", partial_json=":1}")
        + block_stop(0)
        + block_start(1, type="web_search_tool_result", tool_use_id="s", content=[])
        + block_stop(1)
        + message_delta()
        + STOP
    )
    parts = accumulate(decoded(stream)).choices[0].parts
    assert [json.loads(bytes(part.raw)) for part in parts if isinstance(part, Opaque)] == [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
    ]


def test_citations_add_up() -> None:
    """They come one by one after the text they belong to, and are one list, as in the whole answer."""
    citations = [{"type": "page_location", "n": n} for n in (1, 2)]
    deltas = [block_delta(0, type="citations_delta", citation=each) for each in citations]
    stream = message_start() + block_start(0, type="text", text="a", citations=[]) + b"".join(deltas) + block_stop(0)
    (part,) = accumulate(decoded(stream + message_delta() + STOP)).choices[0].parts
    assert isinstance(part, Text)
    assert json.loads(bytes(part.extra["citations"])) == citations


@pytest.mark.parametrize(
    ("start", "end", "usage"),
    [
        ({}, {}, Usage(input=25, output=9)),
        ({"cache_read_input_tokens": 5}, {}, Usage(input=30, output=9, cached=5)),
        ({"input_tokens": 0}, {"input_tokens": 7}, Usage(input=7, output=9)),
        ({}, {"input_tokens": 0}, Usage(input=25, output=9)),
        ({}, {"input_tokens": 3, "cache_read_input_tokens": 22}, Usage(input=25, output=9, cached=22)),
        (
            {"cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 8}},
            {"input_tokens": 25, "cache_creation_input_tokens": 10},
            Usage(input=35, output=9, cache_write_1h=10),
        ),
        (
            {"cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}},
            {"input_tokens": 25, "cache_creation_input_tokens": 7},
            Usage(input=32, output=9, cache_write=3, cache_write_1h=4),
        ),
        ({}, {"output_tokens_details": {"thinking_tokens": 4}}, Usage(input=25, output=9, reasoning=4)),
        ({}, {"input_tokens": -1}, None),
        ({}, {"output_tokens": "many"}, None),
    ],
)
def test_usage_of_a_stream(start: Json, end: Json, usage: Usage | None) -> None:
    """The end replaces the start; what cannot be believed leaves an estimate that says so."""
    stream = message_start(**start) + block_start(0, type="text", text="x" * 400) + block_stop(0)
    found = accumulate(decoded(stream + message_delta(**end) + STOP)).usage
    if usage is None:
        assert found is not None
        assert found.is_estimated
        assert found.input == 25
    else:
        assert found == usage


@pytest.mark.parametrize(
    ("kind", "status"), [("overloaded_error", 529), ("api_error", 500), ("rate_limit_error", 429), ("odd", 502)]
)
def test_an_error_inside_a_stream(kind: str, status: int) -> None:
    """What came before it is told first; then the error, as often as it is asked for."""
    decoder = MessagesStreamDecoder(PLAIN)
    fault = event({"type": "error", "error": {"type": kind, "message": "Overloaded"}})
    events = decoder.feed(message_start() + block_start(0, type="text", text="half") + fault)
    assert TextDelta("half") in events
    for call in (lambda: decoder.feed(STOP), decoder.close):
        with pytest.raises(UpstreamError) as caught:
            call()
        assert caught.value.status == status
        assert isinstance(caught.value, UpstreamRefused) == (kind != "odd") or status == 502


@pytest.mark.parametrize("size", range(40, 700, 60))
def test_a_stream_that_is_cut(size: int) -> None:
    """It is incomplete, wherever it was cut."""
    stream = text_stream("a", "b")[:-60]
    stream = stream[: min(size, stream.index(b"event: message_delta"))]
    with pytest.raises(UpstreamBroken) as caught:
        decoded(stream)
    assert caught.value.code == "upstream_incomplete"


def test_a_stream_without_its_last_event() -> None:
    """The reason to stop was told: the answer is whole."""
    assert accumulate(decoded(text_stream("a").removesuffix(STOP))) == accumulate(decoded(text_stream("a")))
    assert accumulate(decoded(text_stream("a").removesuffix(STOP) + DONE)) == accumulate(decoded(text_stream("a")))


@pytest.mark.parametrize(
    "piece",
    [
        b"data: nonsense\n\n",
        event({"type": "message_start"}),
        event({"type": "content_block_start", "index": 0}),
        event({"type": "content_block_delta", "index": 0}),
        block_delta(3, type="input_json_delta", partial_json="{"),
        STOP,
    ],
)
def test_garbage_is_one_error(piece: bytes) -> None:
    """Never anything but UpstreamBroken, and nothing of the garbage in its words."""
    with pytest.raises(UpstreamBroken) as caught:
        decoded(piece)
    assert "nonsense" not in caught.value.message


def test_an_error_in_an_answer_of_200() -> None:
    """It is the error that it says it is."""
    body = compact({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    for call in (ANTHROPIC_MESSAGES.decode_response, ANTHROPIC_MESSAGES.relay_whole):
        with pytest.raises(UpstreamRefused) as caught:
            call(b"\n" + body, PLAIN)
        assert caught.value.status == 529
