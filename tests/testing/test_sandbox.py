"""The sandbox through the official OpenAI client: what an application sees."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from naru.testing import FakeClock, Sandbox
from naru.testing.sandbox.tokens import count

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "Current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["location"],
        },
    },
}
CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculate",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
COMPARE = "서울의 날씨와 부산의 날씨를 비교해줘"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(clock=FakeClock(), kept=10)
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=await sandbox.start(), api_key="none", max_retries=0, timeout=5) as made:
        yield made


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def ask(client: AsyncOpenAI, model: str, text: str, **more: Any) -> Any:
    return await client.chat.completions.create(model=model, messages=user(text), **more)


async def chunks(client: AsyncOpenAI, model: str, text: str, **more: Any) -> list[Any]:
    return [chunk async for chunk in await ask(client, model, text, stream=True, **more)]


def content(parts: list[Any]) -> list[str]:
    return [part.choices[0].delta.content for part in parts if part.choices and part.choices[0].delta.content]


def calls_of(message: Any) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]


# --- labels and models ---


async def test_models_are_labelled_as_a_sandbox(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed] == [
        "sandbox/echo",
        "sandbox/tools",
        "sandbox/think",
        "sandbox/json",
        "sandbox/embed",
        "sandbox/rerank",
        "sandbox/transcribe",
        "sandbox/speech",
        "sandbox/image",
    ]
    assert {model.owned_by for model in listed} == {"naru-sandbox"}
    assert (await client.models.retrieve("sandbox/echo")).id == "sandbox/echo"
    with pytest.raises(openai.NotFoundError, match="no model"):
        await client.models.retrieve("sandbox/gpt")


async def test_answers_say_sandbox_and_take_their_time_from_the_clock(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo", "hello")
    assert (answer.system_fingerprint, answer.created, answer.model) == ("sandbox", 1_767_225_600, "sandbox/echo")


@pytest.mark.parametrize("model", ["sandbox/echo", "echo"])
async def test_a_model_is_known_with_and_without_its_prefix(client: AsyncOpenAI, model: str) -> None:
    assert (await ask(client, model, "hello")).choices[0].message.content == "hello"


# --- echo ---


async def test_echo_repeats_the_last_user_text(client: AsyncOpenAI) -> None:
    messages: list[Any] = [*user("first"), {"role": "assistant", "content": "x"}, *user("두 번째 질문")]
    answer = await client.chat.completions.create(model="sandbox/echo", messages=messages)
    assert answer.choices[0].message.content == "두 번째 질문"
    assert answer.choices[0].finish_reason == "stop"


async def test_echo_streams_by_word_and_the_words_are_the_text(client: AsyncOpenAI) -> None:
    parts = await chunks(client, "sandbox/echo", "나루에 오신 것을  환영합니다")
    assert content(parts) == ["나루에", " 오신", " 것을", "  환영합니다"]
    assert parts[-1].choices[0].finish_reason == "stop"


async def test_usage_follows_the_documented_rule(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    """3 for the start, 3 for each message, a token a word; 12 characters at most."""
    answer = await ask(client, "sandbox/echo", "one two internationalization")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (10, 4, 14)
    assert (sandbox.tokens_in, sandbox.tokens_out, sandbox.requests) == (10, 4, 1)


async def test_streamed_usage_comes_last_and_equals_the_plain_one(client: AsyncOpenAI) -> None:
    parts = await chunks(client, "sandbox/echo", "a b c", stream_options={"include_usage": True})
    plain = await ask(client, "sandbox/echo", "a b c")
    assert parts[-1].choices == []
    assert parts[-1].usage == plain.usage
    assert all(part.usage is None for part in parts[:-1])
    assert all(part.usage is None for part in await chunks(client, "sandbox/echo", "a b c"))


async def test_max_tokens_cuts_and_says_length(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo", "a b c d", max_tokens=4)
    assert answer.choices[0].finish_reason == "stop"
    answer = await ask(client, "sandbox/echo", "a b c d", max_tokens=9, max_completion_tokens=2)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("a b", "length")
    assert answer.usage.completion_tokens == 2


async def test_stop_ends_before_the_first_stop_text(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo", "one two three", stop=["three", "two"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("one ", "stop")


async def test_n_gives_equal_choices_and_counts_them_all(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo", "a b", n=3)
    assert [choice.message.content for choice in answer.choices] == ["a b"] * 3
    assert answer.usage.completion_tokens == 6
    parts = await chunks(client, "sandbox/echo", "a b", n=2)
    said = ["".join(c.delta.content or "" for part in parts for c in part.choices if c.index == i) for i in (0, 1)]
    assert said == ["a b", "a b"]


async def test_tokens_sets_the_length(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo?tokens=7", "a b c")
    assert answer.choices[0].message.content == "a b c a b c a"
    assert (await ask(client, "sandbox/echo?tokens=0", "a b c")).usage.completion_tokens == 0


async def test_logprobs_name_every_token(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/echo", "가 나", logprobs=True, top_logprobs=2)
    entries = answer.choices[0].logprobs.content
    assert [(entry.token, bytes(entry.bytes).decode(), len(entry.top_logprobs)) for entry in entries] == [
        ("가", "가", 2),
        (" 나", " 나", 2),
    ]
    parts = await chunks(client, "sandbox/echo", "가 나", logprobs=True)
    probable = [part.choices[0].logprobs for part in parts if part.choices and part.choices[0].delta.content]
    assert [each.content[0].token for each in probable] == ["가", " 나"]


async def test_parts_that_are_no_text_are_named_and_counted(client: AsyncOpenAI) -> None:
    parts = [
        {"type": "text", "text": "what is this"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    answer = await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": parts}])  # type: ignore[list-item]
    assert answer.choices[0].message.content == "what is this [image]"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3 + 3 + 3 + 85


# --- tools ---


async def test_two_cities_and_one_weather_tool_make_two_parallel_calls(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/tools", COMPARE, tools=[WEATHER])
    assert calls_of(answer.choices[0].message) == [
        ("get_current_weather", {"location": "서울"}),
        ("get_current_weather", {"location": "부산"}),
    ]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


async def test_every_offered_tool_is_called_with_what_the_text_offers(client: AsyncOpenAI) -> None:
    text = "What is 12 * (3 + 4), and how warm is Seoul in fahrenheit?"
    answer = await ask(client, "sandbox/tools", text, tools=[WEATHER, CALCULATOR])
    assert calls_of(answer.choices[0].message) == [
        ("get_current_weather", {"location": "Seoul", "unit": "fahrenheit"}),
        ("calculate", {"expression": "12 * (3 + 4)"}),
    ]


async def test_streamed_arguments_come_in_fragments_and_join_to_the_plain_ones(client: AsyncOpenAI) -> None:
    plain = await ask(client, "sandbox/tools", COMPARE, tools=[WEATHER])
    parts = await chunks(client, "sandbox/tools", COMPARE, tools=[WEATHER])
    joined: dict[int, str] = {}
    fragments = 0
    for part in parts:
        for call in part.choices[0].delta.tool_calls or ():
            joined[call.index] = joined.get(call.index, "") + (call.function.arguments or "")
            fragments += bool(call.function.arguments)
    assert [joined[0], joined[1]] == [call.function.arguments for call in plain.choices[0].message.tool_calls]
    assert fragments > 2
    assert parts[-1].choices[0].finish_reason == "tool_calls"


async def test_results_are_summarised_by_name(client: AsyncOpenAI) -> None:
    first = await ask(client, "sandbox/tools", COMPARE, tools=[WEATHER])
    calls = first.choices[0].message.tool_calls
    messages = [
        *user(COMPARE),
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": calls[0].id, "content": "맑음, 21도"},
        {"role": "tool", "tool_call_id": calls[1].id, "content": "흐림, 18도"},
    ]
    second = await client.chat.completions.create(model="sandbox/tools", messages=messages, tools=[WEATHER])  # type: ignore[list-item]
    text = "도구 결과입니다.\n- get_current_weather(서울): 맑음, 21도\n- get_current_weather(부산): 흐림, 18도"
    assert second.choices[0].message.content == text
    assert second.choices[0].finish_reason == "stop"


async def test_tool_choice_is_respected(client: AsyncOpenAI) -> None:
    tools = [WEATHER, CALCULATOR]
    none = await ask(client, "sandbox/tools", COMPARE, tools=tools, tool_choice="none")
    assert none.choices[0].message.content == COMPARE
    named = {"type": "function", "function": {"name": "calculate"}}
    only = await ask(client, "sandbox/tools", "1+1", tools=tools, tool_choice=named)
    assert calls_of(only.choices[0].message) == [("calculate", {"expression": "1+1"})]
    required = await ask(client, "sandbox/tools", COMPARE, tools=tools, tool_choice="required")
    assert [name for name, _ in calls_of(required.choices[0].message)] == [
        "get_current_weather",
        "get_current_weather",
        "calculate",
    ]
    one = await ask(client, "sandbox/tools", COMPARE, tools=tools, parallel_tool_calls=False)
    assert len(calls_of(one.choices[0].message)) == 1
    with pytest.raises(openai.BadRequestError, match="not offered"):
        await ask(
            client,
            "sandbox/tools",
            "x",
            tools=tools,
            tool_choice={"type": "function", "function": {"name": "nothing"}},
        )
    with pytest.raises(openai.BadRequestError, match="no tool is offered"):
        await ask(client, "sandbox/tools", "x", tool_choice="required")


async def test_only_and_args_say_which_tool_is_called_and_with_what(client: AsyncOpenAI) -> None:
    """For agents that offer many tools: one call each, what the query does not name is made from the schema."""
    tools = [WEATHER, CALCULATOR]
    model = 'sandbox/tools?only=get_current_weather&args={"unit":"fahrenheit","more":[1]}'
    answer = await ask(client, model, COMPARE, tools=tools)
    arguments = {"location": "서울", "unit": "fahrenheit", "more": [1]}
    assert calls_of(answer.choices[0].message) == [("get_current_weather", arguments)]
    both = await ask(client, "sandbox/tools?only=calculate,get_current_weather", "1+1 in 서울", tools=tools)
    assert [name for name, _ in calls_of(both.choices[0].message)] == ["get_current_weather", "calculate"]
    custom: Any = {"type": "custom", "custom": {"name": "patch"}}
    patched = await ask(client, 'sandbox/tools?only=patch&args={"input":"*** Begin"}', "x", tools=[custom, *tools])
    assert [call.custom.input for call in patched.choices[0].message.tool_calls] == ["*** Begin"]


async def test_only_names_a_tool_that_is_offered_or_none_is(client: AsyncOpenAI) -> None:
    """A misspelt name is told; a request without tools, such as an agent's for a title, is answered with text."""
    title = await ask(client, "sandbox/tools?only=calculate", "a title")
    assert title.choices[0].message.content == "a title"
    with pytest.raises(openai.BadRequestError, match=r"'calc', which is not offered\. Offered: calculate\.") as caught:
        await ask(client, "sandbox/tools?only=calc", "1+1", tools=[CALCULATOR])
    assert caught.value.code == "invalid_sandbox_query"


async def test_required_calls_again_after_results(client: AsyncOpenAI) -> None:
    """A model that must call a tool has no other way to answer, whatever came before."""
    call = {"id": "c1", "type": "function", "function": {"name": "calculate", "arguments": "{}"}}
    messages: list[Any] = [
        *user("1+1"),
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    answer = await client.chat.completions.create(
        model="sandbox/tools",
        messages=messages,
        tools=[CALCULATOR],
        tool_choice="required",  # type: ignore[list-item]
    )
    assert calls_of(answer.choices[0].message) == [("calculate", {"expression": "1+1"})]


async def test_from_and_to_are_filled_as_a_pair(client: AsyncOpenAI) -> None:
    fly = {
        "type": "function",
        "function": {
            "name": "find_flights",
            "parameters": {
                "type": "object",
                "properties": {
                    "origin": {"type": "string"},
                    "destination": {"type": "string"},
                    "passengers": {"type": "integer", "minimum": 1, "maximum": 9},
                },
                "required": ["origin", "destination", "passengers"],
            },
        },
    }
    answer = await ask(client, "sandbox/tools", "Fly 3 people from Seoul to Tokyo", tools=[fly])
    assert calls_of(answer.choices[0].message) == [
        ("find_flights", {"origin": "Seoul", "destination": "Tokyo", "passengers": 3})
    ]


async def test_a_list_of_cities_is_one_call(client: AsyncOpenAI) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "weather_of",
            "parameters": {
                "type": "object",
                "properties": {"cities": {"type": "array", "items": {"type": "string"}}},
                "required": ["cities"],
            },
        },
    }
    answer = await ask(client, "sandbox/tools", COMPARE, tools=[tool])
    assert calls_of(answer.choices[0].message) == [("weather_of", {"cities": ["서울", "부산"]})]


async def test_max_tokens_may_cut_an_argument_in_the_middle(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/tools", COMPARE, tools=[WEATHER], max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


# --- think ---


async def test_think_reasons_and_then_answers(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/think", "hello there")
    message = answer.choices[0].message
    assert message.content == "hello there"
    assert count(message.reasoning_content) == 16
    assert answer.usage.completion_tokens_details.reasoning_tokens == 16
    assert answer.usage.completion_tokens == 18


async def test_streamed_reasoning_comes_before_the_text(client: AsyncOpenAI) -> None:
    parts = await chunks(client, "sandbox/think?think=3", "hello there")
    kinds = [
        "reasoning" if getattr(part.choices[0].delta, "reasoning_content", None) else "content" for part in parts[1:-1]
    ]
    assert kinds == ["reasoning"] * 3 + ["content"] * 2


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"reasoning_effort": "low"}, 8),
        ({"extra_body": {"thinking_budget": 5}}, 5),
        ({"extra_body": {"thinking": {"type": "enabled", "budget_tokens": 2}}}, 2),
        ({"extra_body": {"enable_thinking": False}}, 0),
        ({"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}, 0),
        ({"extra_body": {"thinking": {"type": "disabled"}}}, 0),
        ({"max_tokens": 4}, 4),
    ],
)
async def test_thinking_is_as_long_as_asked(client: AsyncOpenAI, more: dict[str, Any], expected: int) -> None:
    answer = await ask(client, "sandbox/think", "hello", **more)
    assert answer.usage.completion_tokens_details.reasoning_tokens == expected
    assert answer.choices[0].finish_reason == ("length" if "max_tokens" in more else "stop")


# --- json ---


async def test_json_fills_the_schema(client: AsyncOpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "age": {"type": "integer", "minimum": 18},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        },
        "required": ["city", "age", "tags"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    answer = await ask(client, "sandbox/json", "42세, 부산 거주", response_format=form)
    made = json.loads(answer.choices[0].message.content)
    assert made == {"city": "부산", "age": 42, "tags": ["sample tags", "sample tags 2"]}
    again = await ask(client, "sandbox/json", "42세, 부산 거주", response_format=form)
    assert again.choices[0].message.content == answer.choices[0].message.content


async def test_json_object_and_no_format(client: AsyncOpenAI) -> None:
    answer = await ask(client, "sandbox/json", "hello", response_format={"type": "json_object"})
    assert json.loads(answer.choices[0].message.content) == {"text": "hello"}
    assert (await ask(client, "sandbox/json", "hello")).choices[0].message.content == "hello"


async def test_tools_answers_in_json_where_asked_and_args_are_values(client: AsyncOpenAI) -> None:
    """Tools first, as an agent with a typed result has them; then the result."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "name": {"type": "string"}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    first = await ask(client, "sandbox/tools", "in 부산", tools=[CALCULATOR], response_format=form)
    assert first.choices[0].finish_reason == "tool_calls"
    messages = [
        *user("'나루' in 부산"),
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": first.choices[0].message.tool_calls[0].id, "content": "2"},
    ]
    body: Any = {"messages": messages, "tools": [CALCULATOR], "response_format": form}
    second = await client.chat.completions.create(model="sandbox/tools", **body)
    assert json.loads(second.choices[0].message.content) == {"city": "부산", "name": "나루"}
    third = await client.chat.completions.create(model='sandbox/tools?args={"city":"서울","more":1}', **body)
    assert json.loads(third.choices[0].message.content) == {"city": "서울", "name": "나루", "more": 1}
    free = await ask(client, 'sandbox/json?args={"a":[1]}', "x", response_format={"type": "json_object"})
    assert free.choices[0].message.content == '{"a":[1]}'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a customer named '你好啊集团' and \"나루\"", ["你好啊集团", "나루"]),
        ("“하나” 「둘」", ["하나", "둘"]),
        ("what's Tom's 'real name'", ["real name"]),
        ("nothing said", ["sample first_name", "sample title"]),
    ],
)
async def test_names_are_taken_from_quotation_marks(client: AsyncOpenAI, text: str, names: list[str]) -> None:
    """In their order; an apostrophe is no quotation mark."""
    properties = {"first_name": {"type": "string"}, "title": {"type": "string"}}
    function = {"name": "f", "parameters": {"type": "object", "properties": properties, "required": ["first_name"]}}
    if len(names) == 2:
        function["parameters"]["required"] = list(properties)  # type: ignore[index]
    answer = await ask(client, "sandbox/tools", text, tools=[{"type": "function", "function": function}])
    assert [list(arguments.values()) for _, arguments in calls_of(answer.choices[0].message)] == [names]


async def test_a_schema_without_a_value_is_refused_by_name(client: AsyncOpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="keyword 'not'") as caught:
        await ask(client, "sandbox/json", "x", response_format=form)
    assert caught.value.param == "response_format.json_schema"


# --- bad requests ---


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 10**9}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"extra_body": {"functions": []}}, "functions"),
    ],
)
async def test_a_bad_field_is_named(client: AsyncOpenAI, more: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, "sandbox/echo", "x", **more)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


async def test_a_tool_message_must_answer_a_call(client: AsyncOpenAI) -> None:
    orphan: list[Any] = [*user("x"), {"role": "tool", "tool_call_id": "c9", "content": "2"}]
    with pytest.raises(openai.BadRequestError, match="answers no tool call"):
        await client.chat.completions.create(model="echo", messages=orphan)
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    unanswered: list[Any] = [*user("x"), {"role": "assistant", "tool_calls": [call]}, *user("y")]
    with pytest.raises(openai.BadRequestError, match="c1"):
        await client.chat.completions.create(model="echo", messages=unanswered)


async def test_an_unknown_model_is_404(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="sandbox/echo, sandbox/tools") as caught:
        await ask(client, "sandbox/gpt", "x")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("ttft=3", "'ttft_ms'"),
        ("cut_afetr=3", "'cut_after'"),
        ("ttft_ms=soon", "ttft_ms"),
        ("fail_rate=2", "fail_rate"),
        ("status=200", "status"),
        ("tps=1&tps=2", "twice"),
        ("tps", "tps"),
        ("only=f", "sandbox/tools alone"),
        ("args={}", "sandbox/tools and sandbox/json alone"),
    ],
)
async def test_a_wrong_query_is_refused_and_the_nearest_key_named(client: AsyncOpenAI, query: str, says: str) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        await ask(client, f"sandbox/echo?{query}", "x")
    assert caught.value.code == "invalid_sandbox_query"


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a":'])
async def test_args_must_be_an_object(client: AsyncOpenAI, text: str) -> None:
    with pytest.raises(openai.BadRequestError, match="'args' must be a JSON object"):
        await ask(client, f"sandbox/tools?args={text}", "x")
