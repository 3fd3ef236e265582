"""Whole answers: passed on, and to and from the typed Response.

A text completion has one text a choice. Thinking that came before it goes out as `reasoning_content` beside it, which
clients that do not know it ignore.
"""

from __future__ import annotations

from typing import Any

from naru.errors import UpstreamBroken
from naru.protocol.dialect import Envelope, Quirks, WholeAnswer
from naru.protocol.messages import Choice, Extra, FinishReason, Part, Reasoning, Refusal, Response, Text
from naru.protocol.openai_chat.response import created_of, finish_of
from naru.protocol.openai_chat.usage import usage_fields, usage_of
from naru.protocol.openai_chat.wire import tier_in
from naru.protocol.openai_completions.logprobs import listed_form, shared_form
from naru.protocol.openai_completions.wire import NAME, OBJECT, TextAnswer, TextChoice, read_answer
from naru.protocol.wire import (
    Fields,
    decode_fields,
    decode_objects,
    encode,
    is_null,
    raw_of,
    rest_of,
    text_of,
    unreadable,
)

RESPONSE_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "error"})
CHOICE_KEYS = frozenset({"index", "text", "logprobs", "finish_reason", "reasoning_content"})


def relay_whole(body: bytes, quirks: Quirks) -> WholeAnswer:
    """The upstream's own bytes, unless something had to be put right. Raises UpstreamError."""
    body, answer = _read(body, quirks)
    usage = None if answer.usage is None else usage_of(answer.usage, tier_in(body))
    return WholeAnswer(body, usage, sum(len(choice.text or "") for choice in answer.choices))


def _read(body: bytes, quirks: Quirks) -> tuple[bytes, TextAnswer]:
    body, answer = read_answer(body, quirks)
    if not answer.choices:
        raise unreadable("it has no choices")
    return body, answer


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    body, answer = _read(body, quirks)
    fields = decode_fields(body)
    raws = decode_objects(fields["choices"])
    return Response(
        id=text_of(fields.get("id")) or "",
        model=text_of(fields.get("model")) or "",
        created=created_of(fields),
        choices=tuple(_choice(choice, raw) for choice, raw in zip(answer.choices, raws, strict=True)),
        usage=None if answer.usage is None else usage_of(answer.usage, tier_in(body)),
        service_tier=text_of(fields.get("service_tier")),
        extra=rest_of(fields, RESPONSE_KEYS),
        dialect=NAME,
    )


def _choice(choice: TextChoice, fields: Fields) -> Choice:
    parts: list[Part] = []
    if thinking := text_of(fields.get("reasoning_content")):
        parts.append(Reasoning(thinking))
    if choice.text:
        parts.append(Text(choice.text))
    logprobs = fields.get("logprobs")
    return Choice(
        choice.index,
        tuple(parts),
        None if choice.finish_reason is None else finish_of(choice.finish_reason),
        logprobs=None if logprobs is None or is_null(logprobs) else shared_form(logprobs),
        extra=rest_of(fields, CHOICE_KEYS),
    )


def encode_response(response: Response, envelope: Envelope) -> bytes:
    """Raises UpstreamBroken for what is no text: it was not asked for, so the upstream made it up."""
    owns_extra = response.dialect == NAME
    fields: dict[str, Any] = {
        **(response.extra if owns_extra else {}),
        "id": response.id,
        "object": OBJECT,
        "created": response.created,
        "model": response.model or envelope.model,
        "choices": [_choice_fields(choice, owns_extra) for choice in response.choices],
    }
    if response.service_tier is not None:
        fields["service_tier"] = response.service_tier
    if response.usage is not None:
        fields["usage"] = usage_fields(response.usage)
    return encode(fields)


def _choice_fields(choice: Choice, owns_extra: bool) -> dict[str, Any]:
    texts, thinking = [], []
    for part in choice.parts:
        if isinstance(part, Text | Refusal):
            texts.append(part.text)
        elif isinstance(part, Reasoning):
            thinking.append(part.text)
        else:
            raise UpstreamBroken("The provider answered a text completion with something that is no text. Try again.")
    extra: Extra = choice.extra if owns_extra else {}
    fields: dict[str, Any] = {**extra, **choice_fields(choice.index, "".join(texts), choice.finish_reason)}
    fields["logprobs"] = listed_form(choice.logprobs)
    if any(thinking):
        fields["reasoning_content"] = raw_of("".join(thinking))
    return fields


def choice_fields(index: int, text: str, reason: FinishReason | None) -> dict[str, Any]:
    """A text that would go on with a tool call has no such way to end here: it stops."""
    told = "stop" if reason == "tool_calls" else reason
    return {"index": index, "text": text, "logprobs": None, "finish_reason": told}
