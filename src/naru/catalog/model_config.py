"""A model's own config.json (Hugging Face transformers' field names) as a Shape. Pure; one clear sentence for what it lacks.

Read: Qwen2, Qwen2.5, Qwen3 (dense, MoE, VL's text part), Llama, Mistral, DeepSeek V2 and V3 (MLA), V3.2, HyperCLOVAX. Other
model types are refused: their layers may be of another kind (linear attention, state spaces), and a guess would be wrong.
"""

from __future__ import annotations

from typing import Any

import msgspec

from naru.catalog.shapes import Experts, Indexer, Mla, Shape
from naru.errors import BadRequest

DENSE = ("qwen2", "qwen3", "llama", "mistral", "hyperclovax")
SPARSE = ("qwen3_moe",)
LATENT = ("deepseek_v2", "deepseek_v3", "deepseek_v32")
#: Model types with a `text_config` inside, and the type that its text part has where it does not say.
WITH_PICTURES = {
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "hyperclovax_vlm": "hyperclovax",
    "vlm": "hyperclovax",
}
TEXT_PARTS = {
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}
#: More than any model has; a figure beyond it is a broken file.
MOST = 10**9


class Fields:
    """The file's fields, each checked when it is asked for. `where` is the path, for messages."""

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self.data = data
        self.where = where

    def count(self, name: str, default: int | None = None, least: int = 1) -> int:
        """A whole number. A missing or null one is `default`, where there is one."""
        value = self.data.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise BadRequest(f"{self.where} has no {name!r}, without which nothing can be counted.")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise BadRequest(f"{self.where}: {name!r} is {value!r}, and a number from {least} to {MOST:,} is expected.")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.data.get(name)
        return default if value is None else bool(value)


def shape_of_config(raw: bytes, name: str, where: str) -> Shape:
    """`name` is what the model is called in answers. Raises BadRequest."""
    try:
        data = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest(f"{where} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise BadRequest(f"{where} holds no JSON object.")
    outer = str(data.get("model_type", ""))
    text, kind, note = data, outer, ""
    if outer in WITH_PICTURES:
        note = "The vision part is not counted: add its file's size."
        inner = data.get("text_config")
        if isinstance(inner, dict):
            text = {key: value for key, value in data.items() if key != "text_config"} | inner
        kind = str(text["model_type"]) if text is not data and "model_type" in text else WITH_PICTURES[outer]
        kind = WITH_PICTURES.get(kind, kind)
    kind = TEXT_PARTS.get(kind, kind)
    if kind not in (*DENSE, *SPARSE, *LATENT):
        known = ", ".join((*DENSE, *SPARSE, *LATENT))
        raise BadRequest(f"{where}: model_type {outer!r} is not one whose layers are known here ({known}).")
    return _shape(Fields(text, where), kind, name, note)


def _shape(fields: Fields, kind: str, name: str, note: str) -> Shape:
    hidden, heads, layers = (
        fields.count("hidden_size"),
        fields.count("num_attention_heads"),
        fields.count("num_hidden_layers"),
    )
    mla = _mla(fields) if kind in LATENT else None
    # Transformers' own defaults: Qwen3 has heads of 128 whatever its width, the others share the width among the heads.
    usual = 128 if kind in ("qwen3", "qwen3_moe") else max(1, hidden // heads)
    head_dim = mla.nope_dim + mla.rope_dim if mla else fields.count("head_dim", usual)
    window, window_layers = (0, 0) if mla else _window(fields, kind, layers)
    dtype, said = _dtype(fields)
    return Shape(
        name=name,
        family=kind,
        kind="vision" if note else "chat",
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=fields.count("num_key_value_heads", heads),
        head_dim=head_dim,
        vocab=fields.count("vocab_size"),
        context=fields.count("max_position_embeddings"),
        source="config",
        ffn=fields.count("intermediate_size"),
        tied=fields.flag("tie_word_embeddings"),
        qkv_bias=kind == "qwen2" or fields.flag("attention_bias"),
        qk_norm=kind in ("qwen3", "qwen3_moe"),
        experts=_experts(fields, kind, layers),
        mla=mla,
        indexer=_indexer(fields) if mla else None,
        window=window,
        window_layers=window_layers,
        dtype=dtype,
        note=" ".join(part for part in (note, said) if part),
    )


def _mla(fields: Fields) -> Mla:
    return Mla(
        kv_rank=fields.count("kv_lora_rank"),
        q_rank=fields.count("q_lora_rank", 0),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        v_dim=fields.count("v_head_dim"),
    )


def _indexer(fields: Fields) -> Indexer | None:
    if fields.data.get("index_head_dim") is None:
        return None
    return Indexer(heads=fields.count("index_n_heads"), dim=fields.count("index_head_dim"))


def _experts(fields: Fields, kind: str, layers: int) -> Experts | None:
    if kind in DENSE:
        return None
    for name in ("decoder_sparse_step", "moe_layer_freq"):
        if fields.count(name, 1) != 1:
            raise BadRequest(
                f"{fields.where}: {name!r} is not 1; experts in only some of the layers are not understood."
            )
    sparse = kind in SPARSE
    plain = fields.data.get("mlp_only_layers") or []
    if not isinstance(plain, list):
        raise BadRequest(f"{fields.where}: 'mlp_only_layers' is {plain!r}, and a list of layers is expected.")
    dense_layers = len(plain) if sparse else fields.count("first_k_dense_replace", 0, 0)
    return Experts(
        total=fields.count(_experts_field(fields, sparse)),
        active=fields.count("num_experts_per_tok"),
        ffn=fields.count("moe_intermediate_size"),
        shared=0 if sparse else fields.count("n_shared_experts", 0, 0),
        dense_layers=min(dense_layers, layers),
        router_bias=kind in ("deepseek_v3", "deepseek_v32"),
    )


def _experts_field(fields: Fields, sparse: bool) -> str:
    """Transformers 5 writes num_local_experts, whatever the model's own files called it."""
    own = "num_experts" if sparse else "n_routed_experts"
    return own if fields.data.get(own) is not None or "num_local_experts" not in fields.data else "num_local_experts"


def _window(fields: Fields, kind: str, layers: int) -> tuple[int, int]:
    """(tokens, layers that keep no more). `layer_types` says it in newer files, Qwen2's switch and first layer in older."""
    types = fields.data.get("layer_types")
    if types is not None:
        if not isinstance(types, list) or not set(map(str, types)) <= {"full_attention", "sliding_attention"}:
            raise BadRequest(f"{fields.where}: 'layer_types' has other layers than full and sliding attention.")
        sliding = types.count("sliding_attention")
        return (fields.count("sliding_window"), min(sliding, layers)) if sliding else (0, 0)
    if fields.data.get("sliding_window") is None or not fields.flag("use_sliding_window", kind == "mistral"):
        return 0, 0
    first = 0 if kind == "mistral" else fields.count("max_window_layers", layers, 0)
    return fields.count("sliding_window"), max(0, layers - first)


def _dtype(fields: Fields) -> tuple[str, str]:
    """(the type of the weights on disk, what to say of it)."""
    quant = fields.data.get("quantization_config")
    if isinstance(quant, dict):
        method, bits = str(quant.get("quant_method", "")), quant.get("bits", quant.get("w_bit"))
        if method == "fp8":
            return "fp8", ""
        if bits in (4, 8):
            return f"int{bits}", ""
        return "bf16", f"Its quantisation ({method or 'unnamed'}) is not understood and counted as 16 bits."
    if str(fields.data.get("dtype") or fields.data.get("torch_dtype") or "").endswith("float32"):
        return "bf16", "Stored in 32 bits, counted in 16, which engines load it in."
    return "bf16", ""
