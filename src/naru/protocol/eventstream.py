"""`application/vnd.amazon.eventstream`, the framing of AWS's streams: https://smithy.io/2.0/aws/amazon-eventstream.html

    total length (4)  headers' length (4)  CRC-32 of these 8 bytes (4)
    headers: name's length (1)  name  type (1)  value
    payload
    CRC-32 of all before it (4)

Everything is big endian. The length is checked as soon as it is there, so that a damaged one is not waited for.
"""

from __future__ import annotations

import struct
from binascii import crc32

from msgspec import Struct

from naru.errors import UpstreamBroken
from naru.protocol.sse import MAX_EVENT_BYTES

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_CRC_BYTES = 4
_OVERHEAD = _PRELUDE.size + _CRC_BYTES
#: The format's own limit.
_MAX_HEADER_BYTES = 128 * 1024

_TEXT = 7
_BYTES = 6
#: Type of a header's value -> its size; the types 6 and 7 say it themselves, in two bytes.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}


class Message(Struct, gc=False):
    """`headers` are those whose value is text, which all that say something are."""

    headers: dict[str, str]
    payload: bytes


class EventStreamSplitter:
    """Pieces of any size in, whole messages out. Raises UpstreamBroken for what is damaged, after the messages that were
    whole before it have been returned."""

    __slots__ = ("_broken", "_buffer", "_max_bytes")

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes
        self._broken: UpstreamBroken | None = None

    def feed(self, data: bytes) -> list[Message]:
        self._raise_if_broken()
        self._buffer += data
        messages: list[Message] = []
        start = 0
        try:
            while (size := self._size_at(start)) is not None and len(self._buffer) - start >= size:
                messages.append(_message(bytes(self._buffer[start : start + size])))
                start += size
        except UpstreamBroken as error:
            self._broken = error
        del self._buffer[:start]
        if not messages:
            self._raise_if_broken()
        return messages

    def close(self) -> None:
        """The stream ended. Raises UpstreamBroken where that was inside a message."""
        self._raise_if_broken()
        if self._buffer:
            raise damaged("it ends inside a message")

    def _size_at(self, start: int) -> int | None:
        """The whole size of the message that begins there; None while that is not told yet."""
        if len(self._buffer) - start < _PRELUDE.size:
            return None
        size, header_size, checksum = _PRELUDE.unpack_from(self._buffer, start)
        if crc32(self._buffer[start : start + 8]) != checksum:
            raise damaged("a message's length has another checksum")
        if size > self._max_bytes:
            raise UpstreamBroken(
                f"The provider sent a stream event of more than {self._max_bytes:,} bytes. Ask for a shorter answer.",
                code="upstream_event_too_large",
            )
        if header_size > _MAX_HEADER_BYTES or size < _OVERHEAD + header_size:
            raise damaged("a message's lengths do not fit")
        return int(size)

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken


def _message(data: bytes) -> Message:
    (checksum,) = struct.unpack_from(">I", data, len(data) - _CRC_BYTES)
    if crc32(data[:-_CRC_BYTES]) != checksum:
        raise damaged("a message has another checksum")
    end = _PRELUDE.size + int.from_bytes(data[4:8])
    return Message(_headers(data[_PRELUDE.size : end]), data[end:-_CRC_BYTES])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            kind = data[name_end]
            name, at = data[at + 1 : name_end].decode(), name_end + 1
            size = _SIZES.get(kind)
            if size is None:
                if kind not in (_BYTES, _TEXT):
                    raise damaged("a header's type is none")
                size, at = int.from_bytes(data[at : at + 2]), at + 2
            value, at = data[at : at + size], at + size
            if kind == _TEXT:
                headers[name] = value.decode()
    except (IndexError, UnicodeDecodeError):
        raise damaged("a header is cut short or no text") from None
    if at > len(data):
        raise damaged("a header is cut short")
    return headers


def damaged(what: str) -> UpstreamBroken:
    return UpstreamBroken(f"The provider's stream is damaged: {what}. Try again.")
