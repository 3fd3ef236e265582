"""The builders of tiny model files, read by the formats' own libraries where those are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from naru.testing.weights import F32, Q8_0, write_gguf, write_openvino, write_safetensors


@pytest.mark.torch
def test_safetensors_reads_what_is_written(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors comes with the extra `tune`")
    size = write_safetensors(tmp_path / "a.safetensors", {"a": ("F32", (2, 3)), "b": ("F16", (4,))})
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="numpy") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"a": (2, 3), "b": (4,)}
    assert sum(tensor.nbytes for tensor in tensors.values()) == size == 32


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_openvino_reads_what_is_written(tmp_path: Path) -> None:
    """Its GGUF front end gets as far as the first tensor that a model needs and this one has not."""
    openvino = pytest.importorskip("openvino", reason="the extra `local` is not installed")
    front = openvino.frontend.FrontEndManager().load_by_framework("gguf")
    names = {"block_count": 1, "attention.head_count": 2, "attention.head_count_kv": 1, "embedding_length": 8,
             "context_length": 32, "feed_forward_length": 16, "attention.layer_norm_rms_epsilon": 1e-6,
             "rope.freq_base": 1e4, "rope.dimension_count": 4, "attention.key_length": 4}  # fmt: skip
    metadata = {
        "general.architecture": "qwen3",
        "general.file_type": 0,
        **{f"qwen3.{name}": v for name, v in names.items()},
    }
    write_gguf(
        tmp_path / "a.gguf", metadata, {"token_embd.weight": (F32, (8, 4)), "blk.0.attn_q.weight": (Q8_0, (32, 3))}
    )
    with pytest.raises(RuntimeError, match=r"missing expected weight tensor 'blk\.0\."):
        front.convert(front.load(str(tmp_path / "a.gguf")))


def test_sizes_are_those_of_the_weights(tmp_path: Path) -> None:
    assert write_gguf(tmp_path / "a.gguf", {}, {"a": (F32, (3,)), "b": (Q8_0, (64,))}) == 12 + 68
    assert (tmp_path / "a.gguf").read_bytes()[:4] == b"GGUF"
    write_openvino(tmp_path, 10)
    assert (tmp_path / "openvino_model.bin").stat().st_size == 10
    assert (tmp_path / "openvino_model.xml").read_text().rstrip().endswith("</net>")
