"""NAVER CLOVA Studio's native v3, as the sandbox speaks it, as strict as the service (reference/providers.md A1.3 to A1.7).

`POST /v3/chat-completions/HCX-007-think`: before the last dash the model whose rules hold (HCX-007, HCX-005, HCX-DASH-002), after
it the sandbox's own. A stream is asked for by `Accept: text/event-stream`.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import msgspec

from naru.errors import NaruError
from naru.testing.http import Headers, Received
from naru.testing.sandbox import wire
from naru.testing.sandbox.answers import Answer
from naru.testing.sandbox.clova_request import Body, Chosen, Message, check, decode
from naru.testing.sandbox.request import ChatRequest, checked
from naru.testing.sandbox.speech import behaviour_of

PATH = "/v3/chat-completions/"
_OK = "20000"
_THINKING_LIMITS = {"none": 512, "low": 5120, "medium": 10_240, "high": 20_480}
#: What is no 400: HTTP status -> the code of its family (A1.7).
_CODES = {401: "40100", 403: "40300", 404: "40400", 408: "40800", 413: "41300", 429: "42901", 504: "50400"}


class Clova:
    """See speech.Speech."""

    stream_type = "text/event-stream;charset=UTF-8"

    def read(self, received: Received) -> ChatRequest:
        rules, model = behaviour_of(unquote(received.path.removeprefix(PATH)))
        body = decode(received.body)
        effort = check(body, rules)
        is_stream = "text/event-stream" in (received.header("accept") or "")
        return checked(msgspec.convert(_as_openai(body, model, effort, is_stream), ChatRequest))

    def frame(self, number: int, request: ChatRequest, created: int) -> ClovaFrame:
        return ClovaFrame(f"chatcmpl-sandbox-{number:06d}", created)

    def refusal(self, failure: NaruError) -> tuple[int, Headers, bytes]:
        code = failure.code or ""
        if not (code.isdigit() and len(code) == 5):
            code = "40080" if code == "model_not_found" else _code(failure.status)
        said = {"status": {"code": code, "message": failure.message}, "result": None}
        return int(code) // 100, (), msgspec.json.encode(said)

    def fault(self, status: int) -> tuple[Headers, bytes]:
        return (), msgspec.json.encode({"status": _fault(status)})


def _code(status: int) -> str:
    return _CODES.get(status, f"{status}00")


def _fault(status: int) -> dict[str, str]:
    return {"code": _code(status), "message": wire.fault_message(status)}


# --- Read -------------------------------------------------------------------------------------------------------------


def _as_openai(body: Body, model: str, effort: str, is_stream: bool) -> dict[str, Any]:
    """What OpenAI's client would have asked for."""
    asked: dict[str, Any] = {"model": model, "messages": [_message(one) for one in body.messages], "stream": is_stream}
    if effort:
        asked["reasoning_effort"] = effort
    if body.tools:
        asked["tools"] = msgspec.to_builtins(body.tools)
        choice = body.toolChoice
        asked["tool_choice"] = msgspec.to_builtins(choice) if isinstance(choice, Chosen) else choice or "auto"
    if body.responseFormat is not None:
        form = {"name": "answer", "schema": body.responseFormat.schema}
        asked["response_format"] = {"type": "json_schema", "json_schema": form}
    if body.stop:
        asked["stop"] = body.stop
    asked["max_tokens"] = body.maxTokens or body.maxCompletionTokens or _THINKING_LIMITS.get(effort)
    return asked


def _message(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if isinstance(message.content, list):
        made["content"] = [{"type": part.type, "text": part.text} for part in message.content]
    if message.toolCalls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": json.dumps(call.function.arguments)},
            }
            for call in message.toolCalls
        ]
    if message.toolCallId is not None:
        made["tool_call_id"] = message.toolCallId
    return made


# --- Written ----------------------------------------------------------------------------------------------------------


class ClovaFrame(msgspec.Struct, frozen=True):
    """See speech.Frame. The last event repeats the whole message; `signal` says nothing (A1.5)."""

    id: str
    created: int

    def whole(self, answer: Answer, n: int, top_logprobs: int | None, usage: Any) -> bytes:
        return msgspec.json.encode({"status": {"code": _OK, "message": "OK"}, "result": self._result(answer, usage)})

    def opening(self, answer: Answer, n: int) -> bytes:
        return b""

    def step(self, step: wire.Step) -> bytes:
        delta = step[1]
        if "reasoning_content" in delta:
            return self._token({"thinkingContent": delta["reasoning_content"]})
        if "content" in delta:
            return self._token({"content": delta["content"]})
        (call,) = delta["tool_calls"]
        function = call["function"]
        if "id" in call:
            return self._token({"content": "", "toolCalls": [_call(call["id"], {"name": function["name"]})]})
        piece = {"type": "function", "function": {"partialJson": function["arguments"]}}
        return self._token({"content": "", "toolCalls": [piece]})

    def closing(self, answer: Answer, n: int, told: Any, is_twice: bool) -> bytes:
        return self._event("result", self._result(answer, told))

    def done(self) -> bytes:
        return self._event("signal", {"data": "[DONE]"})

    def garbage(self) -> bytes:
        return b'id:garbage\nevent:token\ndata:{"message":{"role":"assistant","content":\n\n'

    def failure(self, status: int) -> bytes:
        return self._event("error", {"status": _fault(status)})

    def _token(self, message: dict[str, Any]) -> bytes:
        told = {"message": {"role": "assistant", **message}, "finishReason": None, "created": self.created}
        return self._event("token", {**told, "seed": 0, "usage": None})

    def _event(self, kind: str, data: dict[str, Any]) -> bytes:
        """Without a space after the colons, as the service writes them."""
        return f"id:{self.id}\nevent:{kind}\ndata:".encode() + msgspec.json.encode(data) + b"\n\n"

    def _result(self, answer: Answer, told: Any) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.content)}
        if answer.reasoning:
            message["thinkingContent"] = "".join(answer.reasoning)
        if answer.calls:
            message["toolCalls"] = [
                _call(wire.call_id(self.id, 0, at), {"name": call.name, "arguments": _object("".join(call.arguments))})
                for at, call in enumerate(answer.calls)
            ]
        result = {"message": message, "finishReason": answer.finish, "created": self.created, "seed": 0}
        return {**result, "usage": _usage(told)}


def _call(id: str, function: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": function}


def _object(text: str) -> Any:
    """Arguments cut short by a limit are no object: the service then tells what there is as text (unverified)."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _usage(told: Any) -> Any:
    if not isinstance(told, dict):
        return None
    return {
        "promptTokens": told["prompt_tokens"],
        "completionTokens": told["completion_tokens"],
        "totalTokens": told["total_tokens"],
        "completionTokensDetails": {"thinkingTokens": told["completion_tokens_details"]["reasoning_tokens"]},
    }
