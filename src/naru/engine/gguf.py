"""The head of a GGUF file: its metadata and its table of tensors, read without the weights.

Format: github.com/ggml-org/ggml, docs/gguf.md, versions 2 and 3, little-endian. Sizes of the tensor types: ggml's type traits.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

from msgspec import Struct

from naru.errors import ConfigError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
#: More than any model has; a figure beyond it is a broken file, and would only cost time and memory.
MOST_ENTRIES, MOST_TENSORS, MOST_ITEMS, MOST_DIMENSIONS = 100_000, 1_000_000, 10_000_000, 8
#: An array longer than this is a vocabulary: its length is kept, not its items.
MOST_KEPT = 1024
#: Type -> (values of a block, bytes of a block).
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Length(Struct, frozen=True):
    """What is kept of a long array."""

    items: int


class Gguf(Struct, frozen=True):
    """`weight_bytes`: of all tensors in the table, exact. Numbers, texts and short lists of the metadata are as they are."""

    metadata: dict[str, Any]
    tensors: int
    weight_bytes: int

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, name: str) -> Any:
        """`block_count` -> the value of `qwen3.block_count`, or None."""
        return self.metadata.get(f"{self.architecture}.{name}")


def read_gguf(path: Path) -> Gguf:
    """Raises ConfigError: not GGUF, cut off, or a type of tensor that is not known."""
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise ConfigError(f"{path} is no GGUF file: it does not begin with the four letters GGUF.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Head(data, path).read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (struct.error, UnicodeDecodeError, _Broken) as error:
        raise ConfigError(f"{path} is damaged: its head ends early or makes no sense. Download it again.") from error


class _Broken(Exception):
    """A figure that no file has."""


class _Head:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._at = len(MAGIC)

    def read(self) -> Gguf:
        (version,) = self._take("I")
        if version not in VERSIONS:
            known = " and ".join(map(str, VERSIONS))
            raise ConfigError(f"{self._path} is GGUF of version {version}; versions {known} are understood.")
        tensors, entries = self._take("QQ")
        if entries > MOST_ENTRIES or tensors > MOST_TENSORS:
            raise _Broken
        metadata = {self._string(): self._value(self._take("I")[0]) for _ in range(entries)}
        total, end = 0, 0
        for _ in range(tensors):
            size, offset = self._tensor()
            total, end = total + size, max(end, offset + size)
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise _Broken
        needed = -(-self._at // alignment) * alignment + end
        if len(self._data) < needed:
            raise ConfigError(
                f"{self._path} is cut off: its tensors need {needed:,} bytes and it has {len(self._data):,}. Download it again."
            )
        return Gguf(metadata, tensors, total)

    def _tensor(self) -> tuple[int, int]:
        """(bytes, offset) of the next row of the table."""
        name = self._string()
        (dimensions,) = self._take("I")
        if dimensions > MOST_DIMENSIONS:
            raise _Broken
        *sizes, kind, offset = self._take(f"{dimensions}QIQ")
        if kind not in BLOCKS:
            raise ConfigError(f"{self._path}: tensor {name} is of type {kind}, which is not known here.")
        values = 1
        for size in sizes:
            values *= size
        elements, each = BLOCKS[kind]
        return values // elements * each, offset

    def _take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _string(self) -> str:
        (length,) = self._take("Q")
        if length > len(self._data) - self._at:
            raise _Broken
        self._at += length
        return bytes(self._data[self._at - length : self._at]).decode(errors="replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _Broken
        return self._take(_SCALARS[kind])[0]

    def _array(self) -> Any:
        kind, count = self._take("IQ")
        if count > MOST_ITEMS or kind == _ARRAY:
            raise _Broken
        if count > MOST_KEPT and kind in _SCALARS:
            self._at += count * struct.calcsize(f"<{_SCALARS[kind]}")
            return Length(count)
        items = [self._value(kind) for _ in range(count)]
        return items if count <= MOST_KEPT else Length(count)
