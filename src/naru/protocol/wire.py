"""JSON in layers, for every dialect: `dict[str, Raw]`, so that every field nobody asked for keeps its exact bytes."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, TypeGuard

import msgspec
from msgspec import Raw, UnsetType

from naru.errors import UpstreamBroken

Fields = dict[str, Raw]

#: Everything a decoder of foreign bytes can raise: bad syntax or types, bad UTF-8 in a string, nesting without end.
BAD_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

NULL = Raw(b"null")
TRUE = Raw(b"true")
EMPTY_STRING = Raw(b'""')
EMPTY_OBJECT = Raw(b"{}")

encode = msgspec.json.Encoder().encode
decode_fields = msgspec.json.Decoder(Fields).decode
decode_objects = msgspec.json.Decoder(list[Fields]).decode
decode_list = msgspec.json.Decoder(list[Raw]).decode
decode_str = msgspec.json.Decoder(str).decode
decode_any = msgspec.json.Decoder().decode


def raw_of(value: Any) -> Raw:
    return Raw(encode(value))


def first_byte(raw: Raw) -> int:
    """The byte a value starts with tells its kind: `{`, `[`, `"`, digit or minus, t, f, n."""
    return memoryview(raw)[0] if len(raw) else 0


def is_null(raw: Raw | UnsetType | None) -> bool:
    """Null and absent are the same to every dialect."""
    return not isinstance(raw, Raw) or (len(raw) == 4 and bytes(raw) == b"null")


def is_object(raw: Raw | None) -> TypeGuard[Raw]:
    return raw is not None and first_byte(raw) == 0x7B


def is_list(raw: Raw | None) -> TypeGuard[Raw]:
    return raw is not None and first_byte(raw) == 0x5B


def text_of(raw: Raw | None) -> str | None:
    """The string a raw value holds; None for null, absent and everything that is not a string."""
    return decode_str(raw) if raw is not None and first_byte(raw) == 0x22 else None


def value_of(raw: Raw | None) -> Any:
    """A value as Python has it; None also for what Python has no room for (1e400)."""
    try:
        return None if raw is None else decode_any(raw)
    except BAD_JSON:
        return None


def rest_of(fields: Fields, known: Container[str]) -> Fields:
    """What nobody has a type for; null is as good as absent."""
    return {name: raw for name, raw in fields.items() if name not in known and not is_null(raw)}


def unreadable(what: str) -> UpstreamBroken:
    """Garbage from upstream, by what is wrong with it; the bytes themselves are never shown to the caller."""
    return UpstreamBroken(f"The provider's answer cannot be read: {what}. Try again.")
