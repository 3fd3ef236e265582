"""A caller's body to an Envelope: what routing, limits and money need is checked here, once, before anything is reserved."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.wire import BAD_JSON, Fields, decode_list, is_list
from naru.protocol.dialect import Envelope
from naru.protocol.openai_chat.read import (
    DENIED,
    INLINE_FILE_BYTES,
    MAX_OUTPUT_TOKENS,
    MAX_STOP_SEQUENCES,
    _fields_of,
)

_READ_BY_MODEL = ("system", "messages", "tools", "output_config")
_INLINE_FROM_BYTES = 32_768
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
    "model": "`model` must be a non-empty string of at most 512 characters: the name of one of the models at /v1/models.",
    "messages": "`messages` must be a list with at least one message.",
    "max_tokens": f"`max_tokens` must be a whole number from 0 to {MAX_OUTPUT_TOKENS}; the Messages API requires it.",
    "stream": "`stream` must be true or false.",
    "stop_sequences": f"`stop_sequences` must be a list of at most {MAX_STOP_SEQUENCES} strings.",
}


def read(body: bytes, path: str) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault. Only token counting needs no `max_tokens`."""
    fields = _fields_of(body)
    if not DENIED.isdisjoint(fields):
        name = min(DENIED & fields.keys())
        raise BadRequest(
            f"`{name}` is not accepted: where a request goes, and with which credential, is the gateway's to decide. "
            "Remove the field.",
            code="unsupported_parameter",
            param=name,
        )
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise _refused(error) from None
    if not is_list(probe.messages) or (len(probe.messages) < 8 and not decode_list(probe.messages)):
        raise _invalid("messages")
    if probe.max_tokens is None and not path.partition("?")[0].endswith("/count_tokens"):
        raise _invalid("max_tokens")
    stops = probe.stop_sequences
    if stops is not UNSET and is_list(stops) and len(decode_list(stops)) > MAX_STOP_SEQUENCES:
        raise _invalid("stop_sequences")
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
    size = 0
    for name in _READ_BY_MODEL:
        if (raw := fields.get(name)) is not None:
            size += len(raw)
    if size > _INLINE_FROM_BYTES:
        size -= _inline_excess(bytes(fields["messages"]))
    return size


def _inline_excess(messages: bytes) -> int:
    excess = 0
    for start in _INLINE_STARTS:
        position = 0
        while (position := messages.find(start, position)) >= 0:
            position += len(start)
            excess += max(messages.find(b'"', position) - position - INLINE_FILE_BYTES, 0)
    return excess


def _refused(error: Exception) -> BadRequest:
    """A field of the wrong type or size: msgspec names it as `$.field`, or as the required field that is missing."""
    text = str(error)
    found = re.search(r"`\$\.([a-z_]+)|required field `([a-z_]+)`", text)
    return _invalid((found.group(1) or found.group(2)) if found else "", text)


def _invalid(name: str, text: str = "") -> BadRequest:
    rule = _RULES.get(name) or f"The request is not as the API describes it: {text}."
    return BadRequest(rule, code="invalid_value", param=name or None)
