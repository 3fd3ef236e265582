"""Heads of weight files: bytes counted exactly, and every way in which a file can be broken named in a sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from naru.engine.gguf import Length, read_gguf
from naru.engine.weights import openvino_bytes, read_gguf_model, read_json, safetensors_bytes, safetensors_file_bytes
from naru.errors import ConfigError
from naru.testing.weights import write_gguf, write_safetensors
from tests.engine_files import models

#: Behind the last tensor of models.GGUF_TENSORS; nobody needs it.
PADDING = -models.GGUF_BYTES % 32
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


def sentence(error: pytest.ExceptionInfo[ConfigError], *parts: str) -> None:
    for part in parts:
        assert part in error.value.message


# --- Safetensors


def test_safetensors_are_counted_to_the_byte(tmp_path: Path) -> None:
    assert safetensors_bytes(models.safetensors(tmp_path)) == models.TENSOR_BYTES
    models.adapter(tmp_path / "adapter", "x")
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    assert safetensors_bytes(tmp_path) == models.TENSOR_BYTES, "an adapter is no part of the model"


def test_shards_are_those_of_the_index(tmp_path: Path) -> None:
    """All counted; a file that the index does not name is not; a missing one is named."""
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    for name in (*names, "other.safetensors"):
        write_safetensors(tmp_path / name, models.TENSORS)
    index = {"weight_map": {"a": names[0], "b": names[1], "c": names[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert safetensors_bytes(tmp_path) == 2 * models.TENSOR_BYTES
    (tmp_path / names[1]).unlink()
    with pytest.raises(ConfigError) as error:
        safetensors_bytes(tmp_path)
    sentence(error, f"{tmp_path} lacks {names[1]}, one of 2 files of weights that model.safetensors.index.json names.")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ConfigError, match="has no weight_map"):
        safetensors_bytes(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: b"", "is empty: the download was cut off"),
        (lambda raw: POINTER, "is a Git LFS pointer, not the weights: run `git lfs pull`"),
        (lambda raw: raw[:-1], "is cut off: its header speaks of"),
        (lambda raw: raw + b"x", "has something behind its end: its header speaks of"),
        (lambda raw: raw[:40], "is cut off inside its header"),
        (lambda raw: b"PK\3\4" + raw, "is no safetensors file: its header would be"),
        (lambda raw: raw[:3], "is no safetensors file: its header would be 0 bytes"),
        (lambda raw: raw[:8] + b"x" + raw[9:], "is broken: it is no table of tensors"),
        (lambda raw: struct.pack("<Q", 2) + b"[]", "is broken: it is no table of tensors"),
        (lambda raw: struct.pack("<Q", 32) + b'{"a": {"data_offsets": [4, 2]}} ', "a tensor ends before it begins"),
    ],
)
def test_broken_safetensors_are_named(tmp_path: Path, change: object, words: str) -> None:
    file = models.safetensors(tmp_path) / "model.safetensors"
    assert callable(change)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ConfigError) as error:
        safetensors_file_bytes(file)
    sentence(error, str(file), words)


def test_sizes_stand_in_the_sentence(tmp_path: Path) -> None:
    file = models.safetensors(tmp_path) / "model.safetensors"
    whole = len(file.read_bytes())
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ConfigError, match=f"speaks of {whole} bytes and it has {whole - 10}. Download it again"):
        safetensors_file_bytes(file)


# --- OpenVINO


def test_openvino_weights_are_those_beside_the_models(tmp_path: Path) -> None:
    models.openvino(tmp_path)
    models.openvino(tmp_path, name="openvino_text_embeddings_model")
    assert openvino_bytes(sorted(tmp_path.glob("*.xml"))) == 1280


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("openvino_model.bin", b"", "openvino_model.bin is empty"),
        ("openvino_model.bin", POINTER, "openvino_model.bin is a Git LFS pointer"),
        ("openvino_model.bin", bytes(639), "is cut off: openvino_model.xml speaks of 640 bytes and it has 639"),
        ("openvino_model.xml", b"", "openvino_model.xml is empty"),
        (
            "openvino_model.xml",
            b"<?xml version='1.0'?><net><layers>",
            "is no whole OpenVINO model: it does not end with </net>",
        ),
        ("openvino_model.xml", b"<html></html>", "is no whole OpenVINO model"),
        ("openvino_model.bin", None, "has openvino_model.xml without its weights: openvino_model.bin is missing"),
    ],
)
def test_broken_openvino_files_are_named(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    models.openvino(tmp_path)
    (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as error:
        openvino_bytes([tmp_path / "openvino_model.xml"])
    sentence(error, words)


# --- GGUF


def test_gguf_is_counted_from_its_table(tmp_path: Path) -> None:
    """Quantised blocks included; short lists and scalars are kept, a vocabulary's length is."""
    metadata = {**models.QWEN3_GGUF, "x.f": 0.5, "x.b": True, "x.l": [1, 2], "v": ["t"] * 2000, "n": [1] * 3000}
    file = models.gguf(tmp_path / "tiny.gguf", metadata)
    head = read_gguf(file)
    assert (head.architecture, head.tensors, head.weight_bytes) == ("qwen3", 2, models.GGUF_BYTES)
    assert head.of_architecture("block_count") == 36
    assert [head.metadata[name] for name in ("x.f", "x.b", "x.l", "v", "n")] == [
        0.5,
        True,
        [1, 2],
        Length(2000),
        Length(3000),
    ]


def test_parts_of_a_split_gguf_are_added_up(tmp_path: Path) -> None:
    parts = [tmp_path / f"m-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    for part in parts:
        models.gguf(part)
    assert read_gguf_model(parts[0])[1] == 3 * models.GGUF_BYTES
    parts[2].unlink()
    with pytest.raises(ConfigError, match=r"lacks m-00003-of-00003\.gguf, one of the 3 parts of the model"):
        read_gguf_model(parts[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: b"", "is empty"),
        (lambda raw: POINTER, "is a Git LFS pointer"),
        (lambda raw: b"GGML" + raw[4:], "is no GGUF file: it does not begin with the four letters GGUF"),
        (lambda raw: b"GGUF" + struct.pack("<I", 1) + raw[8:], "is GGUF of version 1; versions 2 and 3 are understood"),
        (lambda raw: raw[: -PADDING - 1], "is cut off: its tensors need"),
        (lambda raw: raw[:100], "is damaged: its head ends early or makes no sense"),
        (lambda raw: raw[:8] + b"\xff" * 16 + raw[24:], "is damaged"),
        (lambda raw: raw[:24] + b"\xff" * 8 + raw[32:], "is damaged"),
    ],
)
def test_broken_gguf_is_named(tmp_path: Path, change: object, words: str) -> None:
    file = models.gguf(tmp_path / "tiny.gguf")
    assert callable(change)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ConfigError) as error:
        read_gguf_model(file)
    sentence(error, str(file), words)


def test_every_beginning_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    """One byte less, two, … never another exception, and never an endless read."""
    whole = models.gguf(tmp_path / "tiny.gguf").read_bytes()
    file = tmp_path / "cut.gguf"
    for length in (*range(1, len(whole) - PADDING, 7), len(whole) - PADDING - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(ConfigError):
            read_gguf_model(file)


def test_what_is_not_a_model_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", {"general.name": "x"}, models.GGUF_TENSORS)
    with pytest.raises(ConfigError, match=r"does not say general\.architecture"):
        read_gguf_model(tmp_path / "a.gguf")
    raw = models.gguf(tmp_path / "b.gguf").read_bytes()
    at = raw.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    (tmp_path / "b.gguf").write_bytes(raw[:at] + struct.pack("<I", 77) + raw[at + 4 :])
    with pytest.raises(ConfigError, match=r"tensor token_embd\.weight is of type 77, which is not known"):
        read_gguf_model(tmp_path / "b.gguf")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_gguf(tmp_path / "c.gguf")


# --- JSON


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is not JSON"), ("[1]", "holds no JSON object"), ("[" * 100000, "is not JSON")]
)
def test_broken_json_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_json(file)
    sentence(error, str(file), words)
