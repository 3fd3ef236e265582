"""The sandbox as CLOVA Studio: its events, and every request that the service refuses, with its code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from naru.testing import FakeClock, Sandbox

USER = {"role": "user", "content": "one two"}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
IMAGE = {"type": "image_url", "dataUri": {"data": "iVBORw0KGgo="}}
PAGE = {"type": "image_url", "imageUrl": {"url": "https://example.com/picture"}}
FORM = {"type": "json", "schema": {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}}
OFF = {"effort": "none"}


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    sandbox = Sandbox(clock=FakeClock())
    yield (await sandbox.start()).removesuffix("/v1")
    await sandbox.stop()


def post(origin: str, model: str, body: dict[str, Any], accept: str) -> tuple[int, str]:
    connection = HTTPConnection(urlsplit(origin).netloc, timeout=5)
    try:
        path = f"/v3/chat-completions/{quote(model, safe='')}"
        connection.request("POST", path, json.dumps(body), {"accept": accept})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def ask(origin: str, model: str, accept: str = "application/json", **body: Any) -> tuple[int, str]:
    return await asyncio.to_thread(post, origin, model, {"messages": [USER], **body}, accept)


async def events(origin: str, model: str, **body: Any) -> list[tuple[str, Any]]:
    status, text = await ask(origin, model, "text/event-stream", **body)
    assert status == 200
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    assert all(lines[0].startswith("id:") for lines in blocks)
    return [(lines[1].removeprefix("event:"), json.loads(lines[2].removeprefix("data:"))) for lines in blocks]


async def test_a_stream_is_asked_for_by_header_and_its_result_repeats_the_message(origin: str) -> None:
    seen = await events(origin, "HCX-005-echo")
    assert [kind for kind, _ in seen] == ["token", "token", "result", "signal"]
    assert [data["message"]["content"] for kind, data in seen if kind == "token"] == ["one", " two"]
    result = seen[2][1]
    assert (result["message"]["content"], result["finishReason"]) == ("one two", "stop")
    assert result["usage"]["completionTokens"] == 2
    assert all(data["usage"] is None for kind, data in seen if kind == "token")


async def test_arguments_come_in_pieces_without_an_id_and_whole_as_an_object(origin: str) -> None:
    seen = await events(origin, "HCX-005-tools", tools=[TOOL])
    calls = [data["message"]["toolCalls"][0] for kind, data in seen if kind == "token"]
    assert "id" in calls[0]
    assert "arguments" not in calls[0]["function"]
    assert all("id" not in call for call in calls[1:])
    pieces = "".join(call["function"].get("partialJson", "") for call in calls)
    (whole,) = seen[-2][1]["message"]["toolCalls"]
    assert json.loads(pieces) == whole["function"]["arguments"] == {"city": "Seoul"}


async def test_thinking_is_on_unless_it_is_switched_off(origin: str) -> None:
    for more, thinks in (({}, True), ({"thinking": OFF}, False)):
        _, text = await ask(origin, "HCX-007-think", **more)
        assert ("thinkingContent" in json.loads(text)["result"]["message"]) is thinks


async def test_faults_take_clovas_form(origin: str) -> None:
    status, text = await ask(origin, "HCX-005-echo?status=429")
    assert (status, json.loads(text)["status"]["code"]) == (429, "42901")
    seen = await events(origin, "HCX-005-echo?error_after=1")
    assert [kind for kind, _ in seen] == ["token", "error"]
    assert seen[-1][1]["status"]["code"] == "50000"


CALLED = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Seoul"}'}}
WRONG: list[tuple[str, str, dict[str, Any]]] = [
    ("40001", "HCX-005", {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER]}),
    ("40001", "HCX-005", {"tools": [TOOL], "maxTokens": 1023}),
    ("40001", "HCX-005", {"tools": [TOOL], "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}),
    ("40001", "HCX-007", {"tools": [TOOL]}),
    ("40001", "HCX-005", {"tools": [{**TOOL, "function": {**TOOL["function"], "description": ""}}]}),  # type: ignore[dict-item]
    ("40001", "HCX-005", {"messages": [USER, {"role": "assistant", "content": "", "toolCalls": [CALLED]}]}),
    ("40001", "HCX-005", {"messages": [USER, {"role": "assistant", "content": None}]}),
    ("40001", "HCX-005", {"messages": [{**USER, "thinkingContent": "hm"}]}),
    ("40001", "HCX-005", {"toolChoice": "required", "tools": [TOOL]}),
    ("40001", "HCX-005", {"temperature": 1.5}),
    ("40001", "HCX-007", {"maxTokens": 100}),
    ("40001", "HCX-007", {"stop": ["x"]}),
    ("40001", "HCX-007", {"responseFormat": FORM}),
    ("40055", "HCX-007", {"responseFormat": {"type": "json", "schema": {"type": "array"}}, "thinking": OFF}),
    ("40002", "HCX-005", {"maxCompletionTokens": 100}),
    ("40002", "HCX-005", {"thinking": OFF}),
    ("40002", "HCX-005", {"user": "me"}),
    ("40004", "HCX-005", {"messages": [{"role": "user", "content": ""}]}),
    ("40009", "HCX-005", {"responseFormat": FORM}),
    ("40009", "HCX-007", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("40003", "HCX-005", {"messages": [{"role": "user", "content": [IMAGE, IMAGE]}]}),
    ("40063", "HCX-005", {"messages": [{"role": "user", "content": [PAGE]}]}),
    ("40080", "HCX-001", {}),
]


@pytest.mark.parametrize(("code", "model", "body"), WRONG, ids=range(len(WRONG)))
async def test_a_wrong_request_gets_the_documented_code(
    origin: str, code: str, model: str, body: dict[str, Any]
) -> None:
    status, text = await ask(origin, model, **body)
    assert (status, json.loads(text)["status"]["code"]) == (400, code)
