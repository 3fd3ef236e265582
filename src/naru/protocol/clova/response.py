"""A whole answer of CLOVA Studio to the typed Response."""

from __future__ import annotations

from naru.protocol.clova.errors import error_inside, is_failure
from naru.protocol.clova.wire import (
    NAME,
    WireMessage,
    arguments_of,
    created_of,
    decode_answer,
    finish_of,
    mint_id,
    result_extra,
    usage_of,
)
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Choice, Part, Reasoning, Response, Text, ToolCall
from naru.protocol.wire import BAD_JSON, unreadable


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200. `model` is empty: no answer names it."""
    try:
        body.decode()  # msgspec does not look into the strings that it skips
        answer = decode_answer(body)
    except BAD_JSON:
        raise unreadable("it is not as the API describes it") from None
    if answer.status is not None and is_failure(answer.status):
        raise error_inside(answer.status)
    result = answer.result
    if result is None or result.message is None:
        raise unreadable("it has no message")
    answer_id = mint_id("chatcmpl-", body)
    try:
        parts = _parts(result.message, answer_id)
    except BAD_JSON:
        raise unreadable("the arguments of a call are not JSON") from None
    return Response(
        id=answer_id,
        model="",
        created=created_of(result),
        choices=(Choice(0, parts, finish_of(result, bool(result.message.toolCalls))),),
        usage=usage_of(result),
        extra=result_extra(result),
        dialect=NAME,
    )


def _parts(message: WireMessage, answer_id: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    if message.thinkingContent:
        parts.append(Reasoning(message.thinkingContent))
    if message.content:
        parts.append(Text(message.content))
    for place, call in enumerate(message.toolCalls or ()):
        name = call.function.name or ""
        call_id = call.id or mint_id("call_", answer_id, str(place), name)
        parts.append(ToolCall(call_id, name, arguments_of(call.function.arguments)))
    return tuple(parts)
