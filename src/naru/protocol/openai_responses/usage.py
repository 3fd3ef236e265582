"""Usage of the Responses API between the wire and money: chat's record under other names (providers.md C8)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from naru.protocol.messages import Usage
from naru.protocol.openai_chat.usage import naru_fields, repair_usage, usage_of
from naru.protocol.openai_chat.wire import decode_usage
from naru.protocol.service import ServerTools, tier_of, tools_of
from naru.protocol.wire import BAD_JSON, Fields, decode_fields, decode_list, is_list, is_object, raw_of, text_of

_CHAT_NAMES = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "input_tokens_details": "prompt_tokens_details",
    "output_tokens_details": "completion_tokens_details",
}


def usage_of_response(fields: Fields) -> Usage | None:
    """The usage of a whole response, with the tier that it was served in and the tools that OpenAI ran for it."""
    usage = read_usage(fields.get("usage"))
    if usage is None:
        return None
    try:
        tier, tools = tier_of(text_of(fields.get("service_tier"))), _server_tools(fields)
    except BAD_JSON:
        return usage
    return replace(usage, tier=tier, server_tools=tools or usage.server_tools) if tier or tools else usage


#: Items of an output that are billed by the call. Of web searches only a search counts, not a page that is opened.
_BILLED_ITEMS = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}


def _server_tools(fields: Fields) -> ServerTools:
    output = fields.get("output")
    if output is None or b"_call" not in bytes(output) or not is_list(output):
        return ()
    counts: dict[str, int] = {}
    for raw in decode_list(output):
        item = decode_fields(raw) if is_object(raw) else {}
        name = _BILLED_ITEMS.get(text_of(item.get("type")) or "")
        action = item.get("action")
        kind = text_of(decode_fields(action).get("type")) if is_object(action) else None
        if name is not None and kind in (None, "search"):
            counts[name] = counts.get(name, 0) + 1
    if "web_search" in counts and b'"web_search_preview' in bytes(fields.get("tools", b"")):
        counts["web_search_preview"] = counts.pop("web_search")  # the older tool has another price
    return tools_of(counts.items())


def read_usage(raw: Raw | UnsetType | None) -> Usage | None:
    """Tokens as billed; None where there is no record, or none that can be believed. Raises nothing."""
    if raw is None or raw is UNSET or not is_object(raw):
        return None
    try:
        renamed = raw_of({_CHAT_NAMES.get(name, name): value for name, value in decode_fields(raw).items()})
        try:
            return usage_of(decode_usage(renamed))
        except msgspec.ValidationError:
            repaired = repair_usage(renamed)
            return None if repaired is None else usage_of(decode_usage(repaired))
    except BAD_JSON:
        return None


def usage_fields(usage: Usage) -> dict[str, object]:
    """Both details always: the SDK's type requires them, `cache_write_tokens` included (SDK 3.52, ResponseUsage)."""
    fields: dict[str, object] = {
        "input_tokens": usage.input,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            **({"audio_tokens": usage.audio_input} if usage.audio_input else {}),
        },
        "output_tokens": usage.output,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            **({"audio_tokens": usage.audio_output} if usage.audio_output else {}),
        },
        "total_tokens": usage.total,
    }
    if usage.is_estimated:
        fields["naru"] = {"estimated": True}
    return fields


def priced_fields(usage: Usage, cost_nano_usd: int, given: Fields | None = None) -> dict[str, object]:
    """The usage of a final event with what it cost. `given` are the upstream's own fields, which are kept.

    Another Naru upstream has its own price; only ours is the caller's.
    """
    if given is None:
        return {**usage_fields(usage), "naru": naru_fields(cost_nano_usd, usage.is_estimated)}
    before: Fields = decode_fields(own) if is_object(own := given.get("naru")) else {}
    return {**given, "naru": {**before, **naru_fields(cost_nano_usd, usage.is_estimated)}}
