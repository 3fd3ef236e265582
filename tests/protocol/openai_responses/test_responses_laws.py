"""The six laws of a dialect, for the Responses API."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from naru.errors import BadRequest, UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Request, Response
from naru.protocol.openai_responses import OPENAI_RESPONSES
from tests.protocol.openai_responses.samples import (
    OPENAI,
    PLAIN,
    answer,
    body,
    call,
    completed,
    created,
    envelope,
    event,
    message,
    requests,
    responses,
    text_events,
    thought,
)
from tests.protocol.samples import compact, cut, extras, json_values, names, price, texts

LAW = settings(max_examples=60, deadline=None)

_deltas = st.builds(
    lambda kind, index, text: event(kind, output_index=index, content_index=0, summary_index=index, delta=text),
    st.sampled_from(
        [
            "response.output_text.delta",
            "response.refusal.delta",
            "response.reasoning_summary_text.delta",
            "response.reasoning_text.delta",
            "response.function_call_arguments.delta",
            "response.custom_tool_call_input.delta",
        ]
    ),
    st.integers(0, 3),
    texts,
)
_items = st.builds(
    lambda kind, index, item: event(kind, output_index=index, item=item),
    st.sampled_from(["response.output_item.added", "response.output_item.done"]),
    st.integers(0, 3),
    st.sampled_from(
        [message("안녕"), call(), thought("a", "b", encrypted_content="gAAAAx"), {"type": "web_search_call"}]
    ),
)
_odd = st.sampled_from(
    [
        event("response.rate_limits.updated", delta={"x": 1}),
        event("response.audio.delta", delta=[]),
        completed(message("hi"), call()),
        event(
            "response.incomplete", response=answer(status="incomplete", incomplete_details={"reason": "content_filter"})
        ),
        event("response.failed", response=answer(status="failed", error={"code": "server_error", "message": "no"})),
        event("error", code="x", message="no", param=None),
        b": keep-alive\n\n",
        b"data: [DONE]\n\n",
        b"data: {\n\n",
        b'data: {"type":"response.output_item.done","item":{}}\n\n',
    ]
)
streams = st.builds(
    lambda parts, end: (created() + b"".join(parts)).replace(b"\n", end),
    st.lists(_deltas | _items | _odd, max_size=10),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)


def relayed(pieces: list[bytes]) -> tuple[Any, ...]:
    relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
    out = b"".join(relay.feed(piece) for piece in pieces) + relay.close()
    error = None if relay.error is None else (type(relay.error), relay.error.code, relay.error.message)
    return out, relay.has_content, relay.is_finished, relay.usage, relay.output_chars, error


def decoded(pieces: list[bytes]) -> tuple[list[Event], Any]:
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except UpstreamError as error:
        return events, (type(error), error.message)
    return events, None


def streamed(response: Response) -> bytes:
    encoder = OPENAI_RESPONSES.stream_encoder(envelope(), price)
    return b"".join(encoder.event(each) for each in response_events(response)) + encoder.close()


def whole(response: Response) -> Response:
    return OPENAI_RESPONSES.decode_response(OPENAI_RESPONSES.encode_response(response, envelope()), PLAIN)


@LAW
@given(streams, st.lists(st.integers(0, 4_000), max_size=12))
def test_law_1_however_the_bytes_are_cut(stream: bytes, places: list[int]) -> None:
    """Whole = byte by byte = random splits: the bytes relayed, what the relay says of them, and the events."""
    for read in (relayed, decoded):
        at_once = read([stream])
        assert at_once == read(cut(stream, places))
        assert at_once == read(cut(stream, list(range(len(stream)))))


@LAW
@given(responses())
def test_law_2_a_stream_adds_up_to_the_whole_answer(response: Response) -> None:
    """Accumulating the decoded stream of an answer equals decoding the same answer sent whole; usage is priced in a stream."""
    events, error = decoded([streamed(response)])
    assert error is None
    found = accumulate(events)
    if response.usage is None:
        assert found.usage is not None
        assert found.usage.is_estimated
        found = msgspec.structs.replace(found, usage=None)
    assert found == whole(response)


@LAW
@given(requests())
def test_law_3_requests_survive_the_dialect(request: Request) -> None:
    """decode(encode(request)) == request for all that Responses can express."""
    forwarded = OPENAI_RESPONSES.encode_request(request, OPENAI)
    assert forwarded.dropped == ()
    assert OPENAI_RESPONSES.decode_request(OPENAI_RESPONSES.read(forwarded.body)) == request


@LAW
@given(responses())
def test_law_3_answers_survive_the_dialect(response: Response) -> None:
    """decode(encode(answer)) == answer for all that Responses can express."""
    assert whole(response) == response


@LAW
@given(extras, extras, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_law_4_same_dialect_keeps_every_field_of_a_request(
    top: dict[str, Raw], deep: dict[str, Raw], separators: tuple[str, str]
) -> None:
    """Unknown fields at the top and in items go out as they came in."""
    item = {"role": "user", "content": "hi", **{name: json.loads(bytes(value)) for name, value in deep.items()}}
    fields = {"model": "ours", "input": [item], **{name: json.loads(bytes(value)) for name, value in top.items()}}
    read = OPENAI_RESPONSES.read(json.dumps(fields, separators=separators).encode())
    sent = json.loads(OPENAI_RESPONSES.forward(read, "theirs", PLAIN).body)
    assert sent == {**fields, "model": "theirs"}


@LAW
@given(st.dictionaries(names.map("x_".__add__), json_values, max_size=4))
def test_law_4_same_dialect_keeps_every_field_of_an_answer(more: dict[str, Any]) -> None:
    """A whole answer keeps its bytes; of a stream only the final event changes, and there only the usage's cost is new."""
    data = answer(message("hi", **more), **more)
    assert OPENAI_RESPONSES.relay_whole(compact(data), PLAIN).body == compact(data)
    final = event("response.completed", response=data, **more)
    out, *_ = relayed([created() + b"".join(text_events("hi")) + final])
    head, _, last = out.rpartition(b"event: response.completed\ndata: ")
    assert head == created() + b"".join(text_events("hi"))
    sent = json.loads(last)
    assert sent["response"]["usage"].pop("naru") == {"cost_usd": 0.000017}
    assert sent == {"type": "response.completed", "sequence_number": 0, **more, "response": data}


mutations = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=3), st.integers(0, 3)), max_size=6)


def mutated(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for place, new, gone in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


def check_request(data: bytes) -> None:
    with suppress(BadRequest):
        read = OPENAI_RESPONSES.read(data)
        OPENAI_RESPONSES.forward(read, "m", PLAIN)
        OPENAI_RESPONSES.forward(read, "m", Quirks(effort_values=(("low", "min"),), thinking_style="none"))
        request = OPENAI_RESPONSES.decode_request(read)
        OPENAI_RESPONSES.encode_request(request, PLAIN)
        OPENAI_RESPONSES.stream_encoder(read, price).close()


def check_answer(data: bytes) -> None:
    for read in (OPENAI_RESPONSES.relay_whole, OPENAI_RESPONSES.decode_response):
        with suppress(UpstreamError):
            read(data, PLAIN)
    OPENAI_RESPONSES.decode_error(400, data, PLAIN)


@LAW
@given(st.one_of(st.binary(max_size=200), json_values.map(compact)))
def test_law_5_arbitrary_bytes_give_one_error(data: bytes) -> None:
    """Nothing but BadRequest facing the caller, nothing but UpstreamError facing the upstream."""
    check_request(data)
    check_answer(data)
    for stream in (data, b"data: " + data + b"\n\n"):
        relayed([stream])
        decoded([stream])


@LAW
@given(requests(), mutations)
def test_law_5_damaged_requests_give_one_error(request: Request, changes: list[tuple[int, bytes, int]]) -> None:
    """A request with bytes lost, added or flipped is read, or refused as a BadRequest."""
    check_request(mutated(OPENAI_RESPONSES.encode_request(request, OPENAI).body, changes))


@LAW
@given(responses(), mutations)
def test_law_5_damaged_answers_give_one_error(response: Response, changes: list[tuple[int, bytes, int]]) -> None:
    """An answer, whole or streamed, with bytes lost, added or flipped gives events or one UpstreamError."""
    check_answer(mutated(OPENAI_RESPONSES.encode_response(response, envelope()), changes))
    stream = mutated(streamed(response), changes)
    relayed([stream])
    decoded([stream])


wrong_types = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | texts,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "name", "id", "role"]), v),
    max_leaves=4,
)
_ITEM_FIELDS = [
    "type",
    "role",
    "content",
    "summary",
    "encrypted_content",
    "call_id",
    "name",
    "arguments",
    "output",
    "input",
]
_TOP_FIELDS = [
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "include",
    "instructions",
    "top_logprobs",
    "metadata",
    "background",
]
_KINDS = [
    "message",
    "function_call",
    "custom_tool_call",
    "reasoning",
    "function_call_output",
    "item_reference",
    "web_search_call",
]


@LAW
@given(st.data())
def test_law_5_wrong_types_anywhere_give_one_error(data: st.DataObject) -> None:
    """Valid JSON of the wrong shape, field by field, never gives another exception."""
    kind = data.draw(st.sampled_from(_KINDS))
    item = {**call(), **thought("s"), **message("t"), "type": kind, "output": "o", "input": "i"}
    item[data.draw(st.sampled_from(_ITEM_FIELDS))] = data.draw(wrong_types)
    check_request(body(**{"input": [item], data.draw(st.sampled_from(_TOP_FIELDS)): data.draw(wrong_types)}))
    top = data.draw(st.sampled_from(["id", "created_at", "usage", "status", "error", "incomplete_details", "output"]))
    value = data.draw(wrong_types)
    check_answer(compact(answer(item, **{top: value})))
    fields = {
        "item": item,
        "part": item["content"],
        "delta": "d",
        "output_index": 0,
        "response": answer(item, **{top: value}),
    }
    fields[data.draw(st.sampled_from([*fields, "logprobs", "text", "arguments"]))] = value
    name = data.draw(
        st.sampled_from(["response.output_item.added", "response.output_item.done", "response.output_text.delta"])
        | st.sampled_from(["response.completed", "response.failed", "error", "response.content_part.done"])
    )
    stream = created() + event(name, **fields)
    relayed([stream])
    decoded([stream])


@LAW
@given(st.lists(st.tuples(st.sampled_from(["model", "user", "input"]), st.sampled_from(['"a"', '"b"'])), max_size=4))
def test_law_6_no_key_is_read_twice(pairs: list[tuple[str, str]]) -> None:
    """Exactly the bodies that repeat a top-level key are refused as such."""
    text = "{" + ",".join(f'"{key}":{value}' for key, value in [("store", "false"), *pairs]) + "}"
    is_repeated = len({key for key, _ in pairs}) < len(pairs)
    assert (refused_code(text.encode()) == "duplicate_parameter") == is_repeated


def refused_code(data: bytes) -> str | None:
    try:
        OPENAI_RESPONSES.read(data)
    except BadRequest as error:
        return error.code
    return None


def test_law_6_what_is_forwarded_has_each_key_once() -> None:
    """An extension and the field it becomes are one."""
    read = OPENAI_RESPONSES.read(
        body(reasoning={"effort": "high", "summary": "auto"}, reasoning_effort="low", enable_thinking=True)
    )
    pairs = json.loads(OPENAI_RESPONSES.forward(read, "m", PLAIN).body, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))
    assert dict(pairs)["reasoning"] == [("effort", "high"), ("summary", "auto")]
