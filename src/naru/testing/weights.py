"""Model files without a model: right headers, zeros for weights. For rehearsing what is read before a model is loaded.

    write_safetensors(folder / "model.safetensors", {"embed": ("BF16", (8, 4))})
    write_gguf(folder / "tiny.gguf", {"general.architecture": "qwen3"}, {"token_embd.weight": (F32, (8, 4))})
    write_openvino(folder, weight_bytes=64)

The formats: safetensors (an unsigned 64-bit length, a JSON header, the data), GGUF version 3 (github.com/ggml-org/ggml,
docs/gguf.md), and OpenVINO's IR version 11 (an .xml that names offsets in a .bin beside it).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: GGUF's numbers of tensor types that need no blocks.
F32, F16, Q8_0 = 0, 1, 8
ALIGNMENT = 32
_SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "F8_E4M3": 1}
_GGUF_BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34)}
_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, Sequence[int]]]) -> int:
    """Name -> (type as safetensors writes it, dimensions). Returns the bytes of the weights."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, dimensions) in tensors.items():
        begin, end = end, end + _SIZES[kind] * _product(dimensions)
        header[name] = {"dtype": kind, "shape": list(dimensions), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(end))
    return end


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, Sequence[int]]]) -> int:
    """Metadata values are texts, whole numbers, floats, booleans or lists of one of them. Returns the bytes of the weights,
    without what aligns them."""
    values = b"".join(_text(key) + _value(value) for key, value in metadata.items())
    table, data, total = b"", 0, 0
    for name, (kind, dimensions) in tensors.items():
        table += _text(name) + struct.pack("<I", len(dimensions))
        table += struct.pack(f"<{len(dimensions)}QIQ", *dimensions, kind, data)
        elements, size = _GGUF_BLOCKS[kind]
        size = _product(dimensions) // elements * size
        total += size
        data = _aligned(data + size)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)) + values + table
    path.write_bytes(head + bytes(_aligned(len(head)) - len(head)) + bytes(data))
    return total


def write_openvino(folder: Path, weight_bytes: int, name: str = "openvino_model") -> None:
    """One constant of so many bytes."""
    xml = (
        '<?xml version="1.0"?>\n<net name="Model0" version="11"><layers><layer id="0" name="w" type="Const">'
        f'<data element_type="u8" offset="0" shape="{weight_bytes}" size="{weight_bytes}" /></layer></layers></net>\n'
    )
    (folder / f"{name}.xml").write_text(xml)
    (folder / f"{name}.bin").write_bytes(bytes(weight_bytes))


def _product(dimensions: Sequence[int]) -> int:
    total = 1
    for size in dimensions:
        total *= size
    return total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """Its type's number, then the value."""
    if isinstance(value, list | tuple):
        items = [_value(item) for item in value]
        return struct.pack("<I", _ARRAY) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    return struct.pack("<I", _STRING) + _text(value)
