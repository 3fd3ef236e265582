"""A stream told again costs nothing, and is the same in everything else."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.cache.costs import without_cost
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.dialect import Quirks, ShownCost
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import Usage
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES

CHAT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"},'
    b'"finish_reason":"stop"}]}\n\ndata: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}\n\ndata: [DONE]\n\n'
)
MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant","content":[],'
    b'"model":"m","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
RESPONSES = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"hi","item_id":"i","output_index":0,'
    b'"content_index":0,"sequence_number":1}\n\nevent: response.completed\ndata: {"type":"response.completed","response":{'
    b'"id":"r","object":"response","status":"completed","model":"m","output":[{"type":"message","id":"i","role":"assistant",'
    b'"status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":{"input_tokens":3,'
    b'"output_tokens":2,"total_tokens":5}},"sequence_number":2}\n\n'
)
GENERATE = (
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP","index":0}],'
    b'"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"totalTokenCount":5},"modelVersion":"m"}\n\n'
)
ASKS: dict[str, tuple[Any, bytes, dict[str, Any]]] = {
    "chat": (
        OPENAI_CHAT, CHAT,
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True, "stream_options": {"include_usage": True}},
    ),
    "messages": (
        ANTHROPIC_MESSAGES, MESSAGES,
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "stream": True},
    ),
    "responses": (OPENAI_RESPONSES, RESPONSES, {"model": "m", "input": "x", "stream": True}),
    "gemini": (GEMINI, GENERATE, {"contents": [{"parts": [{"text": "x"}]}]}),
}  # fmt: skip
COST = re.compile(rb'"cost_(usd|krw)":[0-9.]+')


def told(name: str, cost: int) -> bytes:
    """The stream as this dialect's own relay writes it."""
    dialect, stream, ask = ASKS[name]
    envelope = dialect.read(msgspec.json.encode(ask), "/v1beta/models/m:streamGenerateContent?alt=sse")

    def price(usage: Usage) -> int:
        return cost

    relay = dialect.stream_relay(envelope, Quirks(), price)
    out: bytes = relay.feed(stream) + relay.close()
    assert relay.error is None
    return out


@pytest.mark.parametrize("name", ASKS)
def test_every_dialects_cost_is_0(name: str) -> None:
    """Dollars and won, and not a byte else: with the digits put back it is the stream that was."""
    shown = told(name, ShownCost(1_234_500, "1.71656725"))
    assert len(COST.findall(shown)) == 2
    freed = without_cost(shown)
    assert freed == COST.sub(rb'"cost_\1":0', shown)
    assert freed == told(name, ShownCost(0, "0"))
    assert without_cost(freed) == freed


@pytest.mark.parametrize("name", ASKS)
def test_a_cost_in_dollars_alone(name: str) -> None:
    assert without_cost(told(name, 1_234_500)) == told(name, 0)


@pytest.mark.parametrize(
    "events",
    [
        # a model that quotes such a usage, as text
        rb'data: {"choices":[{"delta":{"content":"\"usage\":{\"naru\":{\"cost_usd\":5}}"}}]}' + b"\n\n",
        # and one that makes such an object, as arguments of a call
        b'data: {"candidates":[{"content":{"parts":[{"functionCall":{"args":{"usage":{"naru":{"cost_usd":5}}}}}]}}]}\n\n',
        b'data: {"choices":[{"delta":{"usage":{"naru":{"cost_usd":5}}}}],"naru":{"cost_usd":5}}\n\n',
        # the provider's own words
        b'data: {"usage":{"cost_usd":5,"cost_details":{"naru":{"cost_usd":5}}}}\n\n',
        b'data: {"usage":"cost_usd"}\n\n',
        b'data: {"usage":{"naru":["cost_usd"]}}\n\n',
        b'data: not json "cost_usd"\n\n',
        b': "cost_usd"\n\ndata: [DONE]\n\n',
        b'data: {"usage":{"naru":{"cost_usd":5}}}',
    ],
)
def test_nothing_else_is_touched(events: bytes) -> None:
    assert without_cost(events) == events


def test_a_model_cannot_hide_the_cost() -> None:
    """Its own talk of costs in the same event leaves the usage's to be found."""
    event = rb'data: {"choices":[{"delta":{"content":"\"cost_usd\":7"}}],"usage":{"x":1,"naru":{"cost_usd":0.5,"estimated":true}}}'
    expected = event.replace(b'"cost_usd":0.5', b'"cost_usd":0')
    assert without_cost(event + b"\n\n") == expected + b"\n\n"


@given(
    st.lists(
        st.sampled_from(
            [
                b"\n",
                b"\r\n",
                b"data: ",
                b'{"usage":{"naru":{"cost_usd":1}}}',
                b'"cost_',
                b"event: x\n",
                b"\xff",
                b": c\n",
            ]
        ),
        max_size=12,
    )
)
def test_any_bytes_stay_unless_they_cost(pieces: list[bytes]) -> None:
    """Nothing is lost or moved: only the figure is another."""
    stream = b"".join(pieces)
    assert without_cost(stream).replace(b'"cost_usd":0}', b'"cost_usd":1}') == stream


def test_data_of_several_lines() -> None:
    event = b'event: e\nid: 7\ndata: {"usage":{"naru":\ndata: {"cost_usd":0.5}}}\n\n'
    assert without_cost(event) == b'event: e\nid: 7\ndata: {"usage":{"naru":{"cost_usd":0}}}\n\n'
