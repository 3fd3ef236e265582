"""A caller's body to an Envelope: what routing, limits and money need is checked here, once, before anything is reserved.

The common body, compact JSON of a few hundred bytes, costs two decodes and a few sums. What looks odd is examined exactly.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from naru.protocol.body import (
    INLINE_FROM_BYTES,
    MAX_N,
    MAX_OUTPUT_TOKENS,
    MAX_STOP_SEQUENCES,
    MODEL_RULE,
    inline_excess,
    invalid,
    read_fields,
    refused,
    size_of,
)
from naru.protocol.dialect import Envelope
from naru.protocol.wire import BAD_JSON, Fields, decode_list, is_list

#: What the model reads; `functions` is the legacy name of `tools`.
_READ_BY_MODEL = ("messages", "tools", "functions", "response_format")
#: What inline files begin with: data URIs, and the sound of `input_audio`.
_STARTS = (b";base64,", b'"data":"', b'"data": "')

_Tokens = Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None


class _StreamOptions(Struct, gc=False):
    include_usage: bool | None = None


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    messages: Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_N)] | None = None
    max_tokens: _Tokens = None
    max_completion_tokens: _Tokens = None
    stop: Raw | UnsetType = UNSET


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": MODEL_RULE,
    "messages": "`messages` must be a list with at least one message.",
    "stream": "`stream` must be true or false.",
    "stream_options": "`stream_options` must be an object whose `include_usage` is true or false.",
    "n": f"`n` must be a whole number from 1 to {MAX_N}.",
    "max_tokens": f"`max_tokens` must be a whole number from 1 to {MAX_OUTPUT_TOKENS}.",
    "max_completion_tokens": f"`max_completion_tokens` must be a whole number from 1 to {MAX_OUTPUT_TOKENS}.",
    "stop": f"`stop` must be a string or a list of at most {MAX_STOP_SEQUENCES} strings.",
}


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault."""
    fields = read_fields(body)
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    if not is_list(probe.messages) or (len(probe.messages) < 8 and not decode_list(probe.messages)):
        raise invalid("messages", _RULES)
    if probe.stop is not UNSET and is_list(probe.stop) and len(decode_list(probe.stop)) > MAX_STOP_SEQUENCES:
        raise invalid("stop", _RULES)
    options = probe.stream_options
    return Envelope(
        fields,
        probe.model,
        probe.stream is True,
        options is not None and options.include_usage is True,
        probe.max_completion_tokens or probe.max_tokens,
        probe.n or 1,
        _input_bytes(fields),
    )


def _input_bytes(fields: Fields) -> int:
    """Bytes of what the model reads, with inline files at a flat rate: their base64 would look like a library of text."""
    size = size_of(fields, _READ_BY_MODEL)
    if size > INLINE_FROM_BYTES:
        messages = bytes(fields.get("messages", b""))
        size -= inline_excess(messages, _STARTS if b'"input_audio"' in messages else _STARTS[:1])
    return size
