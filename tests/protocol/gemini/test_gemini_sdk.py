"""Google's own SDK is the judge: what it sends is understood, what we write it takes, streamed or not."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from naru.errors import RateLimited, UpstreamBroken
from naru.protocol.accumulate import accumulate
from naru.protocol.gemini import GEMINI
from naru.protocol.messages import (
    Choice,
    Event,
    Finish,
    Image,
    Reasoning,
    ReasoningDelta,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.http import Exchange, RawServer
from tests.protocol.gemini.samples import PLAIN, decoded, stream_envelope
from tests.protocol.samples import price

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")
types = genai.types

ANSWER = Response(
    "r1",
    "deepseek-flash",
    1_700_000_000,
    (
        Choice(
            0,
            (
                Reasoning("Let me see.", signature="not/base64 안녕"),
                Text("서울은 맑음."),
                ToolCall("call_1", "weather", '{"city":"서울","days":[1,2]}'),
                Image("data:image/png;base64,aGk="),
            ),
            "tool_calls",
        ),
    ),
    Usage(10, 12, cached=4, reasoning=7),
    dialect="openai_chat",
)
#: As a chat stream gives them: interleaved calls, usage after the end, no signature.
EVENTS: list[Event] = [
    Start("r1", "deepseek-flash", 1_700_000_000, dialect="openai_chat"),
    ReasoningDelta("Let me "),
    ReasoningDelta("see."),
    TextDelta("서울은 "),
    TextDelta('맑음 "☀".'),
    ToolCallStart(0, "call_1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallStart(1, "call_2", "clock"),
    ToolCallDelta(1, ""),
    ToolCallDelta(0, '"서울"}'),
    WholePart(Image("data:image/png;base64,aGk=")),
    Finish("tool_calls"),
    UsageReport(Usage(10, 12, cached=4, reasoning=7)),
]


def streamed(events: list[Event]) -> bytes:
    encoder = GEMINI.stream_encoder(stream_envelope(), price)
    return b"".join(map(encoder.event, events)) + encoder.close()


class Upstream:
    """A gateway reduced to its bytes: answers with what `answer` says."""

    def __init__(self) -> None:
        self.answer: Callable[[], tuple[int, bytes]] = lambda: (200, b"{}")
        self.server = RawServer(self._serve)

    def _serve(self, exchange: Exchange) -> None:
        status, body = self.answer()
        is_stream = "streamGenerate" in exchange.received.target and status == 200
        exchange.answer(status, body, (("content-type", "text/event-stream" if is_stream else "application/json"),))

    @property
    def envelope(self) -> Any:
        received = self.server.received[-1]
        return GEMINI.read(received.body, received.target)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.server.start()
    yield upstream
    await upstream.server.stop()


@pytest.fixture
async def models(upstream: Upstream) -> AsyncIterator[Any]:
    base = f"http://127.0.0.1:{upstream.server.port}"
    options = types.HttpOptions(base_url=base, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1))
    client = genai.Client(api_key="nk-test", http_options=options)
    yield client.aio.models
    await client.aio.aclose()
    client.close()


def city(location: str, days: int) -> str:
    """Weather of a city."""
    return location * days


async def test_what_the_sdk_sends_is_understood(upstream: Upstream, models: Any) -> None:
    """Every field a caller can set through the SDK lands in its typed place."""
    upstream.answer = lambda: (200, GEMINI.encode_response(ANSWER, stream_envelope()))
    contents = [
        types.Content(
            role="user",
            parts=[types.Part(text="날씨?"), types.Part.from_bytes(data=b"\xfb\xff", mime_type="image/png")],
        ),
        types.Content(role="model", parts=[types.Part.from_function_call(name="city", args={"location": "x"})]),
        types.Content(role="user", parts=[types.Part.from_function_response(name="city", response={"result": "비"})]),
    ]
    config = types.GenerateContentConfig(
        system_instruction="짧게",
        temperature=0.5, top_p=0.9, top_k=40, seed=7, max_output_tokens=100, stop_sequences=["끝"], candidate_count=1,
        response_logprobs=True, logprobs=2,
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration.from_callable(client=models._api_client, callable=city)])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY", allowed_function_names=["city"])),
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=512),
        safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
    )  # fmt: skip
    await models.generate_content(model="sandbox/echo", contents=contents, config=config)
    request = GEMINI.decode_request(upstream.envelope)
    assert (request.model, request.is_stream, request.max_output_tokens) == ("sandbox/echo", False, 100)
    assert [message.role for message in request.messages] == ["system", "user", "assistant", "tool"]
    assert request.messages[1].parts[1] == Image("data:image/png;base64,+/8=")
    (call,) = request.messages[2].parts
    (result,) = request.messages[3].parts
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert result.call_id == call.id
    assert result.parts == (Text("비"),)
    assert request.sampling.top_k == 40
    assert request.reasoning.budget_tokens == 512
    assert (request.tool_choice.mode, request.tool_choice.names) == ("named", ("city",))
    (tool,) = request.tools
    schema = json.loads(bytes(tool.parameters))
    assert schema["properties"]["days"]["type"] == "integer"
    assert "safetySettings" in request.extra
    sent = json.loads(OPENAI_CHAT.encode_request(request, PLAIN).body)
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]


async def test_the_sdk_takes_a_whole_answer(upstream: Upstream, models: Any) -> None:
    upstream.answer = lambda: (200, GEMINI.encode_response(ANSWER, stream_envelope()))
    found = await models.generate_content(model="m", contents="x")
    thought, text, call, image = found.candidates[0].content.parts
    assert (thought.text, thought.thought) == ("Let me see.", True)
    assert text.text == "서울은 맑음."
    assert (call.function_call.id, call.function_call.args) == ("call_1", {"city": "서울", "days": [1, 2]})
    assert image.inline_data.data == b"hi"
    usage = found.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (10, 5, 7)
    assert (usage.cached_content_token_count, usage.total_token_count) == (4, 22)
    assert (found.response_id, found.model_version) == ("r1", "deepseek-flash")
    assert found.candidates[0].finish_reason.value == "STOP"


async def test_a_foreign_signature_comes_back_from_the_sdk_unharmed(upstream: Upstream, models: Any) -> None:
    """The SDK turns it into bytes and back into another base64 alphabet; what reaches us is what was signed."""
    upstream.answer = lambda: (200, GEMINI.encode_response(ANSWER, stream_envelope()))
    found = await models.generate_content(model="m", contents="x")
    await models.generate_content(model="m", contents=[found.candidates[0].content])
    thought = GEMINI.decode_request(upstream.envelope).messages[0].parts[0]
    assert thought == Reasoning("Let me see.", "not/base64 안녕")


async def test_the_sdk_takes_a_stream(upstream: Upstream, models: Any) -> None:
    """Calls whole, texts in pieces, reason and usage at the end."""
    upstream.answer = lambda: (200, streamed(EVENTS))
    chunks = [chunk async for chunk in await models.generate_content_stream(model="m", contents="x")]
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    assert "".join(part.text for part in parts if part.thought) == "Let me see."
    assert "".join(part.text for part in parts if part.text and not part.thought) == '서울은 맑음 "☀".'
    calls = [part.function_call for part in parts if part.function_call]
    assert [(call.id, call.name, call.args) for call in calls] == [
        ("call_1", "weather", {"city": "서울"}),
        ("call_2", "clock", {}),
    ]
    assert [part.inline_data.data for part in parts if part.inline_data] == [b"hi"]
    assert chunks[-1].candidates[0].finish_reason.value == "STOP"
    assert chunks[-1].usage_metadata.total_token_count == 22
    assert all(chunk.candidates[0].finish_reason is None for chunk in chunks[:-1])
    assert upstream.envelope.is_stream


async def test_a_signature_goes_through_the_sdk_and_back(upstream: Upstream, models: Any) -> None:
    """Google's own thoughtSignature on a call, decoded, written, taken by the SDK, sent back: the same bytes."""
    signature = base64.b64encode(bytes(range(256))).decode()
    body = json.dumps(
        {
            "candidates": [
                {
                    "content": {"parts": [{"functionCall": {"name": "f"}, "thoughtSignature": signature}]},
                    "finishReason": "STOP",
                }
            ]
        }
    ).encode()
    decoded_answer = GEMINI.decode_response(body, PLAIN)
    upstream.answer = lambda: (200, GEMINI.encode_response(decoded_answer, stream_envelope()))
    found = await models.generate_content(model="m", contents="x")
    assert found.candidates[0].content.parts[0].thought_signature == bytes(range(256))
    await models.generate_content(model="m", contents=[found.candidates[0].content])
    sent = json.loads(GEMINI.forward(upstream.envelope, "m", PLAIN).body)["contents"][0]["parts"][0]["thoughtSignature"]
    assert base64.urlsafe_b64decode(sent) == bytes(range(256))


async def test_the_sdk_raises_our_errors(upstream: Upstream, models: Any) -> None:
    """Status, name and message of an error, before and inside a stream."""
    limited = RateLimited("Too many requests. Wait.", retry_after_s=1.5)
    upstream.answer = lambda: GEMINI.encode_error(limited)
    with pytest.raises(genai.errors.ClientError) as refused:
        await models.generate_content(model="m", contents="x")
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert refused.value.message == "Too many requests. Wait."

    begun = b"".join(map(GEMINI.stream_encoder(stream_envelope(), price).event, EVENTS[:4]))
    upstream.answer = lambda: (200, begun + GEMINI.encode_stream_error(UpstreamBroken("It broke off.")))
    stream = await models.generate_content_stream(model="m", contents="x")
    seen = [(await anext(stream)).candidates[0].content.parts[0].text for _ in range(3)]
    assert seen == ["Let me ", "see.", "서울은 "]
    with pytest.raises(genai.errors.ServerError, match="It broke off"):
        await anext(stream)


def test_the_stream_we_write_is_the_stream_we_read() -> None:
    """Events of another dialect, written and read again, add up to the same answer."""
    events, error = decoded([streamed(EVENTS)])
    assert error is None
    found, told = accumulate(events), accumulate(EVENTS)
    assert found.usage == told.usage
    kinds = (Reasoning, Text)
    assert [p for p in found.choices[0].parts if isinstance(p, kinds)] == [
        p for p in told.choices[0].parts if isinstance(p, kinds)
    ]
    assert found.choices[0].finish_reason == "tool_calls"
