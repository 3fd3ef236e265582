"""The matrix: each client's official SDK, through the gateway, to an upstream of each dialect, for each feature.

`make docs` runs this with `--conformance FILE` and writes docs/conformance.md from what passed and what failed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from naru.testing.sandbox import Sandbox
from tests.conformance.asks import CITIES, ONE_CITY, PERSON, Ask, Refused, Seen
from tests.conformance.clients import CLIENTS
from tests.conformance.settings import LIMITS, UPSTREAMS, provider_table
from tests.conformance.upstreams import EmulatedUpstream
from tests.harness import Gateway, running

Send = Callable[[Ask], Awaitable[Seen]]


@pytest.fixture(params=sorted(UPSTREAMS))
async def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway in front of one emulated upstream; models are echo, tools …"""
    dialect = UPSTREAMS[request.param].dialect
    emulated = Sandbox() if dialect is None else EmulatedUpstream(dialect)
    origin = (await emulated.start()).removesuffix("/v1")
    async with running(tmp_path, provider_table(request.param, origin)) as gateway:
        yield gateway
    await emulated.stop()


@pytest.fixture(params=sorted(CLIENTS))
def send(request: pytest.FixtureRequest, upstream: Gateway) -> Send:
    async def ask(asked: Ask) -> Seen:
        try:
            return await CLIENTS[request.param].ask(upstream, asked.model, asked)
        except LookupError as error:
            pytest.skip(str(error))

    return ask


@pytest.fixture
def limit(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> str | None:
    """What the upstream's protocol cannot do of the feature under test; noted for the page."""
    feature = request.node.originalname.removeprefix("test_")
    found = LIMITS.get((feature, request.node.callspec.params["upstream"]))
    if found is not None:
        record_property("limit", found)
    return found


async def test_text(send: Send) -> None:
    seen = await send(Ask("echo", "안녕하세요, Naru"))
    assert (seen.text, seen.finish, seen.calls) == ("안녕하세요, Naru", "stop", [])


async def test_stream(send: Send) -> None:
    seen = await send(Ask("echo", "one two three 넷", is_stream=True))
    assert (seen.text, seen.finish) == ("one two three 넷", "stop")
    assert seen.pieces > 3


async def test_tools(send: Send) -> None:
    seen = await send(Ask("tools", ONE_CITY, has_tool=True))
    assert [(call.name, call.location) for call in seen.calls] == [("get_current_weather", "Seoul")]
    assert seen.finish == "tool_calls"
    results = {seen.calls[0].arguments: '{"temperature": 21}'}
    after = await send(Ask("tools", ONE_CITY, has_tool=True, tool_results=results))
    assert "21" in after.text
    assert (after.finish, after.calls) == ("stop", [])


async def test_parallel_tools(send: Send) -> None:
    seen = await send(Ask("tools", CITIES, has_tool=True))
    assert [call.location for call in seen.calls] == ["서울", "부산"]
    results = {call.arguments: f'{{"temperature": {n + 20}}}' for n, call in enumerate(seen.calls)}
    after = await send(Ask("tools", CITIES, has_tool=True, tool_results=results))
    assert "20" in after.text
    assert "21" in after.text


async def test_tool_stream(send: Send) -> None:
    seen = await send(Ask("tools", CITIES, has_tool=True, is_stream=True))
    assert [call.location for call in seen.calls] == ["서울", "부산"]
    assert seen.finish == "tool_calls"


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "streamed"])
async def test_reasoning(send: Send, is_stream: bool) -> None:
    seen = await send(Ask("think", "Why is the sky blue?", thinks=True, is_stream=is_stream))
    assert seen.reasoning
    assert seen.text
    assert seen.reasoning not in seen.text


async def test_image(send: Send) -> None:
    seen = await send(Ask("echo", "What is this?", has_image=True))
    assert "[image]" in seen.text
    assert "What is this?" in seen.text


async def test_json_schema(send: Send) -> None:
    seen = await send(Ask("json", "Someone called Kim.", schema=PERSON))
    answer = json.loads(seen.text)
    assert set(answer) == {"name", "age"}
    assert isinstance(answer["age"], int)


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "streamed"])
async def test_usage(send: Send, upstream: Gateway, is_stream: bool) -> None:
    seen = await send(Ask("echo", "count these five words", is_stream=is_stream))
    (entry,) = await upstream.entries()
    assert not entry.is_estimated
    assert (seen.input_tokens, seen.output_tokens) == (entry.input, entry.output)
    assert entry.cost_nano == entry.input * 1000 + entry.output * 2000


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "streamed"])
async def test_errors(send: Send, upstream: Gateway, is_stream: bool) -> None:
    with pytest.raises(Refused) as caught:
        await send(Ask("throttled", "x", is_stream=is_stream))
    assert caught.value.status == 429
    with pytest.raises(Refused) as caught:
        await send(Ask("cut", "a b c d e f", is_stream=True))
    # A stream that had begun keeps its status of 200; the SDKs raise all the same, each with what status it can tell.
    assert caught.value.status in (None, 200, 500, 502)
    assert {entry.outcome for entry in await upstream.entries()} <= {"failed", "partial"}


async def refused_by_name(send: Send, ask: Ask, name: str) -> None:
    """A 400 that names what the upstream's protocol cannot do."""
    with pytest.raises(Refused, match=f"`{name}`") as caught:
        await send(ask)
    assert caught.value.status == 400


async def test_stop(send: Send, limit: str | None) -> None:
    ask = Ask("echo", "one two three four", stop="three")
    if limit is not None:
        await refused_by_name(send, ask, "stop")
        return
    seen = await send(ask)
    assert seen.text.strip() == "one two"
    assert seen.finish == "stop"


async def test_n(send: Send, limit: str | None) -> None:
    ask = Ask("echo", "twice", n=2)
    if limit is not None:
        await refused_by_name(send, ask, "n")
        return
    seen = await send(ask)
    assert seen.texts == ["twice", "twice"]
