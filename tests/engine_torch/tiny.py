"""Tiny random models, made on the spot: the shapes of Qwen3 with weights that mean nothing, so that one library's ids can be
compared with another's. Nothing is downloaded.

Weights are drawn wide (`initializer_range`), so that the likeliest token leads by far more than float32's rounding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

torch.set_num_threads(1)  # two threads on matrices this small wait for each other, and tests run side by side

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
#: Added, but text to a decoder that leaves out special tokens: as Qwen3 has them.
PLAIN = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
TEXTS = (
    "The ferry crosses the river at noon; the landing is small and the water is high.",
    "나루는 배가 닿는 곳입니다. 강을 건너는 사람들이 여기서 기다립니다.",
    '{"name": "ferry", "seats": 12, "open": true, "tags": ["river", "boat"]}',
    "yes no yes no Judge whether the Document meets the requirements based on the Query.",
    "def cross(river): return river.width / 3  # seconds, 0123456789",
)
CONTEXT = 2048
_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.4,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


def tokenizer(folder: Path, *, appends_end: bool = False, texts: Sequence[str] = TEXTS) -> PreTrainedTokenizerFast:
    """Byte-level BPE of a few hundred tokens, saved into `folder`. `appends_end`: as Qwen3-Embedding's, which ends every text
    with <|endoftext|>."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=sorted(alphabet), show_progress=False)
    core.train_from_iterator(texts, trainer)
    core.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in PLAIN])
    if appends_end:
        end = core.token_to_id("<|endoftext|>")
        core.post_processor = processors.TemplateProcessing(
            single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=CONTEXT,
        chat_template=TEMPLATE,
    )
    fast.save_pretrained(folder)
    return fast


def dense(folder: Path, *, seed: int = 1) -> Path:
    """Qwen3."""
    return _causal(folder, Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}, seed)


def sliding(folder: Path, *, seed: int = 2) -> Path:
    """Qwen3 whose second layer sees the last 16 tokens only."""
    more = {"head_dim": 16, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    return _causal(folder, Qwen3ForCausalLM, Qwen3Config, more, seed)


def experts(folder: Path, *, seed: int = 3) -> Path:
    """Qwen3-MoE: 8 experts, 2 of them at work."""
    more = {
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "decoder_sparse_step": 1,
        "norm_topk_prob": True,
    }
    return _causal(folder, Qwen3MoeForCausalLM, Qwen3MoeConfig, more, seed)


def hybrid(folder: Path, *, seed: int = 4) -> Path:
    """Qwen3-Next: a layer of linear attention, whose state is no list of keys, and one of the usual kind."""
    more = {
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    }
    return _causal(folder, Qwen3NextForCausalLM, Qwen3NextConfig, more, seed)


def vision(folder: Path, *, seed: int = 5) -> Path:
    """Qwen2.5-VL, with the image processor that needs Pillow only."""
    fast = tokenizer(folder)
    ids = {name: fast.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "image_pad", "video_pad")}
    text = {**_SHAPE, "vocab_size": len(fast), "rope_parameters": _mrope(), **_ends(fast)}
    text["max_window_layers"] = 0
    torch.manual_seed(seed)
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": _SHAPE["hidden_size"],
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=fast.convert_tokens_to_ids("<|vision_end|>"),
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        tie_word_embeddings=False,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.update(**_ends(fast))
    model.save_pretrained(folder)
    Qwen2VLImageProcessorPil(patch_size=4, min_pixels=8 * 8, max_pixels=32 * 32).save_pretrained(folder)
    return folder


class Pictures:
    """What Qwen2.5-VL's processor makes of text and pictures. That one is not to be had without torchvision, which its part
    for videos needs."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self._images = Qwen2VLImageProcessorPil.from_pretrained(folder)

    def __call__(self, text: list[str], images: list[Any], return_tensors: str) -> dict[str, Any]:
        pictures = self._images(images=images, return_tensors=return_tensors)
        first, *others = text[0].split("<|image_pad|>")
        sizes = [int(grid.prod()) // self._images.merge_size**2 for grid in pictures["image_grid_thw"]]
        whole = first + "".join("<|image_pad|>" * size + other for size, other in zip(sizes, others, strict=True))
        inputs = self._tokenizer([whole], return_tensors=return_tensors)
        pad = self._tokenizer.convert_tokens_to_ids("<|image_pad|>")
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": inputs["attention_mask"],
            "mm_token_type_ids": (inputs["input_ids"] == pad).int(),
            **pictures,
        }


def embedding(folder: Path, *, seed: int = 6) -> Path:
    """Qwen3-Embedding: the body without a head, a tokenizer that appends <|endoftext|>."""
    fast = tokenizer(folder, appends_end=True)
    torch.manual_seed(seed)
    model = Qwen3Model(Qwen3Config(vocab_size=len(fast), head_dim=16, **_SHAPE, **_ends(fast)))
    with torch.no_grad():
        model.embed_tokens.weight[fast.pad_token_id].normal_(0, _SHAPE["initializer_range"])  # zero, being padding too
    model.save_pretrained(folder)
    return folder


def reranker(folder: Path, *, seed: int = 7) -> Path:
    """Qwen3-Reranker: a causal model whose tokenizer has `yes` and `no`."""
    _causal(folder, Qwen3ForCausalLM, Qwen3Config, {"head_dim": 16}, seed)
    return folder


def adapter(base: Path, folder: Path, *, seed: int) -> Path:
    """LoRA of rank 4 on all projections, with weights wide enough to change what is written."""
    torch.manual_seed(seed)
    model = get_peft_model(
        Qwen3ForCausalLM.from_pretrained(base),
        LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def prompts(fast: Any, lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random ids of plain tokens."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 400, (length,), generator=draw).tolist() for length in lengths]


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    """Changes keys of one of the folder's JSON files."""
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _causal(folder: Path, kind: Any, config: Any, more: dict[str, Any], seed: int) -> Path:
    fast = tokenizer(folder)
    torch.manual_seed(seed)
    model = kind(config(vocab_size=len(fast), **{**_SHAPE, **more}, **_ends(fast)))
    model.generation_config.update(**_ends(fast))
    model.save_pretrained(folder)
    return folder


def _ends(fast: Any) -> dict[str, Any]:
    end, text = fast.convert_tokens_to_ids("<|im_end|>"), fast.convert_tokens_to_ids("<|endoftext|>")
    return {"eos_token_id": [end, text], "pad_token_id": text}


def _mrope() -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
