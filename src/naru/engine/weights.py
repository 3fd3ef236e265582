"""How many bytes of weights a model's files hold, counted from their heads, and whether they are whole. Nothing is loaded.

Safetensors: an unsigned 64-bit length, a JSON header with every tensor's place, the data (huggingface.co/docs/safetensors).
OpenVINO's IR: an .xml that says where in the .bin beside it each constant is.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from naru.engine.gguf import Gguf, read_gguf
from naru.errors import ConfigError

#: Safetensors' own limit for its header.
MAX_HEADER_BYTES = 100 << 20
#: An .xml names every constant of a model; those of large mixtures of experts have some tens of megabytes.
MAX_XML_BYTES = 512 << 20
MAX_JSON_BYTES = 64 << 20
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
INDEX = "model.safetensors.index.json"
_DATA = re.compile(rb"<data\b[^>]*>")
_OFFSET, _SIZE = re.compile(rb'\boffset="(\d{1,18})"'), re.compile(rb'\bsize="(\d{1,18})"')
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ConfigError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(f"{path} is larger than any file of its name.")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}. Download it again.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no JSON object. Download it again.")
    return data


def refuse_stand_ins(path: Path) -> None:
    """Raises ConfigError for an empty file, and for what git leaves in a file's place when its LFS part was not fetched."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(LFS_POINTER))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if not beginning:
        raise ConfigError(f"{path} is empty: the download was cut off. Download it again.")
    if beginning == LFS_POINTER:
        raise ConfigError(
            f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its folder, or use `naru models pull`."
        )


# --- Safetensors


def safetensors_bytes(folder: Path) -> int:
    """Of all shards that the index names, or of every .safetensors file where there is no index. Raises ConfigError."""
    index = folder / INDEX
    if not index.is_file():
        files = sorted(folder.glob("*.safetensors"))
        return sum(
            map(safetensors_file_bytes, (f for f in files if not f.name.startswith(("adapter_", "consolidated"))))
        )
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ConfigError(f"{index} has no weight_map that names the weights' files. Download it again.")
    shards = sorted(set(named.values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{folder} lacks {missing[0]}, one of {len(shards)} files of weights that {INDEX} names"
            f"{f' ({len(missing)} are missing)' if len(missing) > 1 else ''}. Download it again."
        )
    return sum(safetensors_file_bytes(folder / name) for name in shards)


def safetensors_file_bytes(path: Path) -> int:
    """The tensors of one file, held against the file's size. Raises ConfigError."""
    refuse_stand_ins(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= MAX_HEADER_BYTES:
            raise ConfigError(
                f"{path} is no safetensors file: its header would be {length:,} bytes. Download it again."
            )
        raw = file.read(length)
    if len(raw) < length:
        raise ConfigError(
            f"{path} is cut off inside its header: {8 + length:,} bytes are needed and it has {size:,}. Download it again."
        )
    needed = 8 + length + (end := _end_of(raw, path))
    if size != needed:
        problem = "is cut off" if size < needed else "has something behind its end"
        raise ConfigError(
            f"{path} {problem}: its header speaks of {needed:,} bytes and it has {size:,}. Download it again."
        )
    return end


def _end_of(raw: bytes, path: Path) -> int:
    """Where the last tensor ends, which is how many bytes all of them have: the format leaves no holes."""
    try:
        header = json.loads(raw)
        places = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
        ends = [end for begin, end in places if 0 <= begin <= end]
        if len(ends) == len(places):
            return int(max(ends, default=0))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"The header of {path} is broken: it is no table of tensors. Download it again.") from error
    raise ConfigError(f"The header of {path} is broken: a tensor ends before it begins. Download it again.")


# --- OpenVINO


def openvino_bytes(models: Iterable[Path]) -> int:
    """Of the .bin files beside the given .xml files. Raises ConfigError."""
    return sum(map(_openvino_file_bytes, models))


def _openvino_file_bytes(xml: Path) -> int:
    refuse_stand_ins(xml)
    weights = xml.with_suffix(".bin")
    if not weights.is_file():
        raise ConfigError(
            f"{xml.parent} has {xml.name} without its weights: {weights.name} is missing. Download it again."
        )
    if xml.stat().st_size > MAX_XML_BYTES:
        raise ConfigError(f"{xml} is larger than any model's description.")
    text = xml.read_bytes()
    if b"<net" not in text[:4096] or not text.rstrip().endswith(b"</net>"):
        raise ConfigError(f"{xml} is no whole OpenVINO model: it does not end with </net>. Download it again.")
    needed = max(map(_end_of_constant, _DATA.findall(text)), default=0)
    if needed == 0:
        return weights.stat().st_size
    refuse_stand_ins(weights)
    size = weights.stat().st_size
    if size < needed:
        raise ConfigError(
            f"{weights} is cut off: {xml.name} speaks of {needed:,} bytes and it has {size:,}. Download it again."
        )
    return size


def _end_of_constant(tag: bytes) -> int:
    offset, size = _OFFSET.search(tag), _SIZE.search(tag)
    return int(offset[1]) + int(size[1]) if offset and size else 0


# --- GGUF


def gguf_files(path: Path) -> list[Path]:
    """The file itself, or all parts of a split one (NAME-00001-of-00003.gguf). Raises ConfigError for a missing part."""
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match[3])
    parts = [path.with_name(f"{match[1]}-{part:05}-of-{match[3]}.gguf") for part in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ConfigError(
            f"{path.parent} lacks {missing[0]}, one of the {count} parts of the model. Download it again."
        )
    return parts


def read_gguf_model(path: Path) -> tuple[Gguf, int]:
    """(the first part's head, bytes of the weights of all parts). Raises ConfigError."""
    heads = []
    for part in gguf_files(path):
        refuse_stand_ins(part)
        heads.append(read_gguf(part))
    if not heads[0].architecture:
        raise ConfigError(f"{path} does not say general.architecture: it is no model, or was made by an old program.")
    return heads[0], sum(head.weight_bytes for head in heads)
