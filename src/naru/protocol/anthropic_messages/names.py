"""Names and signatures that have to pass through somebody else's rules and come back as they were. No state is kept.

Anthropic takes `[a-zA-Z0-9_-]` in tool ids and names, up to 128 characters (providers.md A4.3, B1.3).
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import blake2b

import msgspec
from msgspec import Struct

MAX_NAME_CHARS = 128

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_TO_ESCAPE = re.compile(r"[^a-zA-Z0-9_-]|_(?=_u)")
_ESCAPED = re.compile(r"__u([0-9a-f]{4,6})__")
_MARK = "naru1."


def tool_id(given: str) -> str:
    """The id as Anthropic takes it: itself where it can be, else one that the same id always gives."""
    if given and _FOREIGN.search(given) is None:
        return given
    digest = blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_FOREIGN.sub('_', given)[:40] or 'toolu'}_{digest}"


def tool_name(given: str) -> str:
    """The name with every other character spelled out, `__u002e__` for a dot; `original_name` undoes it."""
    return _TO_ESCAPE.sub(lambda found: f"__u{ord(found.group()):04x}__", given)


def original_name(name: str) -> str:
    return _ESCAPED.sub(_char, name) if "__u" in name else name


def _char(found: re.Match[str]) -> str:
    code = int(found.group(1), 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else found.group()


class Sealed(Struct, array_like=True, frozen=True):
    """What another dialect's provider signed or encrypted, in the place of Anthropic's own signature."""

    dialect: str
    signature: str | None
    encrypted: str | None


_decode_seal = msgspec.json.Decoder(Sealed).decode
_encode_seal = msgspec.json.Encoder().encode


def seal(dialect: str, signature: str | None, encrypted: str | None) -> str:
    """A signature for a client to send back, which says whose it is, so that Anthropic is never shown a stranger's."""
    return _MARK + urlsafe_b64encode(_encode_seal(Sealed(dialect, signature, encrypted))).decode()


def unseal(signature: str) -> Sealed | None:
    """None for a signature of Anthropic's own."""
    if not signature.startswith(_MARK):
        return None
    try:
        return _decode_seal(urlsafe_b64decode(signature[len(_MARK) :]))
    except (Base64Error, ValueError, msgspec.DecodeError):
        return None
