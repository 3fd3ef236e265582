"""A whole answer of Converse to the typed Response."""

from __future__ import annotations

from naru.protocol.anthropic_messages.names import original_name
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL, arguments_of
from naru.protocol.bedrock.wire import (
    BAD_JSON,
    FAILED_REASONS,
    NAME,
    Answer,
    Block,
    ReasoningBlock,
    ToolUse,
    decode_answer,
    finish_of,
    image_url,
    mint_id,
    stop_sequence_of,
    usage_of,
)
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Choice, Image, Part, Reasoning, Response, Text, ToolCall
from naru.protocol.openai_chat.errors import failed_reason
from naru.protocol.wire import unreadable

#: What AWS runs itself is no call for the caller to answer.
SERVER_TOOL = "server_tool_use"


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage. `model` is empty: no answer names it."""
    try:
        body.decode()  # msgspec does not look into the strings that it skips
        answer = decode_answer(body)
        if answer.output is None or answer.output.message is None:
            raise unreadable("it has no message")
        parts = _merged([part for block in answer.output.message.content for part in _parts(block)])
    except BAD_JSON:
        raise unreadable("it is not as the API describes it") from None
    if answer.stopReason in FAILED_REASONS:
        raise failed_reason(answer.stopReason or "")
    return _response(body, answer, parts)


def _response(body: bytes, answer: Answer, parts: tuple[Part, ...]) -> Response:
    reason = finish_of(answer.stopReason, any(isinstance(part, ToolCall) for part in parts))
    stop_sequence = stop_sequence_of(answer.additionalModelResponseFields, answer.stopReason)
    return Response(
        id=mint_id(body),
        model="",
        created=0,
        choices=(Choice(0, parts, reason, stop_sequence=stop_sequence),),
        usage=usage_of(answer.usage, answer.serviceTier),
        service_tier=answer.serviceTier.type if answer.serviceTier is not None else None,
        dialect=NAME,
    )


def _parts(block: Block) -> list[Part]:
    if block.text:
        return [Text(block.text)]
    if block.reasoningContent is not None:
        return _thinking(block.reasoningContent)
    if block.toolUse is not None:
        return _call(block.toolUse)
    if block.citationsContent is not None:
        return [Text(cited.text) for cited in block.citationsContent.content or () if cited.text]
    return [Image(image_url(block.image))] if block.image is not None else []


def _thinking(block: ReasoningBlock) -> list[Part]:
    if block.redactedContent is not None:
        return [Reasoning("", encrypted=block.redactedContent)]
    told = block.reasoningText
    return [Reasoning(told.text, told.signature or None)] if told is not None and (told.text or told.signature) else []


def _call(use: ToolUse) -> list[Part]:
    if use.type == SERVER_TOOL:
        return []
    arguments = arguments_of(use.input or None)
    if use.name == ANSWER_TOOL:
        return [Text(arguments)]
    return [ToolCall(use.toolUseId, original_name(use.name), arguments)]


def _merged(parts: list[Part]) -> tuple[Part, ...]:
    """Texts side by side are one text, as in a stream that was added up."""
    merged: list[Part] = []
    for part in parts:
        before = merged[-1] if merged else None
        if isinstance(part, Text) and isinstance(before, Text):
            merged[-1] = Text(before.text + part.text)
        else:
            merged.append(part)
    return tuple(merged)
