"""OpenAI's shapes, as the sandbox writes them: answers, chunks, usage, errors. Every one says that it is a sandbox."""

from __future__ import annotations

from typing import Any

import msgspec

from naru.errors import NaruError
from naru.testing.http import Headers, Received
from naru.testing.sandbox.answers import Answer, Call
from naru.testing.sandbox.behaviour import MODELS, Behaviour
from naru.testing.sandbox.request import ChatRequest, read_request

FINGERPRINT = "sandbox"
GARBAGE_EVENT = b'data: {"id": "garbage", "choices": [{"index": 0, "delta": {"content": \n\n'
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
LOGPROB = -0.25

#: One piece of a stream: which choice, its delta, how many tokens it is, and its logprobs.
Step = tuple[int, dict[str, Any], int, dict[str, Any] | None]


class Frame(msgspec.Struct, frozen=True):
    """What every chunk of one answer repeats. See speech.Frame."""

    id: str
    model: str
    created: int
    has_usage: bool = False

    def opening(self, answer: Answer, n: int) -> bytes:
        delta: dict[str, Any] = {"role": "assistant", "content": None if answer.calls else ""}
        return b"".join(self.step((choice, delta, 0, None)) for choice in range(n))

    def closing(self, answer: Answer, n: int, told: Any, is_twice: bool) -> bytes:
        early = half(told) if is_twice and self.has_usage else None
        ending: dict[str, Any] = {"delta": {}, "logprobs": None, "finish_reason": answer.finish}
        made = b"".join(self.chunk([{"index": choice, **ending}], early) for choice in range(n))
        return made + (self.chunk([], told) if self.has_usage and told is not None else b"")

    def done(self) -> bytes:
        return b"data: [DONE]\n\n"

    def garbage(self) -> bytes:
        return GARBAGE_EVENT

    def failure(self, status: int) -> bytes:
        return b"data: " + told_to_fail(status) + b"\n\n"

    def chunk(self, choices: list[dict[str, Any]], usage: Any = None) -> bytes:
        body: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }
        if self.has_usage or usage is not None:
            body["usage"] = usage
        return b"data: " + msgspec.json.encode(body) + b"\n\n"

    def step(self, step: Step) -> bytes:
        index, delta, _, logprobs = step
        return self.chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])

    def whole(self, answer: Answer, n: int, top_logprobs: int | None, usage: Any) -> bytes:
        """A non-streamed body. `usage` of None leaves the field out; null is `msgspec.Raw(b"null")`."""
        choices = [
            {
                "index": index,
                "message": _message(answer, self.id, index),
                "logprobs": None if top_logprobs is None else logprobs(answer.content, top_logprobs),
                "finish_reason": answer.finish,
            }
            for index in range(n)
        ]
        body: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }
        if usage is not None:
            body["usage"] = usage
        return msgspec.json.encode(body)


def _message(answer: Answer, id: str, choice: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.content), "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.calls:
        message["content"] = None
        message["tool_calls"] = [
            _call(call, call_id(id, choice, at), "".join(call.arguments)) for at, call in enumerate(answer.calls)
        ]
    return message


def call_id(id: str, choice: int, at: int) -> str:
    return f"call_{id.rpartition('-')[2]}_{choice}_{at}"


def _call(call: Call, id: str, arguments: str) -> dict[str, Any]:
    if call.kind == "custom":
        return {"id": id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
    return {"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def logprobs(tokens: list[str], top: int) -> dict[str, Any]:
    """Invented and constant: the same probability for every token, with numbered rivals below it."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {
        "content": [
            {
                **entry(token, LOGPROB),
                "top_logprobs": [
                    entry(token if rank == 0 else f"{token}~{rank}", LOGPROB * (rank + 1)) for rank in range(top)
                ],
            }
            for token in tokens
        ],
        "refusal": None,
    }


def steps(answer: Answer, id: str, n: int, top_logprobs: int | None) -> list[Step]:
    """The deltas of all choices, taking turns, without the opening and closing ones."""
    columns = [_steps_of(answer, id, choice, top_logprobs) for choice in range(n)]
    return [column[at] for at in range(len(columns[0])) for column in columns]


def _steps_of(answer: Answer, id: str, choice: int, top_logprobs: int | None) -> list[Step]:
    made: list[Step] = [(choice, {"reasoning_content": token}, 1, None) for token in answer.reasoning]
    for token in answer.content:
        probable = None if top_logprobs is None else logprobs([token], top_logprobs)
        made.append((choice, {"content": token}, 1, probable))
    for at, call in enumerate(answer.calls):
        opened = {"index": at, **_call(call, call_id(id, choice, at), "")}
        made.append((choice, {"tool_calls": [opened]}, call.tokens - len(call.arguments), None))
        field = ("custom", "input") if call.kind == "custom" else ("function", "arguments")
        made.extend(
            (choice, {"tool_calls": [{"index": at, field[0]: {field[1]: piece}}]}, 1, None) for piece in call.arguments
        )
    return made


def usage(behaviour: Behaviour, prompt: int, answer: Answer, n: int) -> Any:
    """The usage as the behaviour wants it told: right, or wrong in a known way; None when it is not told at all."""
    completion, reasoning = answer.tokens * n, len(answer.reasoning) * n
    counts = counted(behaviour, prompt, completion)
    if not isinstance(counts, tuple):
        return counts
    return {
        "prompt_tokens": counts[0],
        "completion_tokens": counts[1],
        "total_tokens": sum(counts),
        "prompt_tokens_details": {"cached_tokens": min(behaviour.cached, prompt)},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def counted(behaviour: Behaviour, prompt: int, completion: int) -> Any:
    """The two counts as the behaviour wants them told, or what stands in place of a usage."""
    wrong: dict[str, Any] = {
        "none": None,
        "null": msgspec.Raw(b"null"),
        "zero": (0, 0),
        "negative": (-prompt, -completion),
        "huge": (10**15, 10**15),
        "float": (prompt + 0.5, completion + 0.5),
    }
    return wrong.get(behaviour.usage, (prompt, completion))


def input_usage(behaviour: Behaviour, read: int) -> Any:
    """The same for what writes nothing."""
    told = usage(behaviour, read, Answer(), 1)
    if not isinstance(told, dict):
        return told
    return {"prompt_tokens": told["prompt_tokens"], "total_tokens": told["prompt_tokens"]}


def rows(kind: str, model: str, rows: list[dict[str, Any]], told: Any) -> bytes:
    """An answer of embeddings or rankings. `told` of None leaves the usage out."""
    name = "data" if kind == "embed" else "results"
    body: dict[str, Any] = {"object": "list", "model": model, name: rows, "system_fingerprint": FINGERPRINT}
    if told is not None:
        body["usage"] = told
    return msgspec.json.encode(body)


def half(told: Any) -> Any:
    """An earlier, smaller usage record: what `usage=twice` sends before the one that counts."""
    if not isinstance(told, dict):
        return told
    part = {name: told[name] // 2 for name in ("prompt_tokens", "completion_tokens")}
    return {**told, **part, "total_tokens": sum(part.values())}


def told_to_fail(status: int) -> bytes:
    return error_body(fault_message(status), _TYPES.get(status, "server_error"), "sandbox_fault")


def fault_message(status: int) -> str:
    return f"The sandbox was told to fail with status {status}."


def error(failure: NaruError) -> bytes:
    return error_body(failure.message, failure.type, failure.code, failure.param)


def error_body(message: str, type: str, code: str | None, param: str | None = None) -> bytes:
    return msgspec.json.encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def model_entry(name: str) -> dict[str, Any]:
    return {
        "id": f"sandbox/{name}",
        "object": "model",
        "created": 0,
        "owned_by": "naru-sandbox",
        "description": f"Sandbox, no inference: {MODELS[name]}.",
    }


def model_list() -> bytes:
    return msgspec.json.encode({"object": "list", "data": [model_entry(name) for name in MODELS]})


class OpenAI:
    """Chat completions. See speech.Speech."""

    stream_type = "text/event-stream; charset=utf-8"

    def read(self, received: Received) -> ChatRequest:
        return read_request(received.body)

    def frame(self, number: int, request: ChatRequest, created: int) -> Frame:
        wants_usage = request.stream_options is not None and bool(request.stream_options.include_usage)
        return Frame(f"chatcmpl-sandbox-{number:06d}", request.model, created, wants_usage)

    def refusal(self, failure: NaruError) -> tuple[int, Headers, bytes]:
        return failure.status, (), error(failure)

    def fault(self, status: int) -> tuple[Headers, bytes]:
        return (), told_to_fail(status)
