"""What a candidate is written from: parts, finish reasons, logprobs. For whole answers and for streams."""

from __future__ import annotations

from typing import Any

from naru.protocol.gemini.logprobs import google_form
from naru.protocol.gemini.parts import Out, args_fields, call_fields, media_fields, thought_fields, with_extra
from naru.protocol.gemini.wire import NAME
from naru.protocol.messages import (
    Audio,
    Choice,
    File,
    FinishReason,
    Image,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
)

#: Gemini has no reason of its own for calls.
_REASONS: dict[FinishReason, str] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
    "error": "OTHER",
}
_MAX_SHOWN_CHARS = 2_000


def part_fields(part: Part, owns_extra: bool) -> Any:
    """None for a part that Gemini cannot write: another dialect's own, or a call whose arguments are no JSON object."""
    if isinstance(part, Text):
        return with_extra({"text": part.text}, part.extra, owns_extra)
    if isinstance(part, Reasoning):
        return thought_fields(part, owns_extra)
    if isinstance(part, Refusal):
        return {"text": part.text}
    if isinstance(part, ToolCall):
        args = args_fields(part)
        return None if args is None else call_fields(part, args, owns_extra)
    if isinstance(part, Image | Audio | File):
        return media_fields(part, owns_extra)
    return part.raw if isinstance(part, Opaque) and part.dialect == NAME else None


def finish_fields(choice: Choice, owns_extra: bool) -> Out:
    """Reason, logprobs and the caller's own fields of a whole candidate."""
    fields: Out = {}
    if choice.finish_reason is not None:
        fields["finishReason"] = reason_of(choice.finish_reason)
    if choice.logprobs is not None and (logprobs := google_form(choice.logprobs)) is not None:
        fields["logprobsResult"] = logprobs
    return {**fields, **choice.extra} if owns_extra else fields


def reason_of(reason: FinishReason) -> str:
    return _REASONS.get(reason, "OTHER")


def malformed_fields(calls: list[ToolCall]) -> Out:
    """Gemini's own way to say that the model wrote a call nobody can read; empty where all are sound."""
    if not calls:
        return {}
    said = "; ".join(f"{call.name}({call.arguments})" for call in calls)[:_MAX_SHOWN_CHARS]
    return {"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": f"Malformed function call: {said}"}
