"""Content encodings of answers."""

from __future__ import annotations

import zlib

from naru.errors import UpstreamBroken


def inflate(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """The body with its content encoding undone; never more than `max_bytes` of it (a gzip bomb ends here)."""
    encoding = encoding.lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"x-gzip", b"deflate"):
        raise UpstreamBroken(
            f"The upstream answered in an encoding that was not asked for ({encoding.decode('latin-1')[:40]!r})."
        )
    try:
        unpacker = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, told by the header
        unpacked = unpacker.decompress(body, max_bytes)
    except zlib.error as error:
        raise UpstreamBroken("The upstream's compressed answer is damaged.") from error
    if unpacker.unconsumed_tail:
        raise UpstreamBroken(f"The upstream's answer is larger than {max_bytes} bytes.")
    if not unpacker.eof:
        raise UpstreamBroken("The upstream's compressed answer is cut off.", code="upstream_incomplete")
    return unpacked
