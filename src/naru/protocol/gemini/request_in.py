"""A caller's Gemini request to the typed Request, for a model that speaks another dialect.

What is not typed stays in `extra`: fields of the body under their own name, fields of generationConfig under
`generationConfig.<name>`. Built-in tools (search, code execution …) are OpaqueTools.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope
from naru.protocol.gemini.contents_in import read_contents
from naru.protocol.gemini.schema import json_schema
from naru.protocol.gemini.thinking import read_policy
from naru.protocol.gemini.wire import (
    CALLING_NAMES,
    DECLARATION_NAMES,
    NAME,
    TOOL_CONFIG_NAMES,
    TOOL_NAMES,
    canonical,
    items_of,
    nest,
    wrong,
)
from naru.protocol.messages import Extra, OpaqueTool, Request, ResponseFormat, Sampling, Tool, ToolChoice
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    rest_of,
    text_of,
)

T = TypeVar("T")

CONFIG = "generationConfig."

_bool = msgspec.json.Decoder(bool | None).decode
_float = msgspec.json.Decoder(float | None).decode
_str = msgspec.json.Decoder(str | None).decode

_TOOL_KEYS = frozenset({"name", "description", "parametersJsonSchema"})
_JSON = "application/json"


def decode_request(envelope: Envelope) -> Request:
    """Raises BadRequest, with `param` set, for fields of the wrong type."""
    fields = dict(envelope.fields)
    messages = read_contents(fields)
    try:
        config = decode_fields(raw) if is_object(raw := fields.pop("generationConfig", None)) else {}
        reasoning = read_policy(fields, config)
        response_format = _response_format(config)
        choice = _tool_choice(fields)
        tools = _tools(fields)
    except BAD_JSON:
        raise BadRequest("A field of the request has a value of the wrong type.", code="invalid_value") from None
    for name in ("maxOutputTokens", "candidateCount"):  # checked by `read`
        config.pop(name, None)
    return Request(
        model=envelope.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        response_format=response_format,
        stop=_stop(config),
        max_output_tokens=envelope.max_output_tokens,
        n=envelope.n if envelope.n > 1 else None,
        sampling=_sampling(config),
        logprobs=_take(config, "responseLogprobs", _bool, "true or false"),
        top_logprobs=_take(config, "logprobs", _whole, "a whole number"),
        is_stream=envelope.is_stream,
        wants_usage=envelope.wants_usage,
        reasoning=reasoning,
        service_tier=_take(fields, "serviceTier", _str, "a string", ""),
        extra={**rest_of(fields, ()), **nest(config, CONFIG)},
        dialect=NAME,
    )


def _take(fields: Fields, name: str, decode: Callable[[Raw], T], what: str, path: str = CONFIG) -> T | None:
    raw = fields.pop(name, None)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise wrong(path + name, what) from None


def _whole(raw: Raw) -> int | None:
    """Google's SDK writes 40.0 for topK."""
    number = _float(raw)
    if number is not None and not number.is_integer():
        raise msgspec.ValidationError("not a whole number")
    return None if number is None else int(number)


def _sampling(config: Fields) -> Sampling:
    def number(name: str) -> float | None:
        return _take(config, name, _float, "a number")

    return Sampling(
        temperature=number("temperature"),
        top_p=number("topP"),
        top_k=_take(config, "topK", _whole, "a whole number"),
        seed=_take(config, "seed", _whole, "a whole number"),
        presence_penalty=number("presencePenalty"),
        frequency_penalty=number("frequencyPenalty"),
    )


def _stop(config: Fields) -> tuple[str, ...]:
    raw = config.pop("stopSequences", None)  # checked by `read`
    return tuple(text_of(item) or "" for item in decode_list(raw)) if is_list(raw) else ()


def _response_format(config: Fields) -> ResponseFormat | None:
    """JSON with or without a schema. Other media types (text/x.enum) stay in `extra`."""
    mime = text_of(config.get("responseMimeType"))
    schema = config.get("responseJsonSchema")
    older = config.get("responseSchema")
    if mime == "text/plain" and is_null(schema) and is_null(older):
        del config["responseMimeType"]
        return ResponseFormat("text")
    if mime != _JSON:
        return None
    del config["responseMimeType"]
    if schema is not None and not is_null(schema):
        del config["responseJsonSchema"]
        return ResponseFormat("json_schema", schema=schema)
    if older is not None and not is_null(older):
        del config["responseSchema"]
        return ResponseFormat("json_schema", schema=json_schema(older))
    return ResponseFormat("json_object")


# --- Tools ----------------------------------------------------------------------------------------------------------


def _tools(fields: Fields) -> tuple[Tool | OpaqueTool, ...]:
    raw = fields.pop("tools", None)
    if not is_null(raw) and not is_list(raw) and not is_object(raw):
        raise wrong("tools", "a list")
    tools: list[Tool | OpaqueTool] = []
    for place, item in enumerate(items_of(raw)):
        path = f"tools[{place}]"
        if not is_object(item):
            raise wrong(path, "an object")
        tool = canonical(decode_fields(item), TOOL_NAMES)
        declared = items_of(tool.pop("functionDeclarations", None))
        tools += [_function(each, f"{path}.functionDeclarations[{n}]") for n, each in enumerate(declared)]
        tools += [OpaqueTool(NAME, name, Raw(encode({name: value}))) for name, value in tool.items()]
    return tuple(tools)


def _function(raw: Raw, path: str) -> Tool:
    if not is_object(raw):
        raise wrong(path, "an object with a `name`")
    given = canonical(decode_fields(raw), DECLARATION_NAMES)
    name = text_of(given.get("name"))
    if not name:
        raise wrong(f"{path}.name", "a non-empty string")
    schema = given.get("parametersJsonSchema")
    older = given.get("parameters")
    if is_null(schema):
        schema = None if older is None or is_null(older) else json_schema(older)
    return Tool(name, text_of(given.get("description")), schema, extra=rest_of(given, _TOOL_KEYS))


def _tool_choice(fields: Fields) -> ToolChoice | None:
    """functionCallingConfig. What it says beyond the choice stays in `extra`, and so does the rest of toolConfig."""
    raw = fields.pop("toolConfig", None)
    if not is_object(raw):
        return None
    config = canonical(decode_fields(raw), TOOL_CONFIG_NAMES)
    calling = config.pop("functionCallingConfig", None)
    given = canonical(decode_fields(calling), CALLING_NAMES) if is_object(calling) else {}
    mode = text_of(given.pop("mode", None))
    names = tuple(text_of(item) or "" for item in items_of_texts(given.pop("allowedFunctionNames", None)))
    choice = _choice(mode, names)
    if mode == "VALIDATED" and not names:
        given["mode"] = Raw(b'"VALIDATED"')
    extra: Extra = rest_of(config, ())
    if given:
        extra["functionCallingConfig"] = Raw(encode(given))
    if extra:
        fields["toolConfig"] = Raw(encode(extra))
    return choice


def items_of_texts(raw: Raw | None) -> list[Raw]:
    if is_null(raw):
        return []
    if not is_list(raw):
        raise wrong("toolConfig.functionCallingConfig.allowedFunctionNames", "a list of names")
    return decode_list(raw)


def _choice(mode: str | None, names: tuple[str, ...]) -> ToolChoice | None:
    if mode in (None, "", "MODE_UNSPECIFIED"):
        return ToolChoice("auto", names) if names else None
    if mode == "ANY":
        return ToolChoice("named" if len(names) == 1 else "required", names)
    if mode in ("AUTO", "VALIDATED"):
        return ToolChoice("auto", names)
    if mode == "NONE":
        return ToolChoice("none")
    raise wrong("toolConfig.functionCallingConfig.mode", "AUTO, ANY, NONE or VALIDATED")
