"""Requests that name tools of the gateway: the loop runs inside, streamed or whole, and every turn is in the ledger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.testing.http import Exchange, RawServer
from tests.agent.test_mcp import PROGRAM, http_server, started
from tests.harness import Gateway, another_key, running

CONFIG = """
[agent]
tools = ["weather", "calculator"]
max_turns = 4
"""
ASKED = [{"role": "user", "content": "서울과 부산의 날씨를 비교해줘"}]
THEIRS = {
    "type": "function",
    "function": {
        "name": "search_database",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path, CONFIG) as made:
        yield made


async def ask(gateway: Gateway, **fields: Any) -> Any:
    return await gateway.openai.chat.completions.create(
        **{"model": "sandbox/tools", "messages": ASKED, "extra_body": {"naru": {"tools": ["weather"]}}, **fields}
    )


def ending(answer: Any) -> str:
    return answer.choices[0].model_extra["naru"]["ending"]


# --- Whole and streamed ---------------------------------------------------------------------------------------------


async def test_a_whole_answer_is_the_last_one_with_the_sums_of_all_turns(gateway: Gateway) -> None:
    raw = await gateway.openai.chat.completions.with_raw_response.create(
        model="sandbox/tools", messages=ASKED, extra_body={"naru": {"tools": ["weather"]}}
    )
    answer = raw.parse()
    entries = await gateway.entries()
    assert len(entries) == 2
    assert answer.usage.total_tokens == sum(entry.input + entry.output for entry in entries)
    assert raw.headers["x-naru-cost-usd"] == f"{sum(entry.cost_nano for entry in entries) / 1e9:.9f}"
    assert raw.headers["x-naru-turns"] == "2"
    assert (raw.headers["x-naru-deployment"], raw.headers["x-naru-cache"]) == ("sandbox/tools", "off")
    message = answer.choices[0].message
    assert (message.tool_calls, answer.choices[0].finish_reason) == (None, "stop")
    assert "서울" in message.content
    assert '"temperature"' in message.content


async def test_a_stream_tells_the_text_the_results_and_the_whole_cost(gateway: Gateway) -> None:
    stream = await ask(gateway, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in stream]
    notes = [chunk.choices[0].model_extra.get("naru", {}) for chunk in chunks if chunk.choices]
    told = [result for note in notes for result in note.get("tool_results", ())]
    assert [(each["name"], each["arguments"]) for each in told] == [
        ("get_current_weather", '{"location":"서울"}'),
        ("get_current_weather", '{"location":"부산"}'),
    ]
    assert not any(each["is_error"] for each in told)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "부산" in text
    assert not any(chunk.choices and chunk.choices[0].delta.tool_calls for chunk in chunks)
    entries = await gateway.entries()
    assert chunks[-1].usage.model_extra["naru"]["cost_usd"] == pytest.approx(sum(e.cost_nano for e in entries) / 1e9)
    assert chunks[-1].usage.total_tokens == sum(entry.input + entry.output for entry in entries)


async def test_responses_have_an_item_for_each_call_that_the_gateway_made(gateway: Gateway) -> None:
    asked = {"model": "sandbox/tools", "input": ASKED[0]["content"], "extra_body": {"naru": {"tools": ["weather"]}}}
    whole = await gateway.openai.responses.create(**asked)
    kinds = [item.type for item in whole.output]
    assert kinds == ["mcp_call", "mcp_call", "message"]
    assert json.loads(whole.output[0].arguments) == {"location": "서울"}
    assert "temperature" in whole.output[0].output
    events = [event async for event in await gateway.openai.responses.create(**asked, stream=True)]
    last = events[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == kinds
    assert last.response.output_text == whole.output_text
    assert last.response.usage.total_tokens == whole.usage.total_tokens


async def test_the_turns_of_a_run_see_the_results(tmp_path: Path) -> None:
    """Of a calculation, by an upstream that is looked over the shoulder."""
    async with scripted(tmp_path, call("calculate", '{"expression": "2 ** 10"}'), {"content": "1024"}) as (
        gateway,
        asked,
    ):
        answer = await ask(gateway, model="m", extra_body={"naru": {"tools": ["calculator"]}, "thinking_budget": 5})
    assert answer.choices[0].message.content == "1024"
    assert [each["function"]["name"] for each in asked[0]["tools"]] == ["calculate"]
    assert "naru" not in asked[0]
    assert asked[1]["messages"][-1]["content"] == "1024"
    assert asked[1]["messages"][-2]["tool_calls"][0]["function"]["arguments"] == '{"expression": "2 ** 10"}'


# --- Tools of both sides --------------------------------------------------------------------------------------------


async def test_calls_of_the_callers_own_tools_are_handed_over_and_the_run_goes_on_with_what_it_knew(
    tmp_path: Path,
) -> None:
    """The caller never sees the gateway's calls, so it cannot send them back: they are put back for it."""
    turns = (
        call("calculate", '{"expression": "6*7"}', "hidden"),
        call("search_database", '{"query": "42"}', "theirs"),
        {"content": "found"},
    )
    async with scripted(tmp_path, *turns) as (gateway, asked):
        want: Any = {"model": "m", "tools": [THEIRS], "extra_body": {"naru": {"tools": ["calculator"]}}}
        first = await ask(gateway, **want)
        (handed,) = first.choices[0].message.tool_calls
        assert (first.choices[0].finish_reason, handed.id, handed.function.name) == (
            "tool_calls",
            "theirs",
            "search_database",
        )
        message = first.choices[0].message.model_dump(exclude_none=True)
        told = {"role": "tool", "tool_call_id": "theirs", "content": "a row"}
        second = await ask(gateway, messages=[*ASKED, message, told], **want)
        assert second.choices[0].message.content == "found"
        stranger = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=await another_key(gateway), max_retries=0)
        asked_before = len(asked)
        async with stranger:
            await stranger.chat.completions.create(**want, messages=[*ASKED, message, told])
            other = [{"role": "user", "content": "another conversation"}, message, told]
            await ask(gateway, messages=other, **want)
    roles = [(each["role"], each.get("tool_call_id")) for each in asked[2]["messages"]]
    assert roles == [("user", None), ("assistant", None), ("tool", "hidden"), ("assistant", None), ("tool", "theirs")]
    assert len(asked[asked_before]["messages"]) == 3  # nobody else's
    assert len(asked[asked_before + 1]["messages"]) == 3  # nor another conversation's with calls of the same ids


# --- Bounds and mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": ["wether"]}, "naru.tools", "offers no tool 'wether'. It offers: weather, calculator"),
        ({"tools": ["web_fetch"]}, "naru.tools", "offers no tool 'web_fetch'"),
        ({"tools": "weather"}, "naru", "`naru` is an object"),
        ({"tool": ["weather"]}, "naru", "unknown field"),
        ({"tools": ["weather"], "max_turns": 0}, "naru", "max_turns"),
        ({"tools": ["weather"], "max_cost_usd": "much"}, "naru.max_cost_usd", "number of dollars"),
    ],
)
async def test_what_cannot_be_is_said_in_the_callers_dialect(
    gateway: Gateway, fields: Any, param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        await ask(gateway, extra_body={"naru": fields})
    assert caught.value.param == param
    with pytest.raises(openai.BadRequestError, match=words):
        await gateway.openai.responses.create(model="sandbox/tools", input="x", extra_body={"naru": fields})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"n": 2}, "leave out `n`"),
        ({"messages": ["hello"]}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "assistant", "tool_calls": [1]}]}, "messages"),
        ({"tools": ["web_fetch"]}, "`tools` is a list of objects"),
        ({"tools": {"web_fetch": 1}}, "`tools` is a list of objects"),
        ({"tools": [{"type": "function", "function": 1}]}, "A tool in OpenAI's form is"),
        ({"tools": [{"type": "function", "function": {"name": 1}}]}, "A tool in OpenAI's form is"),
        ({"tools": "files"}, "`tools` is a list of objects"),
    ],
)
async def test_a_body_that_is_none_is_refused(gateway: Gateway, body: Any, words: str) -> None:
    asked = {"model": "sandbox/tools", "messages": ASKED, "naru": {"tools": ["weather"]}, **body}
    status, _, told = await gateway.post(json.dumps(asked).encode())
    assert (status, json.loads(told)["error"]["type"]) == (400, "invalid_request_error"), told
    assert words in json.loads(told)["error"]["message"]


async def test_the_operators_cost_limit_holds_whatever_a_caller_asks_for(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + "max_cost_usd = 0.000000001\n") as gateway:
        for own in ({}, {"max_cost_usd": "5"}):
            assert ending(await ask(gateway, extra_body={"naru": {"tools": ["weather"], **own}})) == "max_cost"


async def test_the_texts_of_two_turns_are_two_paragraphs(tmp_path: Path) -> None:
    """A model that says something before it calls."""
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "calculator", "arguments": '{"expression":"1+1"}'},
    }
    turns = iter(
        [
            [{"content": "Let me see."}, {"tool_calls": [call]}, "tool_calls"],
            [{"content": "It is"}, {"content": " 2."}, "stop"],
        ] * 2
    )  # fmt: skip

    async def turn(exchange: Exchange) -> None:
        *deltas, finish = next(turns)
        exchange.start(200, (("content-type", "text/event-stream"),))
        for delta, end in (*((delta, None) for delta in deltas), ({}, finish)):
            choice = {"index": 0, "delta": delta, "finish_reason": end}
            exchange.send(b"data: " + json.dumps({"id": "x", "choices": [choice]}).encode() + b"\n\n")
        exchange.send(b"data: [DONE]\n\n")
        exchange.end()

    upstream = RawServer(turn)
    provider = f"""
[providers.says]
kind = "openai"
base_url = "{await upstream.start()}/v1"
api_key = "x"
allow_private = true
price = "free"
"""
    async with running(tmp_path, CONFIG + provider) as gateway:
        said: Any = {"model": "says/m", "extra_body": {"naru": {"tools": ["calculator"]}}}
        assert (await ask(gateway, **said)).choices[0].message.content == "Let me see.\n\nIt is 2."
        stream = await ask(gateway, stream=True, **said)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(pieces) == "Let me see.\n\nIt is 2."
    await upstream.stop()


async def test_two_tools_of_one_name_are_refused(gateway: Gateway) -> None:
    same = {"type": "function", "function": {"name": "get_current_weather", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError, match="Two tools have the name 'get_current_weather'"):
        await ask(gateway, tools=[same])


async def test_a_caller_can_ask_for_less_than_the_operator_allows_and_not_for_more(gateway: Gateway) -> None:
    forced: Any = {"tool_choice": "required"}  # the sandbox then calls for ever
    raw = await gateway.openai.chat.completions.with_raw_response.create(
        model="sandbox/tools", messages=ASKED, extra_body={"naru": {"tools": ["weather"], "max_turns": 99}}, **forced
    )
    assert raw.headers["x-naru-turns"] == "4"
    assert raw.parse().choices[0].finish_reason == "length"
    assert ending(raw.parse()) == "max_turns"
    less = await ask(gateway, extra_body={"naru": {"tools": ["weather"], "max_turns": 1}}, **forced)
    assert ending(less) == "max_turns"
    cheap = await ask(gateway, extra_body={"naru": {"tools": ["weather"], "max_cost_usd": "0.000000001"}})
    assert ending(cheap) == "max_cost"
    assert len(await gateway.entries()) == 6


@pytest.mark.parametrize(
    ("model", "status"), [("sandbox/nothing", 404), ("sandbox/tools?status=429&retry_after=7", 429)]
)
async def test_a_turns_refusal_is_the_answers(gateway: Gateway, model: str, status: int) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(gateway, model=model, stream=True)
    assert caught.value.status_code == status
    assert caught.value.response.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_an_idempotency_key_is_not_ignored_in_silence(gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
        await ask(gateway, extra_headers={"Idempotency-Key": "once"})
    assert await gateway.entries() == []


async def test_a_key_that_is_none_starts_nothing(gateway: Gateway) -> None:
    gateway.openai.api_key = "nk-none"
    with pytest.raises(openai.AuthenticationError):
        await ask(gateway)


async def test_a_turn_that_breaks_in_mid_stream_ends_the_answer_with_an_error(tmp_path: Path) -> None:
    async with scripted(tmp_path, call("calculate", '{"expression": "1+1"}'), None) as (gateway, _):
        stream = await ask(gateway, model="m", stream=True, extra_body={"naru": {"tools": ["calculator"]}})
        with pytest.raises(openai.APIError):
            async for _chunk in stream:
                pass


async def test_a_caller_who_leaves_ends_the_run(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG) as gateway:
        stream = await ask(gateway, model="sandbox/tools?tps=20", stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:  # the second turn is under way
                break
        await stream.close()
        entries = await gateway.entries()
    assert [entry.outcome for entry in entries] == ["cancelled", "completed"]


async def test_requests_that_name_no_tools_go_the_usual_way(gateway: Gateway) -> None:
    answer = await ask(gateway, extra_body={"naru": {"tools": []}}, model="sandbox/echo")
    assert answer.choices[0].message.content == ASKED[0]["content"]
    spoken = await ask(
        gateway, extra_body={}, model="sandbox/echo", messages=[{"role": "user", "content": 'say "naru"'}]
    )
    assert spoken.choices[0].message.content == 'say "naru"'


# --- An MCP server --------------------------------------------------------------------------------------------------


async def test_a_tool_server_that_is_killed_in_mid_call_is_told_of_and_back_for_the_next_run(tmp_path: Path) -> None:
    """Over stdio and over HTTP at once: the one dies in the middle of a call, the other is not disturbed."""
    async with http_server(tmp_path) as (_, port):
        program = json.dumps([sys.executable, str(PROGRAM), str(tmp_path)])
        servers = f"""
            [mcp.local]
            command = {program}
            include = ["waits", "add"]
            [mcp.far]
            url = "http://127.0.0.1:{port}/mcp"
            include = ["add"]
        """
        both = (
            *call("local__waits", '{"name": "lost"}', "one")["tool_calls"],
            {**call("far__add", '{"a": 1, "b": 2}', "two")["tool_calls"][0], "index": 1},
        )
        turns = ({"tool_calls": both}, {"content": "lost"}, call("local__add", '{"a": 2, "b": 2}'), {"content": "4"})
        config = CONFIG.replace('["weather", "calculator"]', '["local", "far"]') + servers
        async with scripted(tmp_path, *turns, config=config) as (gateway, asked):
            want: Any = {"model": "m", "extra_body": {"naru": {"tools": ["local", "far"]}}}
            run = asyncio.create_task(ask(gateway, **want))
            os.kill(await started(tmp_path, "lost"), signal.SIGKILL)
            assert (await run).choices[0].message.content == "lost"
            told = {each["tool_call_id"]: each["content"] for each in asked[1]["messages"] if each["role"] == "tool"}
            assert told["one"].startswith("local was lost before it answered")
            assert told["two"] == "3"
            assert (await ask(gateway, **want)).choices[0].message.content == "4"
            assert asked[3]["messages"][-1]["content"] == "4"
            entries = await gateway.entries()
        assert [entry.outcome for entry in entries] == ["completed"] * 4


# --- A scripted upstream --------------------------------------------------------------------------------------------


def call(name: str, arguments: str, id: str = "c1") -> dict[str, Any]:
    return {
        "tool_calls": [{"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]
    }


class scripted:
    """(gateway, what its upstream was asked): `deltas` are its answers in turn, the last one for ever; None breaks off."""

    def __init__(self, home: Path, *deltas: dict[str, Any] | None, config: str = CONFIG) -> None:
        self.home = home
        self.config = config
        self.deltas = list(deltas)
        self.asked: list[Any] = []
        self.server = RawServer(self.handle)

    async def __aenter__(self) -> tuple[Gateway, list[Any]]:
        url = await self.server.start()
        provider = f'\n[providers.up]\nkind = "custom"\nbase_url = "{url}/v1"\nallow_private = true\napi_key = "x"\n'
        model = '[models.m]\ndeployments = [{ provider = "up", model = "m" }]\nprice = { input = 1, output = 1 }\n'
        self.running = running(self.home, self.config + provider + model)
        return await self.running.__aenter__(), self.asked

    async def __aexit__(self, *error: Any) -> None:
        await self.running.__aexit__(*error)
        await self.server.stop()

    def handle(self, exchange: Exchange) -> None:
        self.asked.append(json.loads(exchange.received.body))
        delta = self.deltas.pop(0) if len(self.deltas) > 1 else self.deltas[0]
        exchange.start(200, [("content-type", "text/event-stream")])
        choice = {"index": 0, "delta": delta or {"content": "half"}, "finish_reason": None if delta is None else "stop"}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        exchange.send(f"data: {json.dumps(chunk)}\n\n".encode())
        if delta is None:
            exchange.reset()
            return
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        exchange.send(f"data: {json.dumps({**chunk, 'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        exchange.end()
