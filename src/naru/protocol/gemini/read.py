"""A caller's body and path to an Envelope: what routing, limits and money need is checked here, once.

The path says the model and whether a stream is wanted (providers.md A6.1); the body says the rest. Everything is read from
the fields that are sent on, so that what was authorised is what is sent.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder
from typing import Annotated, Any
from urllib.parse import parse_qsl, unquote

import msgspec
from msgspec import Meta, Struct

from naru.errors import BadRequest, NotFound
from naru.protocol.dialect import Envelope
from naru.protocol.gemini.wire import (
    BAD_JSON,
    CONFIG_NAMES,
    TOP_NAMES,
    Fields,
    canonical,
    decode_fields,
    encode,
    given_twice,
    is_null,
    is_object,
    items_of,
    raw_of,
    text_of,
    wrong,
)

#: reliability.md B7, B17: a decoder downstream may not bear more; nobody takes more stop sequences.
MAX_DEPTH = 128
MAX_STOP_SEQUENCES = 256
MAX_OUTPUT_TOKENS = 10_000_000
MAX_CANDIDATES = 128
MAX_MODEL_CHARS = 512

#: reliability.md B9: fields by which some servers let a caller redirect a request or swap the credential.
DENIED = frozenset({"api_base", "base_url", "api_key", "user_config", "extra_headers", "headers"})

#: Inline files: their base64 is not text to the model. Each counts as this many bytes instead (about 1,000 tokens).
INLINE_FILE_BYTES = 4_096
_INLINE_FROM_BYTES = 32_768
_INLINE = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*"([A-Za-z0-9+/_=\\-]{4097,})"')

_PATH = re.compile(r"/models/(.+):(generateContent|streamGenerateContent)")
_READ_BY_MODEL = ("contents", "systemInstruction", "tools")


class _Config(Struct, gc=False):
    maxOutputTokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    candidateCount: Annotated[int, Meta(ge=1, le=MAX_CANDIDATES)] | None = None
    stopSequences: Annotated[list[str], Meta(max_length=MAX_STOP_SEQUENCES)] | None = None


_decode_config = msgspec.json.Decoder(_Config).decode

_RULES = {
    "maxOutputTokens": f"a whole number from 1 to {MAX_OUTPUT_TOKENS}",
    "candidateCount": f"a whole number from 1 to {MAX_CANDIDATES}",
    "stopSequences": f"a list of at most {MAX_STOP_SEQUENCES} strings",
}


def read(body: bytes, path: str) -> Envelope:
    """Raises BadRequest, with `param` set to the field at fault, and NotFound for a path that names no model."""
    model, is_stream = _target(path)
    fields = canonical(_fields_of(body), TOP_NAMES)
    if not DENIED.isdisjoint(fields):
        name = min(DENIED & fields.keys())
        raise BadRequest(
            f"`{name}` is not accepted: where a request goes, and with which credential, is the gateway's to decide. "
            "Remove the field.",
            code="unsupported_parameter",
            param=name,
        )
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
    size = sum(len(fields[name]) for name in _READ_BY_MODEL if name in fields)
    if size > _INLINE_FROM_BYTES:
        size -= sum(len(data) - INLINE_FILE_BYTES for data in _INLINE.findall(fields["contents"]))
    return size


# --- The body -------------------------------------------------------------------------------------------------------


def _fields_of(body: bytes) -> Fields:
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        fields = decode_fields(body)
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
            _check_depth(body)
        if encode(fields) != body and _spaced(fields) != body:
            _check_repeats(body)
        for name in fields:
            name.encode()  # an unpaired surrogate is no character
    except (*BAD_JSON, UnicodeEncodeError) as error:
        raise _malformed(body, error) from None
    return fields


def _spaced(fields: Fields) -> bytes:
    """The fields as Python's json.dumps writes them: the other common body, here put together to compare."""
    return b"{%b}" % b", ".join([b"%b: %b" % (encode(name), raw) for name, raw in fields.items()])


def _check_repeats(body: bytes) -> None:
    """Looks at the keys of the top level one by one. The outermost object is the last that the decoder completes."""
    pairs: list[list[tuple[str, Any]]] = []
    hook = pairs.append
    try:
        JSONDecoder(object_pairs_hook=hook, parse_int=str, parse_float=str).decode(body.decode())
    except JSONDecodeError:  # another opinion on blanks or control characters; the fields read are sent once anyway
        return
    seen: set[str] = set()
    for name, _ in pairs[-1]:
        if name in seen:
            raise given_twice(name, name)
        seen.add(name)


def _check_depth(body: bytes) -> None:
    """Measures nesting outside strings: quotes are resolved by C-speed replaces, then the innermost pairs are peeled off."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = b"".join(body.split(b'"')[::2]).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise _too_deep()


_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _too_deep() -> BadRequest:
    return BadRequest(
        f"The JSON is nested deeper than {MAX_DEPTH} levels. Flatten it, or send the inner part as a string.",
        code="nested_too_deep",
    )


def _malformed(body: bytes, error: Exception) -> BadRequest:
    if not body.strip():
        return BadRequest('The body is empty. Send JSON such as {"contents": […]}.', code="empty_body")
    if isinstance(error, RecursionError):
        return _too_deep()
    if isinstance(error, msgspec.ValidationError):
        return BadRequest("The body must be a JSON object at the top level: {…}.", code="invalid_json")
    if isinstance(error, UnicodeDecodeError):
        return BadRequest(f"The body is not valid UTF-8 (byte {error.start}).", code="invalid_json")
    return BadRequest(
        f"The body is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}.", code="invalid_json"
    )
