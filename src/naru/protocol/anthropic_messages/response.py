"""Whole answers between the wire and the typed messages.

Fields without a type of their own travel in `extra`, by where they stood: of the message in Response.extra, of its usage
there too under `usage.<name>`, a stop_reason that has no typed word in Choice.extra. Texts side by side are one text, as in
a stream that was added up. The protocol has no time of creation: `created` is 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from naru.protocol.accumulate import merged
from naru.protocol.anthropic_messages.blocks import BlockError, read_block
from naru.protocol.anthropic_messages.errors import error_inside
from naru.protocol.anthropic_messages.messages_out import thinking_block
from naru.protocol.anthropic_messages.names import original_name
from naru.protocol.anthropic_messages.usage import USAGE_PREFIX, read_usage, usage_extra, usage_fields, usage_of
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL, FINISH_OF, NAME, input_of, stop_reason_of
from naru.protocol.dialect import Envelope, Quirks
from naru.protocol.messages import (
    Choice,
    Extra,
    FinishReason,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Response,
    Text,
    ToolCall,
    Usage,
)
from naru.protocol.seal import seal
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    raw_of,
    rest_of,
    text_of,
    unreadable,
)

RESPONSE_KEYS = frozenset({"id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"})
STOP_REASON = "stop_reason"
_BLANKS = b" \t\r\n"

# --- In -----------------------------------------------------------------------------------------------------------


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    fields = answer_fields(body, quirks)
    try:
        parts = tuple(_parts(decode_list(fields["content"])))
        usage = read_usage(fields.get("usage"))
        has_calls = any(isinstance(part, ToolCall) for part in parts)
        reason, choice_extra = finish_of(text_of(fields.get("stop_reason")), has_calls)
        return Response(
            id=text_of(fields.get("id")) or "",
            model=text_of(fields.get("model")) or "",
            created=0,
            choices=(Choice(0, parts, reason, stop_sequence=text_of(fields.get("stop_sequence")), extra=choice_extra),),
            usage=None if usage is None else usage_of(usage),
            service_tier=None if usage is None else usage.service_tier,
            extra=rest_of(fields, RESPONSE_KEYS) | usage_extra(fields.get("usage")),
            dialect=NAME,
        )
    except BlockError as error:
        raise unreadable(f"a content block: its {error.field or 'value'} {error.what}") from None
    except BAD_JSON:
        raise unreadable("it holds a string that is no text") from None


def answer_fields(body: bytes, quirks: Quirks) -> Fields:
    """The top level of an answer that has content. Raises UpstreamError."""
    if body[:1].isspace():
        body = body.lstrip(_BLANKS)
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        fields = decode_fields(body)
    except BAD_JSON:
        raise unreadable("it is not a JSON object") from None
    if not is_list(fields.get("content")):
        if not is_null(fields.get("error")) or text_of(fields.get("type")) == "error":
            raise error_inside(body, quirks)
        raise unreadable("it has no content")
    return fields


def finish_of(stop_reason: str | None, has_calls: bool) -> tuple[FinishReason | None, Extra]:
    """The typed reason, and the word itself where the typed one would not give it back."""
    if stop_reason is None:
        return None, {}
    reason = FINISH_OF.get(stop_reason, "stop")
    if reason == "stop" and has_calls:
        reason = "tool_calls"  # some compatible servers end a turn of calls with end_turn
    elif reason == "tool_calls" and not has_calls:
        reason = "stop"  # the one call was ANSWER_TOOL
    is_told = stop_reason in ("end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal")
    return reason, {} if is_told else {STOP_REASON: raw_of(stop_reason)}


def _parts(blocks: Iterable[Raw]) -> list[Part]:
    parts: list[Part] = []
    for raw in blocks:
        part = _part(read_block(raw))
        before = parts[-1] if parts else None
        if isinstance(part, Text) and isinstance(before, Text):
            parts[-1] = Text(before.text + part.text, merged(before.extra, part.extra))
        elif part is not None:
            parts.append(part)
    return parts


def _part(part: Part) -> Part | None:
    """The part as the caller's dialect should know it; None for a block with nothing in it."""
    if isinstance(part, ToolCall):
        if part.name == ANSWER_TOOL:
            return Text(part.arguments)
        return ToolCall(part.id, original_name(part.name), part.arguments, extra=part.extra)
    if isinstance(part, Text) and not part.text and not part.extra:
        return None
    is_empty = isinstance(part, Reasoning) and not (part.text or part.signature or part.encrypted or part.extra)
    return None if is_empty else part


# --- Out ----------------------------------------------------------------------------------------------------------


def encode_response(response: Response, envelope: Envelope) -> bytes:
    """The first choice as a message: the protocol has no others. Media, for which it has no blocks, is left out."""
    owns_extra = response.dialect == NAME
    choice = response.choices[0] if response.choices else Choice(0, (), "stop")
    shows_thinking = owns_extra or wants_thinking(envelope)
    content = [block for part in choice.parts if (block := _block(part, response.dialect, shows_thinking)) is not None]
    fields = message_head(response.id, response.model or envelope.model)
    fields["content"] = content
    fields |= stop_fields(choice.finish_reason, choice.stop_sequence, _has_refusal(choice))
    usage = response.usage or Usage(
        input=estimate_tokens_bytes(envelope.input_bytes),
        output=estimate_tokens_bytes(len(encode(content))),
        is_estimated=True,
    )
    wire = usage_fields(usage)
    if response.service_tier is not None:
        wire["service_tier"] = response.service_tier
    if owns_extra:
        fields |= choice.extra
        wire |= {name.removeprefix(USAGE_PREFIX): raw for name, raw in response.extra.items() if _is_usage(name)}
        fields = {**{name: raw for name, raw in response.extra.items() if not _is_usage(name)}, **fields}
    fields["usage"] = wire
    return encode(fields)


def _is_usage(name: str) -> bool:
    return name.startswith(USAGE_PREFIX)


def _has_refusal(choice: Choice) -> bool:
    return any(isinstance(part, Refusal) for part in choice.parts)


def wants_thinking(envelope: Envelope) -> bool:
    """Whether the client asked to see thinking. One that did not may take the first block for the answer."""
    raw = envelope.fields.get("thinking")
    if raw is not None and not is_null(raw):
        text = bytes(raw)
        return b'"disabled"' not in text and b'"omitted"' not in text
    switch = envelope.fields.get("enable_thinking")
    return bytes(switch or b"") == b"true" or any(
        not is_null(envelope.fields.get(name)) for name in ("reasoning_effort", "thinking_budget")
    )


def message_id(given: str) -> str:
    """Anthropic's ids start with `msg_`."""
    return given if given.startswith("msg_") or not given else f"msg_{given}"


def message_head(answer_id: str, model: str) -> dict[str, Any]:
    return {"id": message_id(answer_id), "type": "message", "role": "assistant", "model": model}


def stop_fields(reason: str | None, stop_sequence: str | None, has_refusal: bool) -> dict[str, Any]:
    if reason is None:
        return {"stop_reason": None, "stop_sequence": None}
    word = "refusal" if has_refusal and reason == "stop" else stop_reason_of(reason, stop_sequence)
    return {"stop_reason": word, "stop_sequence": stop_sequence}


def _block(part: Part, dialect: str, shows_thinking: bool) -> Any:
    owns_extra = dialect == NAME
    extra = getattr(part, "extra", {}) if owns_extra else {}
    if isinstance(part, Text):
        return {**extra, "type": "text", "text": part.text} if part.text or extra else None
    if isinstance(part, Refusal):
        return {"type": "text", "text": part.text} if part.text else None
    if isinstance(part, ToolCall):
        return {**extra, "type": "tool_use", "id": part.id, "name": part.name, "input": input_of(part.arguments)}
    if isinstance(part, Reasoning):
        return {**extra, **thinking_block(sealed(part, dialect))} if shows_thinking else None
    return part.raw if isinstance(part, Opaque) and part.dialect == NAME else None


def sealed(part: Reasoning, dialect: str) -> Reasoning:
    """Another provider's signature and encrypted form in the place of Anthropic's signature, for the client to return."""
    if dialect == NAME or (part.signature is None and part.encrypted is None):
        return part
    return Reasoning(part.text, seal(dialect, part.signature, part.encrypted))
