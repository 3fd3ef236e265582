"""A caller's body to an Envelope: what routing, limits and money need is checked here, once, before anything is reserved."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope
from naru.protocol.openai_chat.read import DENIED, MAX_OUTPUT_TOKENS, _fields_of, _inline_excess
from naru.protocol.openai_responses.wire import BAD_JSON, Fields, decode_list, first_byte, is_list, is_null

#: What the model reads.
_READ_BY_MODEL = ("input", "instructions", "tools", "text")
_INLINE_FROM_BYTES = 32_768
#: Where these are given the model reads what the provider keeps, so `input` may be missing.
_KEPT_ELSEWHERE = ("previous_response_id", "conversation", "prompt")


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    input: Raw | UnsetType = UNSET
    stream: bool | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": "`model` must be a non-empty string of at most 512 characters: the name of one of the models at /v1/models.",
    "input": "`input` must be a string or a list with at least one item.",
    "stream": "`stream` must be true or false.",
    "max_output_tokens": f"`max_output_tokens` must be a whole number from 1 to {MAX_OUTPUT_TOKENS}.",
}


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault."""
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
    if not _is_input(probe.input) and all(is_null(fields.get(name)) for name in _KEPT_ELSEWHERE):
        raise _invalid("input")
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
    size = 0
    for name in _READ_BY_MODEL:
        if (raw := fields.get(name)) is not None:
            size += len(raw)
    if size > _INLINE_FROM_BYTES:
        size -= _inline_excess(bytes(fields.get("input", b"")))
    return size


def _refused(error: Exception) -> BadRequest:
    """A field of the wrong type or size: msgspec names it as `$.field`, or as the required field that is missing."""
    text = str(error)
    found = re.search(r"`\$\.([a-z_]+)|required field `([a-z_]+)`", text)
    return _invalid((found.group(1) or found.group(2)) if found else "", text)


def _invalid(name: str, text: str = "") -> BadRequest:
    rule = _RULES.get(name) or f"The request is not as the API describes it: {text}."
    return BadRequest(rule, code="invalid_value", param=name or None)
