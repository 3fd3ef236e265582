"""The JSON of CLOVA Studio's native API, v3 and v1: structs for what is read, helpers for raw JSON.

Facts: providers.md A1.4 to A1.6. Unknown fields are ignored: nobody but Naru reads these answers.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, TypeGuard

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from naru.errors import UpstreamBroken
from naru.protocol.messages import FinishReason, Usage
from naru.protocol.wire import decode_str

NAME = "clova"

#: No request reads or writes a hundred million tokens; a record that says so is not believed.
MAX_TOKENS = 100_000_000
#: `created` is in seconds, but one page of the documentation says milliseconds (A1.4).
_FIRST_MILLISECONDS = 10**12


class WireFunction(Struct, gc=False):
    """`arguments` is an object in whole calls; `partialJson` is a piece of its text, in streams."""

    name: str | None = None
    arguments: Raw | UnsetType = UNSET
    partialJson: str | None = None


class WireCall(Struct, gc=False):
    function: WireFunction
    id: str | None = None


class WireMessage(Struct, gc=False):
    content: str | None = None
    thinkingContent: str | None = None
    toolCalls: list[WireCall] | None = None


class _Details(Struct, gc=False):
    thinkingTokens: int | None = 0


class WireUsage(Struct, gc=False):
    """totalTokens is not read: the documentation's own example adds up wrongly."""

    promptTokens: int = 0
    completionTokens: int = 0
    completionTokensDetails: _Details | None = None


class WireStatus(Struct, gc=False):
    code: str = ""
    message: str | None = None


class WireResult(Struct, gc=False):
    """A whole result, or an event of a stream. stopReason, inputLength and outputLength are v1's."""

    message: WireMessage | None = None
    finishReason: str | None = None
    stopReason: str | None = None
    created: int | None = 0
    seed: Raw | UnsetType = UNSET
    usage: WireUsage | None = None
    inputLength: int | None = None
    outputLength: int | None = None
    aiFilter: Raw | UnsetType = UNSET
    status: WireStatus | None = None


class WireAnswer(Struct, gc=False):
    status: WireStatus | None = None
    result: WireResult | None = None


decode_answer = msgspec.json.Decoder(WireAnswer).decode
decode_result = msgspec.json.Decoder(WireResult).decode

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "end_token": "stop",
    "stop_before": "stop",
}


def finish_of(result: WireResult, has_calls: bool) -> FinishReason | None:
    """v1 writes its words in either case (A0.2); a word nobody has heard of is `stop`."""
    reason = result.finishReason or result.stopReason
    if not reason:
        return None
    found = _FINISH.get(reason.lower(), "stop")
    return "tool_calls" if found == "stop" and has_calls else found


def usage_of(result: WireResult) -> Usage | None:
    """Tokens as billed; thinking is inside the completion (A1.4). None where nothing can be believed."""
    wire = result.usage
    if wire is not None:
        details = wire.completionTokensDetails
        thinking = (details.thinkingTokens or 0) if details is not None else 0
        counts = (wire.promptTokens, wire.completionTokens, thinking)
    elif result.inputLength is not None or result.outputLength is not None:
        counts = (result.inputLength or 0, result.outputLength or 0, 0)
    else:
        return None
    prompt, completion, thinking = counts
    if min(counts) < 0 or max(counts) > MAX_TOKENS:
        return None
    return Usage(prompt, completion, reasoning=min(thinking, completion))


def created_of(result: WireResult) -> int:
    created = result.created or 0
    if created >= _FIRST_MILLISECONDS:
        created //= 1_000
    return created if 0 <= created < _FIRST_MILLISECONDS else 0


def is_given(raw: Raw | UnsetType) -> TypeGuard[Raw]:
    """Neither absent nor null."""
    return raw is not UNSET and bytes(raw) != b"null"


def arguments_of(raw: Raw | UnsetType) -> str:
    """The arguments as JSON text, every digit kept; absent and null are no arguments."""
    if not is_given(raw):
        return "{}"
    if bytes(raw).startswith(b'"'):
        return decode_str(raw)
    return msgspec.json.format(bytes(raw), indent=-1).decode()


def mint_id(prefix: str, *seeds: str | bytes) -> str:
    """CLOVA Studio numbers no answers; the same answer gets the same id."""
    data = b"\0".join(seed if isinstance(seed, bytes) else seed.encode("utf-8", "surrogatepass") for seed in seeds)
    return f"{prefix}{blake2b(data, digest_size=12).hexdigest()}"


def result_extra(result: WireResult) -> dict[str, Any]:
    """The filters' verdict and the seed, for whoever asks."""
    pairs = (("seed", result.seed), ("aiFilter", result.aiFilter))
    return {name: raw for name, raw in pairs if is_given(raw)}


def cut_off() -> UpstreamBroken:
    return UpstreamBroken(
        "The provider's stream ended before the answer did. What was received is incomplete; try again.",
        code="upstream_incomplete",
    )
