"""The form of a Naru key: `nk-<id>-<secret><crc>` for callers, `nka-…` for administrators. Pure: randomness is an argument.

`id` (12 characters) is public: it names the key in tables and logs. `secret` (43 characters, 256 bits) is shown once and kept
only as HMAC-SHA256 under a pepper that lies outside the database. `crc` (6 characters) lets a typo be told from a wrong key.
A random 256-bit secret needs no slow hash.
"""

from __future__ import annotations

import hmac
import zlib

import msgspec

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ID_CHARS, SECRET_CHARS, CRC_CHARS = 12, 43, 6
#: Random bytes that one key takes: 12 * log2(62) = 71.5 bits and 256 bits, each rounded up.
ENTROPY_BYTES = 9 + 32
PREFIXES = {"caller": "nk-", "admin": "nka-"}


class MintedKey(msgspec.Struct, frozen=True):
    """A new key: `text` is shown once; `id` and `secret` are its parts."""

    text: str
    id: str
    secret: str


def mint(role: str, entropy: bytes) -> MintedKey:
    """A key for `role` (caller or admin) from ENTROPY_BYTES of randomness."""
    assert len(entropy) == ENTROPY_BYTES
    key_id = _base62(int.from_bytes(entropy[:9]), ID_CHARS)
    secret = _base62(int.from_bytes(entropy[9:]), SECRET_CHARS)
    return MintedKey(f"{PREFIXES[role]}{key_id}-{secret}{_crc(key_id + secret)}", key_id, secret)


def parse(text: bytes) -> tuple[str, str] | None:
    """(id, secret) of a well-formed key; None when it is not one or its check digits are wrong. Looks at the form only."""
    try:
        key = text.decode("ascii")
    except UnicodeDecodeError:
        return None
    if key.startswith("nk-"):
        rest = key[3:]
    elif key.startswith("nka-"):
        rest = key[4:]
    else:
        return None
    if len(rest) != ID_CHARS + 1 + SECRET_CHARS + CRC_CHARS or rest[ID_CHARS] != "-":
        return None
    key_id, secret = rest[:ID_CHARS], rest[ID_CHARS + 1 : -CRC_CHARS]
    return (key_id, secret) if _crc(key_id + secret) == rest[-CRC_CHARS:] else None


def digest(pepper: bytes, secret: str) -> bytes:
    """What the store keeps: HMAC-SHA256(pepper, secret), 32 bytes."""
    return hmac.digest(pepper, secret.encode("ascii"), "sha256")


def _crc(text: str) -> str:
    return _base62(zlib.crc32(text.encode("ascii")), CRC_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, remainder = divmod(number, 62)
        digits.append(ALPHABET[remainder])
    return "".join(reversed(digits))
