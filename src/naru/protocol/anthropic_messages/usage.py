"""Usage between the Messages API and money. Anthropic counts cached reads and cache writes beside `input_tokens`."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from naru.protocol.messages import Extra, Usage
from naru.protocol.openai_chat.usage import MAX_TOKENS, naru_fields
from naru.protocol.service import ServerTools, tier_of, tools_of
from naru.protocol.wire import BAD_JSON, encode, is_object

_KNOWN = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cache_creation",
        "output_tokens_details",
        "service_tier",
        "naru",
    }
)
USAGE_PREFIX = "usage."
_SERVED = ("service_tier", "speed", "inference_geo", "server_tool_use")


class CacheCreation(Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class NaruUsage(Struct, gc=False):
    estimated: bool = False


class ServerToolUse(Struct, gc=False):
    web_search_requests: int | None = None
    web_fetch_requests: int | None = None


class WireUsage(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputDetails | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    server_tool_use: ServerToolUse | None = None
    naru: NaruUsage | None = None

    def counters(self) -> tuple[int | None, ...]:
        split = self.cache_creation or CacheCreation()
        details = self.output_tokens_details or OutputDetails()
        return (
            self.input_tokens,
            self.output_tokens,
            self.cache_creation_input_tokens,
            self.cache_read_input_tokens,
            split.ephemeral_5m_input_tokens,
            split.ephemeral_1h_input_tokens,
            details.thinking_tokens,
        )


_decode = msgspec.json.Decoder(WireUsage).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def read_usage(raw: Raw | None) -> WireUsage | None:
    """None where there is none, or where it cannot be believed: wrong types, negative, or beyond reason."""
    if not is_object(raw):
        return None
    wire = _read(raw)
    if wire is None:
        return None
    if any(count is not None and not 0 <= count <= MAX_TOKENS for count in wire.counters()):
        return None
    return None if wire.input_tokens is None and wire.output_tokens is None else wire


def _read(raw: Raw) -> WireUsage | None:
    """The counters alone where what else stands there is of another type than Anthropic's."""
    try:
        return _decode(raw)
    except BAD_JSON:
        pass
    try:
        return _decode(encode({name: value for name, value in _decode_fields(raw).items() if name not in _SERVED}))
    except BAD_JSON:
        return None


def usage_extra(raw: Raw | None) -> Extra:
    """What else stands in a usage (server_tool_use, inference_geo, iterations …), by `usage.<name>`."""
    if not is_object(raw):
        return {}
    return {
        USAGE_PREFIX + name: value
        for name, value in _decode_fields(raw).items()
        if name not in _KNOWN and bytes(value) != b"null"
    }


class UsageCounter:
    """The usage of a stream as it is told: message_start has the input, message_delta the totals so far, which replace it.

    `usage` is None until something was told. The output of message_start is not the answer's, so until a message_delta
    has come the figure is marked as an estimate.
    """

    __slots__ = ("_is_guess", "_usage", "has_output")

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._is_guess = False  # another gateway's start, which says that it is one
        self.has_output = False

    @property
    def usage(self) -> Usage | None:
        return self._usage

    def start(self, wire: WireUsage | None) -> None:
        if wire is not None:
            usage = usage_of(wire)
            self._is_guess = usage.is_estimated
            self._usage = replace(usage, is_estimated=True)

    def update(self, wire: WireUsage | None) -> None:
        """Input counts come together or not at all: some servers repeat only `output_tokens`, or zeros for the rest."""
        if wire is None or wire.output_tokens is None:
            return
        new = usage_of(wire)
        old = self._usage
        if old is not None:  # the start alone names the tier; the end counts the tools
            new = replace(new, tier=new.tier or old.tier, server_tools=new.server_tools or old.server_tools)
        self.has_output = True
        if old is None:
            self._usage = new
        elif not new.input and (not self._is_guess or wire.input_tokens is None):
            is_estimated = new.is_estimated or self._is_guess
            told = {"output": new.output, "reasoning": new.reasoning, "server_tools": new.server_tools}
            self._usage = replace(old, **told, is_estimated=is_estimated)
        elif wire.cache_creation is None:
            # message_delta does not split the writes by lifetime. If all were for an hour so far, so are the others.
            writes = new.cache_write
            one_hour = writes if old.cache_write_1h and not old.cache_write else min(old.cache_write_1h, writes)
            self._usage = replace(new, cache_write=writes - one_hour, cache_write_1h=one_hour)
        else:
            self._usage = new


def usage_of(wire: WireUsage) -> Usage:
    split = wire.cache_creation or CacheCreation()
    five, hour = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    written = wire.cache_creation_input_tokens
    if written is None:
        written = five + hour
    hour = min(hour, written)
    read = wire.cache_read_input_tokens or 0
    output = wire.output_tokens or 0
    details = wire.output_tokens_details
    return Usage(
        input=(wire.input_tokens or 0) + written + read,
        output=output,
        cached=read,
        cache_write=written - hour,
        cache_write_1h=hour,
        reasoning=min((details.thinking_tokens or 0) if details is not None else 0, output),
        is_estimated=wire.naru is not None and wire.naru.estimated,
        tier=tier_of(wire.service_tier, wire.speed, wire.inference_geo),
        server_tools=_server_tools(wire.server_tool_use),
    )


def _server_tools(wire: ServerToolUse | None) -> ServerTools:
    if wire is None:
        return ()
    return tools_of([("web_search", wire.web_search_requests), ("web_fetch", wire.web_fetch_requests)])


def usage_fields(usage: Usage) -> dict[str, object]:
    """Usage as Anthropic writes it; all four counters are always there (providers.md B1.3)."""
    written = usage.cache_write + usage.cache_write_1h
    fields: dict[str, object] = {
        "input_tokens": max(usage.input - usage.cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    }
    if usage.reasoning:
        fields["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.is_estimated:
        fields["naru"] = {"estimated": True}
    return fields


def priced_fields(usage: Usage, cost_nano_usd: int) -> dict[str, object]:
    """The usage that ends a stream, with what it cost."""
    return {**usage_fields(usage), "naru": naru_fields(cost_nano_usd, usage.is_estimated)}
