"""usageMetadata between the wire and money (providers.md A6.3, C8). A record that cannot be believed is none at all."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.protocol.dialect import ShownCost
from naru.protocol.messages import Usage
from naru.protocol.service import ServerTools, tier_of, tools_of
from naru.protocol.wire import BAD_JSON, decode_any, is_object

#: No request reads or writes a hundred million tokens; a record that says so is not believed.
MAX_TOKENS = 100_000_000


class _Modality(Struct, gc=False):
    modality: str = ""
    tokenCount: int = 0


class _Naru(Struct, gc=False):
    estimated: bool = False


class WireUsage(Struct, gc=False):
    """What is missing counts as 0: protocol buffers leave zeros out."""

    promptTokenCount: int = 0
    candidatesTokenCount: int = 0
    thoughtsTokenCount: int = 0
    toolUsePromptTokenCount: int = 0
    cachedContentTokenCount: int = 0
    totalTokenCount: int = 0
    promptTokensDetails: list[_Modality] = []
    candidatesTokensDetails: list[_Modality] = []
    toolUsePromptTokensDetails: list[_Modality] = []
    serviceTier: str | None = None
    naru: _Naru | None = None


_decode = msgspec.json.Decoder(WireUsage).decode
_COUNTERS = (
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
)


class _Chunk(Struct, gc=False):
    maps: Raw | None = None


class _Grounding(Struct, gc=False):
    webSearchQueries: list[str] = []
    groundingChunks: list[_Chunk] = []


class _Grounded(Struct, gc=False):
    groundingMetadata: _Grounding | None = None


_decode_grounded = msgspec.json.Decoder(list[_Grounded]).decode


def grounding_of(candidates: Raw | None) -> ServerTools:
    """What Google searched for an answer: newer models bill each query, older ones the prompt that was grounded at all
    (reference: genai-prices)."""
    if candidates is None or b'"groundingMetadata"' not in bytes(candidates):
        return ()
    try:
        found = [each.groundingMetadata for each in _decode_grounded(candidates) if each.groundingMetadata is not None]
    except BAD_JSON:
        return ()
    queries = sum(len(each.webSearchQueries) for each in found)
    has_maps = any(chunk.maps is not None for each in found for chunk in each.groundingChunks)
    return tools_of([("web_search", queries), ("grounded_prompt", min(queries, 1)), ("maps", int(has_maps))])


def usage_of(raw: Raw) -> tuple[Usage | None, str | None]:
    """Tokens as billed, and the service tier; None where nothing can be believed. Parts never exceed their whole."""
    try:
        wire = _decode(raw)
    except BAD_JSON:
        repaired = _repaired(raw)
        if repaired is None:
            return None, None
        wire = repaired
    return usage_from(wire), wire.serviceTier


def usage_from(wire: WireUsage) -> Usage | None:
    """None for figures that cannot be believed."""
    prompt, candidates, thoughts = wire.promptTokenCount, wire.candidatesTokenCount, wire.thoughtsTokenCount
    tool_use, cached, total = wire.toolUsePromptTokenCount, wire.cachedContentTokenCount, wire.totalTokenCount
    if min(prompt, candidates, thoughts, tool_use, cached, total) < 0:
        return None
    if max(prompt, candidates, thoughts, tool_use, cached, total) > MAX_TOKENS:
        return None
    read = prompt + tool_use
    # Where the sum is whole without the thoughts, they are inside the candidates' count.
    is_inside = thoughts and read + candidates == total
    output = candidates if is_inside else candidates + thoughts
    return Usage(
        input=read,
        output=output,
        cached=min(cached, read),
        reasoning=min(thoughts, output),
        audio_input=min(_audio(wire.promptTokensDetails) + _audio(wire.toolUsePromptTokensDetails), read),
        audio_output=min(_audio(wire.candidatesTokensDetails), output),
        is_estimated=wire.naru is not None and wire.naru.estimated,
        tier=tier_of(wire.serviceTier),
    )


def _audio(details: list[_Modality]) -> int:
    return sum([max(each.tokenCount, 0) for each in details if each.modality == "AUDIO"]) if details else 0


def _repaired(raw: Raw) -> WireUsage | None:
    """The counters that are whole numbers, where another field is not as it should be."""
    if not is_object(raw):
        return None
    try:
        given = decode_any(raw)
    except BAD_JSON:
        return None
    sound = {name: given[name] for name in _COUNTERS if type(given.get(name)) is int}
    return WireUsage(**sound) if "promptTokenCount" in sound or "candidatesTokenCount" in sound else None


def usage_fields(usage: Usage, service_tier: str | None = None) -> dict[str, Any]:
    """Usage as Gemini writes it. Cache writes and tool use have no count of their own here: they are in the prompt's."""
    fields: dict[str, Any] = {"promptTokenCount": usage.input, "candidatesTokenCount": usage.output - usage.reasoning}
    if usage.cached:
        fields["cachedContentTokenCount"] = usage.cached
    if usage.reasoning:
        fields["thoughtsTokenCount"] = usage.reasoning
    fields["totalTokenCount"] = usage.total
    if usage.audio_input:
        fields["promptTokensDetails"] = _details(usage.input, usage.audio_input)
    if usage.audio_output:
        fields["candidatesTokensDetails"] = _details(usage.output - usage.reasoning, usage.audio_output)
    if service_tier is not None:
        fields["serviceTier"] = service_tier
    if usage.is_estimated:
        fields["naru"] = {"estimated": True}
    return fields


def _details(total: int, audio: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"modality": "AUDIO", "tokenCount": audio}]
    if total > audio:
        found.insert(0, {"modality": "TEXT", "tokenCount": total - audio})
    return found


def naru_fields(cost_nano_usd: int, is_estimated: bool) -> dict[str, Any]:
    """What Naru adds to the usage of a stream: the cost in dollars (and won), every digit of it, and whether the count is a
    guess."""
    whole, fraction = divmod(abs(cost_nano_usd), 1_000_000_000)
    digits = f"{whole}.{fraction:09d}".rstrip("0").rstrip(".")
    fields: dict[str, Any] = {"cost_usd": Raw(f"{'-' if cost_nano_usd < 0 else ''}{digits}".encode())}
    if isinstance(cost_nano_usd, ShownCost):
        fields["cost_krw"] = Raw(cost_nano_usd.krw.encode())
    if is_estimated:
        fields["estimated"] = True
    return fields
