"""A caller's Responses request to the typed Request, for a model that speaks another API.

What needs state that only OpenAI keeps, or work that only its servers do, is refused by name. What is left of the documented
fields without a type stays in `extra`, deeper ones as `text.<name>` and `reasoning.<name>`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Message, ReasoningPolicy, Request, ResponseFormat, Sampling, Text
from naru.protocol.openai_chat.request_in import wrong
from naru.protocol.openai_responses.messages_in import read_input
from naru.protocol.openai_responses.tools import read_choice, read_tools
from naru.protocol.openai_responses.wire import NAME, prefixed
from naru.protocol.reasoning import EXTENSIONS, read_extensions
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
    text_of,
)

T = TypeVar("T")

_bool = msgspec.json.Decoder(bool | None).decode
_int = msgspec.json.Decoder(int | None).decode
_float = msgspec.json.Decoder(float | None).decode
_str = msgspec.json.Decoder(str | None).decode

LOGPROBS = "message.output_text.logprobs"

#: What only OpenAI's own store holds, with the code its clients know (providers.md B2.2).
_KEPT = {
    "previous_response_id": "previous_response_not_found",
    "conversation": "conversation_not_found",
    "prompt": "unsupported_parameter",
}
#: Work of OpenAI's own servers, without which the answer would be another one.
_SERVED = {
    "background": "This model answers while you wait. Send the request without it, or with `stream`.",
    "moderation": "This model's provider does not moderate. Leave it out.",
    "context_management": "This model's provider does not compact. Shorten the input yourself, and leave it out.",
}
_DONE = ("model", "input", "instructions", "stream", "max_output_tokens", "stream_options", *_KEPT)


def decode_request(envelope: Envelope) -> Request:
    """Raises BadRequest, with `param` set, for fields of the wrong type and for what no other API can do."""
    try:
        return _decoded(envelope)
    except BAD_JSON:  # a string somewhere deep that is no text
        raise BadRequest("The request holds a string that is not valid Unicode.", code="invalid_value") from None


def _decoded(envelope: Envelope) -> Request:
    fields = {name: raw for name, raw in envelope.fields.items() if not is_null(raw)}
    _refuse_state(fields)
    messages = _instructions(fields) + read_input(fields["input"])
    for name in _DONE:
        fields.pop(name, None)
    response_format = _text(fields)
    logprobs, top_logprobs = _logprobs(fields)
    reasoning = _reasoning(fields)
    return Request(
        model=envelope.model,
        messages=messages,
        tools=read_tools(fields.pop("tools", None)),
        tool_choice=read_choice(fields.pop("tool_choice", None)),
        parallel_tool_calls=_take(fields, "parallel_tool_calls", _bool, "true or false"),
        response_format=response_format,
        max_output_tokens=envelope.max_output_tokens,
        sampling=Sampling(
            temperature=_take(fields, "temperature", _float, "a number"),
            top_p=_take(fields, "top_p", _float, "a number"),
        ),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        is_stream=envelope.is_stream,
        wants_usage=envelope.is_stream,
        reasoning=reasoning,
        user=_take(fields, "user", _str, "a string"),
        metadata=fields.pop("metadata", None),
        service_tier=_take(fields, "service_tier", _str, "a string"),
        extra=fields,
        dialect=NAME,
    )


def _refuse_state(fields: Fields) -> None:
    for name, code in _KEPT.items():
        if name in fields:
            raise BadRequest(
                f"`{name}` refers to what OpenAI keeps, and this model's provider keeps nothing between requests. "
                "Send the whole input with each request, and leave it out.",
                code=code,
                param=name,
            )
    for name, advice in _SERVED.items():
        if name in fields and bytes(fields[name]) not in (b"false", b"[]"):
            raise BadRequest(
                f"`{name}` is not possible with this model. {advice}", code="unsupported_parameter", param=name
            )
        fields.pop(name, None)


def _take(fields: Fields, name: str, decode: Callable[[Raw], T], what: str) -> T | None:
    raw = fields.pop(name, None)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise wrong(name, f"`{name}` must be {what}.") from None


def _instructions(fields: Fields) -> tuple[Message, ...]:
    text = _take(fields, "instructions", _str, "a string")
    return () if text is None else (Message("system", (Text(text),)),)


def _object(fields: Fields, name: str) -> Fields:
    """Takes an object; its fields that are null are left out."""
    raw = fields.pop(name, None)
    if raw is None:
        return {}
    if not is_object(raw):
        raise wrong(name, f"`{name}` must be an object.")
    return {key: value for key, value in decode_fields(raw).items() if not is_null(value)}


def _string(fields: Fields, name: str, path: str) -> str | None:
    raw = fields.pop(name, None)
    try:
        text = text_of(raw)
    except BAD_JSON:
        text = None
    if raw is not None and text is None:
        raise wrong(path, f"`{path}` must be a string.")
    return text


def _text(fields: Fields) -> ResponseFormat | None:
    text = _object(fields, "text")
    raw = text.pop("format", None)
    fields |= prefixed(text, "text.")
    if raw is None:
        return None
    form = _object({"text.format": raw}, "text.format")
    kind = _string(form, "type", "text.format.type")
    if kind == "text":
        return ResponseFormat("text")
    if kind == "json_object":
        return ResponseFormat("json_object")
    if kind != "json_schema":
        raise wrong("text.format.type", "`text.format.type` must be text, json_object or json_schema.")
    return ResponseFormat(
        "json_schema",
        name=_string(form, "name", "text.format.name"),
        schema=form.get("schema"),
        strict=_take({"text.format.strict": form.get("strict", NULL)}, "text.format.strict", _bool, "true or false"),
        description=_string(form, "description", "text.format.description"),
    )


def _reasoning(fields: Fields) -> ReasoningPolicy:
    """`reasoning`, and the extensions that any of our APIs takes; `reasoning` wins."""
    policy = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    given = _object(fields, "reasoning")
    effort = _string(given, "effort", "reasoning.effort")
    older = _string(given, "generate_summary", "reasoning.generate_summary")
    summary = _string(given, "summary", "reasoning.summary") or older
    fields |= prefixed(given, "reasoning.")
    return ReasoningPolicy(policy.enabled, effort or policy.effort, policy.budget_tokens, summary)


def _logprobs(fields: Fields) -> tuple[bool | None, int | None]:
    """Asked for by `include`, or by a number above 0 of `top_logprobs`; 0 alone asks for nothing."""
    top = _take(fields, "top_logprobs", _int, "a whole number")
    include = fields.pop("include", None)
    if include is not None and not is_list(include):
        raise wrong("include", "`include` must be a list.")
    wanted = [] if include is None else decode_list(include)
    more = [raw for raw in wanted if raw != _LOGPROBS]
    if more:
        fields["include"] = raw_of(more)
    if len(more) == len(wanted) and not top:
        return None, None
    return True, top


_LOGPROBS = raw_of(LOGPROBS)
