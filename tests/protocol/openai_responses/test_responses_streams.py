"""Streams: what upstreams send to events, events to the exact sequence of B2.3, and the relay of one to the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import StreamRelay
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    LogprobsDelta,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
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
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.protocol.sse import MAX_EVENT_BYTES
from tests.protocol.openai_responses.samples import (
    PLAIN,
    USAGE,
    Json,
    answer,
    call,
    completed,
    created,
    envelope,
    event,
    events_of,
    message,
    raw,
    stream,
    text_events,
    thought,
)
from tests.protocol.samples import compact, price

MESSAGE = {"item.id": raw("msg_1")}


# --- Decode -------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> list[Event]:
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    return [*decoder.feed(data), *decoder.feed(b""), *decoder.close()]


def test_text() -> None:
    """A start, a delta each, the end, the usage. What follows the end is nobody's business."""
    late = event("response.rate_limits.updated", x=1) + text_events("late", 7)[2] + b"data: [DONE]\n\n"
    found = decoded(stream(*text_events("Hi"), completed(message("Hi"), service_tier="default"), late))
    assert found[0] == Start("resp_1", "up", 7, dialect="openai_responses")
    assert found[1:3] == [TextDelta("H", extra=MESSAGE), TextDelta("i")]
    assert found[-2:] == [Finish("stop"), UsageReport(Usage(input=12, output=5, cached=4, reasoning=2))]


ADDED = "response.output_item.added"
DONE = "response.output_item.done"


@pytest.mark.parametrize(
    "told",
    [
        [
            event(ADDED, output_index=0, item=call("")),
            event("response.function_call_arguments.delta", output_index=0, delta='{"a":1}'),
        ],
        [
            event(ADDED, output_index=0, item=call("")),
            event("response.function_call_arguments.done", output_index=0, arguments='{"a":1}'),
        ],
        [
            event(ADDED, output_index=0, item=call("")),
            event("response.function_call_arguments.delta", output_index=0, delta='{"a"'),
            event(DONE, output_index=0, item=call()),
        ],
        [event(DONE, output_index=0, item=call())],
        [event(ADDED, output_index=0, item=call(""))],
        [],
    ],
)
def test_whatever_tells_an_item_is_enough(told: list[bytes]) -> None:
    """Deltas, their end, the item, the final response: each server leaves out others. Nothing is told twice."""
    found = accumulate(decoded(stream(*told, completed(call()))))
    assert found.choices[0].parts == (ToolCall("call_1", "f", '{"a":1}', extra={"id": raw("fc_1")}),)
    assert found.choices[0].finish_reason == "tool_calls"


def test_items_told_again_are_not_items_again() -> None:
    """A repeated end, and a final output numbered otherwise than the stream, add nothing."""
    search = {"type": "web_search_call", "id": "ws"}
    done = event(DONE, output_index=1, item=search)
    found = accumulate(decoded(stream(done, done, completed(search))))
    assert found.choices[0].parts == (Opaque("openai_responses", "web_search_call", raw(search)),)


def test_what_follows_the_end_cannot_break_it() -> None:
    """Not even an event without end."""
    endless = b"data: " + b"x" * (MAX_EVENT_BYTES + 1)
    data = stream(completed(message("Hi")))
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    assert decoder.feed(data)[-1] == UsageReport(Usage(input=12, output=5, cached=4, reasoning=2))
    assert decoder.feed(endless) + decoder.feed(b"x") + decoder.close() == []
    relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
    relay.feed(data)
    assert relay.feed(endless) + relay.close() == b""
    assert relay.error is None


def test_text_without_deltas() -> None:
    """A server that sends each part whole."""
    found = accumulate(decoded(stream(*text_events("")[:2], *text_events("Hi")[-2:], completed(message("Hi")))))
    assert found.choices[0].parts == (Text("Hi", MESSAGE),)


def test_reasoning_in_both_forms() -> None:
    """Summary parts are paragraphs; raw thinking is text; the encrypted form comes with the item's end."""
    events = [
        event(ADDED, output_index=0, item=thought()),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Lo"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="ok"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="up"),
        event(DONE, output_index=0, item=thought("Look", "up", encrypted_content="gAAAAx")),
        event(ADDED, output_index=1, item=thought(id="rs_2")),
        event("response.reasoning_text.delta", output_index=1, content_index=0, delta="hm"),
        event(DONE, output_index=1, item=thought(id="rs_2", content=[{"type": "reasoning_text", "text": "hm"}])),
        event(DONE, output_index=2, item=thought(id="rs_3")),
    ]
    found = decoded(stream(*events, completed()))
    assert [e for e in found if isinstance(e, ReasoningDelta) and e.text] == [
        ReasoningDelta("Lo"), ReasoningDelta("ok"), ReasoningDelta("\n\nup"), ReasoningDelta("hm", part=1)
    ]  # fmt: skip
    first, second = accumulate(found).choices[0].parts
    assert isinstance(first, Reasoning)
    assert isinstance(second, Reasoning)
    assert (first.text, first.encrypted) == ("Look\n\nup", "gAAAAx")
    assert second.text == "hm"
    assert second.extra["content"] == raw([{"type": "reasoning_text", "text": "hm"}])


def test_refusals_custom_calls_logprobs_and_server_items() -> None:
    entry = {"token": "H", "logprob": -0.50, "bytes": [72], "top_logprobs": []}
    custom = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c", "name": "p"}
    events = [
        event("response.output_text.delta", output_index=0, content_index=0, delta="H", logprobs=[entry]),
        event("response.refusal.delta", output_index=0, content_index=1, delta="n"),
        event("response.refusal.done", output_index=0, content_index=1, refusal="no"),
        event(ADDED, output_index=1, item={**custom, "input": ""}),
        event("response.custom_tool_call_input.delta", output_index=1, delta="x"),
        event(DONE, output_index=1, item={**custom, "input": "xy"}),
        event(DONE, output_index=2, item={"type": "web_search_call", "id": "ws"}),
    ]
    found = accumulate(decoded(stream(*events, completed())))
    search = Opaque("openai_responses", "web_search_call", raw({"type": "web_search_call", "id": "ws"}))
    patch = ToolCall("c", "p", "xy", "custom", {"id": raw("ctc_1")})
    assert found.choices[0].parts == (Text("H"), Refusal("no"), patch, search)
    assert found.choices[0].logprobs == raw({"content": [entry]})


@pytest.mark.parametrize(
    ("details", "reason"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("steered", "stop")],
)
def test_incomplete_answers(details: str, reason: str) -> None:
    final = answer(message("Hi"), status="incomplete", incomplete_details={"reason": details})
    found = accumulate(decoded(stream(event("response.incomplete", response=final))))
    assert found.choices[0].finish_reason == reason
    whole = OPENAI_RESPONSES.decode_response(compact(final), PLAIN)
    assert whole.choices[0].finish_reason == reason
    again = json.loads(OPENAI_RESPONSES.encode_response(whole, envelope()))
    assert (again["status"], again["incomplete_details"]) == ("incomplete", {"reason": details})


def failed(code: str, words: str = "no") -> bytes:
    return event("response.failed", response=answer(status="failed", error={"code": code, "message": words}))


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (failed("server_error"), 500, "server_error"),
        (failed("rate_limit_exceeded"), 429, "rate_limit_exceeded"),
        (failed("invalid_prompt"), 400, "invalid_prompt"),
        (failed("image_too_large"), 400, "image_too_large"),
        (failed("x", "Your input exceeds the context window"), 502, "x"),
        (event("response.failed", response=answer(status="failed", error=None)), 500, "server_error"),
        (event("error", code="rate_limit_exceeded", message="slow", param=None), 429, "rate_limit_exceeded"),
        (event("error", error={"type": "server_error", "code": None, "message": "no"}), 500, None),
        (b'data: {"error":{"message":"no","type":"invalid_request_error"}}\n\n', 400, None),
    ],
)
def test_errors_in_a_stream(data: bytes, status: int, code: str | None) -> None:
    """What came before is given first; the error is raised then, from whole answers as well."""
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    events = decoder.feed(stream(*text_events("Hi")[:3], data))
    assert isinstance(events[-1], TextDelta)
    with pytest.raises(UpstreamRefused) as error:
        decoder.feed(b"")
    assert (error.value.status, error.value.code) == (status, code)


@pytest.mark.parametrize(
    "data",
    [
        stream(*text_events("Hi")),
        stream(b"data: {\n\n"),
        stream(b'data: {"type":"response.output_text.delta","delta":3}\n\n'),
        stream(b'data: {"type":"response.completed"'),
        stream(event("response.cancelled", response={})),
        b"",
    ],
)
def test_cut_and_broken_streams(data: bytes) -> None:
    """A stream without its final event, or with one that cannot be read, is broken; the relay says so too."""
    with pytest.raises(UpstreamBroken):
        decoded(data)
    relay, _ = relayed(data)
    assert isinstance(relay.error, UpstreamBroken)
    assert not relay.is_finished


@pytest.mark.parametrize(
    "data",
    [
        compact(answer(status="failed", error={"code": "server_error", "message": "no"})),
        compact(answer(status="cancelled")),
        b'{"error":{"message":"no"}}',
        b'{"detail":"no"}',
        b'{"id":"x"}',
        b"<html>",
        b"[]",
    ],
)
def test_whole_answers_that_are_none(data: bytes) -> None:
    for read in (OPENAI_RESPONSES.decode_response, OPENAI_RESPONSES.relay_whole):
        with pytest.raises(UpstreamError):
            read(data, PLAIN)


def test_a_background_answer_is_passed_on() -> None:
    """The same dialect may ask for one; there is nothing to count yet."""
    body = b" \n" + compact(answer(status="queued", usage=None))
    relayed = OPENAI_RESPONSES.relay_whole(body, PLAIN)
    assert (relayed.body, relayed.usage, relayed.output_chars) == (body[2:], None, 0)


def test_what_a_whole_answer_counts() -> None:
    content = [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]
    body = compact(answer(thought("ab"), {**message(""), "content": content}, call("{}")))
    assert OPENAI_RESPONSES.relay_whole(body, PLAIN).output_chars == 8


# --- Encode -------------------------------------------------------------------------------------------------------


def encoded(*events: Event, **fields: Any) -> list[Json]:
    encoder = OPENAI_RESPONSES.stream_encoder(envelope(**fields), price)
    out = b"".join(map(encoder.event, events)) + encoder.close()
    found = events_of(out)
    assert [each.pop("sequence_number") for each in found] == list(range(len(found)))
    return found


START = Start("abc", "up", 7, dialect="openai_chat")


def test_the_sequence_of_a_text() -> None:
    """Exactly B2.3, every id and index included."""
    found = encoded(START, TextDelta("H"), TextDelta("i"), Finish("stop"), UsageReport(Usage(12, 5, 4, reasoning=2)))
    place = {"item_id": "msg_abc_0", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}
    item = {"id": "msg_abc_0", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    begun, again, *middle, final = found
    assert (begun["type"], again["type"]) == ("response.created", "response.in_progress")
    assert begun["response"] == again["response"]
    assert begun["response"] == {
        "id": "resp_abc", "object": "response", "created_at": 7, "status": "in_progress", "background": False, "error": None,
        "incomplete_details": None, "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {},
        "model": "up", "output": [], "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "service_tier": None, "store": False,
        "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
        "top_p": None, "truncation": "disabled", "usage": None, "user": None,
    }  # fmt: skip
    assert middle == [
        {"type": ADDED, "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": "H", "logprobs": []},
        {"type": "response.output_text.delta", **place, "delta": "i", "logprobs": []},
        {"type": "response.output_text.done", **place, "text": "Hi", "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": DONE, "output_index": 0, "item": item},
    ]
    usage = {**USAGE, "naru": {"cost_usd": 0.000017}}
    completed = {**begun["response"], "status": "completed", "output": [item], "usage": usage}
    assert final == {"type": "response.completed", "response": completed}


def test_the_sequence_of_reasoning() -> None:
    """A summary part around the text; the signature, sealed, with the item's end."""
    found = encoded(
        START, ReasoningDelta("Look "), ReasoningDelta("up"), ReasoningDelta("", signature="sig"), Finish("stop")
    )
    place = {"item_id": "rs_abc_0", "output_index": 0, "summary_index": 0}
    part = {"type": "summary_text", "text": "Look up"}
    added, *middle, done = found[2:-1]
    assert added == {"type": ADDED, "output_index": 0, "item": {"id": "rs_abc_0", "type": "reasoning", "summary": []}}
    assert middle == [
        {"type": "response.reasoning_summary_part.added", **place, "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "Look "},
        {"type": "response.reasoning_summary_text.delta", **place, "delta": "up"},
        {"type": "response.reasoning_summary_text.done", **place, "text": "Look up"},
        {"type": "response.reasoning_summary_part.done", **place, "part": part},
    ]
    assert done["item"].pop("encrypted_content").startswith("naru1.")
    assert done == {"type": DONE, "output_index": 0, "item": {"id": "rs_abc_0", "type": "reasoning", "summary": [part]}}


def test_the_sequence_of_calls() -> None:
    """Calls that take turns are open together and end together, in their order."""
    found = encoded(
        START,
        ToolCallStart(0, "c1", "f"),
        ToolCallStart(1, "c2", "p", kind="custom"),
        ToolCallDelta(1, "x"),
        ToolCallDelta(0, "{}"),
        ToolCallDelta(9, "nobody's"),
        Finish("tool_calls"),
    )
    f = {"item_id": "fc_abc_0", "output_index": 0}
    p = {"item_id": "ctc_abc_1", "output_index": 1}
    item_f = {
        "id": "fc_abc_0",
        "type": "function_call",
        "call_id": "c1",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    item_p = {"id": "ctc_abc_1", "type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "x"}
    assert found[2:-1] == [
        {"type": ADDED, "output_index": 0, "item": {**item_f, "arguments": "", "status": "in_progress"}},
        {"type": ADDED, "output_index": 1, "item": {**item_p, "input": ""}},
        {"type": "response.custom_tool_call_input.delta", **p, "delta": "x"},
        {"type": "response.function_call_arguments.delta", **f, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **f, "name": "f", "arguments": "{}"},
        {"type": DONE, "output_index": 0, "item": item_f},
        {"type": "response.custom_tool_call_input.done", **p, "input": "x"},
        {"type": DONE, "output_index": 1, "item": item_p},
    ]
    assert found[-1]["response"]["output"] == [item_f, item_p]


def test_the_sequence_of_a_refusal() -> None:
    """A part of the message, after its text."""
    found = encoded(START, TextDelta("Hm"), RefusalDelta("n"), RefusalDelta("o"), Finish("stop"))
    place = {"item_id": "msg_abc_0", "output_index": 0, "content_index": 1}
    assert [each for each in found if each.get("content_index") == 1] == [
        {"type": "response.content_part.added", **place, "part": {"type": "refusal", "refusal": ""}},
        {"type": "response.refusal.delta", **place, "delta": "n"},
        {"type": "response.refusal.delta", **place, "delta": "o"},
        {"type": "response.refusal.done", **place, "refusal": "no"},
        {"type": "response.content_part.done", **place, "part": {"type": "refusal", "refusal": "no"}},
    ]


def test_text_after_calls_and_logprobs() -> None:
    """Text that goes on after another item is another message; logprobs are told when the text ends."""
    entry = {"token": "b", "logprob": -1.5, "bytes": None, "top_logprobs": []}
    found = encoded(
        START,
        TextDelta("a"),
        ToolCallStart(0, "c", "f"),
        TextDelta("b"),
        LogprobsDelta(raw({"content": [entry]})),
        WholePart(Opaque("gemini", "executableCode", raw({}))),
        Finish("stop"),
    )
    kinds = [(item["type"], item["id"]) for item in found[-1]["response"]["output"]]
    assert kinds == [("message", "msg_abc_0"), ("function_call", "fc_abc_1"), ("message", "msg_abc_2")]
    assert found[-1]["response"]["output"][2]["content"][0]["logprobs"] == [entry]


def test_an_upstream_without_usage_or_anything() -> None:
    """Usage is estimated and says so; even no event at all makes a whole stream."""
    found = encoded(START, TextDelta("안녕하세요"), Finish("stop"))
    usage = found[-1]["response"]["usage"]
    assert usage["naru"] == {"cost_usd": usage["total_tokens"] / 1e6, "estimated": True}
    assert usage["output_tokens"] == 4
    assert [each["type"] for each in encoded()] == ["response.created", "response.in_progress", "response.completed"]


def test_extras_of_other_dialects_are_not_written() -> None:
    """Nor are those of their parts; the service tier is everybody's."""
    tier = ExtraDelta({"x_y": raw(1), "service_tier": raw("flex")})
    call_start = ToolCallStart(0, "c", "f", extra={"id": raw("x_y")})
    found = encoded(
        START, tier, TextDelta("a", extra={"x_y": raw(1)}), ReasoningDelta("r", extra={"id": raw("x_y")}), call_start
    )
    assert found[-1]["response"]["service_tier"] == "flex"
    assert "x_y" not in json.dumps(found)


def test_an_answer_given_up() -> None:
    final = encoded(START, TextDelta("x"), Finish("error"))[-1]
    assert (final["type"], final["response"]["status"]) == ("response.failed", "failed")
    assert final["response"]["error"]["code"] == "server_error"


# --- Relay --------------------------------------------------------------------------------------------------------


def relayed(data: bytes) -> tuple[StreamRelay, bytes]:
    relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
    return relay, relay.feed(data) + relay.close()


def test_bytes_go_through() -> None:
    """The very object, until the final event, whose usage gets its cost; later events go through as well."""
    relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
    start = created()
    assert relay.feed(start) is start
    assert not relay.has_content
    for piece in text_events("Hi"):
        assert relay.feed(piece) is piece
    assert (relay.has_content, relay.output_chars, relay.is_finished) == (True, 2, False)
    final = events_of(relay.feed(completed(message("Hi"))))[0]
    assert final["response"] == answer(message("Hi"), usage={**USAGE, "naru": {"cost_usd": 0.000017}})
    late = event("response.rate_limits.updated", error={"x": 1}) + b"data: [DONE]\n\n"
    assert relay.is_finished
    assert relay.feed(late) == late
    assert relay.close() == b""
    assert relay.error is None
    assert relay.usage == Usage(input=12, output=5, cached=4, reasoning=2)


def test_what_is_the_first_content() -> None:
    """An empty message or thought shows nothing yet; a call does."""
    for item, shows in (
        (message(""), False),
        (thought(), False),
        (call(""), True),
        ({"type": "web_search_call"}, True),
    ):
        relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
        relay.feed(created() + event(ADDED, output_index=0, item=item))
        assert relay.has_content is shows


@pytest.mark.parametrize(
    "usage", [None, {"input_tokens": -1, "output_tokens": -1}, {"input_tokens": 10**12, "output_tokens": 1}]
)
def test_usage_that_is_missing_or_unbelievable_is_estimated(usage: Any) -> None:
    relay, out = relayed(stream(*text_events("안녕하세요"), completed(message("안녕하세요"), usage=usage)))
    assert relay.usage is not None
    assert relay.usage.is_estimated
    assert relay.usage.output == 4
    assert events_of(out)[-1]["response"]["usage"]["naru"]["estimated"] is True


def test_another_naru_upstream_has_its_own_price() -> None:
    """Only ours is the caller's."""
    usage = {**USAGE, "naru": {"cost_usd": 9, "x": 1}}
    _, out = relayed(stream(completed(message("Hi"), usage=usage)))
    assert events_of(out)[-1]["response"]["usage"]["naru"] == {"cost_usd": 0.000017, "x": 1}


def test_a_failure_before_content_is_not_shown() -> None:
    """Another deployment may still answer."""
    relay, out = relayed(created() + failed("server_error"))
    assert out == created()
    assert isinstance(relay.error, UpstreamRefused)
    assert not relay.has_content


def test_a_failure_after_content_is_told_in_the_streams_own_words() -> None:
    """As response.failed, with the response's own id, which Codex reads; an empty account of the gateway's is not the
    caller's. Its usage is money's."""
    begun = stream(*text_events("Hi")[:3])
    relay, out = relayed(begun + failed("insufficient_quota", "You exceeded your quota"))
    assert out.startswith(begun)
    final = events_of(out)[-1]
    assert (final["type"], final["response"]["id"]) == ("response.failed", "resp_1")
    assert final["response"]["error"]["code"] == "upstream_quota"
    assert "quota" not in final["response"]["error"]["message"]
    assert isinstance(relay.error, UpstreamRefused)
    assert relay.usage == Usage(input=12, output=5, cached=4, reasoning=2)
    assert relay.feed(b"data: {}\n\n") == b""


def test_the_gateways_own_errors() -> None:
    """Flat as documented and nested as the SDK reads it; whole in OpenAI's shape."""
    error = UpstreamBroken("It broke.")
    found = events_of(OPENAI_RESPONSES.encode_stream_error(error))[0]
    inner = {"message": "It broke.", "type": "server_error", "param": None, "code": "upstream_invalid_response"}
    flat = {"code": inner["code"], "message": inner["message"], "param": None}
    assert found == {"type": "error", "sequence_number": 0, **flat, "error": inner}
    status, body = OPENAI_RESPONSES.encode_error(error)
    assert (status, json.loads(body)) == (502, {"error": inner})
