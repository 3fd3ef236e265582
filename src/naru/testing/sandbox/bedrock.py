"""Amazon Bedrock's Converse, as the sandbox speaks it, as strict as the API's description.

`POST /model/anthropic.claude-haiku-5-5-think/converse` and `…/converse-stream`: the sandbox's model stands after the last dash.
Any credential is taken. Streams are frames of application/vnd.amazon.eventstream.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from typing import Any
from urllib.parse import unquote

import msgspec

from naru.errors import NaruError, NotFound
from naru.testing.http import Headers, Received
from naru.testing.sandbox import wire
from naru.testing.sandbox.answers import Answer
from naru.testing.sandbox.bedrock_request import Body, Content, Message, check, decode
from naru.testing.sandbox.request import ChatRequest, checked
from naru.testing.sandbox.speech import behaviour_of

PATH = "/model/"
_STREAM = "/converse-stream"
_EXCEPTIONS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}


class Converse:
    """See speech.Speech."""

    stream_type = "application/vnd.amazon.eventstream"

    def read(self, received: Received) -> ChatRequest:
        model, _, operation = received.path.removeprefix(PATH).rpartition("/")
        if operation not in ("converse", "converse-stream"):
            raise NotFound(f"The sandbox has no operation {operation} of Bedrock.")
        body = decode(received.body)
        check(body)
        _, behaviour = behaviour_of(unquote(model))
        asked = _as_openai(body, behaviour, received.path.endswith(_STREAM))
        return checked(msgspec.convert(asked, ChatRequest))

    def frame(self, number: int, request: ChatRequest, created: int) -> ConverseFrame:
        return ConverseFrame(f"sandbox-{number:06d}")

    def refusal(self, failure: NaruError) -> tuple[int, Headers, bytes]:
        return failure.status, *_error(failure.status, failure.message)

    def fault(self, status: int) -> tuple[Headers, bytes]:
        return _error(status, wire.fault_message(status))


def _exception(status: int) -> str:
    return _EXCEPTIONS.get(status, "ValidationException" if status < 500 else "InternalServerException")


def _error(status: int, message: str) -> tuple[Headers, bytes]:
    return (("x-amzn-errortype", _exception(status)),), msgspec.json.encode({"message": message})


# --- Read -------------------------------------------------------------------------------------------------------------


def _as_openai(body: Body, model: str, is_stream: bool) -> dict[str, Any]:
    """What OpenAI's client would have asked for."""
    messages: list[dict[str, Any]] = []
    system = " ".join(block.text for block in body.system or () if block.text)
    if system:
        messages.append({"role": "system", "content": system})
    for message in body.messages:
        messages += _messages(message)
    asked: dict[str, Any] = {"model": model, "messages": messages, "stream": is_stream}
    limits = body.inferenceConfig
    if limits is not None:
        asked |= {"max_tokens": limits.maxTokens, "stop": limits.stopSequences}
    thinking = (body.additionalModelRequestFields or {}).get("thinking")
    asked["thinking"] = thinking if isinstance(thinking, dict) else {"type": "disabled"}
    if body.toolConfig is not None:
        asked |= _tools(body)
    form = body.outputConfig.textFormat if body.outputConfig is not None else None
    if form is not None:
        schema = {"name": "answer", "schema": json.loads(form.structure.jsonSchema.schema)}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    return asked


def _tools(body: Body) -> dict[str, Any]:
    assert body.toolConfig is not None
    specs = [tool.toolSpec for tool in body.toolConfig.tools if tool.toolSpec is not None]
    tools = [
        {"type": "function", "function": {"name": spec.name, "parameters": spec.inputSchema.json}} for spec in specs
    ]
    choice = body.toolConfig.toolChoice
    asked: dict[str, Any] = {"tools": tools, "tool_choice": "auto"}
    if choice is not None and choice.any is not None:
        asked["tool_choice"] = "required"
    elif choice is not None and choice.tool is not None:
        asked["tool_choice"] = {"type": "function", "function": {"name": choice.tool.name}}
    return asked


def _messages(message: Message) -> list[dict[str, Any]]:
    """One message of Converse: results are messages of their own, in front."""
    results = [
        {
            "role": "tool",
            "tool_call_id": block.toolResult.toolUseId,
            "content": " ".join(_said(part) for part in block.toolResult.content),
        }
        for block in message.content
        if block.toolResult is not None
    ]
    calls = [
        {
            "id": block.toolUse.toolUseId,
            "type": "function",
            "function": {"name": block.toolUse.name, "arguments": json.dumps(block.toolUse.input)},
        }
        for block in message.content
        if block.toolUse is not None
    ]
    parts = [part for block in message.content if (part := _part(block)) is not None]
    made: dict[str, Any] = {"role": message.role, "content": parts}
    if calls:
        made["tool_calls"] = calls
    return [*results, made] if parts or calls else list(results)


def _said(block: Content) -> str:
    return block.text if block.text is not None else json.dumps(block.json) if block.json is not None else "[file]"


def _part(block: Content) -> dict[str, Any] | None:
    if block.text is not None:
        return {"type": "text", "text": block.text}
    kinds = {"image_url": block.image, "file": block.document, "input_audio": block.audio}
    return next(({"type": kind} for kind, given in kinds.items() if given is not None), None)


# --- Written ----------------------------------------------------------------------------------------------------------


class ConverseFrame(msgspec.Struct):
    """See speech.Frame. `index` is that of the block that is open, -1 before the first; `kind` what it holds."""

    id: str
    index: int = -1
    kind: str = ""

    def whole(self, answer: Answer, n: int, top_logprobs: int | None, usage: Any) -> bytes:
        content: list[dict[str, Any]] = []
        if answer.reasoning:
            told = {"text": "".join(answer.reasoning), "signature": "c2FuZGJveA=="}
            content.append({"reasoningContent": {"reasoningText": told}})
        if answer.content:
            content.append({"text": "".join(answer.content)})
        for at, call in enumerate(answer.calls):
            use = {"toolUseId": wire.call_id(self.id, 0, at), "name": call.name, "type": "tool_use"}
            content.append({"toolUse": {**use, "input": _object("".join(call.arguments))}})
        body = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": _STOPS[answer.finish]}
        told_usage = _usage(usage)
        return msgspec.json.encode(
            {**body, "metrics": {"latencyMs": 1}, **({"usage": told_usage} if told_usage else {})}
        )

    def opening(self, answer: Answer, n: int) -> bytes:
        return event("messageStart", {"role": "assistant"})

    def step(self, step: wire.Step) -> bytes:
        delta = step[1]
        if "reasoning_content" in delta:
            return self._delta("thinking", {"reasoningContent": {"text": delta["reasoning_content"]}})
        if "content" in delta:
            return self._delta("text", {"text": delta["content"]})
        (call,) = delta["tool_calls"]
        if "id" not in call:
            return self._delta("call", {"toolUse": {"input": call["function"]["arguments"]}})
        closed = self._next("call")
        start = {"toolUse": {"toolUseId": call["id"], "name": call["function"]["name"]}}
        return closed + event("contentBlockStart", {"start": start, "contentBlockIndex": self.index})

    def closing(self, answer: Answer, n: int, told: Any, is_twice: bool) -> bytes:
        made = self._next("") + event("messageStop", {"stopReason": _STOPS[answer.finish]})
        usage = _usage(told)
        if usage is not None:
            made += event("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})
        return made

    def done(self) -> bytes:
        return b""

    def garbage(self) -> bytes:
        whole = event("contentBlockDelta", {"delta": {"text": "garbage"}, "contentBlockIndex": 0})
        return whole[:-1] + bytes([whole[-1] ^ 0xFF])

    def failure(self, status: int) -> bytes:
        name = _exception(status)
        headers = {":exception-type": name[0].lower() + name[1:], ":message-type": "exception"}
        return frame(headers, msgspec.json.encode({"message": wire.fault_message(status)}))

    def _delta(self, kind: str, delta: dict[str, Any]) -> bytes:
        closed = self._next(kind) if kind != self.kind else b""
        return closed + event("contentBlockDelta", {"delta": delta, "contentBlockIndex": self.index})

    def _next(self, kind: str) -> bytes:
        """Ends the open block; what follows is the next."""
        made = b""
        if self.kind == "thinking":
            delta = {"reasoningContent": {"signature": "c2FuZGJveA=="}}
            made += event("contentBlockDelta", {"delta": delta, "contentBlockIndex": self.index})
        if self.kind:
            made += event("contentBlockStop", {"contentBlockIndex": self.index})
        self.kind, self.index = kind, self.index + 1
        return made


def event(kind: str, data: dict[str, Any]) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, msgspec.json.encode({**data, "p": "abcd"}))  # the service pads, to hide lengths


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of the framing: https://smithy.io/2.0/aws/amazon-eventstream.html"""
    packed = b"".join(
        struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    body = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return body + struct.pack(">I", crc32(body))


def _object(text: str) -> Any:
    """Arguments cut short by a limit are no object."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {}


def _usage(told: Any) -> Any:
    """Cached tokens stand beside inputTokens, not in it."""
    if not isinstance(told, dict):
        return None
    cached = told["prompt_tokens_details"]["cached_tokens"]
    return {
        "inputTokens": told["prompt_tokens"] - cached,
        "outputTokens": told["completion_tokens"],
        "totalTokens": told["total_tokens"],
        "cacheReadInputTokens": cached,
        "cacheWriteInputTokens": 0,
    }
