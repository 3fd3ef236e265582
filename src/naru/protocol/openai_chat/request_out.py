"""The typed Request to a chat body, for a caller of another dialect.

What chat completions cannot say is refused by name where the answer would depend on it, and otherwise left out and named
in `dropped`. Extras are written only if this dialect read them.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.messages import OpaqueTool, Request, ResponseFormat, Tool, ToolChoice
from naru.protocol.openai_chat.forward import drop_and_rename, refuses_n
from naru.protocol.openai_chat.messages_out import MessageWriter
from naru.protocol.openai_chat.response import prefixed
from naru.protocol.openai_chat.thinking import settle_conflicts, write_policy
from naru.protocol.openai_chat.wire import NAME
from naru.protocol.wire import decode_fields, encode, is_object, text_of

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)


def encode_request(request: Request, quirks: Quirks) -> Forwarded:
    """Raises BadRequest, with `param` set, for what this dialect or this upstream cannot express."""
    owns_extra = request.dialect == NAME
    writer = MessageWriter(quirks, owns_extra, bool(request.tools))
    if (request.n or 1) > 1 and not quirks.has_n:
        raise refuses_n()
    fields: dict[str, Any] = {"model": request.model, "messages": writer.messages(request.messages)}
    dropped = writer.dropped
    if request.tools:
        fields["tools"] = [_tool_fields(tool, owns_extra) for tool in request.tools]
    if request.tool_choice is not None:
        fields["tool_choice"] = _choice_fields(request.tool_choice, request.tools)
    if request.response_format is not None:
        fields["response_format"] = _format_fields(request.response_format)
    if request.stop:
        fields["stop"] = request.stop
    if request.max_output_tokens is not None:
        fields[quirks.max_tokens_field or "max_tokens"] = request.max_output_tokens
    _plain_fields(request, fields)
    _stream_fields(request, quirks, fields)
    dropped += write_policy(fields, request.reasoning, quirks)
    if owns_extra:
        for name, raw in request.extra.items():
            if name != "stream_options":  # written above, or refused by this upstream
                fields.setdefault(name, raw)
    else:
        dropped += list(request.extra)
    dropped += settle_conflicts(fields, quirks)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dict.fromkeys(dropped)))


def _plain_fields(request: Request, fields: dict[str, Any]) -> None:
    for name in ("parallel_tool_calls", "n", "logprobs", "top_logprobs", "user", "metadata", "service_tier"):
        value = getattr(request, name)
        if value is not None:
            fields[name] = value
    for name in _SAMPLING:
        value = getattr(request.sampling, name)
        if value is not None:
            fields[name] = value


def _stream_fields(request: Request, quirks: Quirks, fields: dict[str, Any]) -> None:
    options = request.extra.get("stream_options") if request.dialect == NAME else None
    more: dict[str, Any] = decode_fields(options) if is_object(options) else {}
    if request.is_stream or quirks.is_stream_only:
        fields["stream"] = True
        if quirks.has_stream_usage:
            # Money needs the usage of every stream; an encoder facing the caller shows it to who asked.
            fields["stream_options"] = {**more, "include_usage": True}
    elif more or request.wants_usage:
        fields["stream_options"] = {**more, **({"include_usage": True} if request.wants_usage else {})}


def _tool_fields(tool: Tool | OpaqueTool, owns_extra: bool) -> Any:
    if isinstance(tool, OpaqueTool):
        if tool.dialect != NAME:
            raise BadRequest(
                f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
                "Leave it out, or choose a model of that API.",
                code="unsupported_tool",
                param="tools",
            )
        return tool.raw
    function: dict[str, Any] = {"name": tool.name}
    for name in ("description", "parameters", "strict"):
        value = getattr(tool, name)
        if value is not None:
            function[name] = value
    fields: dict[str, Any] = {"type": "function", "function": function}
    if owns_extra and tool.extra:
        fields["function"] = {**prefixed(tool.extra, "function."), **function}
        fields = {**{k: v for k, v in tool.extra.items() if not k.startswith("function.")}, **fields}
    return fields


def _choice_fields(choice: ToolChoice, tools: tuple[Tool | OpaqueTool, ...]) -> Any:
    kinds = {_name_of(tool): "custom" for tool in tools if isinstance(tool, OpaqueTool) and tool.kind == "custom"}

    def named(name: str) -> dict[str, Any]:
        kind = kinds.get(name, "function")
        return {"type": kind, kind: {"name": name}}

    if choice.mode == "named":
        if len(choice.names) != 1:
            raise BadRequest("A named tool choice names exactly one tool.", code="invalid_value", param="tool_choice")
        return named(choice.names[0])
    if not choice.names:
        return choice.mode
    tool_list = [named(name) for name in choice.names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": tool_list}}


def _name_of(tool: OpaqueTool) -> str:
    custom = decode_fields(tool.raw).get("custom") if is_object(tool.raw) else None
    return (text_of(decode_fields(custom).get("name")) if is_object(custom) else None) or ""


def _format_fields(form: ResponseFormat) -> dict[str, Any]:
    if form.kind == "text":
        return {"type": "text"}
    if form.kind == "json_object":
        return {"type": "json_object"} if form.schema is None else {"type": "json_object", "schema": form.schema}
    # Chat completions want a name for every schema; other protocols have none.
    schema = {
        "name": form.name or "answer",
        "description": form.description,
        "schema": form.schema,
        "strict": form.strict,
    }
    return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
