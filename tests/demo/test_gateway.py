"""The embedded default behind a whole gateway: a real model in a real process, asked by the official client."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.engines.states import State
from tests.demo.asks import CALCULATE, COMPARE, WEATHER, weather_of
from tests.engines.fake import supervisor, until
from tests.harness import Gateway, running

DEMO = "naru-demo"
#: Without a provider and an engine the demo is there by itself.
NOTHING = ""


async def streamed(gateway: Gateway, **fields: Any) -> tuple[dict[str, Any], Any]:
    """(the assistant's message put together from a stream, its usage)."""
    message: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": []}
    usage: Any = None
    fields = {"model": DEMO, "stream": True, "stream_options": {"include_usage": True}, "temperature": 0, **fields}
    async for chunk in await gateway.openai.chat.completions.create(**fields):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            message["content"] += choice.delta.content or ""
            message["reasoning_content"] += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or []:
                if call.id:
                    started = {"name": call.function.name, "arguments": ""}
                    message["tool_calls"].append({"id": call.id, "type": "function", "function": started})
                message["tool_calls"][call.index]["function"]["arguments"] += call.function.arguments or ""
            message["finish_reason"] = choice.finish_reason
    return message, usage


async def killed_after(stream: Any, chunks: int, pid: int) -> None:
    async for chunk in stream:
        chunks -= bool(chunk.choices and chunk.choices[0].delta.content)
        if chunks == 0:
            os.kill(pid, signal.SIGKILL)


def sent_back(message: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": message["content"], "tool_calls": message["tool_calls"]}


async def test_the_weather_of_two_cities_is_compared_with_generated_calls(tmp_path: Path) -> None:
    async with running(tmp_path, NOTHING) as gateway:
        first, _ = await streamed(gateway, messages=COMPARE, tools=[WEATHER])
        assert first["finish_reason"] == "tool_calls"
        asked = [json.loads(call["function"]["arguments"]) for call in first["tool_calls"]]
        assert asked == [{"location": "서울"}, {"location": "부산"}]
        assert len({call["id"] for call in first["tool_calls"]}) == 2
        told = [
            {"role": "tool", "tool_call_id": call["id"], "content": weather_of(call["function"]["arguments"])}
            for call in first["tool_calls"]
        ]
        messages = [*COMPARE, sent_back(first), *told]
        last, usage = await streamed(gateway, messages=messages, tools=[WEATHER])
        assert last["finish_reason"] == "stop"
        assert "23" in last["content"]
        assert "27" in last["content"]
        assert last["content"].endswith("부산")
        assert usage.completion_tokens > 5
        assert [entry.outcome for entry in await gateway.entries()] == ["completed"] * 2
        assert await gateway.app.control.reports.verify() == []


async def test_thinking_arrives_apart_and_within_its_budget(tmp_path: Path) -> None:
    async with running(tmp_path, NOTHING) as gateway:
        asked = {"messages": COMPARE, "tools": [WEATHER]}
        whole, usage = await streamed(gateway, **asked, extra_body={"enable_thinking": True})
        thought = usage.completion_tokens_details.reasoning_tokens
        assert "서울" in whole["reasoning_content"]
        assert thought > 12
        cut, usage = await streamed(gateway, **asked, extra_body={"thinking_budget": 8})
        assert 0 < usage.completion_tokens_details.reasoning_tokens <= 8
        assert whole["reasoning_content"].startswith(cut["reasoning_content"].strip())
        assert "think>" not in cut["content"] + cut["reasoning_content"]
        assert [json.loads(call["function"]["arguments"])["location"] for call in cut["tool_calls"]] == ["서울", "부산"]
        off, usage = await streamed(gateway, **asked, extra_body={"enable_thinking": False})
        assert off["reasoning_content"] == ""
        assert usage.completion_tokens_details.reasoning_tokens == 0


async def test_a_required_call_and_a_schema_hold_whatever_is_asked(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["서울", "부산"]}, "is_warm": {"type": "boolean"}},
        "required": ["city", "is_warm"],
        "additionalProperties": False,
    }
    async with running(tmp_path, NOTHING) as gateway:
        hello = [{"role": "user", "content": "안녕하세요"}]
        called, _ = await streamed(
            gateway, messages=hello, tools=[CALCULATE, WEATHER], tool_choice="required", parallel_tool_calls=False
        )
        assert len(called["tool_calls"]) == 1
        assert called["finish_reason"] == "tool_calls"
        named = {"type": "function", "function": {"name": "calculate"}}
        called, _ = await streamed(
            gateway, messages=hello, tools=[CALCULATE, WEATHER], tool_choice=named, parallel_tool_calls=False
        )
        assert [call["function"]["name"] for call in called["tool_calls"]] == ["calculate"]
        assert list(json.loads(called["tool_calls"][0]["function"]["arguments"])) == ["expression"]
        form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
        told, _ = await streamed(gateway, messages=hello, response_format=form, max_tokens=300, frequency_penalty=0.6)
        found = json.loads(told["content"])
        assert sorted(found) == ["city", "is_warm"]
        assert found["city"] in ("서울", "부산")


async def test_a_killed_worker_is_an_error_inside_the_stream_and_the_next_request_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path, NOTHING) as gateway:
        await streamed(gateway, messages=[{"role": "user", "content": "hi"}])
        engine = supervisor(gateway, "demo")
        assert engine.process is not None
        pid = engine.process.pid
        stream = await gateway.openai.chat.completions.create(
            model=DEMO, messages=COMPARE, stream=True, max_tokens=1500, extra_body={"ignore_eos": True}
        )
        with pytest.raises(openai.APIError) as failed:
            await killed_after(stream, 5, pid)
        assert failed.value.code is not None
        answered, _ = await streamed(gateway, messages=[{"role": "user", "content": "hi"}])
        assert answered["content"]
        assert engine.process.pid != pid
        outcomes = sorted(entry.outcome for entry in await gateway.entries())
        assert len(outcomes) == 3
        assert outcomes.count("completed") == 2
        assert await gateway.app.control.reports.verify() == []


async def test_who_leaves_frees_the_place_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, NOTHING) as gateway:
        stream = await gateway.openai.chat.completions.create(
            model=DEMO, messages=COMPARE, stream=True, max_tokens=1900, extra_body={"ignore_eos": True}
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                break
        await stream.close()
        engine = supervisor(gateway, "demo")
        await until(lambda: (use := engine.use()) is not None and not use.in_use)
        assert engine.state is State.READY
        again, _ = await streamed(gateway, messages=[{"role": "user", "content": "안녕"}])
        assert again["content"]


async def test_what_does_not_fit_is_refused_with_the_inequality_before_it_is_loaded(tmp_path: Path) -> None:
    config = '[engines.small]\nmodel = "naru-demo"\nargs = ["--memory", "8MB"]\n'
    async with running(tmp_path, config) as gateway:
        status, _, answer = await gateway.chat(model=DEMO)
        assert status == 503
        message = answer["error"]["message"]
        assert "naru-demo is too large for this machine: weights 6 MB + KV 6 MB (2,048 tokens x 1) + buffers" in message
        assert "> 8 MB free" in message
        assert supervisor(gateway, "small").state is State.FAILED


async def test_sixteen_at_once_are_all_answered(tmp_path: Path) -> None:
    async with running(tmp_path, NOTHING) as gateway:
        asked = [[{"role": "user", "content": f"{n} + {n}"}] for n in range(16)]
        found = await asyncio.gather(*(streamed(gateway, messages=each, tools=[CALCULATE]) for each in asked))
        for n, (message, _) in enumerate(found):
            assert json.loads(message["tool_calls"][0]["function"]["arguments"]) == {"expression": f"{n} + {n}"}
