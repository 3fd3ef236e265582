"""The sandbox as Bedrock: its frames, and requests that the service refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from naru.protocol.eventstream import EventStreamSplitter
from naru.testing import FakeClock, Sandbox

ID = "anthropic.claude-sonnet-4-5-20250929-v1:0"
USER = {"role": "user", "content": [{"text": "one two"}]}
SPEC = {"name": "get_weather", "inputSchema": {"json": {"type": "object", "properties": {}}}}
TOOLS = {"tools": [{"toolSpec": SPEC}]}
CALL = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "get_weather", "input": {}}}]}
RESULT = {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "x"}]}}]}
THINKS = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    sandbox = Sandbox(clock=FakeClock())
    yield (await sandbox.start()).removesuffix("/v1")
    await sandbox.stop()


def post(origin: str, path: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
    connection = HTTPConnection(urlsplit(origin).netloc, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, response.getheader("x-amzn-errortype") or "", response.read()
    finally:
        connection.close()


async def ask(origin: str, name: str, operation: str = "converse", **body: Any) -> tuple[int, str, bytes]:
    path = f"/model/{quote(f'{ID}-{name}', safe='')}/{operation}"
    return await asyncio.to_thread(post, origin, path, {"messages": [USER], **body})


async def test_a_stream_is_frames_in_the_services_order(origin: str) -> None:
    status, _, body = await ask(origin, "think", "converse-stream", **THINKS)
    assert status == 200
    messages = EventStreamSplitter().feed(body)
    kinds = [message.headers[":event-type"] for message in messages]
    assert kinds[0] == "messageStart"
    assert kinds[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    blocks = [json.loads(m.payload) for m in messages if m.headers[":event-type"] == "contentBlockDelta"]
    assert {block["contentBlockIndex"] for block in blocks if "reasoningContent" in block["delta"]} == {0}
    assert "".join(block["delta"].get("text", "") for block in blocks) == "one two"
    assert json.loads(messages[-1].payload)["usage"]["outputTokens"] > 2


async def test_faults_take_the_services_form(origin: str) -> None:
    status, kind, _ = await ask(origin, "echo?status=429")
    assert (status, kind) == (429, "ThrottlingException")
    _, _, body = await ask(origin, "echo?error_after=1", "converse-stream")
    assert EventStreamSplitter().feed(body)[-1].headers[":exception-type"] == "internalServerException"


async def test_cached_tokens_stand_beside_the_input(origin: str) -> None:
    _, _, plain = await ask(origin, "echo")
    _, _, cached = await ask(origin, "echo?cached=4")
    before, after = json.loads(plain)["usage"], json.loads(cached)["usage"]
    assert (after["inputTokens"], after["cacheReadInputTokens"]) == (before["inputTokens"] - 4, 4)
    assert after["totalTokens"] == before["totalTokens"]


WRONG: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": [{"role": "assistant", "content": [{"text": "a"}]}]},
    {"messages": [USER, USER]},
    {"messages": [{"role": "system", "content": [{"text": "a"}]}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"text": " "}]}]},
    {"messages": [{"role": "user", "content": [{"text": "a", "cachePoint": {"type": "default"}}]}]},
    {"messages": [{"role": "user", "content": [{"image": {"format": "bmp", "source": {"bytes": "aGk="}}}]}]},
    {"messages": [{"role": "user", "content": [{"document": {"name": "a_b", "source": {"bytes": "aGk="}}}]}]},
    {"messages": [USER, CALL, RESULT]},
    {"messages": [USER, CALL], "toolConfig": TOOLS},
    {"messages": [USER, CALL, USER], "toolConfig": TOOLS},
    {"toolConfig": {"tools": []}},
    {"toolConfig": {"tools": [{"toolSpec": {**SPEC, "name": "a.b"}}]}},
    {"toolConfig": {"tools": [{"toolSpec": {**SPEC, "description": ""}}]}},
    {"inferenceConfig": {"temperature": 1.5}},
    {"inferenceConfig": {"maxTokens": 0}},
    {"inferenceConfig": {"topK": 5}},
    {"model": "x"},
    {"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"schema": "{"}}}}},
    {**THINKS, "inferenceConfig": {"maxTokens": 1000}},
    {**THINKS, "inferenceConfig": {"temperature": 0.5}},
    {**THINKS, "toolConfig": {**TOOLS, "toolChoice": {"any": {}}}},
    {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 10}}},
]


@pytest.mark.parametrize("body", WRONG, ids=range(len(WRONG)))
async def test_a_wrong_request_is_refused(origin: str, body: dict[str, Any]) -> None:
    status, kind, said = await ask(origin, "echo", **body)
    assert (status, kind) == (400, "ValidationException")
    assert json.loads(said)["message"]
