"""The typed Request to a Responses body, for a caller of another dialect.

What Responses cannot say is refused by name where the answer would depend on it, and otherwise left out and named in
`dropped` (providers.md A5.5). Extras are written only if this dialect read them.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.dialect import Forwarded, Quirks
from naru.protocol.messages import Message, ReasoningPolicy, Request, ResponseFormat, Text
from naru.protocol.openai_chat.forward import drop_and_rename, refuses_n
from naru.protocol.openai_chat.thinking import write_policy
from naru.protocol.openai_responses.messages_out import InputWriter
from naru.protocol.openai_responses.request_in import LOGPROBS
from naru.protocol.openai_responses.tools import custom_names, write_choice, write_tools
from naru.protocol.openai_responses.wire import NAME, unprefixed
from naru.protocol.wire import Fields, decode_list, encode

#: Hints on sampling that Responses has no field for.
_LOST_SAMPLING = (
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
    if (request.n or 1) > 1:
        raise refuses_n()
    if request.stop:
        raise BadRequest(
            "This model's API (Responses) has no stop sequences. Leave `stop` out and cut the answer yourself.",
            code="unsupported_parameter",
            param="stop",
        )
    instructions, messages = _split(request.messages)
    writer = InputWriter(quirks, owns_extra)
    fields: dict[str, Any] = {"model": request.model}
    if instructions is not None:
        fields["instructions"] = instructions
    fields["input"] = writer.items(messages)
    dropped = writer.dropped
    if request.tools:
        fields["tools"] = write_tools(request.tools, owns_extra)
    if request.tool_choice is not None:
        fields["tool_choice"] = write_choice(request.tool_choice, custom_names(request.tools, owns_extra))
    _plain_fields(request, fields)
    _text_fields(request, fields, owns_extra)
    dropped += _reasoning_fields(request, fields, quirks, owns_extra)
    _include(request, fields, quirks, owns_extra)
    if request.is_stream or quirks.is_stream_only:
        fields["stream"] = True
    if owns_extra:
        for name, raw in request.extra.items():
            if not name.startswith(("text.", "reasoning.")):
                fields.setdefault(name, raw)
    else:
        # Left out it means true (providers.md B2.2): other APIs' callers never asked anyone to keep their data.
        fields["store"] = False
        dropped += list(request.extra)
    dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dict.fromkeys(dropped)))


def _split(messages: tuple[Message, ...]) -> tuple[str | None, tuple[Message, ...]]:
    """A leading system message of one plain text is `instructions`, as long as there is anything else to answer."""
    first = messages[0] if messages else None
    if first is None or first.role != "system" or first.extra or first.name is not None or len(messages) < 2:
        return None, messages
    if len(first.parts) != 1 or not isinstance(part := first.parts[0], Text) or part.extra:
        return None, messages
    return part.text, messages[1:]


def _plain_fields(request: Request, fields: dict[str, Any]) -> None:
    for name in ("parallel_tool_calls", "max_output_tokens", "user", "metadata", "service_tier"):
        value = getattr(request, name)
        if value is not None:
            fields[name] = value
    for name in ("temperature", "top_p"):
        value = getattr(request.sampling, name)
        if value is not None:
            fields[name] = value


def _text_fields(request: Request, fields: dict[str, Any], owns_extra: bool) -> None:
    text: dict[str, Any] = dict(unprefixed(request.extra, "text.")) if owns_extra else {}
    if request.response_format is not None:
        text["format"] = _format_fields(request.response_format)
    if text:
        fields["text"] = text


def _format_fields(form: ResponseFormat) -> dict[str, Any]:
    if form.kind == "text" or (form.kind == "json_object" and form.schema is None):
        return {"type": form.kind}
    # `name` is required here; llama.cpp's json_object with a schema means the same as a schema.
    fields: dict[str, Any] = {"name": form.name or "response", "description": form.description}
    fields |= {"schema": form.schema, "strict": form.strict}
    return {"type": "json_schema", **{name: value for name, value in fields.items() if value is not None}}


def _reasoning_fields(request: Request, fields: dict[str, Any], quirks: Quirks, owns_extra: bool) -> list[str]:
    more: dict[str, Any] = dict(unprefixed(request.extra, "reasoning.")) if owns_extra else {}
    reasoning, dropped = reasoning_of(request.reasoning, quirks)
    if reasoning or more:
        fields["reasoning"] = {**more, **reasoning}
    dropped += [name for name in _LOST_SAMPLING if getattr(request.sampling, name) is not None]
    return dropped


def reasoning_of(policy: ReasoningPolicy, quirks: Quirks) -> tuple[dict[str, Any], list[str]]:
    """(`reasoning`, names of what it cannot say). The field has one spelling with all servers, if they have it at all."""
    style = "none" if quirks.thinking_style == "none" else "openai_effort"
    out: dict[str, Any] = {}
    plain = ReasoningPolicy(policy.enabled, policy.effort, policy.budget_tokens)
    dropped = write_policy(out, plain, Quirks(thinking_style=style, effort_values=quirks.effort_values))
    reasoning = {"effort": out["reasoning_effort"]} if "reasoning_effort" in out else {}
    if policy.summary is not None and style == "none":
        dropped.append("reasoning.summary")
    elif policy.summary is not None:
        reasoning["summary"] = policy.summary
    return reasoning, dropped


def _include(request: Request, fields: dict[str, Any], quirks: Quirks, owns_extra: bool) -> None:
    include: list[Any] = []
    own: Fields = request.extra if owns_extra else {}
    if "include" in own:
        include += decode_list(own["include"])
    if request.logprobs or request.top_logprobs:
        include.append(LOGPROBS)
        if request.top_logprobs is not None:
            fields["top_logprobs"] = request.top_logprobs
    if quirks.tools_need_responses and not owns_extra:
        # OpenAI's reasoning series; without a store its thinking comes back for a next turn only so (A5.3).
        include.append("reasoning.encrypted_content")
    if include:
        fields["include"] = include
