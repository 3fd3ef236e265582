"""The laws over recorded traffic of the Gemini API and Vertex AI, from 1.5 to 3."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from naru.protocol.accumulate import accumulate, response_events
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Opaque, Reasoning, Response, Text, ToolCall
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.gemini.samples import (
    LEVELS,
    PLAIN,
    decoded,
    exchanges,
    requests_recorded,
    stream_envelope,
)
from tests.protocol.samples import compact, cut, envelope, price

pytestmark = [
    pytest.mark.transcripts,
    pytest.mark.skipif(not exchanges(), reason="no recordings here (NARU_TRANSCRIPTS)"),
]

ANSWERS = [(name, body) for name, _, _, body, is_stream in exchanges() if not is_stream]
STREAMS = [(name, body) for name, _, _, body, is_stream in exchanges() if is_stream]


def texts(response: Response) -> dict[str, Any]:
    """What a caller of any dialect must get of an answer: texts, thoughts, calls, reasons, usage."""
    (choice,) = response.choices
    return {
        "text": "".join(part.text for part in choice.parts if isinstance(part, Text)),
        "thoughts": "".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
        "calls": [(part.id, part.name, part.arguments) for part in choice.parts if isinstance(part, ToolCall)],
        "finish": choice.finish_reason,
        "usage": response.usage and replace(response.usage, server_tools=()),  # no place for a count elsewhere
        "model": response.model,
    }


def test_there_is_something_to_learn_from() -> None:
    assert len(ANSWERS) >= 50
    assert STREAMS


def test_requests_keep_every_field() -> None:
    """Same dialect: Google's two spellings of a name are one; everything else goes out as it came."""
    for path, recorded in requests_recorded():
        if "alt=sse" not in path and "stream" in path:
            continue
        sent = json.loads(GEMINI.forward(GEMINI.read(compact(recorded), path), "m", PLAIN).body)
        config = recorded.get("generationConfig", {})
        if "max_output_tokens" in config:
            config = {**config, "maxOutputTokens": config["max_output_tokens"]}
            del config["max_output_tokens"]
        assert sent == {**recorded, **({"generationConfig": config} if "generationConfig" in recorded else {})}


def test_requests_survive_the_typed_messages() -> None:
    """Decoded, encoded and decoded again, nothing is lost."""
    for path, recorded in requests_recorded():
        request = GEMINI.decode_request(GEMINI.read(compact(recorded), path))
        forwarded = GEMINI.encode_request(request, LEVELS)
        assert forwarded.dropped == ()
        assert GEMINI.decode_request(GEMINI.read(forwarded.body, path)) == request


def test_requests_speak_chat_completions() -> None:
    """What is in a recorded request reaches an OpenAI upstream, or is refused by the name of Google's own part."""
    for path, recorded in requests_recorded():
        request = GEMINI.decode_request(GEMINI.read(compact(recorded), path))
        if any(isinstance(part, Opaque) for message in request.messages for part in message.parts):
            continue
        if any(type(tool).__name__ == "OpaqueTool" for tool in request.tools) or "fileData" in str(recorded):
            continue
        sent = json.loads(OPENAI_CHAT.encode_request(request, PLAIN).body)
        said = [part["text"] for content in recorded["contents"] for part in content["parts"] if "text" in part]
        written = str([message.get("content") for message in sent["messages"]])
        assert all(repr(text)[1:-1] in written for text in said if text and "'" not in text and '"' not in text)


@pytest.mark.parametrize(("name", "body"), ANSWERS, ids=[name for name, _ in ANSWERS])
def test_answers(name: str, body: bytes) -> None:
    """Usage adds up as Google says; the answer is the same after a round trip, as a stream, and for an OpenAI client."""
    wire = json.loads(body)
    relayed = GEMINI.relay_whole(body, PLAIN)
    assert relayed.body == body
    assert relayed.usage is not None
    assert relayed.usage.total == wire["usageMetadata"].get("totalTokenCount", 0)
    response = GEMINI.decode_response(body, PLAIN)
    assert GEMINI.decode_response(GEMINI.encode_response(response, stream_envelope()), PLAIN) == response
    encoder = GEMINI.stream_encoder(stream_envelope(), price)
    stream = b"".join(map(encoder.event, response_events(response))) + encoder.close()
    events, error = decoded([stream])
    assert error is None
    assert accumulate(events) == response
    chat = OPENAI_CHAT.decode_response(OPENAI_CHAT.encode_response(response, envelope()), PLAIN)
    assert texts(chat) == texts(response)


@pytest.mark.parametrize(("name", "body"), STREAMS, ids=[name for name, _ in STREAMS])
def test_streams(name: str, body: bytes) -> None:
    """Cut anywhere they say the same; they pass with their bytes, the cost in the last; an OpenAI client gets it all."""
    events, error = decoded([body])
    assert error is None
    dice = random.Random(7)
    for places in ([*range(len(body))], *(sorted(dice.choices(range(len(body)), k=40)) for _ in range(10))):
        assert decoded(cut(body, places)) == (events, None)
    relay = GEMINI.stream_relay(stream_envelope(), PLAIN, price)
    out = b"".join(relay.feed(body[start:end]) for start, end in pairwise(range(len(body) + 1))) + relay.close()
    frames = body.split(b"\r\n\r\n")
    assert out.startswith(b"\r\n\r\n".join(frames[:-2]))
    assert b'"naru":{"cost_usd":' in out
    response = accumulate(events)
    assert relay.usage == response.usage
    assert relay.output_chars == len(texts(response)["text"])
    encoder = OPENAI_CHAT.stream_encoder(envelope(True), price)
    stream = b"".join(map(encoder.event, events)) + encoder.close()
    decoder = OPENAI_CHAT.stream_decoder(PLAIN)
    assert texts(accumulate([*decoder.feed(stream), *decoder.close()])) == texts(response)
