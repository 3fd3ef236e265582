"""A caller's body to an Envelope: what routing, limits and money need is checked here, once, before anything is reserved."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from naru.protocol.body import (
    INLINE_FROM_BYTES,
    MAX_OUTPUT_TOKENS,
    MODEL_RULE,
    inline_excess,
    invalid,
    read_fields,
    refused,
    size_of,
)
from naru.protocol.dialect import Envelope
from naru.protocol.wire import BAD_JSON, Fields, decode_list, first_byte, is_list, is_null

#: What the model reads.
_READ_BY_MODEL = ("input", "instructions", "tools", "text")
#: What inline files begin with: data URIs, and the sound of `input_audio`.
_STARTS = (b";base64,", b'"data":"', b'"data": "')
#: Where these are given the model reads what the provider keeps, so `input` may be missing.
_KEPT_ELSEWHERE = ("previous_response_id", "conversation", "prompt")


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    input: Raw | UnsetType = UNSET
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": MODEL_RULE,
    "input": "`input` must be a string or a list with at least one item.",
    "stream": "`stream` must be true or false.",
    "max_output_tokens": f"`max_output_tokens` must be a whole number from 1 to {MAX_OUTPUT_TOKENS}.",
}


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault."""
    fields = read_fields(body)
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    if not _is_input(probe.input) and all(is_null(fields.get(name)) for name in _KEPT_ELSEWHERE):
        raise invalid("input", _RULES)
    return Envelope(
        fields=fields,
        model=probe.model,
        is_stream=probe.stream is True,
        wants_usage=True,
        max_output_tokens=probe.max_output_tokens,
        n=1,
        input_bytes=_input_bytes(fields),
    )


def _is_input(raw: Raw | UnsetType) -> bool:
    if raw is UNSET:
        return False
    return first_byte(raw) == 0x22 or (is_list(raw) and (len(raw) >= 8 or bool(decode_list(raw))))


def _input_bytes(fields: Fields) -> int:
    """Bytes of what the model reads, with inline files at a flat rate: their base64 would look like a library of text."""
    size = size_of(fields, _READ_BY_MODEL)
    if size > INLINE_FROM_BYTES:
        inputs = bytes(fields.get("input", b""))
        size -= inline_excess(inputs, _STARTS if b'"input_audio"' in inputs else _STARTS[:1])
    return size
