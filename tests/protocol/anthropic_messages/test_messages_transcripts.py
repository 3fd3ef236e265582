"""Recorded Messages traffic: everything decodes, survives the typed messages, and reaches a chat client whole."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest

from naru.errors import UpstreamRefused
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.anthropic_messages.decoder import MessagesStreamDecoder
from naru.protocol.anthropic_messages.relay import MessagesStreamRelay
from naru.protocol.anthropic_messages.wire import FINISH_OF
from naru.protocol.messages import Event, Opaque, Reasoning, Response, Text, ToolCall
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from tests.protocol.anthropic_messages.recordings import answers, counts, refusals, requests, streams
from tests.protocol.anthropic_messages.samples import PLAIN, datas, envelope, sdk_message
from tests.protocol.samples import TRANSCRIPTS, compact, cut, price
from tests.protocol.samples import envelope as chat_envelope

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(not TRANSCRIPTS.is_dir(), reason="no transcripts folder; set NARU_TRANSCRIPTS"),
]
STREAMS = list(streams()) if TRANSCRIPTS.is_dir() else []
each_stream = pytest.mark.parametrize("stream", [data for _, data in STREAMS], ids=[name for name, _ in STREAMS])


def test_requests_are_forwarded_as_they_were() -> None:
    """Nothing but the model's name changes."""
    for path, recorded in requests():
        read = ANTHROPIC_MESSAGES.read(compact(recorded), path)
        assert json.loads(ANTHROPIC_MESSAGES.forward(read, "m", PLAIN).body) == {**recorded, "model": "m"}


def test_requests_survive_the_typed_messages() -> None:
    """Decoded and encoded again, a request is the one that was recorded, but for defaults written out."""
    for path, recorded in requests():
        request = ANTHROPIC_MESSAGES.decode_request(ANTHROPIC_MESSAGES.read(compact(recorded), path))
        forwarded = ANTHROPIC_MESSAGES.encode_request(request, PLAIN)
        assert forwarded.dropped == ()
        sent = json.loads(forwarded.body)
        if "count_tokens" in path:
            del sent["max_tokens"]
        assert plain(sent) == plain(recorded)


def plain(value: Any) -> Any:
    """The request without what says nothing: fields that are null or false, a lone text as a list."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields = {name: plain(inner) for name, inner in value.items() if inner is not None and inner is not False}
    for name in ("content", "system"):
        if isinstance(fields.get(name), str):
            fields[name] = [{"type": "text", "text": fields[name]}]
    return fields


def test_answers_survive_the_typed_messages() -> None:
    """Decoded and encoded again, an answer has every field and block it had; also as a stream."""
    seen = 0
    for answer in answers():
        seen += 1
        response = ANTHROPIC_MESSAGES.decode_response(compact(answer), PLAIN)
        body = ANTHROPIC_MESSAGES.encode_response(response, envelope())
        assert plain(without_empty_usage(json.loads(body))) == plain(without_empty_usage(answer))
        assert ANTHROPIC_MESSAGES.decode_response(body, PLAIN) == response
        encoder = ANTHROPIC_MESSAGES.stream_encoder(envelope(), price)
        stream = b"".join(map(encoder.event, response_events(response))) + encoder.close()
        decoder = MessagesStreamDecoder(PLAIN)
        assert accumulate([*decoder.feed(stream), *decoder.close()]) == response
        assert [block.type for block in sdk_message(stream).content] == [block["type"] for block in answer["content"]]
    assert seen > 50


def without_empty_usage(answer: dict[str, Any]) -> dict[str, Any]:
    usage = {**answer["usage"]}
    if usage.get("output_tokens_details") == {"thinking_tokens": 0}:
        del usage["output_tokens_details"]
    return {**answer, "usage": usage}


def test_usage_of_answers() -> None:
    """Input counts the cache, and a whole answer is passed on to the byte."""
    for answer in answers():
        whole = ANTHROPIC_MESSAGES.relay_whole(compact(answer), PLAIN)
        usage, wire = whole.usage, answer["usage"]
        assert whole.body == compact(answer)
        assert usage is not None
        cache = wire["cache_creation_input_tokens"] + wire["cache_read_input_tokens"]
        assert (usage.input, usage.output) == (wire["input_tokens"] + cache, wire["output_tokens"])
        assert usage.cached == wire["cache_read_input_tokens"]
        assert whole.output_chars > 0 or answer["content"] == []


def said(response: Response) -> tuple[Any, ...]:
    """What any client should get to see."""
    choice = response.choices[0]
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    thought = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
    calls = [(part.id, part.name, part.arguments) for part in choice.parts if isinstance(part, ToolCall)]
    usage = response.usage
    assert usage is not None
    signatures = [part.signature for part in choice.parts if isinstance(part, Reasoning)]
    return text, thought, signatures, calls, choice.finish_reason, usage.input, usage.output, usage.cached


def test_answers_reach_a_chat_client() -> None:
    """Text, thinking with its signature, calls, finish reason and usage come through chat completions unharmed."""
    for answer in answers():
        response = ANTHROPIC_MESSAGES.decode_response(compact(answer), PLAIN)
        chat = OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response, chat_envelope()), PLAIN)
        assert said(chat) == said(response)


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = MessagesStreamDecoder(PLAIN)
    return [*[event for piece in pieces for event in decoder.feed(piece)], *decoder.close()]


@each_stream
def test_streams_cut_anywhere(stream: bytes) -> None:
    """Whole = byte by byte = random splits: the events, and the bytes relayed."""
    dice = random.Random(7)
    splits = [cut(stream, sorted(dice.choices(range(len(stream)), k=40))) for _ in range(5)]
    splits.append([stream[start:end] for start, end in pairwise(range(len(stream) + 1))])
    events, out = decoded([stream]), relayed([stream])
    for pieces in splits:
        assert decoded(pieces) == events
        assert relayed(pieces) == out


def relayed(pieces: list[bytes]) -> bytes:
    relay = MessagesStreamRelay(envelope(), PLAIN, price)
    out = b"".join(map(relay.feed, pieces)) + relay.close()
    assert relay.error is None
    assert relay.is_finished
    assert relay.has_content
    assert relay.usage is not None
    assert not relay.usage.is_estimated
    return out


@each_stream
def test_streams_relayed(stream: bytes) -> None:
    """Each event comes out as it came; the usage at the end has the cost as well."""
    sent, got = datas(stream), datas(relayed([stream]))
    for event in got:
        if event["type"] == "message_delta":
            assert event["usage"].pop("naru")["cost_usd"] > 0
    assert got == sent


@each_stream
def test_streams_add_up(stream: bytes) -> None:
    """The accumulated answer is what the official client accumulates."""
    response = accumulate(decoded([stream]))
    message = sdk_message(stream)
    parts = response.choices[0].parts
    assert "".join(p.text for p in parts if isinstance(p, Text)) == "".join(
        block.text for block in message.content if block.type == "text"
    )
    assert [p.signature for p in parts if isinstance(p, Reasoning)] == [
        block.signature for block in message.content if block.type == "thinking"
    ]
    opaque = [json.loads(bytes(part.raw)) for part in parts if isinstance(part, Opaque)]
    theirs = [block for block in datas(stream) if block["type"] == "content_block_start"]
    assert [part["type"] for part in opaque] == [
        kind
        for block in theirs
        if (kind := block["content_block"]["type"]) not in ("text", "thinking", "tool_use", "redacted_thinking")
    ]
    assert response.choices[0].finish_reason == FINISH_OF[message.stop_reason or ""]
    assert (
        ANTHROPIC_MESSAGES.decode_response(ANTHROPIC_MESSAGES.encode_response(response, envelope()), PLAIN) == response
    )


@each_stream
def test_streams_reach_a_chat_client(stream: bytes) -> None:
    """Event by event through the chat encoder, the chat decoder finds the same answer."""
    encoder = OPENAI_CHAT.stream_encoder(chat_envelope(wants_usage=True), price)
    events = decoded([stream])
    chat = b"".join(map(encoder.event, events)) + encoder.close()
    decoder = ChatStreamDecoder(PLAIN)
    assert said(accumulate([*decoder.feed(chat), *decoder.close()])) == said(accumulate(events))


def test_refusals() -> None:
    """A provider's refusal keeps its status, type and words."""
    found = list(refusals())
    assert found
    for status, recorded in found:
        error = ANTHROPIC_MESSAGES.decode_error(status, compact(recorded), PLAIN)
        assert isinstance(error, UpstreamRefused)
        assert (error.status, error.type) == (status, recorded["error"]["type"])
        assert error.message == recorded["error"]["message"]
        shown, body = ANTHROPIC_MESSAGES.encode_error(error)
        assert (shown, json.loads(body)["error"]) == (status, recorded["error"])


@pytest.mark.parametrize(("name", "recorded", "count"), list(counts()) if STREAMS else [])
def test_counts_are_near_the_providers_own(name: str, recorded: dict[str, Any], count: int) -> None:
    """The estimate is for deciding when to compact: within a factor of two, and 40 tokens for the smallest."""
    read = ANTHROPIC_MESSAGES.read(compact(recorded), "/v1/messages/count_tokens")
    estimate = json.loads(ANTHROPIC_MESSAGES.count_tokens(read))["input_tokens"]
    assert count / 2 - 40 <= estimate <= count * 2 + 40, (name, estimate, count)
