"""The six laws of a dialect, for the Messages API."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from naru.errors import BadRequest, UpstreamError
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.anthropic_messages.decoder import MessagesStreamDecoder
from naru.protocol.anthropic_messages.names import original_name, tool_id, tool_name
from naru.protocol.anthropic_messages.relay import MessagesStreamRelay
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event, Request, Response
from naru.protocol.seal import seal, unseal
from tests.protocol.anthropic_messages.samples import (
    PATH,
    PLAIN,
    STOP,
    block_delta,
    block_start,
    block_stop,
    body,
    envelope,
    event,
    message_delta,
    message_start,
    requests,
    responses,
    sdk_message,
    sound,
    text_stream,
)
from tests.protocol.samples import compact, cut, extras, json_values, names, price, texts

LAW = settings(max_examples=60, deadline=None)

frames = st.sampled_from(
    [
        message_start(),
        message_start(cache_creation={"ephemeral_1h_input_tokens": 3}, service_tier="standard"),
        block_start(0, type="text", text=""),
        block_start(0, type="text", text="안"),
        block_start(1, type="thinking", thinking="", signature=""),
        block_start(2, type="tool_use", id="toolu_1", name="f", input={}),
        block_start(3, type="tool_use", id="toolu_2", name="g", input={"a": 1}),
        block_start(4, type="redacted_thinking", data="x"),
        block_start(5, type="server_tool_use", id="s", name="web_search", input={}),
        block_delta(0, type="text_delta", text="안녕 👋"),
        block_delta(0, type="citations_delta", citation={"type": "page_location"}),
        block_delta(1, type="thinking_delta", thinking="hm"),
        block_delta(1, type="signature_delta", signature="sig"),
        block_delta(2, type="input_json_delta", partial_json='{"a'),
        block_delta(5, type="input_json_delta", partial_json='{"q":1}'),
        block_delta(5, type="strange_delta", content="x"),
        *(block_stop(index) for index in range(6)),
        event({"type": "ping"}),
        event({"type": "something_new", "x": 1}),
        message_delta("tool_use", input_tokens=4),
        message_delta(None),
        b'data: {"type":"ping"}\n\n',
        b": keep-alive\n\n",
        b"\n",
        STOP,
    ]
)
faults = st.sampled_from(
    [b"", event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}), b"data: {\n\n", b"data: [1]"]
)
streams = st.builds(
    lambda parts, end, fault: (message_start() + b"".join(parts) + fault).replace(b"\n", end),
    st.lists(frames, max_size=12),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    faults,
)


def relayed(pieces: list[bytes]) -> tuple[Any, ...]:
    relay = MessagesStreamRelay(envelope(), PLAIN, price)
    out = b"".join(relay.feed(piece) for piece in pieces) + relay.close()
    error = None if relay.error is None else (type(relay.error), relay.error.code, relay.error.message)
    return out, relay.has_content, relay.is_finished, relay.usage, relay.output_chars, error


def decoded(pieces: list[bytes], quirks: Quirks = PLAIN) -> tuple[list[Event], Any]:
    decoder = MessagesStreamDecoder(quirks)
    events: list[Event] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.close()
    except UpstreamError as error:
        return events, (type(error), error.message)
    return events, None


def streamed(response: Response) -> bytes:
    encoder = ANTHROPIC_MESSAGES.stream_encoder(envelope(), price)
    return b"".join(encoder.event(each) for each in response_events(response)) + encoder.close()


def reread(response: Response) -> Response:
    return ANTHROPIC_MESSAGES.decode_response(ANTHROPIC_MESSAGES.encode_response(response, envelope()), PLAIN)


@LAW
@given(streams, st.lists(st.integers(0, 3_000), max_size=12))
def test_law_1_nothing_depends_on_where_the_bytes_are_cut(stream: bytes, places: list[int]) -> None:
    """Whole = byte by byte = random splits: bytes relayed, what the relay says of them, events, the error at the end."""
    for reading in (relayed, decoded):
        at_once = reading([stream])
        assert at_once == reading(cut(stream, places))
        assert at_once == reading(cut(stream, list(range(len(stream)))))


@LAW
@given(responses())
def test_law_2_a_stream_adds_up_to_the_whole_answer(response: Response) -> None:
    """Accumulating the decoded stream of an answer equals decoding the same answer sent whole."""
    events, error = decoded([streamed(response)])
    assert error is None
    assert accumulate(events) == reread(response)


@LAW
@given(requests())
def test_law_3_requests_survive_the_dialect(request: Request) -> None:
    """decode(encode(request)) == request for all that the Messages API can express."""
    forwarded = ANTHROPIC_MESSAGES.encode_request(request, PLAIN)
    assert forwarded.dropped == ()
    assert ANTHROPIC_MESSAGES.decode_request(ANTHROPIC_MESSAGES.read(forwarded.body, PATH)) == request


@LAW
@given(responses())
def test_law_3_answers_survive_the_dialect(response: Response) -> None:
    """decode(encode(answer)) == answer for all that the Messages API can express."""
    assert reread(response) == response


@LAW
@given(responses(sound))
def test_every_stream_is_what_the_official_client_reads(response: Response) -> None:
    """The official accumulator takes the events in their order and finds the blocks of the whole answer."""
    message = sdk_message(streamed(response))
    whole = json.loads(ANTHROPIC_MESSAGES.encode_response(response, envelope()))
    assert [block.type for block in message.content] == [block["type"] for block in whole["content"]]
    for block, written in zip(message.content, whole["content"], strict=True):
        assert {name: getattr(block, name) for name in written} == written
    assert (message.stop_reason, message.stop_sequence) == (whole["stop_reason"], whole["stop_sequence"])
    assert message.usage.input_tokens == whole["usage"]["input_tokens"]
    assert message.usage.cache_read_input_tokens == whole["usage"]["cache_read_input_tokens"]
    assert message.usage.output_tokens == whole["usage"]["output_tokens"]


@LAW
@given(extras, extras, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_law_4_same_dialect_keeps_every_field_of_a_request(
    top: dict[str, Raw], deep: dict[str, Raw], separators: tuple[str, str]
) -> None:
    """Unknown fields at the top, in messages and in blocks go out as they came in."""
    more = {name: json.loads(bytes(raw)) for name, raw in deep.items()}
    block = {"type": "text", "text": "", **more}
    fields = {"model": "ours", "max_tokens": 0, "messages": [{"role": "user", "content": [block], **more}]}
    fields |= {name: json.loads(bytes(raw)) for name, raw in top.items()}
    text = json.dumps(fields, separators=separators)
    sent = json.loads(ANTHROPIC_MESSAGES.forward(ANTHROPIC_MESSAGES.read(text.encode(), PATH), "theirs", PLAIN).body)
    assert sent == {**fields, "model": "theirs"}


@LAW
@given(st.dictionaries(names.map("x_".__add__), json_values, max_size=4))
def test_law_4_same_dialect_keeps_every_field_of_an_answer(more: dict[str, Any]) -> None:
    """Of a stream only the usage at its end gets the cost; a whole answer is the bytes that came."""
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", **more},
        "usage": {"output_tokens": 2, **more},
    }
    start = message_start(**more) + block_start(0, type="new_kind", **more) + block_stop(0)
    relay = MessagesStreamRelay(envelope(), PLAIN, price)
    out = relay.feed(start + event({**delta, **more}) + STOP)
    assert out.startswith(start)
    sent = json.loads(out[len(start) :].split(b"\n")[1][6:])
    assert sent["usage"].pop("naru") == {"cost_usd": 0.000027}
    assert sent == {**delta, **more}

    whole = compact({"id": "a", **more, "content": [{"type": "text", "text": "t", **more}], "usage": more})
    assert ANTHROPIC_MESSAGES.relay_whole(whole, PLAIN).body == whole


mutations = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=3), st.integers(0, 3)), max_size=6)


def mutated(data: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    for place, new, gone in changes:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + gone :]
    return data


QUIRKS = [PLAIN, Quirks(drops=frozenset({"tools.type", "system.billing"}), thinking_style="anthropic_budget")]


def check_request(data: bytes) -> None:
    for quirks in QUIRKS:
        with suppress(BadRequest):
            read = ANTHROPIC_MESSAGES.read(data, PATH)
            with suppress(BadRequest):
                ANTHROPIC_MESSAGES.count_tokens(read)
            with suppress(BadRequest):
                ANTHROPIC_MESSAGES.forward(read, "m", quirks)
            request = ANTHROPIC_MESSAGES.decode_request(read)
            ANTHROPIC_MESSAGES.encode_request(request, quirks)


def check_answer(data: bytes) -> None:
    for call in (ANTHROPIC_MESSAGES.relay_whole, ANTHROPIC_MESSAGES.decode_response):
        with suppress(UpstreamError):
            call(data, PLAIN)
    ANTHROPIC_MESSAGES.decode_error(400, data, PLAIN)


@LAW
@given(st.one_of(st.binary(max_size=200), json_values.map(compact)))
def test_law_5_arbitrary_bytes_give_one_error(data: bytes) -> None:
    """Nothing but BadRequest facing the caller, nothing but UpstreamError facing the upstream."""
    check_request(data)
    check_answer(data)
    for stream in (data, b"data: " + data, message_start() + b"data: " + data + b"\n\n"):
        relayed([stream])
        decoded([stream])


@LAW
@given(requests(), mutations)
def test_law_5_damaged_requests_give_one_error(request: Request, changes: list[tuple[int, bytes, int]]) -> None:
    """A request with bytes lost, added or flipped is read, or refused as a BadRequest."""
    check_request(mutated(ANTHROPIC_MESSAGES.encode_request(request, PLAIN).body, changes))


@LAW
@given(responses(), mutations)
def test_law_5_damaged_answers_give_one_error(response: Response, changes: list[tuple[int, bytes, int]]) -> None:
    """An answer, whole or streamed, with bytes lost, added or flipped gives events or one UpstreamError."""
    check_answer(mutated(ANTHROPIC_MESSAGES.encode_response(response, envelope()), changes))
    stream = mutated(streamed(response), changes)
    relayed([stream])
    decoded([stream])


wrong_types = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | texts,
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(["text", "type", "name", "id", "source"]), v),
    max_leaves=4,
)
BLOCKS = [
    {"type": "text", "text": "t", "citations": []},
    {"type": "image", "source": {"type": "url", "url": "https://x"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}, "title": "t"},
    {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "t"}], "is_error": True},
    {"type": "thinking", "thinking": "t", "signature": "s"},
    {"type": "redacted_thinking", "data": "d"},
    {"type": "server_tool_use", "id": "a", "input": {}},
]
TOP = [
    "system",
    "tools",
    "tool_choice",
    "stop_sequences",
    "output_config",
    "metadata",
    "thinking",
    "temperature",
    "usage",
]


@LAW
@given(st.data())
def test_law_5_wrong_types_anywhere_give_one_error(data: st.DataObject) -> None:
    """Valid JSON of the wrong shape, field by field, never gives another exception."""
    block = dict(data.draw(st.sampled_from(BLOCKS)))
    name = data.draw(st.sampled_from([*block]))
    value = data.draw(wrong_types)
    block[name] = value
    role = data.draw(st.sampled_from(["assistant", "user", "system"]))
    top = data.draw(st.sampled_from(TOP))
    check_request(body(messages=[{"role": role, "content": [block]}], **{top: value}))
    check_request(body(messages=[{"role": role, "content": value}]))
    check_answer(compact({"id": value, "content": [block], "usage": value, "stop_reason": value}))
    for change in (
        {"content_block": block},
        {"delta": block},
        {"message": {"usage": value, name: value}},
        {name: value},
    ):
        kind = "content_block_start" if "content_block" in change else "content_block_delta"
        stream = message_start() + block_start(0, type="text", text="") + event({"type": kind, "index": 0, **change})
        stream += event({"type": "message_delta", "delta": change, "usage": value}) + event(
            {"type": "message_start", **change}
        )
        relayed([stream])
        decoded([stream])


@LAW
@given(st.lists(st.sampled_from(["model", "metadata", "system", "안"]), max_size=4), st.sampled_from(["", " "]))
def test_law_6_no_key_is_read_twice(keys: list[str], blank: str) -> None:
    """Exactly the bodies that repeat a top-level key are refused."""
    pairs = "".join(f',{blank}"{key}":{blank}"a"' for key in keys)
    text = '{"messages":[{"role":"user","content":"hi"}],"max_tokens":1' + pairs + "}"
    code = None
    try:
        ANTHROPIC_MESSAGES.read(text.encode(), PATH)
    except BadRequest as error:
        code = error.code
    assert (code == "duplicate_parameter") == (len(set(keys)) < len(keys))


def test_law_6_what_is_forwarded_has_each_key_once() -> None:
    """Renames and mapped fields never meet a field of the same name."""
    given_fields = {
        "a": 1,
        "b": 2,
        "thinking": {"type": "disabled"},
        "enable_thinking": True,
        "reasoning_effort": "low",
    }
    quirks = Quirks(renames=(("a", "b"),), thinking_style="anthropic_adaptive")
    sent = ANTHROPIC_MESSAGES.forward(envelope(**given_fields, output_config={"task_budget": 1}), "m", quirks).body
    pairs = json.loads(sent, object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys))
    assert json.loads(sent)["thinking"] == {"type": "disabled"}
    assert json.loads(sent)["output_config"] == {"effort": "low", "task_budget": 1}


@LAW
@given(st.text(max_size=12) | st.from_regex(r"[_u.0-9a-f]{1,20}", fullmatch=True))
def test_tool_names_come_back(name: str) -> None:
    """Whatever a tool is called, its name is of Anthropic's alphabet and is undone exactly."""
    written = tool_name(name)
    assert all(char.isascii() and (char.isalnum() or char in "_-") for char in written)
    if not any(0xD800 <= ord(char) < 0xE000 for char in name):
        assert original_name(written) == name


@LAW
@given(texts, texts)
def test_tool_ids_are_of_the_alphabet_and_stay_apart(one: str, other: str) -> None:
    """The same id gives the same; two different ones never meet."""
    for given_id in (one, other):
        assert tool_id(given_id)
        assert all(char.isascii() and (char.isalnum() or char in "_-") for char in tool_id(given_id))
    assert (tool_id(one) == tool_id(other)) == (one == other)


@LAW
@given(names, texts, texts)
def test_seals_come_back(dialect: str, signature: str, encrypted: str) -> None:
    """What was sealed says whose it is; Anthropic's own signatures are none of ours."""
    found = unseal(seal(dialect, signature, encrypted))
    assert found is not None
    assert (found.dialect, found.signature, found.encrypted) == (dialect, signature, encrypted)
    assert unseal(signature) is None
    assert unseal("naru1." + signature) is None or signature


@pytest.mark.parametrize("size", [1, 7])
def test_text_arrives_as_it_was_said(size: int) -> None:
    """A code point cut in two by the network is whole again."""
    stream = text_stream("안녕", " 세계 🌍")
    events, error = decoded([stream[at : at + size] for at in range(0, len(stream), size)])
    assert error is None
    assert accumulate(events).choices[0].parts[0].text == "안녕 세계 🌍"  # type: ignore[union-attr]
