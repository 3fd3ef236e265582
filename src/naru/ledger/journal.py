"""The journal: what this process did with money, in files that outlive a SIGKILL.

A segment is a file of fixed size, allocated before it is used and mapped into memory: a record is copied into the page cache,
which belongs to the kernel, so no system call stands on the request path and nothing is lost when the process dies. What a
loss of power may take is bounded by `sync`, which a timer calls (ledger.py).

    segment   "NARUJ01\\n", then records
    record    length (u32, of the payload) | CRC32 (u32, of the payload) | payload (MessagePack array, first its kind)

A record of length 0 ends a segment; one whose CRC is wrong was being written when the process died, and nothing follows it.
Positions are (segment, offset): they only grow.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from naru.errors import ConfigError

MAGIC = b"NARUJ01\n"
SEGMENT_BYTES = 16 * 1024 * 1024
HEAD = struct.Struct("<II")
#: No record of ours is near this; a length beyond it is damage.
MAX_RECORD_BYTES = 1024 * 1024
_NAME = "{:010d}.journal"

Position = tuple[int, int]


class Journal:
    """One process's journal in `folder`. Raises OSError from `append` when a new segment cannot be allocated: the caller
    refuses new requests then, and what is under way still fits, because `has_room` was asked before."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.segment_bytes = segment_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.number = max((number for number, _ in segments(folder)), default=0)
        self._map: mmap.mmap | None = None
        self._next: _Segment | None = None
        self._dirty: list[_Segment] = []
        self.offset = 0
        self._start_segment()

    @property
    def position(self) -> Position:
        """Where the next record will begin."""
        return self.number, self.offset

    def append(self, payload: bytes) -> Position:
        """Writes a record; returns the position behind it. It survives this process from here on."""
        end = self.offset + HEAD.size + len(payload)
        if end + HEAD.size > self.segment_bytes:
            self._start_segment()
            end = self.offset + HEAD.size + len(payload)
        mapped = self._map
        assert mapped is not None
        # The payload first: while the length is still 0, a reader sees the end of the segment.
        mapped[self.offset + HEAD.size : end] = payload
        HEAD.pack_into(mapped, self.offset, len(payload), zlib.crc32(payload))
        self.offset = end
        return self.number, end

    def has_room(self, reserved_bytes: int) -> bool:
        """Whether so many bytes can be appended whatever the disk does. Allocates the next segment where that is needed."""
        if self.offset + reserved_bytes + HEAD.size <= self.segment_bytes:
            return True
        if self._next is None:
            try:
                self._next = _allocated(self._path(self.number + 1), self.segment_bytes)
            except OSError:
                return False
        return True

    def sync(self) -> None:
        """Brings what was appended so far to the disk. Blocks; meant for another thread.

        By the file, not by `mmap.flush`: that walks the whole map, and holds the interpreter's lock while it waits for the disk.
        """
        dirty = self._dirty[:]
        for segment in dirty:
            os.fdatasync(segment.descriptor)
        for segment in dirty[:-1]:
            self._dirty.remove(segment)
            segment.close()

    def remove_before(self, segment: int) -> None:
        """Removes segments that nothing refers to any more."""
        for number, path in segments(self.folder):
            if number < min(segment, self.number):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Syncs and closes; a segment that was allocated ahead and never used is removed."""
        self.sync()
        if self._next is not None:
            self._next.close()
            self._path(self.number + 1).unlink(missing_ok=True)
            self._next = None
        for segment in self._dirty:
            segment.close()
        self._dirty.clear()
        self._map = None

    def _start_segment(self) -> None:
        number = self.number + 1
        segment = self._next if self._next is not None else _allocated(self._path(number), self.segment_bytes)
        self._next = None
        self.number = number
        self._map = segment.mapped
        self._dirty.append(segment)
        self.offset = len(MAGIC)

    def _path(self, number: int) -> Path:
        return self.folder / _NAME.format(number)


class _Segment:
    """A segment being written: its file, and the file's pages in memory."""

    def __init__(self, descriptor: int, mapped: mmap.mmap) -> None:
        self.descriptor = descriptor
        self.mapped = mapped

    def close(self) -> None:
        self.mapped.close()
        os.close(self.descriptor)


def _allocated(path: Path, size: int) -> _Segment:
    """A new file of this size, every block of it allocated: writing to it cannot fail for want of space."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        mapped = mmap.mmap(descriptor, size)
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    mapped[: len(MAGIC)] = MAGIC
    return _Segment(descriptor, mapped)


# --- Reading ------------------------------------------------------------------------------------------------------


class Record(Struct, frozen=True):
    """A record as found, and the position behind it."""

    payload: bytes
    end: Position


def segments(folder: Path) -> list[tuple[int, Path]]:
    """The segments in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [(int(path.stem), path) for path in folder.glob("*.journal") if path.stem.isdecimal()]
    return sorted(found)


def read_records(folder: Path, after: Position = (0, 0)) -> Iterator[Record]:
    """All whole records that end behind `after`, in the order they were written.

    Raises ConfigError for a file that is no journal: it is never taken for an empty one.
    """
    for number, path in segments(folder):
        if number >= after[0]:
            yield from _records_of(number, path, after)


def _records_of(number: int, path: Path, after: Position) -> Iterator[Record]:
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        if not data.strip(b"\0"):
            return  # allocated, and the process died before it was used
        raise ConfigError(
            f"{path} is not a journal of Naru. It may be damaged: move it away, start again, and check `naru ledger verify`."
        )
    offset = len(MAGIC)
    while offset + HEAD.size <= len(data):
        length, crc = HEAD.unpack_from(data, offset)
        begin, end = offset + HEAD.size, offset + HEAD.size + length
        if not 0 < length <= MAX_RECORD_BYTES or end > len(data) or zlib.crc32(data[begin:end]) != crc:
            return
        if (number, end) > after:
            yield Record(data[begin:end], (number, end))
        offset = end


encode_record = msgspec.msgpack.Encoder().encode
