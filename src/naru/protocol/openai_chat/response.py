"""Whole answers between the wire and the typed messages.

Fields without a type of their own travel in `extra`, by where they stood: of the answer in Response.extra; of the message
in Choice.extra; of the choice itself there too, under `choice.<name>`; of a call in ToolCall.extra, and of its function
under `function.<name>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Audio,
    Choice,
    Extra,
    FinishReason,
    Image,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
)
from naru.protocol.openai_chat.repair import index_of, mint_call_id, object_fields
from naru.protocol.openai_chat.usage import usage_fields, usage_of
from naru.protocol.openai_chat.whole import relay_whole
from naru.protocol.openai_chat.wire import FINISH_REASONS, NAME, decode_usage
from naru.protocol.service import tier_of
from naru.protocol.wire import Fields, decode_fields, decode_list, encode, is_list, is_null, is_object, rest_of, text_of

RESPONSE_KEYS = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "error"})
CHOICE_KEYS = frozenset({"index", "message", "delta", "finish_reason", "logprobs"})
MESSAGE_KEYS = frozenset(
    {"role", "content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "thinking_blocks"}
)
CALL_KEYS = frozenset({"id", "type", "function", "custom", "index"})
INNER_KEYS = frozenset({"name", "arguments", "input"})
CHOICE_PREFIX = "choice."
FUNCTION_PREFIX = "function."

_BLOCK_KEYS = frozenset({"type", "thinking", "signature", "data"})
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def finish_of(reason: str) -> FinishReason:
    """The typed reason; of a vocabulary nobody has heard of, `stop`."""
    found = _FINISH.get(reason) or _FINISH.get(FINISH_REASONS.get(reason, ""))
    return found or "stop"


# --- In -----------------------------------------------------------------------------------------------------------


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    fields = object_fields(relay_whole(body, quirks).body)
    answer_id = text_of(fields.get("id")) or ""
    usage, tier = fields.get("usage"), text_of(fields.get("service_tier"))
    return Response(
        id=answer_id,
        model=text_of(fields.get("model")) or "",
        created=created_of(fields),
        choices=tuple(_choice(decode_fields(raw), answer_id) for raw in decode_list(fields["choices"])),
        usage=usage_of(decode_usage(usage), tier_of(tier)) if is_object(usage) else None,
        service_tier=tier,
        extra=rest_of(fields, RESPONSE_KEYS),
        dialect=NAME,
    )


def created_of(fields: Fields) -> int:
    """Unix seconds; 0 where there is no whole number."""
    raw = fields.get("created")
    digits = bytes(raw) if raw is not None else b""
    return int(digits) if digits.isdigit() and len(digits) < 16 else 0


def _choice(fields: Fields, answer_id: str) -> Choice:
    index = index_of(fields, 0)
    message = decode_fields(fields["message"])
    extra = rest_of(message, MESSAGE_KEYS)
    extra |= {CHOICE_PREFIX + name: raw for name, raw in rest_of(fields, CHOICE_KEYS).items()}
    stop_sequence = text_of(fields.get("stop_reason"))
    if stop_sequence is not None:
        del extra[CHOICE_PREFIX + "stop_reason"]
    reason = text_of(fields.get("finish_reason"))
    logprobs = fields.get("logprobs")
    return Choice(
        index=index,
        parts=tuple(_parts(message, answer_id, index)),
        finish_reason=None if reason is None else finish_of(reason),
        logprobs=None if is_null(logprobs) else logprobs,
        stop_sequence=stop_sequence,
        extra=extra,
    )


def _parts(message: Fields, answer_id: str, choice: int) -> Iterable[Part]:
    """In OpenAI's own order: thinking, text, refusal, calls."""
    blocks = reasoning_blocks(raw) if is_list(raw := message.get("thinking_blocks")) else []
    yield from blocks
    if not blocks and (reasoning := text_of(message.get("reasoning_content"))):
        yield Reasoning(reasoning)
    if content := text_of(message.get("content")):
        yield Text(content)
    if refusal := text_of(message.get("refusal")):
        yield Refusal(refusal)
    if is_list(calls := message.get("tool_calls")):
        yield from (decode_call(decode_fields(raw)) for raw in decode_list(calls))
    if is_object(call := message.get("function_call")):
        function = decode_fields(call)
        name = text_of(function.get("name")) or ""
        arguments = text_of(function.get("arguments")) or ""
        yield ToolCall(mint_call_id(answer_id, choice, 0, name), name, arguments, "function_call")


def decode_call(fields: Fields) -> ToolCall:
    """A tool call in the repaired form: one of `function` and `custom`, its arguments as text."""
    kind = "function" if is_object(fields.get("function")) else "custom"
    inner = decode_fields(fields[kind])
    return ToolCall(
        id=text_of(fields.get("id")) or "",
        name=text_of(inner.get("name")) or "",
        arguments=text_of(inner.get("arguments" if kind == "function" else "input")) or "",
        kind=kind,
        extra=call_extra(fields, kind),
    )


def call_extra(fields: Fields, kind: str) -> Extra:
    extra = rest_of(fields, CALL_KEYS)
    if is_object(inner := fields.get(kind)):
        extra |= {FUNCTION_PREFIX + name: raw for name, raw in rest_of(decode_fields(inner), INNER_KEYS).items()}
    return extra


def reasoning_blocks(raw: Raw) -> list[Reasoning]:
    """`thinking_blocks`: the form in which signed and encrypted thinking travels through OpenAI-style clients."""
    blocks: list[Reasoning] = []
    for item in decode_list(raw):
        if is_object(item):
            block = decode_fields(item)
            blocks.append(
                Reasoning(
                    text_of(block.get("thinking")) or "",
                    text_of(block.get("signature")),
                    text_of(block.get("data")),
                    rest_of(block, _BLOCK_KEYS),
                )
            )
    return blocks


# --- Out ----------------------------------------------------------------------------------------------------------


def encode_response(response: Response) -> bytes:
    """Parts that chat completions have no place for (another dialect's own) are left out; texts are joined."""
    owns_extra = response.dialect == NAME
    fields: dict[str, Any] = {
        "id": response.id,
        "object": "chat.completion",
        "created": response.created,
        "model": response.model,
        "choices": [_choice_fields(choice, owns_extra) for choice in response.choices],
    }
    if response.usage is not None:
        fields["usage"] = usage_fields(response.usage)
    if response.service_tier is not None:
        fields["service_tier"] = response.service_tier
    if owns_extra:
        fields = {**response.extra, **fields}
    return encode(fields)


def _choice_fields(choice: Choice, owns_extra: bool) -> dict[str, Any]:
    message = _message_fields(choice, owns_extra)
    reason: str | None = choice.finish_reason
    if reason == "tool_calls" and "function_call" in message:
        reason = "function_call"
    fields: dict[str, Any] = {
        "index": choice.index,
        "message": message,
        "logprobs": choice.logprobs,
        "finish_reason": reason,
    }
    if choice.stop_sequence is not None:
        fields["stop_reason"] = choice.stop_sequence
    if owns_extra:
        fields = {**prefixed(choice.extra, CHOICE_PREFIX), **fields}
    return fields


def _message_fields(choice: Choice, owns_extra: bool) -> dict[str, Any]:
    parts = choice.parts
    text = "".join(part.text for part in parts if isinstance(part, Text))
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    thoughts = [part for part in parts if isinstance(part, Reasoning)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal else ""),
        "refusal": refusal or None,
    }
    if reasoning := "".join(part.text for part in thoughts):
        message["reasoning_content"] = reasoning
    if needs_blocks(thoughts):
        message["thinking_blocks"] = [block_fields(part, owns_extra) for part in thoughts]
    legacy = next((call for call in calls if call.kind == "function_call"), None)
    if legacy is not None:
        message["function_call"] = {"name": legacy.name, "arguments": legacy.arguments}
    elif calls:
        message["tool_calls"] = [told_call(call, owns_extra) for call in calls]
    message |= media_fields(parts)
    if owns_extra:
        message = {**{k: v for k, v in choice.extra.items() if not k.startswith(CHOICE_PREFIX)}, **message}
    return message


def media_fields(parts: Iterable[Part]) -> dict[str, Any]:
    """Generated images in the form OpenRouter gave them, sound in OpenAI's."""
    fields: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Image):
            fields.setdefault("images", []).append({"type": "image_url", "image_url": {"url": part.url}})
        elif isinstance(part, Audio):
            fields["audio"] = {"id": "audio_0", "data": part.data, "expires_at": 0, "transcript": ""}
    return fields


def needs_blocks(thoughts: list[Reasoning]) -> bool:
    """Whether plain reasoning_content would lose a signature, an encrypted part or a border."""
    return len(thoughts) > 1 or any(
        part.signature is not None or part.encrypted is not None or part.extra for part in thoughts
    )


def block_fields(part: Reasoning, owns_extra: bool) -> dict[str, Any]:
    is_redacted = part.encrypted is not None and part.signature is None and not part.text
    fields: dict[str, Any] = (
        {"type": "redacted_thinking"} if is_redacted else {"type": "thinking", "thinking": part.text}
    )
    if part.signature is not None:
        fields["signature"] = part.signature
    if part.encrypted is not None:
        fields["data"] = part.encrypted
    return {**part.extra, **fields} if owns_extra else fields


def told_call(call: ToolCall, owns_extra: bool) -> dict[str, Any]:
    """A call as its client is told of it. A signature stands where Google's own compatible endpoint puts it (A6.1)."""
    fields = call_fields(call, owns_extra)
    if call.signature is not None:
        fields["extra_content"] = {"google": {"thought_signature": call.signature}}
    return fields


def call_fields(call: ToolCall, owns_extra: bool) -> dict[str, Any]:
    kind = "custom" if call.kind == "custom" else "function"
    inner: dict[str, Any] = {"name": call.name, ("input" if kind == "custom" else "arguments"): call.arguments}
    fields: dict[str, Any] = {"id": call.id, "type": kind, kind: inner}
    if owns_extra and call.extra:
        fields[kind] = {**prefixed(call.extra, FUNCTION_PREFIX), **inner}
        fields = {**{k: v for k, v in call.extra.items() if not k.startswith(FUNCTION_PREFIX)}, **fields}
    return fields


def prefixed(extra: Extra, prefix: str) -> dict[str, Any]:
    """The fields of an `extra` that stood one level deeper, by their own names."""
    return {name.removeprefix(prefix): raw for name, raw in extra.items() if name.startswith(prefix)}
