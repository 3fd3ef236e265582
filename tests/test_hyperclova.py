"""HyperCLOVA X through the gateway: OpenAI's client at one end, CLOVA Studio's native wire at the other.

The upstream's answers are constructed from its documentation (tests/protocol/clova/samples.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, running
from tests.protocol.clova import samples

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather now.",
        "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
    },
}


class Studio:
    """Answers with what a test puts in `answer` or `stream`."""

    def __init__(self) -> None:
        self.answer = b""
        self.stream = b""
        self.server = RawServer(self.handle)

    def handle(self, exchange: Exchange) -> None:
        if self.stream:
            exchange.start(200, (("content-type", "text/event-stream;charset=UTF-8"),))
            exchange.send(self.stream)
            exchange.end()
        else:
            exchange.answer(200, self.answer)

    @property
    def sent(self) -> dict[str, Any]:
        return dict(json.loads(self.server.received[-1].body))


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Studio]]:
    made = Studio()
    origin = await made.server.start()
    config = f"""
    [ledger]
    krw_per_usd = 1400
    [providers.clova]
    base_url = "{origin}/v3"
    api_key = "nv-key"
    allow_private = true
    [models.HCX-005]
    deployments = [{{ provider = "clova", model = "HCX-005" }}]
    price = {{ input = 1250, output = 5000, currency = "KRW" }}
    """
    async with running(tmp_path, config) as gateway:
        yield gateway, made
    await made.server.stop()


async def test_a_plain_answer_in_won(studio: tuple[Gateway, Studio]) -> None:
    """The native path, one system message, and a price in KRW that the ledger holds in exact nano-dollars."""
    gateway, made = studio
    made.answer = samples.answer({"role": "assistant", "content": "안녕하세요."})
    answer = await gateway.openai.chat.completions.create(
        model="HCX-005",
        messages=[
            {"role": "system", "content": "짧게 답하세요."},
            {"role": "system", "content": "존댓말을 쓰세요."},
            {"role": "user", "content": "인사해 주세요."},
        ],
    )
    assert answer.choices[0].message.content == "안녕하세요."
    assert answer.model == "HCX-005"
    received = made.server.received[-1]
    assert received.path == "/v3/chat-completions/HCX-005"
    assert received.header("authorization") == "Bearer nv-key"
    assert [message["role"] for message in made.sent["messages"]] == ["system", "user"]
    (entry,) = await gateway.entries()
    assert answer.usage is not None
    assert (entry.input, entry.output) == (answer.usage.prompt_tokens, answer.usage.completion_tokens)
    exact = (entry.input * 1250 + entry.output * 5000) / 1400 * 1000
    assert exact <= entry.cost_nano <= exact + 1


async def test_a_stream_of_tokens(studio: tuple[Gateway, Studio]) -> None:
    """Tokens become deltas, the final result only finishes and bills."""
    gateway, made = studio
    made.stream = samples.TEXT_STREAM
    stream = await gateway.openai.chat.completions.create(
        model="HCX-005",
        messages=[{"role": "user", "content": "인사해 주세요."}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    (entry,) = await gateway.entries()
    assert chunks[-1].usage is not None
    assert (entry.outcome, entry.output) == ("completed", chunks[-1].usage.completion_tokens)


async def test_streamed_tool_calls_and_their_minimum(studio: tuple[Gateway, Studio]) -> None:
    """`partialJson` fragments become arguments; with tools the limit is raised to the 1,024 that the Studio asks for."""
    gateway, made = studio
    made.stream = samples.CALLS_STREAM
    stream = await gateway.openai.chat.completions.create(
        model="HCX-005", messages=[{"role": "user", "content": "날씨?"}], tools=[TOOL], max_tokens=100, stream=True
    )
    arguments: dict[int, str] = {}
    async for chunk in stream:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            assert call.function is not None
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    assert [json.loads(arguments[index]) for index in sorted(arguments)] == [{"location": "서울"}, {}]
    assert made.sent["maxTokens"] >= 1024
