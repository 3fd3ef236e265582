"""A stream on its way: settled before its client is told that it is whole, in whatever pieces it comes."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw

from naru.calls.answers import StreamAnswer
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bridge import PassThrough, Translation
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.openai_chat import OPENAI_CHAT

STREAM = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":'
    b'"assistant","content":"hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,'
    b'"completion_tokens":1,"total_tokens":2}}\n\ndata: [DONE]\n\n'
)
HEAD = [(b"content-type", b"text/event-stream")]


class Client:
    """Both ends of the bytes: notes in what order things happen."""

    def __init__(self) -> None:
        self.happened: list[bytes] = []
        self.listener: object = None
        self.is_gone = False

    def write(self, data: bytes) -> None:
        self.happened.append(data)

    def progress(self, sink: object) -> None:
        """As the upstream's connection, which hears of every whole event."""

    def settle(self) -> None:
        self.happened.append(b"<settled>")


@pytest.mark.parametrize("held", [0, 1, len(STREAM)], ids=["live at once", "live after a byte", "live when whole"])
@pytest.mark.parametrize("size", [1, 40, len(STREAM)])
@pytest.mark.parametrize("client", ["openai", "anthropic"])
async def test_the_end_is_told_after_the_settlement(client: str, size: int, held: int) -> None:
    """The same dialect, or another: what ends the answer for the client is written when it has been charged, once."""
    envelope = Envelope({"messages": Raw(b"[]")}, "m", True, True, None, 1, 1)
    bridge = PassThrough(OPENAI_CHAT) if client == "openai" else Translation(ANTHROPIC_MESSAGES, OPENAI_CHAT)
    end = b"[DONE]" if client == "openai" else b"message_stop"
    answer = StreamAnswer(bridge.stream(envelope, Quirks(), lambda usage: 1), asyncio.get_running_loop())
    there = Client()
    answer.connection = there  # type: ignore[assignment]
    answer.on_head(200, HEAD)
    for begin in range(0, len(STREAM), size):
        if begin >= held and answer.exchange is None and answer.relay.has_content:
            answer.go_live(there, there.settle)  # type: ignore[arg-type]
        answer.on_data(STREAM[begin : begin + size])
    if answer.exchange is None:
        answer.go_live(there, there.settle)  # type: ignore[arg-type]
    answer.on_end()
    assert there.happened.count(b"<settled>") == 1
    before = b"".join(there.happened[: there.happened.index(b"<settled>")])
    after = b"".join(there.happened[there.happened.index(b"<settled>") :])
    assert (end in before, end in after) == (False, True)
