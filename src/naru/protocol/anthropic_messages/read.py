"""A caller's body to an Envelope: what routing, limits and money need is checked here, once, before anything is reserved."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from naru.protocol.body import (
    INLINE_FROM_BYTES,
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

_READ_BY_MODEL = ("system", "messages", "tools", "output_config")
_INLINE_STARTS = (b'"data":"', b'"data": "')

# 0 is allowed: it fills the prompt cache and generates nothing (providers.md A4.1).
_Tokens = Annotated[int, Meta(ge=0, le=MAX_OUTPUT_TOKENS)]


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    messages: Raw
    max_tokens: _Tokens | None = None
    stream: bool | None = None
    stop_sequences: Raw | UnsetType = UNSET


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": MODEL_RULE,
    "messages": "`messages` must be a list with at least one message.",
    "max_tokens": f"`max_tokens` must be a whole number from 0 to {MAX_OUTPUT_TOKENS}; the Messages API requires it.",
    "stream": "`stream` must be true or false.",
    "stop_sequences": f"`stop_sequences` must be a list of at most {MAX_STOP_SEQUENCES} strings.",
}


def read(body: bytes, path: str) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault. Only token counting needs no `max_tokens`."""
    fields = read_fields(body)
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    if not is_list(probe.messages) or (len(probe.messages) < 8 and not decode_list(probe.messages)):
        raise invalid("messages", _RULES)
    if probe.max_tokens is None and not path.partition("?")[0].endswith("/count_tokens"):
        raise invalid("max_tokens", _RULES)
    stops = probe.stop_sequences
    if stops is not UNSET and is_list(stops) and len(decode_list(stops)) > MAX_STOP_SEQUENCES:
        raise invalid("stop_sequences", _RULES)
    return Envelope(
        fields=fields,
        model=probe.model,
        is_stream=probe.stream is True,
        wants_usage=True,
        max_output_tokens=probe.max_tokens,
        n=1,
        input_bytes=_input_bytes(fields),
    )


def _input_bytes(fields: Fields) -> int:
    """Bytes of what the model reads, with inline files at a flat rate: their base64 would look like a library of text."""
    size = size_of(fields, _READ_BY_MODEL)
    if size > INLINE_FROM_BYTES:
        size -= inline_excess(bytes(fields["messages"]), _INLINE_STARTS)
    return size
