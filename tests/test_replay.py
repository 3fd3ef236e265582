"""Tool loops of clients that drop reasoning, against upstreams that refuse a turn without it (providers.md A2.3, A4.4, A6.5)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import anthropic
import openai
import pytest
from openai import AsyncOpenAI

from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, another_key, running

TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
QUESTION: Any = {"role": "user", "content": "go"}


class Strict:
    """An upstream that answers with a call, and takes the result only beside what it thought before the call."""

    def __init__(self) -> None:
        self.server = RawServer(self.handle)

    def handle(self, exchange: Exchange) -> None:
        body = json.loads(exchange.received.body)
        first, again, refusal = self.answers(body)
        if not self.is_second(body):
            answer = first
        elif self.has_thought(body):
            answer = again
        else:
            exchange.answer(400, json.dumps(refusal).encode())
            return
        if self.wants_stream(exchange, body):
            exchange.start(200, (("content-type", "text/event-stream"),))
            exchange.send(self.stream(answer))
            exchange.end()
        else:
            exchange.answer(200, json.dumps(answer).encode())

    def wants_stream(self, exchange: Exchange, body: Any) -> bool:
        return body.get("stream") is True

    def answers(self, body: Any) -> tuple[Any, Any, Any]:
        raise NotImplementedError

    def is_second(self, body: Any) -> bool:
        raise NotImplementedError

    def has_thought(self, body: Any) -> bool:
        raise NotImplementedError

    def stream(self, answer: Any) -> bytes:
        raise NotImplementedError


class DeepSeek(Strict):
    def answers(self, body: Any) -> tuple[Any, Any, Any]:
        call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        told = {"role": "assistant", "content": None, "reasoning_content": "I need f.", "tool_calls": [call]}
        text = "reasoning_content in the thinking mode must be passed back"
        return self.chat(told, "tool_calls"), self.chat({"role": "assistant", "content": "done"}, "stop"), {
            "error": {"message": text, "type": "invalid_request_error", "param": None, "code": "invalid_request_error"}
        }  # fmt: skip

    def chat(self, message: Any, reason: str) -> Any:
        usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    def is_second(self, body: Any) -> bool:
        return any(message["role"] == "tool" for message in body["messages"])

    def has_thought(self, body: Any) -> bool:
        turns = [message for message in body["messages"] if message["role"] == "assistant"]
        return all(turn.get("reasoning_content") == "I need f." for turn in turns)

    def stream(self, answer: Any) -> bytes:
        message, reason = answer["choices"][0]["message"], answer["choices"][0]["finish_reason"]
        calls = [{"index": 0, **call} for call in message.pop("tool_calls", [])]
        deltas = [{name: value} for name, value in message.items()] + ([{"tool_calls": calls}] if calls else [])
        head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        chunks = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        chunks.append({**head, "choices": [], "usage": answer["usage"]})
        return b"".join(b"data: %b\n\n" % json.dumps(c).encode() for c in chunks) + b"data: [DONE]\n\n"


class Gemini(Strict):
    def answers(self, body: Any) -> tuple[Any, Any, Any]:
        call = {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2lnbmVk"}
        refusal = {"code": 400, "message": "Function call is missing a thought_signature", "status": "INVALID_ARGUMENT"}
        return self.told(call), self.told({"text": "done"}), {"error": refusal}

    def told(self, part: Any) -> Any:
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 5, "totalTokenCount": 10}
        candidate = {"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"}

    def wants_stream(self, exchange: Exchange, body: Any) -> bool:
        return "streamGenerateContent" in exchange.received.target

    def is_second(self, body: Any) -> bool:
        return any("functionResponse" in part for content in body["contents"] for part in content["parts"])

    def has_thought(self, body: Any) -> bool:
        parts = [part for content in body["contents"] for part in content["parts"] if "functionCall" in part]
        return [part.get("thoughtSignature") for part in parts] == ["c2lnbmVk"]

    def stream(self, answer: Any) -> bytes:
        return b"data: %b\r\n\r\n" % json.dumps(answer).encode()


class Claude(Strict):
    THOUGHT: ClassVar[Any] = {"type": "thinking", "thinking": "I need f.", "signature": "c2lnbmVk"}

    def answers(self, body: Any) -> tuple[Any, Any, Any]:
        call = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
        error = {"type": "invalid_request_error", "message": "Expected `thinking`, but found `tool_use`"}
        first = self.told([self.THOUGHT, call], "tool_use")
        return first, self.told([{"type": "text", "text": "done"}], "end_turn"), {"type": "error", "error": error}

    def told(self, content: Any, reason: str) -> Any:
        usage = {"input_tokens": 5, "output_tokens": 5}
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
        return {**head, "content": content, "stop_reason": reason, "usage": usage}

    def is_second(self, body: Any) -> bool:
        return "tool_result" in json.dumps(body["messages"])

    def has_thought(self, body: Any) -> bool:
        turn = next(message for message in body["messages"] if message["role"] == "assistant")
        return bool(turn["content"][0] == self.THOUGHT)

    def stream(self, answer: Any) -> bytes:
        events: list[Any] = [{"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}]
        for index, block in enumerate(answer["content"]):
            empty = {**block, **{k: "" for k in ("text", "thinking", "signature") if k in block}}
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            for key, kind in (("text", "text_delta"), ("thinking", "thinking_delta"), ("signature", "signature_delta")):
                if key in block:
                    delta = {"type": kind, key: block[key]}
                    events.append({"type": "content_block_delta", "index": index, "delta": delta})
            events.append({"type": "content_block_stop", "index": index})
        delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
        events += [{"type": "message_delta", "delta": delta, "usage": answer["usage"]}, {"type": "message_stop"}]
        return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


UPSTREAMS: dict[str, tuple[type[Strict], str, str]] = {
    "deepseek": (DeepSeek, "/v1", '"deepseek-flash", endpoint = "chat"'),
    "gemini": (Gemini, "/v1beta", '"gemini-3-flash-preview"'),
    "anthropic": (Claude, "/v1", '"claude-sonnet-4-6"'),
}


@pytest.fixture(params=UPSTREAMS)
async def loop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Gateway, Strict]]:
    make, prefix, model = UPSTREAMS[request.param]
    upstream = make()
    origin = await upstream.server.start()
    config = f"""
    [providers.{request.param}]
    base_url = "{origin}{prefix}"
    api_key = "key"
    allow_private = true
    [models.m]
    deployments = [{{ provider = "{request.param}", model = {model} }}]
    price = {{ input = 1, output = 1 }}
    """
    async with running(tmp_path, config) as gateway:
        yield gateway, upstream
    await upstream.server.stop()


async def first_turn(client: AsyncOpenAI, is_stream: bool) -> Any:
    """The call, as a client that knows nothing of reasoning keeps it."""
    if not is_stream:
        answer = await client.chat.completions.create(model="m", messages=[QUESTION], tools=[TOOL])
        call = answer.choices[0].message.tool_calls[0]  # type: ignore[index]
    else:
        async with client.chat.completions.stream(model="m", messages=[QUESTION], tools=[TOOL]) as stream:
            completion = await stream.get_final_completion()
        call = completion.choices[0].message.tool_calls[0]  # type: ignore[index]
    function = {"name": call.function.name, "arguments": call.function.arguments}  # type: ignore[union-attr]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call.id, "type": "function", "function": function}],
    }


def history(turn: Any) -> list[Any]:
    return [QUESTION, turn, {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "1"}]


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
async def test_the_loop_of_an_openai_client_goes_on(loop: tuple[Gateway, Strict], is_stream: bool) -> None:
    """The client sends back the bare call; the upstream gets what it thought, byte for byte."""
    client = loop[0].openai
    turn = await first_turn(client, is_stream)
    answer = await client.chat.completions.create(model="m", messages=history(turn), tools=[TOOL])
    assert answer.choices[0].message.content == "done"


async def test_a_loop_may_change_its_protocol(loop: tuple[Gateway, Strict]) -> None:
    """Begun by the Anthropic client without its thinking, ended by OpenAI's Responses client: one caller, one memory."""
    gateway, _ = loop
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        tool: Any = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
        message = await client.messages.create(model="m", max_tokens=100, messages=[QUESTION], tools=[tool])
    call: Any = next(block for block in message.content if block.type == "tool_use")
    answer = await gateway.openai.responses.create(
        model="m",
        input=[
            QUESTION,
            {"type": "function_call", "call_id": call.id, "name": "f", "arguments": json.dumps(call.input)},
            {"type": "function_call_output", "call_id": call.id, "output": "1"},
        ],
        tools=[{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}],
    )
    assert answer.output_text == "done"


async def test_another_key_recalls_nothing(loop: tuple[Gateway, Strict]) -> None:
    """The same history under another key: the upstream's own refusal comes through, and nobody's thoughts leak."""
    gateway, upstream = loop
    turn = await first_turn(gateway.openai, False)
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=await another_key(gateway), max_retries=0) as other:
        with pytest.raises(openai.BadRequestError):
            await other.chat.completions.create(model="m", messages=history(turn), tools=[TOOL])
    assert b"I need f." not in upstream.server.received[-1].body
    assert b"c2lnbmVk" not in upstream.server.received[-1].body
