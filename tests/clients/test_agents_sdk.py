"""OpenAI's Agents SDK with a gateway behind it, on Responses (its own choice) and on chat completions, plain and streamed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunResult,
    RunResultStreaming,
    ToolCallItem,
    ToolCallOutputItem,
    WebSearchTool,
    function_tool,
)
from agents.exceptions import MaxTurnsExceeded
from openai import APIStatusError, BadRequestError

from tests.harness import Gateway, running

CITIES = "서울과 부산의 날씨를 비교해줘"
WEATHER = "도구 결과입니다.\n- get_current_weather(서울): 서울: 맑음\n- get_current_weather(부산): 부산: 맑음"
#: Its traces go to OpenAI's servers.
QUIET = RunConfig(tracing_disabled=True)

KINDS = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
each_api = pytest.mark.parametrize("api", KINDS)
each_way = pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])


class Person(pydantic.BaseModel):
    name: str
    age: int


@function_tool
def get_current_weather(location: str) -> str:
    """Current weather of a city."""
    return f"{location}: 맑음"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as made:
        yield made


def model(gateway: Gateway, api: str, name: str) -> Model:
    return KINDS[api](model=name, openai_client=gateway.openai)


class Done:
    """A run that has ended, and the text that came in pieces."""

    def __init__(self, result: RunResult | RunResultStreaming, streamed: str) -> None:
        self.result = result
        self.streamed = streamed
        self.usage = result.context_wrapper.usage

    def items(self, kind: type) -> list[Any]:
        return [item for item in self.result.new_items if isinstance(item, kind)]


async def run(agent: Agent, text: str, is_stream: bool) -> Done:
    if not is_stream:
        return Done(await Runner.run(agent, text, run_config=QUIET), "")
    result = Runner.run_streamed(agent, text, run_config=QUIET)
    streamed = ""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            streamed += event.data.delta
    return Done(result, streamed)


@each_api
@each_way
async def test_a_tool_is_called_and_its_results_are_in_the_answer(api: str, is_stream: bool, gateway: Gateway) -> None:
    """Two calls in one turn, both executed; the usage of both turns is added up and is what the ledger has."""
    agent = Agent(
        name="weather",
        model=model(gateway, api, "sandbox/tools"),
        tools=[get_current_weather],
        model_settings=ModelSettings(include_usage=True),  # else a chat stream's usage is not asked for
    )
    done = await run(agent, CITIES, is_stream)
    assert done.result.final_output == WEATHER
    assert done.streamed == (WEATHER if is_stream else "")
    assert [item.output for item in done.items(ToolCallOutputItem)] == ["서울: 맑음", "부산: 맑음"]
    assert len({item.raw_item.call_id for item in done.items(ToolCallItem)}) == 2
    entries = await gateway.entries()
    assert (done.usage.requests, len(entries)) == (2, 2)
    assert done.usage.input_tokens == sum(entry.input for entry in entries)
    assert done.usage.output_tokens == sum(entry.output for entry in entries)


@each_api
@each_way
async def test_a_result_has_its_type(api: str, is_stream: bool, gateway: Gateway) -> None:
    """Tools first, then the output in the schema of the class."""
    agent = Agent(
        name="typed", model=model(gateway, api, "sandbox/tools"), tools=[get_current_weather], output_type=Person
    )
    done = await run(agent, "'나루' is 42 years old and lives in 부산", is_stream)
    assert done.result.final_output == Person(name="나루", age=42)
    assert len(done.items(ToolCallOutputItem)) == 1


@each_api
@each_way
async def test_a_handoff_reaches_the_other_agent(api: str, is_stream: bool, gateway: Gateway) -> None:
    other = Agent(name="Other", model=model(gateway, api, "sandbox/echo"), handoff_description="Repeats.")
    first = Agent(name="First", model=model(gateway, api, "sandbox/tools"), handoffs=[other])
    done = await run(first, "over to you", is_stream)
    assert (done.result.last_agent.name, done.result.final_output) == ("Other", "over to you")


@each_api
async def test_thinking_is_shown_and_goes_back(api: str, gateway: Gateway) -> None:
    """The reasoning of a turn is an item of it, and a next turn with it in the history is answered."""
    agent = Agent(name="thinker", model=model(gateway, api, "sandbox/think"))
    done = await run(agent, "first", False)
    assert "reasoning_item" in [item.type for item in done.result.new_items]
    again = await Runner.run(
        agent, [*done.result.to_input_list(), {"role": "user", "content": "second"}], run_config=QUIET
    )
    assert again.final_output == "second"


async def test_a_hosted_tool_beside_others_is_left_out(gateway: Gateway) -> None:
    """A web search of OpenAI's is no reason to refuse a request with tools of one's own; alone it is."""
    thinking = model(gateway, "responses", "sandbox/tools")
    both = Agent(name="both", model=thinking, tools=[get_current_weather, WebSearchTool()])
    assert (await run(both, CITIES, False)).result.final_output == WEATHER
    alone = Agent(name="alone", model=thinking, tools=[WebSearchTool()])
    with pytest.raises(BadRequestError, match="web_search"):
        await run(alone, CITIES, False)


@each_api
@each_way
async def test_errors_are_the_clients_own(api: str, is_stream: bool, gateway: Gateway) -> None:
    """The status before a stream, and a limit of the caller's on a model that never stops calling."""
    failing = Agent(name="failing", model=model(gateway, api, "sandbox/echo?status=503"))
    with pytest.raises(APIStatusError) as caught:
        await run(failing, "x", is_stream)
    assert caught.value.status_code == 503
    endless = Agent(
        name="endless",
        model=model(gateway, api, "sandbox/tools"),
        tools=[get_current_weather],
        model_settings=ModelSettings(tool_choice="required"),
        reset_tool_choice=False,
    )
    with pytest.raises(MaxTurnsExceeded):
        await Runner.run(endless, CITIES, max_turns=2, run_config=QUIET)
