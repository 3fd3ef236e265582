"""A caller's Messages request to the typed Request, for a model that speaks another dialect.

Everything Anthropic documents is typed; what is not known stays in `extra` under its own name. What has the wrong shape is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.messages_in import read_messages, wrong
from naru.protocol.anthropic_messages.thinking import read_policy
from naru.protocol.anthropic_messages.wire import NAME
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Message, OpaqueTool, Request, ResponseFormat, Sampling, Tool, ToolChoice
from naru.protocol.wire import (
    BAD_JSON,
    NULL,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    raw_of,
    rest_of,
    text_of,
)

T = TypeVar("T")

_bool = msgspec.json.Decoder(bool | None).decode
_int = msgspec.json.Decoder(int | None).decode
_float = msgspec.json.Decoder(float | None).decode
_str = msgspec.json.Decoder(str | None).decode

_TOOL_KEYS = frozenset({"type", "name", "description", "input_schema", "strict"})
#: Read from the envelope, which has checked them, or by read_messages.
_DONE = ("model", "messages", "system", "stream", "max_tokens")


def decode_request(envelope: Envelope) -> Request:
    """Raises BadRequest, with `param` set, for fields of the wrong type."""
    fields = dict(envelope.fields)
    _refuse_state(fields)
    messages = read_messages(fields)
    for name in _DONE:
        fields.pop(name, None)
    try:
        return _request(envelope, messages, fields)
    except BAD_JSON:
        raise BadRequest("The request holds a string that is no text.", code="invalid_json") from None


def _refuse_state(fields: Fields) -> None:
    """What only Anthropic's servers hold or do, without which the answer would be another one. `thread` is sent by the
    tool runner of its SDK, which goes on without at this code."""
    if not is_null(fields.get("thread", NULL)):
        raise BadRequest(
            "`thread` refers to what Anthropic keeps, and this model's provider keeps nothing between requests. "
            "Send the whole conversation with each request, and leave it out.",
            code="thread_unsupported_request",
            param="thread",
        )
    if not is_null(fields.get("compaction", NULL)):
        raise BadRequest(
            "`compaction` is not possible with this model: its provider does not compact. Ask for a summary in words.",
            code="unsupported_parameter",
            param="compaction",
        )


def _request(envelope: Envelope, messages: tuple[Message, ...], fields: Fields) -> Request:
    policy = read_policy(fields)
    choice, is_parallel = _tool_choice(fields)
    return Request(
        model=envelope.model,
        messages=messages,
        tools=_tools(fields),
        tool_choice=choice,
        parallel_tool_calls=is_parallel,
        response_format=_response_format(fields),
        stop=_stop(fields),
        max_output_tokens=envelope.max_output_tokens,
        sampling=Sampling(
            temperature=_take(fields, "temperature", _float, "a number"),
            top_p=_take(fields, "top_p", _float, "a number"),
            top_k=_take(fields, "top_k", _int, "a whole number"),
        ),
        is_stream=envelope.is_stream,
        wants_usage=envelope.is_stream,
        reasoning=policy,
        user=_user(fields),
        service_tier=_take(fields, "service_tier", _str, "a string"),
        extra=rest_of(fields, frozenset()),
        dialect=NAME,
    )


def _take(fields: Fields, name: str, decode: Callable[[Raw], T], what: str) -> T | None:
    raw = fields.pop(name, None)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise wrong(name, f"must be {what}") from None


def _stop(fields: Fields) -> tuple[str, ...]:
    raw = fields.pop("stop_sequences", NULL)
    if is_null(raw):
        return ()
    texts = [text_of(item) for item in decode_list(raw)] if is_list(raw) else [None]
    if None in texts:
        raise wrong("stop_sequences", "must be a list of strings")
    return tuple(text for text in texts if text is not None)


def _user(fields: Fields) -> str | None:
    """`metadata.user_id`; metadata with anything else in it stays in `extra` as well."""
    raw = fields.get("metadata")
    if not is_object(raw):
        return None
    metadata = decode_fields(raw)
    if metadata.keys() <= {"user_id"}:
        del fields["metadata"]
    return text_of(metadata.get("user_id"))


def _response_format(fields: Fields) -> ResponseFormat | None:
    """`output_config.format`; what else is in output_config stays in `extra` (the effort was read with the thinking)."""
    raw = fields.get("output_config")
    if not is_object(raw):
        return None
    config = decode_fields(raw)
    given = config.get("format")
    if given is None or is_null(given):
        return None
    form = decode_fields(given) if is_object(given) else {}
    if text_of(form.get("type")) != "json_schema" or not is_object(schema := form.get("schema")):
        raise wrong("output_config.format", "must have the `type` json_schema and a `schema`")
    del config["format"]
    put_config(fields, config)
    return ResponseFormat("json_schema", schema=schema)


def put_config(fields: Fields, config: Fields) -> None:
    if config:
        fields["output_config"] = raw_of(config)
    else:
        fields.pop("output_config", None)


# --- Tools --------------------------------------------------------------------------------------------------------


def _tools(fields: Fields) -> tuple[Tool | OpaqueTool, ...]:
    raw = fields.pop("tools", NULL)
    if is_null(raw):
        return ()
    if not is_list(raw):
        raise wrong("tools", "must be a list")
    return tuple(_tool(item, f"tools[{place}]") for place, item in enumerate(decode_list(raw)))


def _tool(raw: Raw, path: str) -> Tool | OpaqueTool:
    """A tool of the client's own has the type custom or none; every other type is a tool of Anthropic's."""
    if not is_object(raw):
        raise wrong(path, "must be an object with `name` and `input_schema`")
    fields = decode_fields(raw)
    kind = text_of(fields.get("type"))
    if kind is not None and kind != "custom":
        return OpaqueTool(NAME, kind, raw)
    name = text_of(fields.get("name"))
    if not name:
        raise wrong(f"{path}.name", "must be a non-empty string")
    schema = fields.get("input_schema")
    if schema is not None and not is_object(schema):
        raise wrong(f"{path}.input_schema", "must be a JSON schema, an object")
    strict = bytes(fields.get("strict", b"null"))
    if strict not in (b"true", b"false", b"null"):
        raise wrong(f"{path}.strict", "must be true or false")
    return Tool(
        name=name,
        description=text_of(fields.get("description")),
        parameters=schema,
        strict=None if strict == b"null" else strict == b"true",
        extra=rest_of(fields, _TOOL_KEYS),
    )


_WORDS = {"auto": ToolChoice("auto"), "any": ToolChoice("required"), "none": ToolChoice("none")}


def _tool_choice(fields: Fields) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether calls may come in parallel."""
    raw = fields.pop("tool_choice", NULL)
    if is_null(raw):
        return None, None
    given = decode_fields(raw) if is_object(raw) else {}
    kind = text_of(given.get("type")) or ""
    disabled = bytes(given.get("disable_parallel_tool_use", b"null"))
    is_parallel = {b"true": False, b"false": True}.get(disabled)
    if kind == "tool":
        name = text_of(given.get("name"))
        if not name:
            raise wrong("tool_choice.name", "must name a tool")
        return ToolChoice("named", (name,)), is_parallel
    if kind not in _WORDS:
        raise wrong("tool_choice.type", "must be auto, any, tool or none")
    return _WORDS[kind], is_parallel
