"""A caller's chat request to the typed Request, for a model that speaks another dialect.

Everything OpenAI documents is typed; what is not known stays in `extra` under its own name (deeper fields under
`function.<name>` and the like, as in response.py). What has the wrong shape is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope
from naru.protocol.messages import (
    Extra,
    OpaqueTool,
    Request,
    ResponseFormat,
    Sampling,
    Tool,
    ToolChoice,
)
from naru.protocol.openai_chat.messages_in import read_messages
from naru.protocol.openai_chat.thinking import read_policy
from naru.protocol.openai_chat.wire import NAME
from naru.protocol.wire import (
    BAD_JSON,
    TRUE,
    Fields,
    decode_fields,
    decode_list,
    first_byte,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
)

T = TypeVar("T")

_bool = msgspec.json.Decoder(bool | None).decode
_int = msgspec.json.Decoder(int | None).decode
_float = msgspec.json.Decoder(float | None).decode
_str = msgspec.json.Decoder(str | None).decode

_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})
_SCHEMA_KEYS = frozenset({"name", "schema", "strict", "description"})
#: Read from the envelope, which has checked them.
_DONE = ("model", "messages", "stream", "n", "max_tokens", "max_completion_tokens")


def decode_request(envelope: Envelope) -> Request:
    """Raises BadRequest, with `param` set, for fields of the wrong type."""
    fields = dict(envelope.fields)
    messages = read_messages(fields["messages"])
    for name in _DONE:
        fields.pop(name, None)
    reasoning = read_policy(fields)
    response_format = _response_format(fields)
    return Request(
        model=envelope.model,
        messages=messages,
        tools=_tools(fields),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=_take(fields, "parallel_tool_calls", _bool, "true or false"),
        response_format=response_format,
        stop=_stop(fields),
        max_output_tokens=envelope.max_output_tokens,
        n=envelope.n if "n" in envelope.fields and not is_null(envelope.fields["n"]) else None,
        sampling=_sampling(fields),
        logprobs=_take(fields, "logprobs", _bool, "true or false"),
        top_logprobs=_take(fields, "top_logprobs", _int, "a whole number"),
        is_stream=envelope.is_stream,
        wants_usage=_stream_options(fields),
        reasoning=reasoning,
        user=_take(fields, "user", _str, "a string"),
        metadata=_metadata(fields),
        service_tier=_take(fields, "service_tier", _str, "a string"),
        extra={name: raw for name, raw in fields.items() if not is_null(raw)},
        dialect=NAME,
    )


def _take(fields: Fields, name: str, decode: Callable[[Raw], T], what: str) -> T | None:
    raw = fields.pop(name, None)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise wrong(name, f"`{name}` must be {what}.") from None


def wrong(param: str, message: str) -> BadRequest:
    return BadRequest(message, code="invalid_value", param=param)


def _sampling(fields: Fields) -> Sampling:
    def number(name: str) -> float | None:
        return _take(fields, name, _float, "a number")

    return Sampling(
        temperature=number("temperature"),
        top_p=number("top_p"),
        top_k=_take(fields, "top_k", _int, "a whole number"),
        min_p=number("min_p"),
        seed=_take(fields, "seed", _int, "a whole number"),
        presence_penalty=number("presence_penalty"),
        frequency_penalty=number("frequency_penalty"),
        repetition_penalty=number("repetition_penalty"),
    )


def _stop(fields: Fields) -> tuple[str, ...]:
    raw = fields.get("stop")
    if raw is None or is_null(raw):
        fields.pop("stop", None)
        return ()
    texts = [text_of(item) for item in decode_list(raw)] if is_list(raw) else [text_of(raw)]
    if any(text is None for text in texts):
        raise wrong("stop", "`stop` must be a string or a list of strings.")
    del fields["stop"]
    return tuple(text for text in texts if text is not None)


def _metadata(fields: Fields) -> Raw | None:
    raw = fields.pop("metadata", None)
    return None if is_null(raw) else raw


def _stream_options(fields: Fields) -> bool:
    """`include_usage`; other options (include_obfuscation, vLLM's continuous_usage_stats) stay in `extra`."""
    raw = fields.pop("stream_options", None)
    if not is_object(raw):
        return False
    options = decode_fields(raw)
    wants = options.pop("include_usage", None) == TRUE
    if options:
        fields["stream_options"] = raw_of(options)
    return wants


def _response_format(fields: Fields) -> ResponseFormat | None:
    """The three kinds of OpenAI, and llama.cpp's json_object with a schema. Other kinds stay in `extra`."""
    raw = fields.get("response_format")
    if raw is None or is_null(raw):
        fields.pop("response_format", None)
        return None
    if not is_object(raw):
        raise wrong("response_format", "`response_format` must be an object with a `type`.")
    given = decode_fields(raw)
    kind = text_of(given.pop("type", None))
    if kind == "text" and not given:
        del fields["response_format"]
        return ResponseFormat("text")
    if kind == "json_object" and given.keys() <= {"schema"}:
        del fields["response_format"]
        return ResponseFormat("json_object", schema=given.get("schema"))
    if kind == "json_schema" and given.keys() == {"json_schema"} and is_object(given["json_schema"]):
        schema = decode_fields(given["json_schema"])
        if schema.keys() <= _SCHEMA_KEYS:
            del fields["response_format"]
            return _json_schema(schema)
    if kind is None:
        raise wrong("response_format.type", "`response_format.type` must be text, json_object or json_schema.")
    return None


def _json_schema(schema: Fields) -> ResponseFormat:
    def take(name: str, decode: Callable[[Raw], T], what: str) -> T | None:
        try:
            return decode(schema[name]) if name in schema else None
        except BAD_JSON:
            path = f"response_format.json_schema.{name}"
            raise wrong(path, f"`{path}` must be {what}.") from None

    raw = schema.get("schema")
    return ResponseFormat(
        "json_schema",
        name=take("name", _str, "a string"),
        schema=None if is_null(raw) else raw,
        strict=take("strict", _bool, "true or false"),
        description=take("description", _str, "a string"),
    )


# --- Tools --------------------------------------------------------------------------------------------------------


def _tools(fields: Fields) -> tuple[Tool | OpaqueTool, ...]:
    """`tools`, or the legacy `functions`, which are the same without their wrapping."""
    tools = [_tool(raw, f"tools[{place}]") for place, raw in enumerate(_list(fields, "tools"))]
    legacy = _list(fields, "functions")
    if tools:
        return tuple(tools)
    return tuple(_function({}, raw, f"functions[{place}]") for place, raw in enumerate(legacy))


def _list(fields: Fields, name: str) -> list[Raw]:
    raw = fields.pop(name, None)
    if raw is None or is_null(raw):
        return []
    if not is_list(raw):
        raise wrong(name, f"`{name}` must be a list.")
    return decode_list(raw)


def _tool(raw: Raw, path: str) -> Tool | OpaqueTool:
    if not is_object(raw):
        raise wrong(path, f"`{path}` must be an object.")
    fields = decode_fields(raw)
    kind = text_of(fields.get("type")) or ("function" if "function" in fields else "")
    if kind == "function":
        function = fields.pop("function", None)
        fields.pop("type", None)
        return _function(fields, function, f"{path}.function")
    if not kind:
        raise wrong(f"{path}.type", f"`{path}.type` must say what kind of tool it is, such as function.")
    return OpaqueTool(NAME, kind, raw)


def _function(outer: Extra, raw: Raw | None, path: str) -> Tool:
    if not is_object(raw):
        raise wrong(path, f"`{path}` must be an object with a `name`.")
    function = decode_fields(raw)
    name = text_of(function.get("name"))
    if not name:
        raise wrong(f"{path}.name", f"`{path}.name` must be a non-empty string.")
    parameters = function.get("parameters")
    try:
        strict = _bool(function["strict"]) if "strict" in function else None
    except BAD_JSON:
        raise wrong(f"{path}.strict", f"`{path}.strict` must be true or false.") from None
    extra = {name: value for name, value in outer.items() if not is_null(value)}
    extra |= {"function." + key: value for key, value in function.items() if key not in _FUNCTION_KEYS}
    return Tool(
        name=name,
        description=text_of(function.get("description")),
        parameters=None if is_null(parameters) else parameters,
        strict=strict,
        extra=extra,
    )


def _tool_choice(fields: Fields) -> ToolChoice | None:
    """All forms: a word, a named function or custom tool, allowed_tools, and the legacy function_call."""
    raw = fields.pop("tool_choice", None)
    if is_null(raw):
        raw = fields.pop("function_call", None)
        if is_object(raw):
            return ToolChoice("named", (_name(raw, "function_call"),))
    if raw is None or is_null(raw):
        return None
    word = text_of(raw)
    if word is not None:
        choice = _WORDS.get(word)
        if choice is None:
            raise wrong("tool_choice", "`tool_choice` must be none, auto, required, or an object that names a tool.")
        return choice
    if first_byte(raw) != 0x7B:
        raise wrong("tool_choice", "`tool_choice` must be a string or an object.")
    given = decode_fields(raw)
    kind = text_of(given.get("type")) or ""
    if kind == "allowed_tools":
        return _allowed(given)
    return ToolChoice("named", (_name(given.get(kind), f"tool_choice.{kind or 'type'}"),))


_WORDS = {
    "none": ToolChoice("none"),
    "auto": ToolChoice("auto"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),  # Mistral's word
}


def _allowed(given: Fields) -> ToolChoice:
    path = "tool_choice.allowed_tools"
    if not is_object(raw := given.get("allowed_tools")):
        raise wrong(path, f"`{path}` must be an object with `mode` and `tools`.")
    allowed = decode_fields(raw)
    mode = text_of(allowed.get("mode"))
    if mode not in ("auto", "required") or not is_list(tools := allowed.get("tools")):
        raise wrong(path, f"`{path}` must have the `mode` auto or required, and a list of `tools`.")
    names: list[str] = []
    for item in decode_list(tools):
        tool: dict[str, Any] = decode_fields(item) if is_object(item) else {}
        names.append(_name(tool.get(text_of(tool.get("type")) or ""), f"{path}.tools"))
    return ToolChoice("auto" if mode == "auto" else "required", tuple(names))


def _name(raw: Raw | None, path: str) -> str:
    name = text_of(decode_fields(raw).get("name")) if is_object(raw) else None
    if not name:
        raise wrong(path, f"`{path}` must name a tool.")
    return name
