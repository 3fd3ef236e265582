"""The six laws of a dialect, for chat completions."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from naru.errors import BadRequest, UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.dialect import Quirks, StreamRelay
from naru.protocol.messages import Event, Request, Response
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from naru.protocol.openai_chat.relay import ChatStreamRelay
from tests.protocol.samples import (
    DONE,
    FULL,
    HEAD,
    PLAIN,
    USAGE,
    chunk,
    compact,
    cut,
    envelope,
    event,
    extras,
    json_values,
    names,
    price,
    requests,
    responses,
    texts,
)

LAW = settings(max_examples=60, deadline=None)

fragments = st.sampled_from(
    [
        {"role": "assistant", "content": ""},
        {"content": "안녕 👋"},
        {"content": "x", "reasoning_content": "y"},
        {"reasoning": "hm"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "c"}]},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]},
        {"tool_calls": [{"id": "", "function": {"name": None, "arguments": '":1}'}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "g", "arguments": {"k": [1.50]}}}]},
        {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "h", "arguments": None}}]},
        {"refusal": "no"},
        {},
    ]
)
frames = st.one_of(
    st.builds(chunk, fragments, st.sampled_from([None, None, None, "", "stop", "length", "max_tokens", "tool_calls"])),
    st.just(event({**HEAD, "choices": [], "usage": USAGE})),
    st.just(event({**HEAD, "choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 2.5}})),
    st.just(event({**HEAD, "choices": [], "prompt_filter_results": []})),
    st.sampled_from([b": keep-alive\n\n", b"\n", b"event: x\nid: 3\n", b"retry: 5\n\n", DONE]),
)
endings = st.sampled_from([b"\n", b"\r\n", b"\r"])
faults = st.sampled_from(
    [b"", event({"error": {"message": "no", "code": 503}}), b"data: {\n\n", b'data: {"choices":[{}]']
)
streams = st.builds(
    lambda parts, end, fault: (b"".join(parts) + fault).replace(b"\n", end),
    st.lists(frames, max_size=10),
    endings,
    faults,
)
quirks = st.sampled_from(
    [PLAIN, Quirks(think_tag="inline"), Quirks(think_tag="open_implied"), Quirks(has_list_content=True)]
)


def relayed(stream: bytes, pieces: list[bytes], wants_usage: bool, quirk: Quirks) -> tuple[Any, ...]:
    relay: StreamRelay = ChatStreamRelay(envelope(wants_usage), quirk, price)
    out = b"".join(relay.feed(piece) for piece in pieces) + relay.close()
    error = None if relay.error is None else (type(relay.error), relay.error.code, relay.error.message)
    return out, relay.has_content, relay.is_finished, relay.usage, relay.output_chars, error


def decoded(pieces: list[bytes], quirk: Quirks) -> tuple[list[Event], Any]:
    decoder = ChatStreamDecoder(quirk)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except UpstreamError as error:
        return events, (type(error), error.message)
    return events, None


@LAW
@given(streams, st.lists(st.integers(0, 3_000), max_size=12), st.booleans(), quirks)
def test_law_1_relay_is_the_same_however_the_bytes_are_cut(
    stream: bytes, places: list[int], wants_usage: bool, quirk: Quirks
) -> None:
    """Whole = byte by byte = random splits, for the bytes out and for everything the relay says of them."""
    at_once = relayed(stream, [stream], wants_usage, quirk)
    assert at_once == relayed(stream, cut(stream, places), wants_usage, quirk)
    assert at_once == relayed(stream, cut(stream, list(range(len(stream)))), wants_usage, quirk)


@LAW
@given(streams, st.lists(st.integers(0, 3_000), max_size=12), quirks)
def test_law_1_events_are_the_same_however_the_bytes_are_cut(stream: bytes, places: list[int], quirk: Quirks) -> None:
    """Whole = byte by byte = random splits, for the events and the error that ends them."""
    at_once = decoded([stream], quirk)
    assert at_once == decoded(cut(stream, places), quirk)
    assert at_once == decoded(cut(stream, list(range(len(stream)))), quirk)


def streamed(response: Response) -> bytes:
    encoder = OPENAI_CHAT.stream_encoder(envelope(response.usage is not None), price)
    return b"".join(encoder.event(each) for each in response_events(response)) + encoder.close()


@LAW
@given(responses())
def test_law_2_a_stream_adds_up_to_the_whole_answer(response: Response) -> None:
    """Accumulating the decoded stream of an answer equals decoding the same answer sent whole."""
    events, error = decoded([streamed(response)], PLAIN)
    assert error is None
    assert accumulate(events) == OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response), PLAIN)


@LAW
@given(responses())
def test_law_2_events_of_an_answer_add_up_to_it(response: Response) -> None:
    """`accumulate` undoes `response_events`."""
    assert accumulate(response_events(response)) == response


@LAW
@given(requests())
def test_law_3_requests_survive_the_dialect(request: Request) -> None:
    """decode(encode(request)) == request for all that chat completions can express."""
    forwarded = OPENAI_CHAT.encode_request(request, FULL)
    assert forwarded.dropped == ()
    assert OPENAI_CHAT.decode_request(OPENAI_CHAT.read(forwarded.body)) == request


@LAW
@given(responses())
def test_law_3_answers_survive_the_dialect(response: Response) -> None:
    """decode(encode(answer)) == answer for all that chat completions can express."""
    assert OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response), PLAIN) == response


@LAW
@given(extras, extras, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_law_4_same_dialect_keeps_every_field_of_a_request(
    top: dict[str, Raw], deep: dict[str, Raw], separators: tuple[str, str]
) -> None:
    """Unknown fields at the top and in messages go out as they came in, to the byte."""
    message = {"role": "user", "content": "hi", **{name: json.loads(bytes(raw)) for name, raw in deep.items()}}
    fields = {"model": "ours", "messages": [message], **{name: json.loads(bytes(raw)) for name, raw in top.items()}}
    text = json.dumps(fields, separators=separators)
    sent = json.loads(OPENAI_CHAT.forward(OPENAI_CHAT.read(text.encode()), "theirs", PLAIN).body)
    assert sent == {**fields, "model": "theirs"}


@LAW
@given(st.dictionaries(names.map("x_".__add__), json_values, max_size=4), st.sampled_from(["reasoning", "content"]))
def test_law_4_same_dialect_keeps_every_field_of_an_answer(more: dict[str, Any], field: str) -> None:
    """Repaired or not, a chunk and a whole answer keep all their other fields."""
    data = {**HEAD, **more, "choices": [{"index": 0, **more, "delta": {field: "t", **more}, "finish_reason": "stop"}]}
    relay = ChatStreamRelay(envelope(), PLAIN, price)
    sent = json.loads(relay.feed(event(data))[6:])
    sent["choices"][0]["delta"].pop("reasoning_content", None)
    assert sent == data

    data["choices"] = [
        {"index": 0, **more, "message": {"role": "assistant", field: "t", **more}, "finish_reason": "stop"}
    ]
    answer = json.loads(OPENAI_CHAT.relay_whole(compact(data), PLAIN).body)
    answer["choices"][0]["message"].pop("reasoning_content", None)
    assert answer == data


mutations = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=3), st.integers(0, 3)), max_size=6)


def mutated(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for place, new, gone in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


def check_request(data: bytes) -> None:
    with suppress(BadRequest):
        read = OPENAI_CHAT.read(data)
        OPENAI_CHAT.forward(read, "m", FULL)
        request = OPENAI_CHAT.decode_request(read)
        OPENAI_CHAT.encode_request(request, PLAIN)


def check_answer(data: bytes) -> None:
    for call in (OPENAI_CHAT.relay_whole, OPENAI_CHAT.decode_response):
        with suppress(UpstreamError):
            call(data, PLAIN)
    OPENAI_CHAT.decode_error(400, data, PLAIN)


@LAW
@given(st.one_of(st.binary(max_size=200), json_values.map(compact)))
def test_law_5_arbitrary_bytes_give_one_error(data: bytes) -> None:
    """Nothing but BadRequest facing the caller, nothing but UpstreamError facing the upstream."""
    check_request(data)
    check_answer(data)
    relayed(data, [data], True, PLAIN)
    decoded([data], PLAIN)
    relayed(b"data: " + data, [b"data: " + data], True, PLAIN)


@LAW
@given(requests(), mutations)
def test_law_5_damaged_requests_give_one_error(request: Request, changes: list[tuple[int, bytes, int]]) -> None:
    """A request with bytes lost, added or flipped is read, or refused as a BadRequest."""
    check_request(mutated(OPENAI_CHAT.encode_request(request, FULL).body, changes))


@LAW
@given(responses(), mutations)
def test_law_5_damaged_answers_give_one_error(response: Response, changes: list[tuple[int, bytes, int]]) -> None:
    """An answer, whole or streamed, with bytes lost, added or flipped gives events or one UpstreamError."""
    check_answer(mutated(OPENAI_CHAT.encode_response(response), changes))
    stream = mutated(streamed(response), changes)
    relayed(stream, [stream], True, PLAIN)
    decoded([stream], PLAIN)


wrong_types = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | texts,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "name", "id", "function"]), v),
    max_leaves=4,
)


@LAW
@given(st.data())
def test_law_5_wrong_types_anywhere_give_one_error(data: st.DataObject) -> None:
    """Valid JSON of the wrong shape, field by field, never gives another exception."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "c",
        "reasoning_content": "r",
        "tool_calls": [],
        "function_call": None,
    }
    name = data.draw(st.sampled_from([*message, "refusal", "reasoning", "thinking_blocks", "name", "tool_call_id"]))
    value = data.draw(wrong_types)
    top = data.draw(
        st.sampled_from(["tools", "tool_choice", "stop", "response_format", "stream_options", "metadata", "n"])
    )
    role = data.draw(st.sampled_from(["assistant", "user", "tool", "function"]))
    check_request(compact({"model": "m", "messages": [{**message, "role": role, name: value}], top: value}))
    choice = {"index": 0, "message": {**message, name: value}, "finish_reason": "stop"}
    check_answer(compact({"id": "x", "choices": [choice], "usage": value}))
    delta = event({"id": "x", "choices": [{"index": 0, "delta": {**message, name: value}}], "usage": value})
    relayed(delta, [delta], True, PLAIN)
    decoded([delta], PLAIN)


@LAW
@given(
    st.lists(
        st.tuples(st.sampled_from(["model", "user", "seed", "안"]), st.sampled_from(['"a"', "12", "1", '"a\\""'])),
        max_size=5,
    ),
    st.sampled_from([("", ""), (" ", " "), ("\n  ", ""), ("", "  ")]),
    st.booleans(),
)
def test_law_6_no_key_is_read_twice(pairs: list[tuple[str, str]], blanks: tuple[str, str], escapes: bool) -> None:
    """Exactly the bodies that repeat a top-level key are refused, however they are spaced or escaped."""
    before, after = blanks
    written = [(f"\\u{ord(key[0]):04x}{key[1:]}" if escapes else key, value) for key, value in pairs]
    fields = [f'{before}"{key}"{after}:{after}{value}' for key, value in [("messages", '[{"role":"user"}]'), *written]]
    keys = [key for key, _ in pairs]
    text = "{" + ",".join(fields) + "}"
    assert (repeated_key(text.encode()) in keys) == (len(set(keys)) < len(keys))


def repeated_key(data: bytes) -> str | None:
    """The key that is refused as a repeat; None where the body is read, or refused for something else."""
    try:
        OPENAI_CHAT.read(data)
    except BadRequest as error:
        return error.param if error.code == "duplicate_parameter" else None
    return None


def test_law_6_what_is_forwarded_has_each_key_once() -> None:
    """Renames and mapped fields never meet a field of the same name."""
    read = OPENAI_CHAT.read(
        compact(
            {"model": "m", "messages": [{}], "max_tokens": 5, "max_completion_tokens": 6, "a": 1, "b": 2, "thinking": 3}
        ).replace(b'"thinking":3', b'"thinking":{"type":"enabled"},"enable_thinking":false')
    )
    quirk = Quirks(max_tokens_field="max_tokens", renames=(("a", "b"),), thinking_style="deepseek")
    pairs = json.loads(OPENAI_CHAT.forward(read, "m", quirk).body, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))
    assert ("max_tokens", 6) in pairs
