"""Tiny models for these tests: right files, zeros for weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from naru.testing.weights import F32, Q8_0, write_gguf, write_openvino, write_safetensors

QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "intermediate_size": 12288,
}
QWEN3_GGUF = {
    "general.architecture": "qwen3",
    "qwen3.block_count": 36,
    "qwen3.embedding_length": 4096,
    "qwen3.attention.head_count": 32,
    "qwen3.attention.head_count_kv": 8,
    "qwen3.attention.key_length": 128,
    "qwen3.context_length": 40960,
    "qwen3.feed_forward_length": 12288,
    "tokenizer.ggml.tokens": ["a", "b"],
}
TENSORS = {"a": ("BF16", (8, 4)), "b": ("F32", (3,))}
TENSOR_BYTES = 8 * 4 * 2 + 3 * 4
GGUF_TENSORS = {"token_embd.weight": (F32, (8, 4)), "blk.0.attn_q.weight": (Q8_0, (32, 3))}
GGUF_BYTES = 8 * 4 * 4 + 3 * 34


def folder(at: Path, config: Mapping[str, Any] = QWEN3, **files: str) -> Path:
    at.mkdir(parents=True, exist_ok=True)
    (at / "config.json").write_text(json.dumps(config))
    for name, text in files.items():
        (at / name).write_text(text)
    return at


def safetensors(at: Path, config: Mapping[str, Any] = QWEN3) -> Path:
    write_safetensors(folder(at, config) / "model.safetensors", TENSORS)
    return at


def openvino(at: Path, config: Mapping[str, Any] = QWEN3, name: str = "openvino_model") -> Path:
    write_openvino(folder(at, config), 640, name)
    return at


def gguf(at: Path, metadata: Mapping[str, Any] = QWEN3_GGUF) -> Path:
    at.parent.mkdir(parents=True, exist_ok=True)
    write_gguf(at, metadata, GGUF_TENSORS)
    return at


def adapter(at: Path, base: str, **changes: Any) -> Path:
    at.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 16,
        "base_model_name_or_path": base,
        "target_modules": ["v", "q"],
    }
    (at / "adapter_config.json").write_text(json.dumps(config | changes))
    write_safetensors(at / "adapter_model.safetensors", {"lora": ("F32", (8, 2))})
    return at
