"""A caller's body, before any dialect looks at it: JSON in UTF-8, each field once, not nested without end.

The common body, compact JSON of a few hundred bytes, costs one decode and a few sums. What looks odd is examined exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from naru.errors import BadRequest
from naru.protocol.wire import BAD_JSON, Fields, decode_fields, decode_str

#: reliability.md B7. Tool schemas in the field stay under 30; a recursive decoder downstream may not bear more.
MAX_DEPTH = 128
#: An absurd number of brackets is refused before anyone measures how they nest. A day of tool calls has 40,000.
MAX_BRACKETS = 1_000_000
#: reliability.md B17. OpenAI takes 4 stop sequences, DeepSeek 16; nobody takes a million.
MAX_STOP_SEQUENCES = 256
MAX_OUTPUT_TOKENS = 10_000_000
MAX_N = 128
MAX_MODEL_CHARS = 512

#: reliability.md B9: fields by which LiteLLM-like servers let a caller redirect a request or swap the credential.
DENIED = frozenset({"api_base", "base_url", "api_key", "user_config", "extra_headers", "headers"})

#: What all of them hold: fewer to look for in every body.
_HINTS = (b"headers", b"base", b"api_key", b"user_config")
_DENIED_WORDS = tuple(f'"{name}"'.encode() for name in sorted(DENIED))
#: Fields whose objects are the caller's or a tool's own: schemas, arguments and results. `input` is a conversation where it is a
#: list, and the arguments of a call where it is none.
_FREE = frozenset(
    {
        "args", "arguments", "functions", "generationConfig", "input_schema", "json_schema", "output", "output_config",
        "output_format", "parameters", "response", "response_format", "schema", "text", "tools",
    }
)  # fmt: skip

#: Longer ones are no numbers that anybody means; Python's own limit is 4,300 digits.
MAX_NUMBER_CHARS = 400
#: No shorter number is infinite: 1e309.
MIN_ODD_CHARS = 5
_NUMBER_STARTS = frozenset(b"-0123456789")

#: Inline files: their base64 is not text to the model. Each counts as this many bytes instead (about 1,000 tokens).
INLINE_FILE_BYTES = 4_096
#: Where nothing is longer than this there is no inline file worth looking for.
INLINE_FROM_BYTES = 32_768

MODEL_RULE = (
    "`model` must be a non-empty string of at most 512 characters: the name of one of the models at /v1/models."
)


def read_fields(body: bytes) -> Fields:
    """The body's fields, none of them one that chooses the address. Raises BadRequest."""
    fields = _fields_of(body)
    if not DENIED.isdisjoint(fields):
        raise denied(min(DENIED & fields.keys()))
    for name, raw in fields.items():
        if len(raw) >= MIN_ODD_CHARS and memoryview(raw)[0] in _NUMBER_STARTS:
            _check_number(name, bytes(raw))
    for hint in _HINTS:
        if hint in body:  # rare, and mostly a word of a text or a schema
            if any(word in body for word in _DENIED_WORDS):
                _check_denied(fields)
            break
    return fields


def _check_number(name: str, text: bytes) -> None:
    """A number that is none to most of the world: 1e400 is infinite, and 5,000 digits stop Python."""
    if len(text) > MAX_NUMBER_CHARS or math.isinf(float(text)):
        raise BadRequest(
            f"`{name}` is a number that no model's API can hold. Send an ordinary one.", code="invalid_json", param=name
        )


def _check_denied(fields: Fields) -> None:
    """Looks for them at every depth, but not inside what a caller describes or what a tool said: a schema may well have a
    property called headers."""
    try:
        left: list[Any] = [msgspec.json.decode(raw) for name, raw in fields.items() if name not in _FREE]
    except BAD_JSON as error:
        raise _malformed(bytes(msgspec.json.encode(fields)), error) from None
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += [item for item in value if isinstance(item, dict | list)]
        elif isinstance(value, dict):
            if found := DENIED & value.keys():
                raise denied(min(found))
            left += [item for name, item in value.items() if _is_looked_into(name, item)]


def _is_looked_into(name: str, value: object) -> bool:
    return name not in _FREE and isinstance(value, list if name == "input" else dict | list)


def denied(name: str) -> BadRequest:
    return BadRequest(
        f"`{name}` is not accepted: where a request goes, and with which credential, is the gateway's to decide. "
        "Remove the field.",
        code="unsupported_parameter",
        param=name,
    )


def _fields_of(body: bytes) -> Fields:
    """The fields of the top level, each given once. Raises BadRequest."""
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        fields = decode_fields(body)
    except BAD_JSON as error:
        raise _malformed(body, error) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    # Compact JSON of these keys and values has exactly this length; a repeated key could only make it longer.
    surplus = len(body) - (1 + 4 * len(fields) + len("".join(fields)) + sum(map(len, fields.values())))
    if surplus and (surplus != 2 * len(fields) - 1 or body != _spaced(fields)):
        _check_repeats(body, fields)
    return fields


def _spaced(fields: Fields) -> bytes:
    """The fields as Python's json.dumps writes them: the other common body, here put together to compare."""
    names = "\n".join(fields).encode().split(b"\n")
    return b"{%b}" % b", ".join([b'"%b": %b' % pair for pair in zip(names, fields.values(), strict=False)])


def size_of(fields: Fields, names: Iterable[str]) -> int:
    """Bytes of these fields: what the model reads."""
    size = 0
    for name in names:
        if (raw := fields.get(name)) is not None:
            size += len(raw)
    return size


def inline_excess(data: bytes, starts: Iterable[bytes]) -> int:
    """How many bytes of base64, each begun by one of `starts`, go beyond the flat rate for an inline file."""
    excess = 0
    for start in starts:
        position = 0
        while (position := data.find(start, position)) >= 0:
            position += len(start)
            excess += max(data.find(b'"', position) - position - INLINE_FILE_BYTES, 0)
    return excess


# --- Repeated keys ------------------------------------------------------------------------------------------------

_KEY = re.compile(rb'[ \t\r\n]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*,")
_END = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")


def _check_repeats(body: bytes, fields: Fields) -> None:
    """Walks the top level, key by key, over the values as decoded. Exact: a repeat shows as a key or value out of place.

    The decoder keeps the first position and the last value of a key. So up to the first repeat every key is found where
    it is expected, and its value too unless it is repeated later; values delimit themselves, so none is taken for another.
    """
    position = body.index(b"{") + 1
    previous = ""
    for count, (name, raw) in enumerate(fields.items()):
        if count:
            comma = _COMMA.match(body, position)
            if comma is None:
                raise _repeated(previous)
            position = comma.end()
        key = _KEY.match(body, position)
        found = _key_of(key) if key is not None else name
        if key is None or found != name:
            raise _repeated(found)
        value = bytes(raw)
        if not body.startswith(value, key.end()):
            raise _repeated(name)
        position = key.end() + len(value)
        previous = name
    if _END.fullmatch(body, position) is None:
        comma = _COMMA.match(body, position)
        key = _KEY.match(body, comma.end()) if comma is not None else None
        raise _repeated(_key_of(key) if key is not None else next(reversed(fields), ""))


def _key_of(found: re.Match[bytes]) -> str:
    return decode_str(b'"%b"' % found.group(1))


def _repeated(name: str) -> BadRequest:
    return BadRequest(
        f"The field `{name}` is given more than once. Send each field once, so that what is checked is what is sent on.",
        code="duplicate_parameter",
        param=name,
    )


# --- Depth --------------------------------------------------------------------------------------------------------


def _check_depth(body: bytes) -> None:
    """Measures nesting outside strings: quotes are resolved by C-speed replaces, then the innermost pairs are peeled off."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = body.split(b'"')
    brackets = b"".join(pieces[::2]).translate(_TO_SQUARE, _NOT_BRACKETS)
    if len(brackets) > MAX_BRACKETS:
        raise _too_deep()
    depth = 0
    while brackets:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        brackets = brackets.replace(b"[]", b"")


_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _too_deep() -> BadRequest:
    return BadRequest(
        f"The JSON is nested deeper than {MAX_DEPTH} levels. Flatten it, or send the inner part as a string.",
        code="nested_too_deep",
    )


# --- What to say --------------------------------------------------------------------------------------------------


def _malformed(body: bytes, error: Exception) -> BadRequest:
    """Why the body is not a JSON object in UTF-8, and what to do about it."""
    if not body.strip():
        return BadRequest("The body is empty. Send a JSON object: {…}.", code="empty_body")
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or (b"\0" in body[:4]):
        return _not_json("The body is UTF-16 or UTF-32. Send it in UTF-8.")
    if body.startswith(b"\xef\xbb\xbf"):
        return _not_json("The body starts with a byte order mark. Send it in UTF-8 without one.")
    if isinstance(error, RecursionError):
        return _too_deep()
    if isinstance(error, msgspec.ValidationError):
        return BadRequest("The body must be a JSON object at the top level: {…}.", code="invalid_json")
    if isinstance(error, UnicodeDecodeError):
        return _not_json(f"The body is not valid UTF-8 (byte {error.start}).")
    if "truncated" in str(error):
        if body.rstrip().endswith(b"}") and re.search(rb"\\u[dD][89a-fA-F]", body):
            return _not_json("The body holds an unpaired surrogate (\\ud800 to \\udfff), which is no character.")
        return _not_json(f"The body ends in the middle of the JSON (byte {len(body)}).")
    if re.search(rb"\bNaN\b|\bInfinity\b", body):
        return _not_json(f"{_sentence(error)} NaN and Infinity are not JSON; use null or a number.")
    return _not_json(_sentence(error))


def _sentence(error: Exception) -> str:
    text = str(error).removeprefix("JSON is malformed: ")
    return f"The body is not valid JSON: {text}."


def _not_json(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_json")


def refused(error: Exception, rules: Mapping[str, str]) -> BadRequest:
    """A field of the wrong type or size: msgspec names it as `$.field`, or as the required field that is missing."""
    text = str(error)
    found = re.search(r"`\$\.([a-z_]+)|required field `([a-z_]+)`", text)
    return invalid((found.group(1) or found.group(2)) if found else "", rules, text)


def invalid(name: str, rules: Mapping[str, str], text: str = "") -> BadRequest:
    rule = rules.get(name) or f"The request is not as the API describes it: {text}."
    return BadRequest(rule, code="invalid_value", param=name or None)
