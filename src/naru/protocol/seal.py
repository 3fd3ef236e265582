"""What one provider signed or encrypted, on its way through a client that speaks another dialect and back. No state is kept.

The client sees one opaque text. It says whose it is, so that no provider is ever shown a stranger's.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error

import msgspec
from msgspec import Struct

MARK = "naru1."


class Sealed(Struct, array_like=True, frozen=True):
    """What the provider of `dialect` signed or encrypted, in the place of a signature of the client's own dialect."""

    dialect: str
    signature: str | None
    encrypted: str | None


_decode_seal = msgspec.json.Decoder(Sealed).decode
_encode_seal = msgspec.json.Encoder().encode


def seal(dialect: str, signature: str | None, encrypted: str | None) -> str:
    """A signature for a client to send back, which says whose it is, so that Anthropic is never shown a stranger's."""
    return MARK + urlsafe_b64encode(_encode_seal(Sealed(dialect, signature, encrypted))).decode()


def unseal(signature: str) -> Sealed | None:
    """None for a signature that is not one of these: the client's own dialect wrote it."""
    if not signature.startswith(MARK):
        return None
    try:
        return _decode_seal(urlsafe_b64decode(signature[len(MARK) :]))
    except (Base64Error, ValueError, msgspec.DecodeError):
        return None
