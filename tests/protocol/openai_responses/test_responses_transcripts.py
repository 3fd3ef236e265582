"""The laws over recorded traffic of OpenAI, Azure and DeepSeek."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from naru.errors import BadRequest, UpstreamRefused
from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.messages import Event, Opaque, Reasoning, Response, Text, ToolCall
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from tests.protocol import recordings as chat_recordings
from tests.protocol.anthropic_messages import recordings as anthropic_recordings
from tests.protocol.openai_responses.recordings import answers, exchanges, refusals, requests, streams
from tests.protocol.openai_responses.samples import OPENAI, PLAIN, Json, envelope, events_of
from tests.protocol.samples import compact, cut, price

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(not exchanges(), reason="no recordings here (NARU_TRANSCRIPTS)"),
]

STREAMS = streams()
each_stream = pytest.mark.parametrize("stream", [data for _, data in STREAMS], ids=[name for name, _ in STREAMS])

#: What only OpenAI keeps or does: refused for any other model, passed on to its own.
SERVED = {"previous_response_id", "conversation", "background", "moderation", "context_management", "prompt"}


def test_requests_keep_every_field() -> None:
    """Same dialect: only the model changes. Background jobs are refused: their cost would never reach the ledger."""
    for recorded in requests():
        if recorded.get("background"):
            with pytest.raises(BadRequest, match="background"):
                OPENAI_RESPONSES.forward(OPENAI_RESPONSES.read(compact(recorded)), "m", OPENAI)
            continue
        forwarded = OPENAI_RESPONSES.forward(OPENAI_RESPONSES.read(compact(recorded)), "m", OPENAI)
        assert json.loads(forwarded.body) == {**recorded, "model": "m"}
        assert forwarded.dropped == ()


def test_requests_survive_the_typed_messages() -> None:
    """Decoded, encoded and decoded again, nothing is lost; what needs OpenAI's own store is refused by name."""
    refused = 0
    for recorded in requests():
        read = OPENAI_RESPONSES.read(compact(recorded))
        if served := {name for name in SERVED & recorded.keys() if recorded[name]}:
            refused += 1
            with pytest.raises(BadRequest) as error:
                OPENAI_RESPONSES.decode_request(read)
            assert error.value.param in served
            continue
        decoded = OPENAI_RESPONSES.decode_request(read)
        again = OPENAI_RESPONSES.encode_request(decoded, OPENAI)
        assert again.dropped == ()
        assert OPENAI_RESPONSES.decode_request(OPENAI_RESPONSES.read(again.body)) == decoded
    assert 0 < refused < len(requests()) / 2


def plain(response: Response) -> tuple[Any, ...]:
    """What every client of every protocol has to see."""
    choice = response.choices[0]
    texts = "".join(part.text for part in choice.parts if isinstance(part, Text))
    thoughts = "".join(part.text for part in choice.parts if isinstance(part, Reasoning))
    calls = [(part.id, part.name, part.arguments) for part in choice.parts if isinstance(part, ToolCall)]
    # other protocols have no place for a count of searches
    usage = response.usage and replace(response.usage, server_tools=())
    return texts, thoughts, calls, choice.finish_reason, usage


def test_answers() -> None:
    """Usage is read from each; each is the same after a round trip, as a stream, and in essence as chat completions."""
    for asked, answer in answers():
        body = compact(answer)
        relayed = OPENAI_RESPONSES.relay_whole(body, PLAIN)
        assert relayed.body == body
        response = OPENAI_RESPONSES.decode_response(body, PLAIN)
        assert response.usage == relayed.usage
        if answer["usage"]:
            assert response.usage is not None
            assert response.usage.total == answer["usage"]["total_tokens"]
        read = OPENAI_RESPONSES.read(compact(asked))
        assert OPENAI_RESPONSES.decode_response(OPENAI_RESPONSES.encode_response(response, read), PLAIN) == response
        encoder = OPENAI_RESPONSES.stream_encoder(read, price)
        stream = b"".join(map(encoder.event, response_events(response))) + encoder.close()
        assert replace(accumulate(decoded([stream])), usage=response.usage) == response
        chat = OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response), PLAIN)
        assert plain(chat) == plain(response)


def decoded(pieces: list[bytes]) -> list[Event]:
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def relayed(pieces: list[bytes]) -> tuple[bytes, Any]:
    relay = OPENAI_RESPONSES.stream_relay(envelope(), PLAIN, price)
    return b"".join(map(relay.feed, pieces)) + relay.close(), relay


@each_stream
def test_streams_cut_anywhere(stream: bytes) -> None:
    """Whole = byte by byte = random splits: the bytes relayed and the events decoded."""
    dice = random.Random(7)
    splits = [cut(stream, sorted(dice.choices(range(len(stream)), k=40))) for _ in range(5)]
    splits.append([stream[start:end] for start, end in pairwise(range(len(stream) + 1))])
    out, relay = relayed([stream])
    events = decoded([stream])
    for pieces in splits:
        found, again = relayed(pieces)
        assert found == out
        assert (again.usage, again.output_chars, again.is_finished) == (relay.usage, relay.output_chars, True)
        assert decoded(pieces) == events


@each_stream
def test_streams_keep_every_field(stream: bytes) -> None:
    """The bytes go through; the final event alone has its cost added."""
    out, relay = relayed([stream])
    assert relay.error is None
    head, _, last = out.rpartition(b"event: response.completed\n")
    assert stream.startswith(head)
    final, given = events_of(b"event: response.completed\n" + last)[0], final_of(stream)
    assert "cost_usd" in final["response"]["usage"].pop("naru")
    assert final["response"] == given
    assert relay.usage.total == given["usage"]["total_tokens"]


def final_of(stream: bytes) -> Json:
    return next(event["response"] for event in events_of(stream) if event["type"] == "response.completed")


def comparable(response: Response) -> Response:
    """Without what OpenAI tells otherwise each time: encrypted reasoning, logprobs rounded anew, and the place of a server
    item that never got its own end."""
    choice = response.choices[0]
    parts = tuple(replace(part, encrypted=None) if isinstance(part, Reasoning) else part for part in choice.parts)
    parts = tuple(sorted(parts, key=lambda part: not isinstance(part, Opaque)))
    parts = tuple(part for part in parts if not isinstance(part, Opaque))
    return replace(response, choices=(replace(choice, parts=parts, logprobs=None),))


@each_stream
def test_streams_add_up_to_their_final_response(stream: bytes) -> None:
    """Accumulated events equal the whole answer that the final event repeats."""
    found = accumulate(decoded([stream]))
    final = stream.rpartition(b"event: response.completed\ndata: ")[2].partition(b"\n")[0]
    whole = OPENAI_RESPONSES.decode_response(bytes(msgspec.json.decode(final, type=dict[str, Raw])["response"]), PLAIN)
    assert comparable(found) == comparable(whole)
    assert len(found.choices[0].parts) == len(whole.choices[0].parts)
    assert tokens(found) == tokens(whole)


def tokens(response: Response) -> list[str]:
    raw = response.choices[0].logprobs
    return [] if raw is None else [entry["token"] for entry in json.loads(bytes(raw))["content"]]


@each_stream
def test_streams_are_streams_of_chat_completions(stream: bytes) -> None:
    """Event by event to chat completions and back: text, thinking, calls, end and usage are the same."""
    events = decoded([stream])
    asked = OPENAI_CHAT.read(
        compact({"model": "m", "messages": [{}], "stream": True, "stream_options": {"include_usage": True}}), ""
    )
    encoder = OPENAI_CHAT.stream_encoder(asked, price)
    decoder = OPENAI_CHAT.stream_decoder(PLAIN)
    again = accumulate(decoder.feed(b"".join(map(encoder.event, events)) + encoder.close()) + decoder.close())
    assert plain(again) == plain(accumulate(events))


OTHERS: list[Any] = [(OPENAI_CHAT, chat_recordings.streams()), (ANTHROPIC_MESSAGES, anthropic_recordings.streams())]


def test_streams_of_other_upstreams() -> None:
    """Recorded chat and Messages streams, told to a Responses client event by event, lose nothing."""
    told = 0
    for upstream, recorded in OTHERS:
        for _, stream in recorded:
            decoder = upstream.stream_decoder(PLAIN)
            try:
                events = [*decoder.feed(stream), *decoder.feed(b""), *decoder.close()]
            except UpstreamRefused:  # the recording is of an error
                continue
            encoder = OPENAI_RESPONSES.stream_encoder(envelope(), price)
            again = accumulate(decoded([b"".join(map(encoder.event, events)) + encoder.close()]))
            assert plain(again) == plain(accumulate(events))
            told += 1
    assert told > 5


@each_stream
def test_streams_cut_short_are_refused(stream: bytes) -> None:
    """Without its final event no stream is whole."""
    short = stream[: stream.index(b"event: response.completed")]
    _, relay = relayed([short])
    assert relay.error.code == "upstream_incomplete"
    decoder = OPENAI_RESPONSES.stream_decoder(PLAIN)
    decoder.feed(short)
    with pytest.raises(Exception, match="incomplete"):
        decoder.close()


def test_refusals() -> None:
    """Errors keep the provider's words."""
    for status, body in refusals():
        error = OPENAI_RESPONSES.decode_error(status, body, PLAIN)
        assert isinstance(error, UpstreamRefused)
        assert (error.status, error.message) == (status, json.loads(body)["error"]["message"])
