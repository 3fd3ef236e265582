"""The official SDKs' helpers against a gateway: streams with accumulators, parsers, lists of models, token counts, what is
not stored."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pydantic
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from tests.harness import Gateway, another_key, running

TEXT = "안녕하세요 naru"
CITIES = "서울의 날씨와 부산의 날씨를 비교해줘"
RESULTS = "도구 결과입니다.\n- get_current_weather(서울): 서울: 맑음\n- get_current_weather(부산): 부산: 맑음"
LOCATION = {
    "type": "object",
    "properties": {"location": {"type": "string"}},
    "required": ["location"],
    "additionalProperties": False,
}
FUNCTION: Any = {"name": "get_current_weather", "description": "Weather now.", "parameters": LOCATION}
CHAT_TOOL: Any = {"type": "function", "function": {**FUNCTION, "strict": True}}
RESPONSES_TOOL: Any = {"type": "function", "strict": True, **FUNCTION}
MESSAGES_TOOL: Any = {"name": "get_current_weather", "description": "Weather now.", "input_schema": LOCATION}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path) as made:
        yield made


@pytest.fixture
async def claude(gateway: Gateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        yield client


def google(gateway: Gateway, version: str | None) -> genai.Client:
    options = types.HttpOptions(
        base_url=gateway.url, api_version=version, retry_options=types.HttpRetryOptions(attempts=1)
    )
    return genai.Client(api_key=gateway.key, http_options=options)


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


# --- openai -----------------------------------------------------------------------------------------------------------


async def test_chat_stream_helper(gateway: Gateway) -> None:
    """Its accumulator sees content, whole tool arguments and the usage, in this order of events."""
    chat = gateway.openai.chat.completions
    async with chat.stream(
        model="sandbox/tools", messages=user(CITIES), tools=[CHAT_TOOL], stream_options={"include_usage": True}
    ) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_completion()
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [{"location": "서울"}, {"location": "부산"}]
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.usage is not None
    async with chat.stream(model="sandbox/echo", messages=user(TEXT)) as stream:
        texts = [event.delta async for event in stream if event.type == "content.delta"]
    assert "".join(texts) == TEXT


async def test_chat_parse_helper(gateway: Gateway) -> None:
    """A class of pydantic's as the response format, plain and streamed."""
    chat = gateway.openai.chat.completions
    parsed = await chat.parse(model="sandbox/json", messages=user("x"), response_format=Person)
    assert isinstance(parsed.choices[0].message.parsed, Person)
    async with chat.stream(model="sandbox/json", messages=user("x"), response_format=Person) as stream:
        await stream.until_done()
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == parsed.choices[0].message.parsed
    called = await chat.parse(
        model="sandbox/tools", messages=user("x"), tools=[openai.pydantic_function_tool(Person)], tool_choice="required"
    )
    assert isinstance(called.choices[0].message.tool_calls[0].function.parsed_arguments, Person)


async def test_responses_stream_helper(gateway: Gateway) -> None:
    """The strict accumulator: every item opened, filled and closed under one id."""
    responses = gateway.openai.responses
    async with responses.stream(model="sandbox/tools", input=CITIES, tools=[RESPONSES_TOOL]) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [json.loads(item.arguments) for item in final.output] == [{"location": "서울"}, {"location": "부산"}]
    async with responses.stream(model="sandbox/think", input=TEXT) as stream:
        await stream.until_done()
        final = await stream.get_final_response()
    assert ([item.type for item in final.output], final.output_text) == (["reasoning", "message"], TEXT)
    assert final.usage.output_tokens_details.reasoning_tokens > 0


async def test_responses_parse_helper(gateway: Gateway) -> None:
    responses = gateway.openai.responses
    parsed = await responses.parse(model="sandbox/json", input="x", text_format=Person)
    assert isinstance(parsed.output_parsed, Person)
    async with responses.stream(model="sandbox/json", input="x", text_format=Person) as stream:
        await stream.until_done()
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed


async def test_responses_count_helper(gateway: Gateway) -> None:
    """More text, tools and a schema count for more; nothing is billed, and what only OpenAI keeps is refused by name."""
    tokens = gateway.openai.responses.input_tokens
    short = await tokens.count(model="sandbox/echo", input=TEXT)
    long = await tokens.count(model="sandbox/echo", input=TEXT * 100, instructions="Be brief.")
    tools = await tokens.count(model="sandbox/echo", input=TEXT, tools=[RESPONSES_TOOL])
    form: Any = {"format": {"type": "json_schema", "name": "n", "schema": Person.model_json_schema()}}
    schema = await tokens.count(model="sandbox/echo", input=TEXT, text=form)
    assert short.object == "response.input_tokens"
    assert short.input_tokens < tools.input_tokens < long.input_tokens
    assert short.input_tokens < schema.input_tokens
    with pytest.raises(openai.BadRequestError) as caught:
        await tokens.count(model="sandbox/echo", input=TEXT, previous_response_id="resp_1")
    assert caught.value.code == "previous_response_not_found"
    with pytest.raises(openai.NotFoundError):
        await tokens.count(model="no-such-model", input=TEXT)
    assert await gateway.entries() == []


async def test_responses_are_not_stored_and_say_so(gateway: Gateway) -> None:
    """In the answer itself, and to whoever asks for one again, in any way."""
    responses = gateway.openai.responses
    made = await responses.create(model="sandbox/echo", input=TEXT, store=True)
    assert (made.model_extra or {}).get("store", getattr(made, "store", None)) is False
    for ask in (
        responses.retrieve(made.id),
        responses.delete(made.id),
        responses.cancel(made.id),
        responses.input_items.list(made.id),
    ):
        with pytest.raises(openai.NotFoundError, match="not stored here") as caught:
            await ask
        assert (caught.value.code, caught.value.type) == ("response_not_found", "invalid_request_error")
    with pytest.raises(openai.NotFoundError, match="not compacted here") as caught:
        await responses.compact(model="sandbox/echo", input=TEXT)
    assert caught.value.code == "unsupported_endpoint"
    stranger = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="nk-x", max_retries=0)
    async with stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.responses.retrieve("resp_1")


async def test_openai_lists_models(gateway: Gateway) -> None:
    models = {model.id: model async for model in gateway.openai.models.list()}
    assert (models["sandbox/echo"].object, models["sandbox/echo"].owned_by) == ("model", "sandbox")
    assert (await gateway.openai.models.retrieve("sandbox/echo")).id == "sandbox/echo"
    with pytest.raises(openai.NotFoundError) as caught:
        await gateway.openai.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


# --- anthropic --------------------------------------------------------------------------------------------------------


async def test_messages_with_thinking_and_tools(claude: anthropic.AsyncAnthropic) -> None:
    """Plain and by the accumulator of its stream: blocks in order, whole inputs; thinking goes back as it came."""
    thought: Any = {"type": "enabled", "budget_tokens": 1024}
    body: Any = {"model": "sandbox/think", "max_tokens": 2000, "messages": user(TEXT), "thinking": thought}
    plain = await claude.messages.create(**body)
    async with claude.messages.stream(**body) as stream:
        texts = "".join([text async for text in stream.text_stream])
        streamed = await stream.get_final_message()
    assert texts == TEXT
    for message in (plain, streamed):
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert (message.stop_reason, message.content[1].text) == ("end_turn", TEXT)
    assert plain.usage.output_tokens == streamed.usage.output_tokens
    again = [*user(TEXT), {"role": "assistant", "content": plain.content}, *user("again")]
    answer = await claude.messages.create(**{**body, "messages": again})
    assert answer.content[1].text == "again"
    async with claude.messages.stream(
        model="sandbox/tools", max_tokens=2000, messages=user(CITIES), tools=[MESSAGES_TOOL]
    ) as stream:
        called = await stream.get_final_message()
    assert [block.input for block in called.content] == [{"location": "서울"}, {"location": "부산"}]
    assert called.stop_reason == "tool_use"


async def test_messages_parse_helper(claude: anthropic.AsyncAnthropic) -> None:
    parsed = await claude.messages.parse(model="sandbox/json", max_tokens=500, messages=user("x"), output_format=Person)
    assert isinstance(parsed.parsed_output, Person)


async def test_messages_tool_runner(claude: anthropic.AsyncAnthropic) -> None:
    """The SDK's own loop: it calls the functions and asks again until the model is done."""

    @anthropic.beta_async_tool
    async def get_current_weather(location: str) -> str:
        """Weather now."""
        return f"{location}: 맑음"

    runner = claude.beta.messages.tool_runner(
        model="sandbox/tools", max_tokens=1000, messages=user(CITIES), tools=[get_current_weather]
    )
    final = await runner.until_done()
    assert final.content[0].text == RESULTS


async def test_messages_count_helper(claude: anthropic.AsyncAnthropic) -> None:
    """With tools and thinking, which it takes as it takes them in a request."""
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    body: Any = {"model": "sandbox/echo", "messages": user(TEXT), "thinking": thinking}
    short = await claude.messages.count_tokens(**body)
    tools = await claude.messages.count_tokens(**body, tools=[MESSAGES_TOOL], system="Be brief.")
    assert 0 < short.input_tokens < tools.input_tokens


async def test_anthropic_lists_models(gateway: Gateway, claude: anthropic.AsyncAnthropic) -> None:
    """In Anthropic's own form, and its errors too, on the path that OpenAI's clients use as well."""
    models = {model.id: model async for model in claude.models.list(limit=2)}
    assert models["sandbox/echo"].model_dump(exclude_none=True).keys() >= {"type", "display_name", "created_at"}
    assert (await claude.models.retrieve("sandbox/echo")).type == "model"
    get = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {gateway.key}\r\nanthropic-version: 2023-06-01\r\n"
    page = json.loads((await gateway.raw(f"{get}connection: close\r\n\r\n".encode())).partition(b"\r\n\r\n")[2])
    assert page.keys() == {"data", "has_more", "first_id", "last_id"}
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
    with pytest.raises(anthropic.NotFoundError) as caught:
        await claude.models.retrieve("no-such-model")
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == "not_found_error"


async def test_a_key_of_the_environment_beside_ours_does_no_harm(gateway: Gateway) -> None:
    """ANTHROPIC_API_KEY is set on many machines; a client may then send both, and ours is the bearer token."""
    for first, second in (
        ("x-api-key: sk-ant", "authorization: Bearer {}"),
        ("authorization: Bearer {}", "x-api-key: sk"),
    ):
        head = f"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{first}\r\n{second}\r\n\r\n"
        assert b" 200 " in (await gateway.raw(head.format(gateway.key).encode())).split(b"\r\n")[0]


# --- google-genai -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, "v1", "v1beta"])
async def test_gemini_count_helper(gateway: Gateway, version: str | None) -> None:
    client = google(gateway, version)
    try:
        short = await client.aio.models.count_tokens(model="sandbox/echo", contents=TEXT)
        long = await client.aio.models.count_tokens(model="sandbox/echo", contents=[TEXT] * 100)
        assert 0 < short.total_tokens < long.total_tokens
        with pytest.raises(genai_errors.ClientError) as caught:
            await client.aio.models.count_tokens(model="no-such-model", contents=TEXT)
        assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
        assert await gateway.entries() == []
    finally:
        await client.aio.aclose()
        client.close()


async def test_gemini_calls_python_functions(gateway: Gateway) -> None:
    """The SDK's own loop, in a chat: it calls the functions and asks again until the model is done."""

    def get_current_weather(location: str) -> str:
        """Weather now."""
        return f"{location}: 맑음"

    client = google(gateway, None)
    config = types.GenerateContentConfig(tools=[get_current_weather])
    chat = client.aio.chats.create(model="sandbox/tools", config=config)
    answer = await chat.send_message(CITIES)
    assert answer.text.replace('{"result":"', "").replace('"}', "") == RESULTS
    assert "get_current_weather" in (await chat.send_message(CITIES)).text
    await client.aio.aclose()
    client.close()


async def test_gemini_counts_a_whole_request(gateway: Gateway) -> None:
    """In a generateContentRequest stand the system instruction and the tools."""
    contents = [{"role": "user", "parts": [{"text": TEXT}]}]
    whole = {"contents": contents, "tools": [{"functionDeclarations": [{"name": "f", "description": "Does it."}]}]}
    counts = []
    for body in ({"contents": contents}, {"generateContentRequest": {"model": "models/sandbox/echo", **whole}}, whole):
        status, _, answer = await gateway.post(json.dumps(body).encode(), "/v1beta/models/sandbox%2Fecho:countTokens")
        assert status == 200
        counts.append(json.loads(answer)["totalTokens"])
    assert counts[0] < counts[1] == counts[2]
    for body, says in (
        (b"{", "in the middle of the JSON"),
        (b"{}", "contents"),
        (b'{"generateContentRequest":{}}', "contents"),
    ):
        status, _, answer = await gateway.post(body, "/v1beta/models/sandbox/echo:countTokens")
        assert (status, json.loads(answer)["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert says in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_gemini_lists_models(gateway: Gateway, version: str) -> None:
    gemini = google(gateway, version)
    models = {model.name: model async for model in await gemini.aio.models.list()}
    assert "countTokens" in models["models/sandbox/echo"].supported_actions
    assert (await gemini.aio.models.get(model="sandbox/echo")).name == "models/sandbox/echo"
    with pytest.raises(genai_errors.ClientError) as caught:
        await gemini.aio.models.get(model="no-such-model")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    await gemini.aio.aclose()
    gemini.close()


async def test_methods_of_googles_that_are_not_here_are_named(gateway: Gateway) -> None:
    """Not "use GET": the model's name is in the path, and behind it what can be asked of it."""
    client = google(gateway, None)
    with pytest.raises(genai_errors.ClientError, match=r"generateContent, .*countTokens.* /v1/embeddings") as caught:
        await client.aio.models.embed_content(model="sandbox/embed", contents=TEXT)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    await client.aio.aclose()
    client.close()


# --- All --------------------------------------------------------------------------------------------------------------


async def test_counts_and_lists_keep_to_the_models_of_the_key(gateway: Gateway) -> None:
    """No endpoint tells of a model, or counts for it, that the key may not call."""
    key = await another_key(gateway, models=["sandbox/echo"])
    posts = {
        "/v1/responses/input_tokens": {"model": "sandbox/think", "input": "x"},
        "/v1beta/models/sandbox/think:countTokens": {"contents": [{"parts": [{"text": "x"}]}]},
        "/v1/messages/count_tokens": {"model": "sandbox/think", "messages": user("x")},
    }
    for path, body in posts.items():
        status, _, _ = await gateway.post(json.dumps(body).encode(), path, authorization=f"Bearer {key}")
        assert (path, status) == (path, 403)
    for path in ("/v1/models/sandbox/think", "/v1beta/models/sandbox/think"):
        head = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n"
        assert b" 403 " in (await gateway.raw(head.encode())).split(b"\r\n")[0]
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        assert [model.id async for model in client.models.list()] == ["sandbox/echo"]


async def test_probes_of_the_address_are_answered(gateway: Gateway) -> None:
    """HEAD and GET of `/`, without a key and without a redirect."""
    for method in ("HEAD", "GET"):
        answer = await gateway.raw(f"{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert (b'"naru"' in body) == (method == "GET")
