"""Server-sent events, in and out, by the WHATWG rules: https://html.spec.whatwg.org/multipage/server-sent-events.html

Works on bytes, so a UTF-8 code point split over two reads is never decoded in halves. Every frame knows the exact bytes
it came from, so that an event nobody had to change can be written on as it was, whatever its line endings.

Where the bytes are cut must never show in the result. One point of the grammar needs care for that: after `\\n\\r` the
next byte decides whether the blank line was CR or CRLF, so such a tail waits for it. A stream whose lines end in bare
CR is not made to wait (`\\r\\r` ends an event at once); the LF of a stray `\\r\\r\\n` is then swallowed.
"""

from __future__ import annotations

import re

from msgspec import Struct

from naru.errors import UpstreamBroken

#: reliability.md A12: a provider that never ends its event must not fill the memory. 4 MiB holds a base64 image.
MAX_EVENT_BYTES = 4 * 1024 * 1024

DONE = b"data: [DONE]\n\n"

_BOM = b"\xef\xbb\xbf"
_LF = 0x0A
_BOUNDARY = re.compile(rb"\n\n|\n\r\n|\n\r(?=[^\n])|\r\r")
#: Bytes of an unfinished boundary at the end of what was searched: the next search starts this far back.
_BOUNDARY_OVERLAP = 2


class Frame(Struct, gc=False):
    """One block of the stream. `data` has its lines joined by LF and is None for comments and empty blocks.

    `event` and `id` are empty where the block has none; `retry_ms` is the reconnection time it asks for.
    """

    data: bytes | None
    source: bytes
    start: int
    end: int
    event: bytes = b""
    id: bytes = b""
    retry_ms: int | None = None

    @property
    def raw(self) -> bytes:
        """The block as it came, its blank line included."""
        if self.start == 0 and self.end == len(self.source):
            return self.source
        return self.source[self.start : self.end]


class SseSplitter:
    """Pieces of any size in, whole frames out.

    Over `max_event_bytes` it raises UpstreamBroken, after the frames that were complete before have been returned.
    `is_idle` is True while no part of an event is held back. `is_verbatim` is True when the frames of the last `feed`
    are, end to end, exactly the bytes that were fed.
    """

    __slots__ = ("_broken", "_buffer", "_is_started", "_max_event_bytes", "_skips_lf", "is_idle", "is_verbatim")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._buffer = bytearray()
        self._max_event_bytes = max_event_bytes
        self._is_started = False
        self._skips_lf = False
        self._broken: UpstreamBroken | None = None
        self.is_idle = True
        self.is_verbatim = True

    def feed(self, data: bytes) -> list[Frame]:
        if self.is_idle and self._is_started and data.endswith(b"\n\n") and b"\r" not in data:
            size = len(data)
            if size <= self._max_event_bytes and data.startswith(b"data: "):
                # The common piece: whole events, LF only. One event costs one scan each for CR and LF and one slice.
                if data.find(b"\n") == size - 2:
                    self.is_verbatim = True
                    return [Frame(data[6:-2] or None, data, 0, size)]
                if (frames := _cut_plain(data)) is not None:
                    self.is_verbatim = True
                    return frames
        self._raise_if_broken()
        frames = self._feed_any(data)
        if not frames:
            self._raise_if_broken()
        return frames

    def close(self) -> list[Frame]:
        """The stream ended. Returns an event that lacks its blank line, if one is there; WHATWG would discard it."""
        self._raise_if_broken()
        rest = bytes(self._buffer)
        self._buffer.clear()
        self.is_idle = True
        if not rest.strip(b"\r\n"):
            return []
        return [_frame(rest, 0, len(rest), len(rest))]

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _feed_any(self, data: bytes) -> list[Frame]:
        searched = len(self._buffer)
        if searched:
            may_end = self._buffer.endswith(b"\r") or b"\n" in data or b"\r" in data or not self._is_started
            self._buffer += data
            if not may_end:  # so that a long event in small pieces is not copied and searched for each of them
                self._check_size(len(self._buffer))
                self.is_verbatim = False
                return []
            source = bytes(self._buffer)
        else:
            source = data
        start = self._start_of(source)
        if start is None:
            return []
        frames, end = self._cut(source, start, max(start, searched - _BOUNDARY_OVERLAP))
        self.is_verbatim = source is data and end == len(data) and _is_gapless(frames, end)
        self._buffer[:] = source[end:]
        self.is_idle = end == len(source)
        self._check_size(len(source) - end)
        return frames

    def _start_of(self, source: bytes) -> int | None:
        """Where the first block starts, after a BOM or a swallowed LF; None while that cannot be told yet."""
        if not self._is_started:
            if len(source) < len(_BOM) and _BOM.startswith(source):
                self._buffer[:] = source
                self.is_idle = not source
                self.is_verbatim = not source
                return None
            self._is_started = True
            return len(_BOM) if source.startswith(_BOM) else 0
        if self._skips_lf and source:
            self._skips_lf = False
            return 1 if source[0] == _LF else 0
        return 0

    def _cut(self, source: bytes, start: int, search_from: int) -> tuple[list[Frame], int]:
        frames: list[Frame] = []
        while (found := _BOUNDARY.search(source, search_from)) is not None:
            end = found.end()
            if end - start > self._max_event_bytes:
                self._check_size(end - start)
                break
            frames.append(_frame(source, start, found.start(), end))
            if source[end - 2 : end] == b"\r\r":
                self._skips_lf = end == len(source)
                end += source[end : end + 1] == b"\n"
            start = search_from = end
        return frames, start

    def _check_size(self, size: int) -> None:
        if size > self._max_event_bytes and self._broken is None:
            self._broken = UpstreamBroken(
                f"The provider sent a stream event of more than {self._max_event_bytes:,} bytes. Ask for a shorter answer.",
                code="upstream_event_too_large",
            )


def _cut_plain(data: bytes) -> list[Frame] | None:
    """Whole events of one `data: ` line each, and nothing else; None where there is anything else."""
    blocks = data.split(b"\n\n")
    if blocks.pop():  # an odd LF at the end
        return None
    frames: list[Frame] = []
    start = 0
    for block in blocks:
        if not block.startswith(b"data: ") or b"\n" in block:
            return None
        end = start + len(block) + 2
        frames.append(Frame(block[6:] or None, data, start, end))
        start = end
    return frames


def _is_gapless(frames: list[Frame], end: int) -> bool:
    if not frames:
        return end == 0
    position = 0
    for frame in frames:
        if frame.start != position:
            return False
        position = frame.end
    return position == end


def _frame(source: bytes, start: int, stop: int, end: int) -> Frame:
    """The block source[start:stop]; its blank line goes up to `end`."""
    block = source[start:stop]
    if block.startswith(b"data: ") and b"\n" not in block and b"\r" not in block:
        return Frame(block[6:] or None, source, start, end)
    frame = Frame(None, source, start, end)
    lines: list[bytes] = []
    for line in block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if name == b"data":
            lines.append(value)
        elif name == b"event":
            frame.event = value
        elif name == b"id" and b"\0" not in value:
            frame.id = value
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            frame.retry_ms = int(value)
    # An event whose data is the empty string is not dispatched (WHATWG, "dispatch the event", step 2).
    frame.data = b"\n".join(lines) or None
    return frame


def write_event(data: bytes, event: bytes = b"", id: bytes = b"") -> bytes:
    """One event. Data with line breaks becomes several `data:` lines, as the format asks."""
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"))
    head = b"event: %b\n" % event if event else b""
    if id:
        head += b"id: %b\n" % id
    return b"%bdata: %b\n\n" % (head, data)


def write_comment(text: bytes = b"keep-alive") -> bytes:
    """A comment: keeps a connection open, and no client sees it."""
    return b": %b\n\n" % text
