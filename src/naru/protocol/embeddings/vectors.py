"""A vector in its two forms: a list of numbers, and base64 of 32-bit floats, little end first (providers.md A5.6)."""

from __future__ import annotations

import binascii
import sys
from array import array
from collections.abc import Iterable
from math import isfinite

import msgspec

from naru.protocol.wire import BAD_JSON, first_byte, unreadable

_decode_floats = msgspec.json.Decoder(tuple[float, ...]).decode
_decode_text = msgspec.json.Decoder(str).decode
_QUOTE = 0x22
_FLOAT_BYTES = 4


def is_base64(raw: msgspec.Raw) -> bool:
    return first_byte(raw) == _QUOTE


def floats_of(raw: msgspec.Raw) -> tuple[float, ...]:
    """A vector in either form. Raises UpstreamBroken."""
    try:
        return from_base64(_decode_text(raw)) if is_base64(raw) else _decode_floats(raw)
    except BAD_JSON:
        raise unreadable("a vector is not a list of numbers") from None


def to_base64(vector: Iterable[float]) -> str:
    packed = array("f", vector)
    if sys.byteorder == "big":
        packed.byteswap()
    return binascii.b2a_base64(packed.tobytes(), newline=False).decode("ascii")


def from_base64(text: str) -> tuple[float, ...]:
    """Raises UpstreamBroken where it is not base64, or not of finite floats."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise unreadable("a vector is not base64") from None
    if len(data) % _FLOAT_BYTES:
        raise unreadable("a vector's base64 is cut off")
    packed = array("f", data)
    if sys.byteorder == "big":
        packed.byteswap()
    if not all(map(isfinite, packed)):
        raise unreadable("a vector holds what is no number")
    return tuple(packed)
