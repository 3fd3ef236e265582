"""Usage as the audio and image endpoints report it: tokens with their kinds, or a duration."""

from __future__ import annotations

import math

import msgspec
from msgspec import Raw, Struct, structs

from naru.protocol.messages import Media, Usage
from naru.protocol.openai_chat.usage import MAX_TOKENS
from naru.protocol.wire import BAD_JSON, is_object

MAX_SECONDS = 10_000_000
#: A duration is a 32-bit float in some servers: 9 seconds come as 9.00000019.
_NOISE_S = 0.001


class _Details(Struct, gc=False):
    audio_tokens: float | None = None
    image_tokens: float | None = None
    cached_tokens: float | None = None


class _WireUsage(Struct, gc=False):
    """OpenAI's names; vLLM's streams have the older ones. Images spell their details with an s more."""

    input_tokens: float | None = None
    output_tokens: float | None = None
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    seconds: float | None = None
    input_token_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


_decode = msgspec.json.Decoder(_WireUsage).decode


def read_usage(raw: Raw | None) -> _WireUsage | None:
    if not is_object(raw):
        return None
    try:
        return _decode(raw)
    except BAD_JSON:
        return None


def whole_seconds(seconds: float | None) -> int | None:
    """As OpenAI bills them: a started second counts (8.47 is reported as 9). None for what cannot be right."""
    if seconds is None or not 0 < seconds <= MAX_SECONDS:
        return None
    return max(1, math.ceil(seconds - _NOISE_S))


def tokens_of(wire: _WireUsage | None, media: Media) -> Usage | None:
    """Tokens as billed, beside `media`'s units; None where none are reported or they cannot be right."""
    if wire is None:
        return None
    given = (wire.prompt_tokens if wire.input_tokens is None else wire.input_tokens) or 0
    made = (wire.completion_tokens if wire.output_tokens is None else wire.output_tokens) or 0
    if not (0 <= given <= MAX_TOKENS and 0 <= made <= MAX_TOKENS and given + made >= 1):
        return None
    inputs = wire.input_token_details or wire.input_tokens_details or _Details()
    outputs = wire.output_tokens_details
    read, written = int(given), int(made)
    # Of an image's answer without details every output token is an image's.
    image_output = written if outputs is None and media.unit == "image" else 0
    if outputs is not None:
        image_output = _part(outputs.image_tokens, written)
    return Usage(
        input=read,
        output=written,
        cached=_part(inputs.cached_tokens, read),
        audio_input=_part(inputs.audio_tokens, read),
        media=structs.replace(media, image_input=_part(inputs.image_tokens, read), image_output=image_output),
    )


def _part(count: float | None, whole: int) -> int:
    return min(max(int(count or 0), 0), whole)
