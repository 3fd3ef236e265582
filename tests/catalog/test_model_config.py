"""A model's own config.json, with the field names that each family's file really has."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from naru.catalog.fit import fit, notes_on, plan_for
from naru.catalog.hardware import gpu_named
from naru.catalog.model_config import shape_of_config
from naru.catalog.shapes import Shape, cache_bytes, load_shapes, parts_of
from naru.errors import BadRequest

QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "max_position_embeddings": 32768, "max_window_layers": 28, "num_attention_heads": 28, "num_hidden_layers": 28,
    "num_key_value_heads": 4, "sliding_window": 131072, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "head_dim": 128, "hidden_size": 4096, "intermediate_size": 12288,
    "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3", "num_attention_heads": 32,
    "num_hidden_layers": 36, "num_key_value_heads": 8, "rope_scaling": None, "sliding_window": None, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "head_dim": 128, "hidden_size": 2048, "intermediate_size": 6144,
    "max_position_embeddings": 40960, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768,
    "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4,
    "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "first_k_dense_replace": 3, "hidden_size": 7168, "intermediate_size": 18432,
    "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3", "moe_intermediate_size": 2048,
    "moe_layer_freq": 1, "n_routed_experts": 256, "n_shared_experts": 1, "num_attention_heads": 128, "num_experts_per_tok": 8,
    "num_hidden_layers": 61, "num_key_value_heads": 128, "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "quantization_config": {"fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2", "first_k_dense_replace": 1, "hidden_size": 2048, "intermediate_size": 10944, "kv_lora_rank": 512,
    "max_position_embeddings": 163840, "moe_intermediate_size": 1408, "moe_layer_freq": 1, "n_routed_experts": 64,
    "n_shared_experts": 2, "num_attention_heads": 16, "num_experts_per_tok": 6, "num_hidden_layers": 27, "num_key_value_heads": 16,
    "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102400,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
HYPERCLOVAX = {
    "model_type": "hyperclovax", "hidden_size": 6144, "intermediate_size": 14336, "max_position_embeddings": 131072, "head_dim": 128,
    "num_attention_heads": 48, "num_hidden_layers": 38, "num_key_value_heads": 8, "vocab_size": 110592, "use_post_norm": True,
    "attention_bias": False, "tie_word_embeddings": False,
}  # fmt: skip
QWEN3_VL = {
    "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl", "tie_word_embeddings": False,
    "text_config": {key: value for key, value in QWEN3.items() if key != "architectures"} | {"model_type": "qwen3_vl_text"},
    "vision_config": {"depth": 27, "hidden_size": 1152, "model_type": "qwen3_vl"},
}  # fmt: skip


def shape_of(data: object) -> Shape:
    return shape_of_config(json.dumps(data).encode(), "m", "/models/m/config.json")


@pytest.mark.parametrize(
    ("data", "total", "cache"),
    [
        (QWEN2, 7_615_616_512, 57_344),
        (QWEN3, 8_190_735_360, 147_456),
        (QWEN3_MOE, 30_532_122_624, 98_304),
        (DEEPSEEK_V3, 671_026_419_200, 70_272),
        (DEEPSEEK_V2_LITE, 15_706_484_224, 27 * 576 * 2),
        (LLAMA, 8_030_261_248, 131_072),
        (HYPERCLOVAX, 14_747_645_952, 155_648),
        (QWEN3_VL, 8_190_735_360, 147_456),
    ],
    ids=["qwen2", "qwen3", "qwen3_moe", "deepseek_v3", "deepseek_v2", "llama", "hyperclovax", "qwen3_vl"],
)
def test_families(data: dict[str, Any], total: int, cache: int) -> None:
    """The parameters of the published checkpoints, and the cache of a token in 16 bits."""
    shape = shape_of(data)
    assert parts_of(shape).total == total
    assert cache_bytes(shape, 1, 2) == cache


@pytest.mark.parametrize(
    ("data", "name"), [(QWEN3, "qwen3-8b"), (QWEN3_MOE, "qwen3-30b-a3b"), (DEEPSEEK_V3, "deepseek-v3")]
)
def test_the_table_says_what_the_files_say(data: dict[str, Any], name: str) -> None:
    ours = load_shapes().find(name)
    assert parts_of(shape_of(data)) == parts_of(ours)
    assert replace(shape_of(data), ffn=ours.ffn, context=0, name="", family="") == replace(
        ours, context=0, extended=0, name="", family="", aliases=(), strengths=(), note=""
    )


def test_types_of_weights() -> None:
    assert shape_of(DEEPSEEK_V3).dtype == "fp8"
    assert shape_of(QWEN3 | {"quantization_config": {"quant_method": "awq", "bits": 4}}).dtype == "int4"
    assert shape_of(QWEN3 | {"quantization_config": {"quant_method": "gptq", "bits": 8}}).dtype == "int8"
    assert "not understood" in shape_of(QWEN3 | {"quantization_config": {"quant_method": "bitnet"}}).note
    assert "32 bits" in shape_of(QWEN3 | {"torch_dtype": "float32"}).note
    assert "vision part is not counted" in shape_of(QWEN3_VL).note


def test_sliding_windows() -> None:
    old = shape_of(QWEN2 | {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 21})
    assert (old.window, old.window_layers) == (4096, 7)
    new = shape_of(QWEN3 | {"sliding_window": 1024, "layer_types": ["full_attention", "sliding_attention"] * 18})
    assert (new.window, new.window_layers) == (1024, 18)
    assert shape_of(LLAMA | {"model_type": "mistral", "sliding_window": 4096}).window_layers == 32
    assert shape_of(QWEN2).window_layers == 0


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[1]", "holds no JSON object"),
        (b"{}", "model_type ''"),
        (b'{"model_type": "mamba"}', "model_type 'mamba' is not one"),
        (b'{"model_type": "qwen3"}', "no 'hidden_size'"),
        (json.dumps(QWEN3 | {"num_hidden_layers": -1}).encode(), "'num_hidden_layers' is -1"),
        (json.dumps(QWEN3 | {"num_hidden_layers": "36"}).encode(), "'num_hidden_layers' is '36'"),
        (json.dumps(QWEN3 | {"vocab_size": True}).encode(), "'vocab_size' is True"),
        (json.dumps(QWEN3 | {"hidden_size": 10**12}).encode(), "'hidden_size' is 1000000000000"),
        (json.dumps(QWEN3 | {"layer_types": ["linear_attention"]}).encode(), "layer_types"),
        (json.dumps(QWEN3_MOE | {"decoder_sparse_step": 2}).encode(), "decoder_sparse_step"),
        (json.dumps(QWEN3_MOE | {"num_experts": None}).encode(), "no 'num_experts'"),
        (json.dumps({"model_type": "qwen3_vl", "text_config": 3}).encode(), "no 'hidden_size'"),
    ],
)
def test_a_broken_file_is_one_clear_sentence(raw: bytes, words: str) -> None:
    """With the file's name; never a traceback."""
    with pytest.raises(BadRequest, match=words.replace("[", r"\[")) as caught:
        shape_of_config(raw, "m", "/models/m/config.json")
    assert "/models/m/config.json" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("data", [QWEN2, QWEN3_MOE, DEEPSEEK_V3, QWEN3_VL], ids=["qwen2", "moe", "mla", "vl"])
def test_any_field_of_any_type_is_a_shape_or_a_sentence(data: dict[str, Any]) -> None:
    """Whatever stands in one field, nothing else than BadRequest is raised."""
    messages = []
    for key in (*data, "layer_types", "quantization_config", "index_head_dim", "head_dim"):
        for value in (None, 0, -3, 1, 1.5, "x", [], {}, True, 10**30, [{}]):
            try:
                shape = shape_of(data | {key: value})
                notes_on(shape, gpu_named("h100"), fit(shape, gpu_named("h100"), plan_for(shape, None, 1)).plan)
            except BadRequest as error:
                messages.append(error.message)
    assert messages
    assert all("config.json" in message for message in messages)


def test_the_newer_name_of_the_experts_is_read() -> None:
    """Transformers 5 writes num_local_experts into the same model's file."""
    newer = {name: value for name, value in QWEN3_MOE.items() if name != "num_experts"} | {"num_local_experts": 128}
    older, found = (shape_of_config(json.dumps(config).encode(), "m", "m") for config in (QWEN3_MOE, newer))
    assert found == older
