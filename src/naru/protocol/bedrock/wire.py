"""The JSON of Converse and ConverseStream: structs for what is read. Unknown fields are ignored: nobody but Naru reads these."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from naru.errors import UpstreamBroken
from naru.protocol.messages import FinishReason, Usage
from naru.protocol.openai_chat.usage import MAX_TOKENS
from naru.protocol.service import tier_of

NAME = "bedrock_converse"

#: Everything a decoder of foreign bytes can raise: bad syntax or types, bad UTF-8 in a string, nesting without end.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

#: Where the stop sequence that was met is told, if it is asked for (additionalModelResponseFieldPaths).
STOP_PATH = "/stop_sequence"


class ReasoningText(Struct, gc=False):
    text: str = ""
    signature: str | None = None


class ReasoningBlock(Struct, gc=False):
    """Whole: reasoningText or redactedContent (base64). A delta: text, signature or redactedContent."""

    reasoningText: ReasoningText | None = None
    redactedContent: str | None = None
    text: str | None = None
    signature: str | None = None


class ToolUse(Struct, gc=False):
    """`input` is an object in whole answers, a piece of its text in a stream. `type`: server_tool_use where AWS runs it."""

    toolUseId: str = ""
    name: str = ""
    input: Raw | UnsetType = UNSET
    type: str = ""


class Cited(Struct, gc=False):
    text: str = ""


class Citations(Struct, gc=False):
    content: list[Cited] | None = None


class Source(Struct, gc=False):
    bytes: str = ""


class ImageBlock(Struct, gc=False):
    format: str = "png"
    source: Source | None = None


class Block(Struct, gc=False):
    """One of its fields is set."""

    text: str | None = None
    toolUse: ToolUse | None = None
    reasoningContent: ReasoningBlock | None = None
    citationsContent: Citations | None = None
    image: ImageBlock | None = None


class WireMessage(Struct, gc=False):
    content: list[Block] = []


class Output(Struct, gc=False):
    message: WireMessage | None = None


class CacheDetail(Struct, gc=False):
    ttl: str = ""
    inputTokens: int = 0


class WireUsage(Struct, gc=False):
    """inputTokens are those that no cache was read or written for; totalTokens is not read."""

    inputTokens: int = 0
    outputTokens: int = 0
    cacheReadInputTokens: int | None = 0
    cacheWriteInputTokens: int | None = 0
    cacheDetails: list[CacheDetail] | None = None


class ServiceTier(Struct, gc=False):
    type: str = ""


class Answer(Struct, gc=False):
    output: Output | None = None
    stopReason: str | None = None
    usage: WireUsage | None = None
    serviceTier: ServiceTier | None = None
    additionalModelResponseFields: Any = None


class Starting(Struct, gc=False):
    toolUse: ToolUse | None = None
    image: ImageBlock | None = None


class StreamEvent(Struct, gc=False):
    """Any event of a stream; which one is said by its frame."""

    contentBlockIndex: int = 0
    start: Starting | None = None
    delta: Block | None = None
    stopReason: str | None = None
    usage: WireUsage | None = None
    serviceTier: ServiceTier | None = None
    additionalModelResponseFields: Any = None


encode = msgspec.json.Encoder().encode
decode_answer = msgspec.json.Decoder(Answer).decode
decode_event = msgspec.json.Decoder(StreamEvent).decode
decode_str = msgspec.json.Decoder(str).decode

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
    "refusal": "content_filter",
}
#: The answer was given up: what there is of it is of no use.
FAILED_REASONS = frozenset({"malformed_model_output", "malformed_tool_use"})


def finish_of(reason: str | None, has_calls: bool) -> FinishReason | None:
    """A word nobody has heard of is `stop`; `tool_use` without calls was the tool that stood for the answer."""
    if not reason:
        return None
    found = _FINISH.get(reason, "stop")
    if found == "tool_calls" and not has_calls:
        return "stop"
    return "tool_calls" if found == "stop" and has_calls else found


def stop_sequence_of(fields: Any, reason: str | None) -> str | None:
    """What STOP_PATH asked for."""
    found = fields.get(STOP_PATH.strip("/")) if isinstance(fields, dict) else None
    return found if isinstance(found, str) and reason == "stop_sequence" else None


def usage_of(wire: WireUsage | None, tier: ServiceTier | None, counts_cache: bool = False) -> Usage | None:
    """Tokens as billed. None where nothing can be believed. `counts_cache`: inputTokens holds the cached ones too."""
    if wire is None:
        return None
    read, written = wire.cacheReadInputTokens or 0, wire.cacheWriteInputTokens or 0
    hour = sum(detail.inputTokens for detail in wire.cacheDetails or () if detail.ttl == "1h")
    counts = (wire.inputTokens, wire.outputTokens, read, written, hour)
    if min(counts) < 0 or max(counts) > MAX_TOKENS:
        return None
    hour = min(hour, written)
    is_inside = counts_cache and wire.inputTokens >= read + written
    return Usage(
        input=wire.inputTokens + (0 if is_inside else read + written),
        output=wire.outputTokens,
        cached=read,
        cache_write=written - hour,
        cache_write_1h=hour,
        tier=tier_of(tier.type) if tier is not None else "",
    )


def image_url(image: ImageBlock) -> str:
    return f"data:image/{image.format};base64,{image.source.bytes if image.source is not None else ''}"


def mint_id(*seeds: bytes) -> str:
    """Converse numbers its answers in a header alone; the same answer gets the same id."""
    return f"chatcmpl-{blake2b(b''.join(seeds), digest_size=12).hexdigest()}"


def cut_off() -> UpstreamBroken:
    return UpstreamBroken(
        "The provider's stream ended before the answer did. What was received is incomplete; try again.",
        code="upstream_incomplete",
    )
