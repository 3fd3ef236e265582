"""The form of a Naru key: `nk-<id>-<secret><crc>` for callers, `nka-…` for the control plane. Pure: randomness is an argument.

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
PREFIXES = {"caller": "nk-", "viewer": "nka-", "admin": "nka-", "owner": "nka-"}
#: The roles of the control plane, each with all that those before it may do.
RANKS = ("viewer", "admin", "owner")


class MintedKey(msgspec.Struct, frozen=True):
    """A new key: `text` is shown once; `id` and `secret` are its parts."""

    text: str
    id: str
    secret: str


def mint(role: str, entropy: bytes) -> MintedKey:
    """A key for `role` (one of PREFIXES) from ENTROPY_BYTES of randomness."""
    assert len(entropy) == ENTROPY_BYTES
    key_id = base62(int.from_bytes(entropy[:9]), ID_CHARS)
    secret = base62(int.from_bytes(entropy[9:]), SECRET_CHARS)
    return MintedKey(f"{PREFIXES[role]}{key_id}-{secret}{_crc(key_id + secret)}", key_id, secret)


def parse(text: bytes) -> tuple[str, str] | None:
    """(id, secret) of a well-formed key; None when it is not one or its check digits are wrong. Looks at the form only."""
    parts = split(text)
    if parts is None:
        return None
    key_id, secret, crc = parts
    return (key_id, secret) if _crc(key_id + secret) == crc else None


def split(text: bytes) -> tuple[str, str, str] | None:
    """(id, secret, check digits), the digits not yet checked: on the hot path the digest decides, and they cost 1 us."""
    try:
        key = text.decode("ascii")
    except UnicodeDecodeError:
        return None
    start = 3 if key.startswith("nk-") else 4 if key.startswith("nka-") else 0
    middle = start + ID_CHARS
    if not start or len(key) != middle + 1 + SECRET_CHARS + CRC_CHARS or key[middle] != "-":
        return None
    return key[start:middle], key[middle + 1 : -CRC_CHARS], key[-CRC_CHARS:]


def digest(pepper: bytes, secret: str) -> bytes:
    """What the store keeps: HMAC-SHA256(pepper, secret), 32 bytes."""
    return hmac.digest(pepper, secret.encode("ascii"), "sha256")


def _crc(text: str) -> str:
    return base62(zlib.crc32(text.encode("ascii")), CRC_CHARS)


def base62(number: int, width: int) -> str:
    """`number` in `width` characters of ALPHABET."""
    digits = []
    for _ in range(width):
        number, remainder = divmod(number, 62)
        digits.append(ALPHABET[remainder])
    return "".join(reversed(digits))
