"""Tiers and server tools through the gateway: the header, the stream and the ledger say one cost, that of what was served."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from structlog.testing import capture_logs

from naru.testing.http import Exchange, RawServer
from tests.harness import MESSAGES, Gateway, running

USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
SEARCH = {"type": "web_search_call", "id": "s", "status": "completed", "action": {"type": "search", "query": "q"}}
DRAWN = {"type": "image_generation_call", "id": "i", "status": "completed", "result": ""}


class Upstream:
    """Says `answer`, or the events of `stream` to who asks for a stream."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}
        self.stream: list[dict[str, Any]] = []
        self.server = RawServer(self.handle)

    def handle(self, exchange: Exchange) -> None:
        if not json.loads(exchange.received.body).get("stream"):
            exchange.answer(200, json.dumps(self.answer).encode(), (("content-type", "application/json"),))
            return
        exchange.start(200, (("content-type", "text/event-stream"),))
        for event in self.stream:
            exchange.send(b"data: " + json.dumps(event).encode() + b"\n\n")
        exchange.send(b"data: [DONE]\n\n")
        exchange.end()


def config(base: str) -> str:
    return f"""
    [providers.openai]
    base_url = "{base}/v1"
    api_key = "k"
    allow_private = true
    [providers.anthropic]
    base_url = "{base}"
    api_key = "k"
    allow_private = true
    [models.plain]
    deployments = [{{ provider = "openai", model = "plain" }}]
    price = {{ input = 1, output = 1 }}
    """


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Gateway, Upstream]]:
    upstream = Upstream()
    base = await upstream.server.start()
    async with running(tmp_path, config(base)) as gateway:
        yield gateway, upstream
    await upstream.server.stop()


def chat(**more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": USAGE,
        **more,
    }


def chunks(**more: Any) -> list[dict[str, Any]]:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
    said = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
    return [{**head, "choices": [said]}, {**head, "choices": [ended]}, {**head, "choices": [], "usage": USAGE}]


async def cost_of(gateway: Gateway, **body: Any) -> tuple[int, str]:
    """Nano-dollars in the ledger, once they are those of the header; and the header's own words."""
    status, headers, _ = await gateway.chat(**body)
    assert status == 200
    (entry, *_) = await gateway.entries()
    assert headers["x-naru-cost-usd"] == f"0.{entry.cost_nano:09d}"
    return entry.cost_nano, headers["x-naru-cost-usd"]


async def test_what_was_served_decides_not_what_was_asked(served: tuple[Gateway, Upstream]) -> None:
    gateway, upstream = served
    for tier, nano in (("default", 3_000_000), ("priority", 6_000_000), ("flex", 1_500_000), (None, 3_000_000)):
        upstream.answer = chat(service_tier=tier)
        cost, _ = await cost_of(gateway, model="gpt-6.1-sol", service_tier="priority")
        assert cost == nano, tier
    entries = await gateway.entries()
    assert not any(entry.is_estimated for entry in entries)


async def test_an_answer_that_tells_nothing_is_estimated_in_the_tier_asked_for(
    served: tuple[Gateway, Upstream],
) -> None:
    gateway, upstream = served
    upstream.answer = {**chat(), "usage": None}
    cost, _ = await cost_of(gateway, model="gpt-6.1-sol", service_tier="default")
    assert await cost_of(gateway, model="gpt-6.1-sol", service_tier="priority") == (2 * cost, f"0.{2 * cost:09d}")
    assert all(entry.is_estimated for entry in await gateway.entries())


async def test_a_stream_tells_the_cost_of_its_tier(served: tuple[Gateway, Upstream]) -> None:
    """Passed on, and translated for a Messages client."""
    gateway, upstream = served
    upstream.stream = chunks(service_tier="priority")
    stream = await gateway.openai.chat.completions.create(
        model="gpt-6.1-sol", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    told = [chunk.usage.model_dump()["naru"] for chunk in [each async for each in stream] if chunk.usage]
    assert told == [{"cost_usd": 0.006}]
    client = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    events = await client.messages.create(model="gpt-6.1-sol", max_tokens=9, messages=MESSAGES, stream=True)
    deltas = [event.usage.model_dump()["naru"] async for event in events if event.type == "message_delta"]
    assert deltas == [{"cost_usd": 0.006}]
    await client.close()
    assert [entry.cost_nano for entry in await gateway.entries()] == [6_000_000, 6_000_000]


async def test_claude_in_a_hurry(served: tuple[Gateway, Upstream]) -> None:
    """speed and inference_geo come back in the usage, and their prices multiply; searches are by the call."""
    gateway, upstream = served
    upstream.answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 1000,
            "output_tokens": 100,
            "speed": "fast",
            "inference_geo": "us",
            "server_tool_use": {"web_search_requests": 2},
        },
    }
    client = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    answer = await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=MESSAGES)
    assert answer.usage.server_tool_use is not None
    await client.close()
    (entry,) = await gateway.entries()
    # (1000 x 4 + 100 x 20) x 2.2 + 2 x 0.01 USD
    assert (entry.cost_nano, entry.unit, entry.units) == (13_200_000 + 20_000_000, "web_search", 2)
    assert not entry.is_estimated


async def test_searches_of_responses_are_in_the_ledger(served: tuple[Gateway, Upstream]) -> None:
    gateway, upstream = served
    said = {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    upstream.answer = {**head, "output": [SEARCH, SEARCH, said], "usage": usage}
    await gateway.openai.responses.create(model="gpt-6.1-sol", input="hi", tools=[{"type": "web_search"}])
    (entry,) = await gateway.entries()
    assert (entry.cost_nano, entry.unit, entry.units) == (3_000_000 + 20_000_000, "web_search", 2)


async def test_a_tool_without_a_price_is_said_to_be_a_guess(served: tuple[Gateway, Upstream]) -> None:
    """The tokens are billed, the entry is marked, and the log says so once for each model."""
    gateway, upstream = served
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    upstream.answer = {**head, "output": [DRAWN], "usage": usage, "service_tier": "turbo"}
    with capture_logs() as logs:
        for _ in range(2):
            await gateway.openai.responses.create(model="gpt-6.1-sol", input="hi")
    warnings = [(log["model"], log["name"]) for log in logs if "has no price" in log["event"]]
    assert warnings == [("gpt-6.1-sol", "turbo"), ("gpt-6.1-sol", "image_generation")]
    for entry in await gateway.entries():
        assert (entry.cost_nano, entry.is_estimated, entry.unit) == (18_000_000, True, "image_generation")


async def test_the_search_that_chat_completions_do_not_count(served: tuple[Gateway, Upstream]) -> None:
    """One for each answer that asked for it, in the header, the stream and the ledger alike."""
    gateway, upstream = served
    upstream.answer, upstream.stream = chat(), chunks()
    cost, _ = await cost_of(gateway, model="gpt-6.1-sol", web_search_options={})
    assert cost == 3_000_000 + 10_000_000
    stream = await gateway.openai.chat.completions.create(
        model="gpt-6.1-sol",
        messages=MESSAGES,
        web_search_options={},
        stream=True,
        stream_options={"include_usage": True},
    )
    told = [chunk.usage.model_dump()["naru"] for chunk in [each async for each in stream] if chunk.usage]
    assert told == [{"cost_usd": 0.013}]
    newest, _ = await gateway.entries()
    assert (newest.cost_nano, newest.unit, newest.units) == (13_000_000, "web_search", 1)


async def test_a_search_that_was_never_sent_is_not_billed(served: tuple[Gateway, Upstream]) -> None:
    """Claude's API has no such field: it is named as dropped, and costs nothing."""
    gateway, upstream = served
    content = [{"type": "text", "text": "hi"}]
    usage = {"input_tokens": 1000, "output_tokens": 100}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    upstream.answer = {**head, "content": content, "usage": usage}
    status, headers, _ = await gateway.chat(model="claude-opus-5-5", web_search_options={})
    assert (status, headers["x-naru-dropped"]) == (200, "web_search_options")
    assert headers["x-naru-cost-usd"] == "0.006000000"


async def test_an_operators_own_price_knows_only_what_it_says(served: tuple[Gateway, Upstream]) -> None:
    gateway, upstream = served
    upstream.answer = chat(service_tier="priority")
    cost, _ = await cost_of(gateway, model="plain")
    (entry,) = await gateway.entries()
    assert (cost, entry.is_estimated) == (1_100_000, True)


@pytest.mark.parametrize(
    ("asked", "times"), [({}, 2), ({"service_tier": "default"}, 1), ({"service_tier": "priority"}, 6)]
)
async def test_explain_bounds_what_may_be_served(
    served: tuple[Gateway, Upstream], asked: dict[str, str], times: int
) -> None:
    """Without a wish the account's settings choose; whoever asks for more may get the dearest (ultrafast, of this model)."""
    gateway, _ = served
    bounds = []
    for more in ({"service_tier": "default"}, asked):
        body = {"path": "/v1/chat/completions", "model": "gpt-6.1-sol", "messages": MESSAGES, "max_tokens": 100, **more}
        _, _, answer = await gateway.post(json.dumps(body).encode(), "/v1/explain")
        bounds.append(float(json.loads(answer)["attempts"][0]["cost_usd_at_most"]))
    assert bounds[1] == pytest.approx(bounds[0] * times)
