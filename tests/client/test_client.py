"""Naru and AsyncNaru against a real gateway with the sandbox: runs, streams, errors, saved states."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from naru import AsyncNaru, Naru, tool
from naru.agent.events import Content, Done, ReasoningText, ToolArguments, ToolComplete, UsageSoFar
from naru.agent.function import as_tool
from naru.agent.tool import ToolError
from naru.client import environment
from naru.errors import (
    BadRequest,
    NotFound,
    RateLimited,
    Unauthorized,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, running

COMPARE = "서울과 부산의 날씨를 비교해줘"


@tool
def get_current_weather(location: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict[str, Any]:
    """Current weather of a city."""
    return {"location": location, "temperature": {"서울": 23, "부산": 27}[location], "unit": unit}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncNaru]:
    async with AsyncNaru(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


# --- Runs -----------------------------------------------------------------------------------------------------------


async def test_a_run_without_tools_is_one_answer_with_its_cost(client: AsyncNaru, gateway: Gateway) -> None:
    run = await client.run("안녕하세요", model="sandbox/echo")
    (entry,) = await gateway.entries()
    assert (run.text, run.turns, run.ending, run.ok, str(run)) == ("안녕하세요", 1, "done", True, "안녕하세요")
    assert run.cost_usd == Decimal(entry.cost_nano).scaleb(-9)
    assert (run.usage.input, run.usage.output) == (entry.input, entry.output)


async def test_a_run_with_tools_calls_each_and_reads_the_results(client: AsyncNaru, gateway: Gateway) -> None:
    run = await client.run(COMPARE, model="sandbox/tools", tools=[get_current_weather])
    assert [(use.name, use.arguments, use.is_error) for use in run.tool_calls] == [
        ("get_current_weather", {"location": "서울"}, False),
        ("get_current_weather", {"location": "부산"}, False),
    ]
    assert '"temperature":27' in run.text
    assert [message["role"] for message in run.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    entries = await gateway.entries()
    assert run.cost_usd == Decimal(sum(entry.cost_nano for entry in entries)).scaleb(-9)
    assert run.usage.total == sum(entry.input + entry.output for entry in entries)


async def test_a_stream_tells_everything_in_order(client: AsyncNaru) -> None:
    events = [event async for event in client.stream(COMPARE, model="sandbox/tools", tools=[get_current_weather])]
    kinds = [event.type for event in events]
    assert kinds[0] == "tool_start"
    assert kinds.index("tool_complete") < kinds.index("tool_result") < kinds.index("content")
    assert kinds.count("tool_result") == kinds.count("tool_complete") == kinds.count("usage") == 2
    written = "".join(event.text for event in events if isinstance(event, ToolArguments) and event.index == 0)
    complete = next(event for event in events if isinstance(event, ToolComplete))
    assert (written, complete.arguments) == (complete.raw, {"location": "서울"})
    done = events[-1]
    assert isinstance(done, Done)
    assert "".join(event.text for event in events if isinstance(event, Content)) == done.run.text
    usage = [event for event in events if isinstance(event, UsageSoFar)]
    assert usage[0].usage.total < usage[1].usage.total == done.run.usage.total
    assert usage[1].cost_usd == done.run.cost_usd


async def test_reasoning_is_told_apart_and_goes_back_with_the_next_turn(client: AsyncNaru, gateway: Gateway) -> None:
    events = [event async for event in client.stream("hello", model="sandbox/think")]
    done = events[-1]
    assert isinstance(done, Done)
    assert "".join(event.text for event in events if isinstance(event, ReasoningText)) == done.run.reasoning != ""
    assert done.run.text == "hello"
    assert done.run.messages[-1]["reasoning_content"] == done.run.reasoning


CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "get_current_weather", "arguments": '{"location": "서울"}'},
}


class Scripted:
    """An endpoint that streams given deltas, one answer for each request."""

    def __init__(self, *deltas: dict[str, Any]) -> None:
        self.deltas = list(deltas)
        self.asked: list[Any] = []
        self.server = RawServer(self.handle)

    async def __aenter__(self) -> AsyncNaru:
        self.client = AsyncNaru(base_url=f"{await self.server.start()}/v1", api_key="x", model="m", max_retries=0)
        return self.client

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.server.stop()

    def handle(self, exchange: Exchange) -> None:
        self.asked.append(json.loads(exchange.received.body))
        choice = {"index": 0, "delta": self.deltas.pop(0), "finish_reason": "stop"}
        chunk = json.dumps({"id": "1", "object": "chat.completion.chunk", "choices": [choice]})
        exchange.start(200, [("content-type", "text/event-stream")])
        exchange.send(f"data: {chunk}\n\ndata: [DONE]\n\n".encode())
        exchange.end()


async def test_fields_reach_the_endpoint_and_reasoning_goes_back_with_the_next_turn() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "s1"}]
    endpoint = Scripted(
        {"reasoning_content": "hm", "thinking_blocks": blocks, "tool_calls": [{"index": 0, **CALL}]}, {"content": "23"}
    )
    async with endpoint as client:
        run = await client.run(
            "서울?", tools=[get_current_weather], system="be brief", thinking_budget=64, extra_body={"top_k": 3}
        )
    first, second = endpoint.asked
    assert (first["model"], first["thinking_budget"], first["top_k"]) == ("m", 64, 3)
    assert first["messages"][0] == {"role": "system", "content": "be brief"}
    said = second["messages"][2]
    assert (said["tool_calls"], said["reasoning_content"], said["thinking_blocks"]) == ([CALL], "hm", blocks)
    assert second["messages"][3]["tool_call_id"] == "c1"
    assert (run.text, run.cost_usd) == ("23", None)


async def test_tools_in_openai_form_are_handed_over_and_the_conversation_goes_on() -> None:
    endpoint = Scripted({"tool_calls": [{"index": 0, **CALL}]}, {"content": "23"})
    spec = {"type": "function", "function": {"name": "get_current_weather", "parameters": {"type": "object"}}}
    async with endpoint as client:
        run = await client.run("서울?", tools=[spec])
        assert (run.ending, [use.arguments for use in run.pending]) == ("handed_over", [{"location": "서울"}])
        told = {"role": "tool", "tool_call_id": "c1", "content": "23"}
        assert (await client.run([*run.messages, told], tools=[spec])).text == "23"
    assert endpoint.asked[0]["tools"] == [spec]


# --- What tools do --------------------------------------------------------------------------------------------------


def outcomes() -> dict[str, Any]:
    async def never(location: str) -> str:
        """Waits for ever."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    def broken(location: str) -> str:
        """Fails."""
        raise ZeroDivisionError("by zero")

    def unkind(location: str) -> str:
        """Fails in words."""
        raise ToolError("closed on Sundays")

    def number(location: int) -> str:
        """Wants a number."""
        return str(location)

    return {
        "get_current_weather gave no result within 0.01 s.": tool(timeout_s=0.01)(never),
        "get_current_weather failed: ZeroDivisionError: by zero": tool(broken),
        "closed on Sundays": tool(unkind),
        "location": tool(number),
    }


@pytest.mark.parametrize("words", list(outcomes()))
async def test_whatever_a_tool_does_the_model_is_told(words: str) -> None:
    given = msgspec.structs.replace(as_tool(outcomes()[words]), name="get_current_weather")
    endpoint = Scripted({"tool_calls": [{"index": 0, **CALL}]}, {"content": "I see."})
    async with endpoint as client:
        run = await client.run("서울?", tools=[given])
    assert run.tool_calls[0].is_error
    assert words in endpoint.asked[1]["messages"][-1]["content"]
    assert run.text == "I see."


async def test_calls_of_one_turn_run_side_by_side(client: AsyncNaru) -> None:
    both = asyncio.Barrier(2)

    @tool
    async def get_weather(location: str) -> str:
        """Needs another call at the same time."""
        await both.wait()
        return location

    run = await client.run(COMPARE, model="sandbox/tools", tools=[get_weather])
    assert [use.result for use in run.tool_calls] == ["서울", "부산"]


@pytest.mark.parametrize(
    ("hook", "result"),
    [
        (None, "The user did not allow this call. Nobody is here to allow it."),
        (lambda asked: asked.arguments["location"] == "서울", '{"location":"서울"'),
        (lambda asked: "not today", "The user did not allow this call. not today"),
        (lambda asked: 1 / 0, "The user did not allow this call. Asking for permission failed: ZeroDivisionError"),
    ],
)
async def test_a_tool_that_needs_permission_asks_for_it(client: AsyncNaru, hook: Any, result: str) -> None:
    guarded = msgspec.structs.replace(as_tool(get_current_weather), needs_approval=True)
    run = await client.run("서울의 날씨", model="sandbox/tools", tools=[guarded], approve=hook)
    assert run.tool_calls[0].result.startswith(result)


async def test_who_stops_listening_stops_the_tools(client: AsyncNaru) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    @tool
    async def get_weather(location: str) -> str:
        """Waits until it is stopped."""
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()
        return ""

    run = asyncio.create_task(client.run("서울의 날씨", model="sandbox/tools", tools=[get_weather]))
    await begun.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert stopped.is_set()


# --- Limits, and going on -------------------------------------------------------------------------------------------


async def test_a_run_that_a_limit_ended_goes_on_from_its_file(client: AsyncNaru, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    first = await client.run(COMPARE, model="sandbox/tools", tools=[get_current_weather], max_turns=1, save=file)
    assert (first.ending, first.ok, len(first.pending)) == ("max_turns", False, 2)
    run = await client.run(model="sandbox/tools", tools=[get_current_weather], resume=file)
    assert (run.ending, run.turns, len(run.tool_calls)) == ("done", 2, 2)
    assert run.cost_usd is not None
    assert first.cost_usd is not None
    assert run.cost_usd > first.cost_usd


@pytest.mark.parametrize("limit", [{"max_cost_usd": "0.000001"}, {"max_cost_usd": 1e-6}, {"max_total_tokens": 10}])
async def test_cost_and_tokens_are_bounded(client: AsyncNaru, limit: Any) -> None:
    run = await client.run(COMPARE, model="sandbox/tools", tools=[get_current_weather], **limit)
    assert run.ending in ("max_cost", "max_total_tokens", "max_tokens")
    assert run.tool_calls == []


async def test_a_run_can_be_gone_on_with_after_each_of_its_steps(client: AsyncNaru) -> None:
    states: list[bytes] = []
    whole = await client.run(
        COMPARE, model="sandbox/tools", tools=[get_current_weather], save=lambda state: states.append(state.dump())
    )
    assert len(states) == 5  # asked, two calls, one result, both results, answered
    for state in states:
        run = await client.run(model="sandbox/tools", tools=[get_current_weather], resume=state)
        assert (run.text, run.usage, run.cost_usd) == (whole.text, whole.usage, whole.cost_usd)


async def test_what_is_no_saved_run_is_said_to_be_none(client: AsyncNaru, tmp_path: Path) -> None:
    for resume in (b"{}", tmp_path / "nothing.json"):
        with pytest.raises(BadRequest, match="This is no saved run"):
            await client.run(model="sandbox/echo", resume=resume)


# --- Errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kind", "words"),
    [
        ("sandbox/ecko", NotFound, "Did you mean sandbox/echo"),
        ("sandbox/echo?status=429&retry_after=2", RateLimited, "Try again in 2 s; client.map"),
        ("sandbox/echo?status=500", UpstreamError, "status 500"),
        ("sandbox/echo?cut_after=2", UpstreamError, "closed the connection in mid-answer"),
        ("", BadRequest, "Say which model.*sandbox/echo"),
    ],
)
async def test_an_error_says_what_to_do(client: AsyncNaru, model: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        await client.run("one two three four", model=model)


async def test_a_wrong_key_a_wrong_address_and_a_slow_answer_say_what_to_do(gateway: Gateway) -> None:
    async with AsyncNaru(base_url=gateway.url, api_key="nk-wrong", max_retries=0, model="sandbox/echo") as wrong_key:
        with pytest.raises(Unauthorized, match=r"does not take this key.*Set NARU_API_KEY"):
            await wrong_key.run("x")
    async with AsyncNaru(base_url="http://127.0.0.1:1", api_key="x", max_retries=0, model="m") as nobody:
        with pytest.raises(UpstreamUnreachable, match=r"Nothing answers at http://127.0.0.1:1/v1.*naru serve"):
            await nobody.run("x")
    slow = "sandbox/echo?ttft_ms=60000"
    async with AsyncNaru(base_url=gateway.url, api_key=gateway.key, max_retries=0, model=slow, timeout=0.05) as late:
        with pytest.raises(UpstreamTimeout, match=r"no answer within 0.05 s.*timeout="):
            await late.run("x")


async def test_an_endpoint_that_dies_in_mid_stream_is_an_error_and_no_wait_for_ever() -> None:
    def handle(exchange: Exchange) -> None:
        exchange.start(200, [("content-type", "text/event-stream")])
        exchange.send(b'data: {"id": "1", "choices": [{"index": 0, "delta": {"content": "half"}}]}\n\n')
        exchange.reset()

    server = RawServer(handle)
    async with AsyncNaru(base_url=f"{await server.start()}/v1", api_key="x", model="m", max_retries=0) as client:
        async with asyncio.timeout(10):
            with pytest.raises(UpstreamBroken, match="broke off"):
                await client.run("x")
    await server.stop()


async def test_a_stream_that_trickles_on_is_ended_by_max_seconds(client: AsyncNaru) -> None:
    async with asyncio.timeout(10):
        run = await client.run("word " * 400, model="sandbox/echo?tps=20", max_seconds=0.3)
    assert run.ending == "max_seconds"


async def test_a_tool_that_cancels_itself_ends_the_run(client: AsyncNaru) -> None:
    @tool
    async def get_weather(location: str) -> str:
        """Is cancelled from within."""
        raise asyncio.CancelledError

    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError, match="from within"):
            await client.run("서울의 날씨", model="sandbox/tools", tools=[get_weather])


async def test_max_seconds_ends_a_run_whose_model_is_slow(client: AsyncNaru) -> None:
    run = await client.run("x", model="sandbox/echo?ttft_ms=60000", max_seconds=0.05)
    assert run.ending == "max_seconds"


def test_the_environment_names_endpoint_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NARU_BASE_URL", "NARU_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert environment.base_url() == "http://127.0.0.1:8000/v1"
    with pytest.raises(Unauthorized, match="set NARU_API_KEY"):
        Naru()
    monkeypatch.setenv("OPENAI_API_KEY", "openai")
    assert environment.api_key() == "openai"
    monkeypatch.setenv("NARU_API_KEY", "naru")
    monkeypatch.setenv("NARU_BASE_URL", "http://gateway:8000")
    assert (environment.base_url(), environment.api_key()) == ("http://gateway:8000/v1", "naru")


@pytest.mark.parametrize(
    ("url", "full"),
    [
        ("http://a:1", "http://a:1/v1"),
        ("http://a:1/", "http://a:1/v1"),
        ("https://a/v1", "https://a/v1"),
        ("https://a/team/v1/", "https://a/team/v1"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(url: str, full: str) -> None:
    assert environment.with_version(url) == full


# --- Without an event loop ------------------------------------------------------------------------------------------


async def test_the_synchronous_client_does_the_same(gateway: Gateway) -> None:
    def use() -> None:
        with Naru(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            run = client.run(COMPARE, model="sandbox/tools", tools=[get_current_weather])
            assert [use.arguments["location"] for use in run.tool_calls] == ["서울", "부산"]
            kinds = [event.type for event in client.stream("one two", model="sandbox/echo")]
            assert kinds == ["content", "content", "usage", "done"]
            for event in client.stream("one two three", model="sandbox/echo"):
                assert event.type == "content"
                break
            with pytest.raises(NotFound, match="Did you mean"):
                client.run("x", model="sandbox/ecko")
            made = client.chat.completions.create(
                model="sandbox/echo", messages=[{"role": "user", "content": "direct"}]
            )
            assert made.choices[0].message.content == "direct"

    await asyncio.to_thread(use)


def test_naru_itself_imports_without_the_openai_client() -> None:
    code = "import naru, sys; sys.exit('openai' in sys.modules or 'pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_many_prompts_and_a_conversation(gateway: Gateway, client: AsyncNaru, tmp_path: Path) -> None:
    """Through the client's own doors; what they do is tested in test_fanout and test_conversation."""
    file = tmp_path / "done.jsonl"
    outcomes = await client.map(["one", "two"], model="sandbox/echo", resume=file, progress=True, max_tokens=9)
    assert [outcome.text for outcome in outcomes] == ["one", "two"]
    assert all(outcome.cost_nano for outcome in outcomes)
    assert [
        outcome.was_resumed
        for outcome in await client.amap(["one", "two"], model="sandbox/echo", resume=file, max_tokens=9)
    ] == [True] * 2
    before = len(await gateway.entries())
    async with AsyncNaru(base_url=gateway.url, api_key=gateway.key, max_retries=2) as eager:
        (failed,) = await eager.map(["x"], model="sandbox/echo?status=429", give_up_s=0)
    assert (failed.ok, failed.attempts) == (False, 1)
    assert len(await gateway.entries()) == before + 1, "no retries but map's own"
    talk = client.conversation("sandbox/echo", system="be brief")
    assert (await talk.ask("hello")).text == "hello"
    assert [piece async for piece in talk.stream("a b") if isinstance(piece, str)] == ["a", " b"]
    talk.save(tmp_path / "talk.json")
    again = client.conversation(load=tmp_path / "talk.json")
    assert (await again.ask("c")).text == "c"
    assert [message["content"] for message in again.messages] == ["be brief", "hello", "hello", "a b", "a b", "c", "c"]
    assert client.conversation("other", load=tmp_path / "talk.json").model == "other"

    def use() -> None:
        with Naru(base_url=gateway.url, api_key=gateway.key, model="sandbox/echo") as plain:
            assert [outcome.text for outcome in plain.map(["x", "y"])] == ["x", "y"]
            assert plain.conversation().ask("z").text == "z"
            assert next(iter(plain.conversation().stream("z"))) == "z"
            assert plain.conversation(load=tmp_path / "talk.json").ask("z").text == "z"

    await asyncio.to_thread(use)
