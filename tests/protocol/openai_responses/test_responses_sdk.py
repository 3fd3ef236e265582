"""The official OpenAI SDK reads what we write: whole answers, streams through its strict accumulator, and errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response as SdkResponse

from naru.errors import UpstreamBroken
from naru.protocol.accumulate import response_events
from naru.protocol.dialect import Envelope
from naru.protocol.messages import (
    Choice,
    Event,
    Finish,
    Image,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.testing.http import Exchange, RawServer
from tests.protocol.openai_responses.samples import PLAIN
from tests.protocol.samples import HEAD, compact, price
from tests.protocol.samples import event as chat_event

Ask = Callable[[Callable[[Envelope], bytes], bool], Awaitable[AsyncOpenAI]]

START = Start("chatcmpl-1", "deepseek", 7, dialect="openai_chat")
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "name": "weather", "parameters": WEATHER, "strict": True},
    {
        "type": "custom",
        "name": "apply_patch",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
    },
    {
        "type": "namespace",
        "name": "crm",
        "description": "",
        "tools": [{"type": "function", "name": "find", "parameters": {}}],
    },
]


@pytest.fixture
async def serve() -> AsyncIterator[Ask]:
    """`serve(make, is_stream)`: a client of a server that answers every request with what `make` makes of it."""
    started: list[Any] = []

    async def ask(make: Callable[[Envelope], bytes], is_stream: bool) -> AsyncOpenAI:
        def handler(exchange: Exchange) -> None:
            content_type = "text/event-stream; charset=utf-8" if is_stream else "application/json"
            data = make(OPENAI_RESPONSES.read(exchange.received.body))
            exchange.answer(200, data, (("content-type", content_type),))

        server = RawServer(handler)
        client = AsyncOpenAI(base_url=await server.start(), api_key="k", max_retries=0, timeout=5)
        started.extend([client, server])
        return client

    yield ask
    for each in started:
        await (each.close() if isinstance(each, AsyncOpenAI) else each.stop())


def encoded(events: list[Event]) -> Callable[[Envelope], bytes]:
    def make(envelope: Envelope) -> bytes:
        encoder = OPENAI_RESPONSES.stream_encoder(envelope, price)
        return b"".join(map(encoder.event, events)) + encoder.close()

    return make


async def streamed(client: AsyncOpenAI, **more: Any) -> tuple[list[Any], Any]:
    arguments: dict[str, Any] = {"model": "m", "input": "hi", "tools": TOOLS, **more}
    async with client.responses.stream(**arguments) as stream:
        seen = [event async for event in stream]
        return seen, await stream.get_final_response()


async def test_a_stream_of_everything(serve: Ask) -> None:
    """Thinking, text, a refusal, calls in pieces that take turns, a picture: the accumulator takes it and shows all of it."""
    events: list[Event] = [
        START,
        ReasoningDelta("Look "),
        ReasoningDelta("up", signature="sig"),
        ReasoningDelta("Then", part=1),
        TextDelta("안녕 "),
        TextDelta("👋"),
        RefusalDelta("but no"),
        ToolCallStart(0, "call_a", "weather"),
        ToolCallStart(1, "call_b", "apply_patch"),
        ToolCallDelta(0, '{"city":'),
        ToolCallDelta(1, '{"input":"*** Begin'),
        ToolCallStart(2, "call_c", "crm__find"),
        ToolCallDelta(0, '"서울"}'),
        ToolCallDelta(1, '\\nPatch"}'),
        ToolCallDelta(2, "{}"),
        WholePart(Image("data:image/png;base64,AAAA")),
        Finish("tool_calls"),
        UsageReport(Usage(input=10, output=5, cached=3, reasoning=2)),
    ]
    seen, final = await streamed(await serve(encoded(events), True))
    SdkResponse.model_validate(final.model_dump(warnings=False))
    kinds = [(item.type, item.id) for item in final.output]
    assert kinds == [
        ("reasoning", "rs_chatcmpl-1_0"),
        ("reasoning", "rs_chatcmpl-1_1"),
        ("message", "msg_chatcmpl-1_2"),
        ("function_call", "fc_chatcmpl-1_3"),
        ("custom_tool_call", "ctc_chatcmpl-1_4"),
        ("function_call", "fc_chatcmpl-1_5"),
        ("image_generation_call", "ig_chatcmpl-1_6"),
    ]
    first, second, message, weather, patch, find, image = final.output
    assert (first.summary[0].text, second.summary[0].text) == ("Look up", "Then")
    assert first.encrypted_content
    assert second.encrypted_content is None
    assert final.output_text == "안녕 👋"
    assert message.content[1].refusal == "but no"
    assert (weather.call_id, weather.parsed_arguments) == ("call_a", {"city": "서울"})
    assert (patch.call_id, patch.name, patch.input) == ("call_b", "apply_patch", "*** Begin\nPatch")
    assert (find.name, find.namespace, find.arguments) == ("find", "crm", "{}")
    assert image.result == "AAAA"
    assert final.status == "completed"
    assert final.usage.input_tokens_details.cached_tokens == 3
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert [event.delta for event in seen if event.type == "response.output_text.delta"] == ["안녕 ", "👋"]
    assert "".join(e.delta for e in seen if e.type == "response.custom_tool_call_input.delta") == "*** Begin\nPatch"
    dones = [event.output_index for event in seen if event.type == "response.output_item.done"]
    assert sorted(dones) == list(range(7))


async def test_a_chat_stream_reaches_a_responses_client(serve: Ask) -> None:
    """What chat's decoder makes of an upstream is a stream the accumulator takes, usage after the finish included."""
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "Hel"},
        {"content": "lo"},
        {
            "tool_calls": [
                {"index": 0, "id": "call_a", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":"x"}'}}]},
    ]
    chunks = [{**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append({**HEAD, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}})
    decoder = OPENAI_CHAT.stream_decoder(PLAIN)
    events = decoder.feed(b"".join(map(chat_event, chunks)) + b"data: [DONE]\n\n") + decoder.close()
    _, final = await streamed(await serve(encoded(events), True))
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]
    assert (final.output_text, final.usage.total_tokens) == ("Hello", 7)
    assert final.usage.naru == {"cost_usd": 0.000007}


async def test_an_answer_cut_by_its_limit(serve: Ask) -> None:
    """length: the stream ends with response.incomplete and says why."""
    events: list[Event] = [START, TextDelta("Once"), Finish("length")]
    client = await serve(encoded(events), True)
    stream = await client.responses.create(model="m", input="hi", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output[0].status == "incomplete"  # type: ignore[union-attr]


async def test_an_error_in_the_stream_is_raised(serve: Ask) -> None:
    """The gateway's error event ends the stream with the SDK's own exception."""

    def make(envelope: Envelope) -> bytes:
        encoder = OPENAI_RESPONSES.stream_encoder(envelope, price)
        begun = encoder.event(START) + encoder.event(TextDelta("Hel"))
        return begun + OPENAI_RESPONSES.encode_stream_error(UpstreamBroken("It broke. Try again."))

    with pytest.raises(openai.APIError, match=r"It broke\. Try again\."):
        await streamed(await serve(make, True))


RESPONSE = Response(
    "msg_1",
    "claude",
    7,
    (
        Choice(
            0,
            (
                Reasoning("Look up", "sig"),
                Text("Hello"),
                Refusal("no"),
                ToolCall("call_a", "weather", '{"city":"x"}'),
                ToolCall("call_b", "apply_patch", '{"input":"p"}'),
            ),
            "tool_calls",
        ),
    ),
    Usage(input=10, output=5),
    dialect="anthropic_messages",
)


async def test_a_whole_answer(serve: Ask) -> None:
    """Every field the SDK's type asks for is there, the request's own echoed."""
    client = await serve(lambda envelope: OPENAI_RESPONSES.encode_response(RESPONSE, envelope), False)
    asked: dict[str, Any] = {
        "instructions": "Be kind.",
        "metadata": {"a": "b"},
        "temperature": 0.5,
        "tool_choice": {"type": "function", "name": "weather"},
        "text": {"verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
    }
    found = await client.responses.create(model="m", input="hi", tools=TOOLS, **asked)
    SdkResponse.model_validate(found.model_dump())
    echoed = found.model_dump()
    assert (echoed["instructions"], echoed["metadata"], echoed["temperature"]) == ("Be kind.", {"a": "b"}, 0.5)
    assert found.text is not None
    assert (found.text.verbosity, found.text.format) == ("low", found.text.format)
    assert (found.id, found.output_text, found.status) == ("resp_msg_1", "Hello", "completed")
    assert (found.parallel_tool_calls, found.store) == (True, False)  # type: ignore[attr-defined]
    assert [item.type for item in found.output] == ["reasoning", "message", "function_call", "custom_tool_call"]


async def test_the_stream_and_the_whole_are_the_same_answer(serve: Ask) -> None:
    """A stored answer told as a stream ends in the very object that it is when told whole, its cost aside."""
    whole = await serve(lambda envelope: OPENAI_RESPONSES.encode_response(RESPONSE, envelope), False)
    found = (await whole.responses.create(model="m", input="hi", tools=TOOLS)).model_dump()
    client = await serve(encoded(response_events(RESPONSE)), True)
    stream = await client.responses.create(model="m", input="hi", tools=TOOLS, stream=True)
    final: Any = [event async for event in stream][-1]
    told = final.response.model_dump()
    del told["usage"]["naru"]
    assert told == found


async def test_what_a_client_sends_back_is_understood(serve: Ask) -> None:
    """The SDK's own output as the next input: signature, custom text and namespace are what they were."""
    client = await serve(lambda envelope: OPENAI_RESPONSES.encode_response(RESPONSE, envelope), False)
    found = await client.responses.create(model="m", input="hi", tools=TOOLS)
    items = [item.model_dump(mode="json", exclude_none=True) for item in found.output]
    body = compact({"model": "m", "input": [{"role": "user", "content": "hi"}, *items]})
    turn = OPENAI_RESPONSES.decode_request(OPENAI_RESPONSES.read(body)).messages[1]
    thought, text, refusal, weather, patch = turn.parts
    assert isinstance(thought, Reasoning)
    assert (thought.text, thought.signature) == ("Look up", "sig")
    assert isinstance(text, Text)
    assert text.text == "Hello"
    assert refusal == Refusal("no")
    assert isinstance(weather, ToolCall)
    assert isinstance(patch, ToolCall)
    assert (weather.id, weather.arguments) == ("call_a", '{"city":"x"}')
    assert (patch.id, patch.name, json.loads(patch.arguments)) == ("call_b", "apply_patch", {"input": "p"})
