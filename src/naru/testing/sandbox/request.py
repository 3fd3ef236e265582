"""The request as the sandbox reads it: OpenAI chat completions, checked as strictly as a real upstream would."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from naru.errors import BadRequest
from naru.testing.sandbox import tokens

Positive = Annotated[int, Meta(ge=1)]


class Part(msgspec.Struct):
    type: str
    text: str | None = None

    def words(self) -> str:
        """The part as the sandbox can say it."""
        if self.type == "text":
            return self.text or ""
        return {"image_url": "[image]", "input_audio": "[audio]", "file": "[file]"}.get(
            self.type, f"[{self.type[:40]}]"
        )

    def tokens(self) -> int:
        fixed = {
            "image_url": tokens.IMAGE_TOKENS,
            "input_audio": tokens.AUDIO_TOKENS,
            "file": tokens.FILE_TOKENS,
        }
        return fixed.get(self.type) or tokens.count(self.text or "")


class Function(msgspec.Struct):
    name: str
    arguments: str = ""


class Custom(msgspec.Struct):
    name: str
    input: str = ""


class ToolCall(msgspec.Struct):
    id: str
    type: str = "function"
    function: Function | None = None
    custom: Custom | None = None

    @property
    def name(self) -> str:
        named = self.function or self.custom
        return named.name if named else "unknown"

    @property
    def input(self) -> str:
        return self.function.arguments if self.function else self.custom.input if self.custom else ""


class Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def words(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.words() for part in self.content)
        return self.content or ""

    def tokens(self) -> int:
        said = (
            sum(part.tokens() for part in self.content)
            if isinstance(self.content, list)
            else tokens.count(self.content or "")
        )
        calls = sum(tokens.count(call.name) + tokens.count(call.input) for call in self.tool_calls or ())
        return tokens.MESSAGE_TOKENS + said + calls + tokens.count(self.name or "")


class FunctionSpec(msgspec.Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class CustomSpec(msgspec.Struct, omit_defaults=True):
    name: str
    description: str | None = None


class ToolSpec(msgspec.Struct, omit_defaults=True):
    type: Literal["function", "custom"]
    function: FunctionSpec | None = None
    custom: CustomSpec | None = None

    @property
    def name(self) -> str:
        named = self.function or self.custom
        return named.name if named else ""


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class JsonSchema(msgspec.Struct):
    name: str
    schema: dict[str, Any] | None = None


class ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class Thinking(msgspec.Struct):
    type: str = "enabled"
    budget_tokens: int | None = None


class ChatRequest(msgspec.Struct, kw_only=True):
    """Fields that the sandbox does not know are ignored, as most compatible servers do."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    thinking_budget: Annotated[int, Meta(ge=0)] | None = None
    enable_thinking: bool | None = None
    thinking: Thinking | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    functions: list[Any] | None = None

    @property
    def limit(self) -> int | None:
        """Most completion tokens of one choice, reasoning included; max_completion_tokens wins."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def stops(self) -> list[str]:
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in given if text]

    @property
    def user_text(self) -> str:
        """What the last user message says."""
        return next((message.words() for message in reversed(self.messages) if message.role == "user"), "")

    def prompt_tokens(self) -> int:
        """Messages, then tools and schema as compact JSON."""
        counted = tokens.PRIMER_TOKENS + sum(message.tokens() for message in self.messages)
        if self.tools:
            counted += tokens.count(msgspec.json.encode(self.tools).decode())
        if self.response_format is not None and self.response_format.json_schema is not None:
            counted += tokens.count(msgspec.json.encode(self.response_format.json_schema.schema).decode())
        return counted


_DECODER = msgspec.json.Decoder(ChatRequest)


def read_request(body: bytes) -> ChatRequest:
    """Raises BadRequest, with the field's path as `param`."""
    try:
        request = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        _, _, where = str(error).partition(" - at `$")
        raise BadRequest(f"Invalid request: {error}.", param=where.strip("`.") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The request body is not JSON: {error}.", code="invalid_json") from error
    return checked(request)


def checked(request: ChatRequest) -> ChatRequest:
    """What no single field shows. Raises BadRequest."""
    if request.functions is not None:
        raise BadRequest("'functions' is not supported by the sandbox; use 'tools'.", param="functions")
    if request.stream_options is not None and not request.stream:
        raise BadRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    for index, tool in enumerate(request.tools or ()):
        if not tool.name or (tool.function if tool.type == "function" else tool.custom) is None:
            raise BadRequest(f"Tool {index} has no '{tool.type}' with a name.", param=f"tools[{index}]")
    _check_tool_messages(request.messages)
    try:
        request.prompt_tokens()
    except RecursionError as error:
        raise BadRequest("A schema of this request is nested too deep.") from error
    return request


def _check_tool_messages(messages: list[Message]) -> None:
    """Every call is answered before anything else is said, and every answer belongs to a call (as OpenAI demands)."""
    waiting: set[str] = set()
    for index, message in enumerate(messages):
        if message.role == "tool":
            if message.tool_call_id not in waiting:
                raise BadRequest(
                    f"Message {index} has role 'tool' but answers no tool call of the assistant message before it.",
                    param=f"messages[{index}].tool_call_id",
                )
            waiting.discard(message.tool_call_id)
            continue
        if waiting:
            break
        waiting = {call.id for call in message.tool_calls or ()}
    if waiting:
        raise BadRequest(
            f"These tool calls have no answer with role 'tool': {', '.join(sorted(waiting))}.", param="messages"
        )
