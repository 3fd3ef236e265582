"""Usage between the wire and money. What an upstream counts wrongly is put right here, or not believed at all.

providers.md C8 names the fields; reliability.md A28 the faults: absent, null, negative, huge, fractional, repeated.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw

from naru.protocol.dialect import ShownCost
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.wire import WireUsage, decode_usage
from naru.protocol.service import ServerTools, tools_of
from naru.protocol.wire import Fields, decode_any, decode_fields, encode, is_object, raw_of, value_of

#: No request reads or writes a hundred million tokens; a record that says so is not believed.
MAX_TOKENS = 100_000_000

_COUNTERS = ("prompt_tokens", "completion_tokens", "total_tokens")
_LOOSE_COUNTERS = (
    "reasoning_tokens",
    "prompt_cache_hit_tokens",
    "num_cached_tokens",
    "cached_tokens",
    "num_search_queries",
)
_DETAILS = {
    "prompt_tokens_details": ("cached_tokens", "cache_write_tokens", "cache_creation_input_tokens", "audio_tokens"),
    "completion_tokens_details": ("reasoning_tokens", "audio_tokens"),
}


def usage_of(wire: WireUsage, tier: str = "") -> Usage | None:
    """Tokens as billed, or None where the record cannot be believed. Never negative; parts never exceed their whole. `tier` is
    the answer's (service.py).

    A total above input plus output is thinking that the upstream bills but left out of `completion_tokens`: recorded with
    Gemini's compatible endpoint (35 + 12 = 109), known of xAI. It is output.
    """
    prompt, completion, total = wire.prompt_tokens, wire.completion_tokens, wire.total_tokens
    if prompt < 0 and completion < 0:
        return None
    if prompt > MAX_TOKENS or completion > MAX_TOKENS or total > MAX_TOKENS:
        return None
    hidden = 0
    if prompt < 0:
        prompt = max(total - completion, 0)
    elif completion < 0:
        completion = max(total - prompt, 0)
    else:
        hidden = max(total - prompt - completion, 0)
    output = completion + hidden
    cached = wire.prompt_cache_hit_tokens or wire.num_cached_tokens or wire.cached_tokens or 0
    written = audio_in = audio_out = 0
    reasoning = wire.reasoning_tokens or 0
    if (prompt_details := wire.prompt_tokens_details) is not None:
        cached = prompt_details.cached_tokens or cached
        written = prompt_details.cache_write_tokens or prompt_details.cache_creation_input_tokens or 0
        audio_in = prompt_details.audio_tokens or 0
    if (details := wire.completion_tokens_details) is not None:
        reasoning = details.reasoning_tokens or reasoning
        audio_out = details.audio_tokens or 0
    cached = _between(cached, prompt)
    return Usage(
        prompt,
        output,
        cached,
        _between(written, prompt - cached),
        0,
        _between(max(reasoning, hidden), output),
        _between(audio_in, prompt),
        _between(audio_out, output),
        wire.naru is not None and wire.naru.estimated,
        None,
        tier,
        ()
        if not wire.num_search_queries and wire.server_tool_use is UNSET and wire.plugins is UNSET
        else _searches(wire),
    )


def _searches(wire: WireUsage) -> ServerTools:
    """As Perplexity, OpenRouter ({"web_search_requests": 1}) or DashScope ({"search": {"count": 1}}) counts them."""
    count: object = wire.num_search_queries
    for raw, names in ((wire.server_tool_use, ("web_search_requests",)), (wire.plugins, ("search", "count"))):
        found = None if raw is UNSET else value_of(raw)
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        count = found or count
    return tools_of([("web_search", count)]) if type(count) is int else ()


def _between(value: int, high: int) -> int:
    return 0 if value < 0 else min(value, high)


def is_sane(wire: WireUsage) -> bool:
    """Whether the record can go to the client as it is."""
    return (
        0 <= wire.prompt_tokens <= MAX_TOKENS
        and 0 <= wire.completion_tokens <= MAX_TOKENS
        and -1 <= wire.total_tokens <= MAX_TOKENS
    )


def repair_usage(raw: Raw) -> Raw | None:
    """The record with every counter a whole number of at least 0, or None where nothing in it can be believed."""
    if not is_object(raw):
        return None
    fields = decode_fields(raw)
    for name in _COUNTERS:
        _repair_counter(fields, name)
    for name in _LOOSE_COUNTERS:
        if name in fields:
            _repair_counter(fields, name)
    for name, counters in _DETAILS.items():
        if is_object(fields.get(name)):
            details = decode_fields(fields[name])
            for counter in counters:
                _repair_counter(details, counter)
            fields[name] = raw_of(details)
        else:
            fields.pop(name, None)
    if "naru" in fields and not is_object(fields["naru"]):
        del fields["naru"]
    if "prompt_tokens" not in fields and "completion_tokens" not in fields:
        return None
    _fill_totals(fields)
    repaired = raw_of(fields)
    try:
        wire = decode_usage(repaired)
    except msgspec.ValidationError:  # a `naru` object of somebody else's
        return None
    return repaired if usage_of(wire) is not None else None


def _repair_counter(fields: Fields, name: str) -> None:
    """A counter becomes a whole number of at least 0; what is no number at all is removed."""
    if name not in fields:
        return
    value: object = None
    try:
        value = decode_any(fields[name])
    except msgspec.DecodeError:
        pass  # 1e400, or an integer of thousands of digits
    if isinstance(value, bool) or not isinstance(value, int | float):
        del fields[name]
    else:
        fields[name] = raw_of(max(int(value), 0))


def _fill_totals(fields: Fields) -> None:
    wire = decode_usage(encode({name: fields[name] for name in _COUNTERS if name in fields}))
    prompt, completion, total = wire.prompt_tokens, wire.completion_tokens, wire.total_tokens
    if prompt < 0:
        fields["prompt_tokens"] = raw_of(prompt := max(total - completion, 0))
    if completion < 0:
        fields["completion_tokens"] = raw_of(completion := max(total - prompt, 0))
    if total < prompt + completion:
        fields["total_tokens"] = raw_of(prompt + completion)


def usage_fields(usage: Usage) -> dict[str, object]:
    """Usage as OpenAI writes it, both details always present (clients read them unasked: providers.md B3)."""
    fields: dict[str, object] = {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
            "audio_tokens": usage.audio_input,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": usage.audio_output,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
    if usage.is_estimated:
        fields["naru"] = {"estimated": True}
    return fields


def naru_fields(cost_nano_usd: int, is_estimated: bool) -> dict[str, object]:
    """What Naru adds to the usage of a stream: the cost in dollars (and won), every digit of it, and whether the count is a
    guess."""
    fields: dict[str, object] = {"cost_usd": usd_of(cost_nano_usd)}
    if isinstance(cost_nano_usd, ShownCost):
        fields["cost_krw"] = Raw(cost_nano_usd.krw.encode())
    if is_estimated:
        fields["estimated"] = True
    return fields


def usd_of(nano_usd: int) -> Raw:
    """Nano-dollars as an exact decimal JSON number of dollars: 1_234_500 -> 0.0012345."""
    whole, fraction = divmod(abs(nano_usd), 1_000_000_000)
    digits = f"{fraction:09d}".rstrip("0")
    sign = "-" if nano_usd < 0 else ""
    return Raw(f"{sign}{whole}.{digits}".encode() if digits else f"{sign}{whole}".encode())
