"""A caller's body and path to an Envelope: what routing, limits and money need is checked here, once.

The path says the model and whether a stream is wanted (providers.md A6.1); the body says the rest. Everything is read from
the fields that are sent on, so that what was authorised is what is sent.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta, Struct

from naru.errors import BadRequest, NotFound
from naru.protocol.body import (
    INLINE_FILE_BYTES,
    INLINE_FROM_BYTES,
    MAX_MODEL_CHARS,
    MAX_N,
    MAX_OUTPUT_TOKENS,
    MAX_STOP_SEQUENCES,
    read_fields,
    size_of,
)
from naru.protocol.dialect import Envelope
from naru.protocol.gemini.wire import CONFIG_NAMES, TOP_NAMES, canonical, items_of, wrong
from naru.protocol.wire import BAD_JSON, Fields, decode_fields, is_null, is_object, raw_of, text_of

_INLINE = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9+/_=\\-]{4097,})"')

_PATH = re.compile(r"/models/(.+):(generateContent|streamGenerateContent)")
_READ_BY_MODEL = ("contents", "systemInstruction", "tools")


class _Config(Struct, gc=False):
    maxOutputTokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    candidateCount: Annotated[int, Meta(ge=1, le=MAX_N)] | None = None
    stopSequences: Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None


_decode_config = msgspec.json.Decoder(_Config).decode

_RULES = {
    "maxOutputTokens": f"a whole number from 1 to {MAX_OUTPUT_TOKENS}",
    "candidateCount": f"a whole number from 1 to {MAX_N}",
    "stopSequences": f"a list of at most {MAX_STOP_SEQUENCES} strings",
}


def read(body: bytes, path: str) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault, and NotFound for a path that names no model."""
    model, is_stream = _target(path)
    fields = canonical(read_fields(body), TOP_NAMES)
    _check_model(fields, model)
    if not items_of(fields.get("contents")):
        raise wrong("contents", 'a list with at least one content, such as {"role": "user", "parts": […]}')
    config = _config_of(fields)
    return Envelope(
        fields, model, is_stream, is_stream, config.maxOutputTokens, config.candidateCount or 1, _input_bytes(fields)
    )


def _target(path: str) -> tuple[str, bool]:
    """The model and whether it is to stream, from /v1beta/models/{id}:generateContent and its kin."""
    place, _, query = path.partition("?")
    found = _PATH.search(place)
    if found is None or found.end() != len(place):
        raise NotFound("The path must end in /models/{model}:generateContent or :streamGenerateContent.")
    model = unquote(found[1]).removeprefix("models/")
    if not model.strip() or len(model) > MAX_MODEL_CHARS:
        raise wrong("model", f"a name of at most {MAX_MODEL_CHARS} characters, in the path")
    is_stream = found[2] == "streamGenerateContent"
    if is_stream and ("alt", "sse") not in parse_qsl(query):
        raise BadRequest(
            "Streams are server-sent events here: add ?alt=sse to the path, as Google's own clients do.",
            code="unsupported_value",
            param="alt",
        )
    return model, is_stream


def _check_model(fields: Fields, model: str) -> None:
    """`model` in the body is the path's once more. It goes no further: the upstream's own name stands in its path."""
    given = fields.pop("model", None)
    if given is not None and not is_null(given) and (text_of(given) or "").removeprefix("models/") != model:
        raise wrong("model", "the model of the path, or be left out")


def _config_of(fields: Fields) -> _Config:
    """Checks generationConfig, and puts each of its fields once under one name."""
    raw = fields.get("generationConfig")
    if raw is None or is_null(raw):
        return _Config()
    if not is_object(raw):
        raise wrong("generationConfig", "an object")
    try:
        config = fields["generationConfig"] = raw_of(canonical(decode_fields(raw), CONFIG_NAMES))
        return _decode_config(config)
    except BAD_JSON as error:
        found = re.search(r"`\$\.([A-Za-z]+)", str(error))
        name = found[1] if found else ""
        raise wrong(f"generationConfig.{name}".rstrip("."), _RULES.get(name, "as the API describes it")) from None


def _input_bytes(fields: Fields) -> int:
    """Bytes of what the model reads, with inline files at a flat rate: their base64 would look like a library of text."""
    size = size_of(fields, _READ_BY_MODEL)
    if size > INLINE_FROM_BYTES:
        size -= sum(len(data) - INLINE_FILE_BYTES for data in _INLINE.findall(fields["contents"]))
    return size
