"""A caller's embeddings body to an Envelope, and to the typed request."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from naru.protocol.body import MODEL_RULE, invalid, read_fields, refused
from naru.protocol.dialect import Envelope
from naru.protocol.embeddings.middle import EmbeddingRequest
from naru.protocol.plain import Input, input_bytes, read_inputs
from naru.protocol.wire import BAD_JSON, is_null, text_of

NAME = "embeddings"
MAX_DIMENSIONS = 65_536


class _Probe(Struct, gc=False):
    model: Annotated[str, Meta(min_length=1, max_length=512)]
    input: Raw
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)] | None = None
    task_type: Annotated[str, Meta(max_length=100)] | None = None
    user: str | None = None
    stream: Literal[False] | None = None


_decode_probe = msgspec.json.Decoder(_Probe).decode

_RULES = {
    "model": MODEL_RULE,
    "input": "`input` must be a text, a list of texts, a list of token ids or a list of such lists; none of them empty.",
    "encoding_format": "`encoding_format` must be float or base64.",
    "dimensions": f"`dimensions` must be a whole number from 1 to {MAX_DIMENSIONS}.",
    "task_type": "`task_type` must be a string.",
    "user": "`user` must be a string.",
    "stream": "Embeddings come in one piece. Leave `stream` out.",
}
_TYPED = frozenset({"model", "input", "encoding_format", "dimensions", "task_type", "user", "stream"})


def read(body: bytes) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault."""
    fields = read_fields(body)
    try:
        probe = _decode_probe(body)
    except BAD_JSON as error:
        raise refused(error, _RULES) from None
    return Envelope(fields, probe.model, False, False, 0, 1, input_bytes(inputs_of(probe.input), probe.input))


def decode_request(envelope: Envelope) -> EmbeddingRequest:
    fields = envelope.fields
    dimensions = fields.get("dimensions")
    return EmbeddingRequest(
        model=envelope.model,
        inputs=inputs_of(fields["input"]),
        dimensions=None if dimensions is None or is_null(dimensions) else int(bytes(dimensions)),
        task=text_of(fields.get("task_type")),
        user=text_of(fields.get("user")),
        extra={name: raw for name, raw in fields.items() if name not in _TYPED and not is_null(raw)},
        dialect=NAME,
    )


def wants_base64(envelope: Envelope) -> bool:
    return text_of(envelope.fields.get("encoding_format")) == "base64"


def inputs_of(raw: Raw) -> tuple[Input, ...]:
    """The inputs, each one vector. Raises BadRequest."""
    found = read_inputs(raw)
    if not found or not all(found):
        raise invalid("input", _RULES)
    return found
