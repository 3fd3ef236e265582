"""What open-weight models are made of: layers, heads, experts, and from those parameters and cache, by counting.

`data/local/shapes.json` has the figures of the published configurations; nothing is counted that is not in them. Each row
says its `source`: "config" (the published configuration or technical report) or "estimate" (a figure of it is second-hand).
Models whose figures nobody wrote down are under `not_known` with what is known, and are never made up.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from naru.errors import NotFound

SHAPES = Path(__file__).parent / "data" / "local" / "shapes.json"
#: Bytes that a key of DeepSeek's indexer takes besides its values, which are kept in 8 bits: one float32 scale.
INDEXER_SCALE_BYTES = 4


class Experts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`ffn` is the width of one expert; the first `dense_layers` layers have a plain feed-forward of Shape.ffn instead."""

    total: int
    active: int
    ffn: int
    shared: int = 0
    dense_layers: int = 0
    router_bias: bool = False


class Mla(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1): what is cached is the latent of `kv_rank`
    values and one shared rotary key of `rope_dim`, once for all heads. `q_rank` 0: queries are not compressed."""

    kv_rank: int
    q_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int


class Indexer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """DeepSeek V3.2's sparse attention picks tokens with small keys of its own, one of `dim` a layer and token."""

    heads: int
    dim: int


class Shape(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model. `ffn` 0 with `stated_total`: the feed-forward's width is not known and stands for what is left of the
    published total. `extended`: the context that the maker reaches with YaRN. `tower`: parameters of a vision part."""

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    source: str
    aliases: tuple[str, ...] = ()
    kind: str = "chat"
    strengths: tuple[str, ...] = ()
    ffn: int = 0
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: Experts | None = None
    mla: Mla | None = None
    indexer: Indexer | None = None
    window: int = 0
    window_layers: int = 0
    tower: int = 0
    stated_total: int = 0
    extended: int = 0
    dtype: str = "bf16"
    note: str = ""

    @property
    def max_context(self) -> int:
        return max(self.context, self.extended)


class Parts(Struct, frozen=True, kw_only=True):
    """Parameters by how they are stored and split. `latent` and `plain` are copied to every GPU of a tensor-parallel group,
    and so is `tower`; `plain` (norms, routers), `embed`, `head` and `tower` stay in 16 bits however the rest is quantised."""

    embed: int
    head: int
    attention: int
    kv: int
    latent: int
    ffn: int
    experts: int
    plain: int
    tower: int

    @property
    def low(self) -> int:
        """What a quantisation makes smaller."""
        return self.attention + self.kv + self.latent + self.ffn + self.experts

    @property
    def high(self) -> int:
        """What stays in 16 bits."""
        return self.embed + self.head + self.plain + self.tower

    @property
    def total(self) -> int:
        return self.low + self.high


def parts_of(shape: Shape) -> Parts:
    """Every weight of the model, counted from its dimensions. Multi-token-prediction layers are not among them."""
    embed = shape.vocab * shape.hidden
    attention, kv, latent, plain = _attention(shape)
    ffn, experts, routers = _feed_forward(shape)
    parts = Parts(
        embed=embed,
        head=0 if shape.tied else embed,
        attention=attention * shape.layers,
        kv=kv * shape.layers,
        latent=latent * shape.layers,
        ffn=ffn,
        experts=experts,
        plain=(plain + 2 * shape.hidden) * shape.layers + shape.hidden + routers,
        tower=shape.tower,
    )
    if shape.stated_total and not shape.ffn:
        return msgspec.structs.replace(parts, ffn=shape.stated_total - parts.total)
    return parts


def _attention(shape: Shape) -> tuple[int, int, int, int]:
    """Of one layer: (split over heads, keys' and values' projections, compressions copied to every GPU, norms)."""
    if shape.mla is None:
        query, pair = shape.heads * shape.head_dim, 2 * shape.kv_heads * shape.head_dim
        bias = (query + pair) if shape.qkv_bias else 0
        return 2 * query * shape.hidden, pair * shape.hidden, 0, bias + (2 * shape.head_dim if shape.qk_norm else 0)
    mla = shape.mla
    query = shape.heads * (mla.nope_dim + mla.rope_dim) * (mla.q_rank or shape.hidden)
    expand = shape.heads * (mla.nope_dim + mla.v_dim) * mla.kv_rank
    out = shape.heads * mla.v_dim * shape.hidden
    latent = shape.hidden * (mla.q_rank + mla.kv_rank + mla.rope_dim)
    if shape.indexer is not None:
        keys = shape.indexer.heads * shape.indexer.dim
        latent += mla.q_rank * keys + shape.hidden * (shape.indexer.dim + shape.indexer.heads)
    return query + expand + out, 0, latent, mla.q_rank + mla.kv_rank


def _feed_forward(shape: Shape) -> tuple[int, int, int]:
    """Of all layers: (dense and shared, routed experts, routers). Three matrices each: gate, up, down (SwiGLU)."""
    experts = shape.experts
    if experts is None:
        return 3 * shape.hidden * shape.ffn * shape.layers, 0, 0
    sparse = shape.layers - experts.dense_layers
    one = 3 * shape.hidden * experts.ffn
    dense = 3 * shape.hidden * shape.ffn * experts.dense_layers
    router = (shape.hidden + experts.router_bias) * experts.total
    return dense + one * experts.shared * sparse, one * experts.total * sparse, router * sparse


def active_of(shape: Shape) -> int:
    """Parameters that one token passes through, embeddings included, as makers count them."""
    parts = parts_of(shape)
    return parts.total - parts.tower - parts.experts + active_experts(shape, parts)


def active_experts(shape: Shape, parts: Parts) -> int:
    return parts.experts * shape.experts.active // shape.experts.total if shape.experts else 0


def _full_layers(shape: Shape) -> int:
    return shape.layers - shape.window_layers


def _layer_values(shape: Shape) -> int:
    if shape.mla is not None:
        return shape.mla.kv_rank + shape.mla.rope_dim
    return 2 * shape.kv_heads * shape.head_dim


def kv_heads_on_each(shape: Shape, gpus: int) -> int:
    """KV heads that one of `gpus` holds: with more GPUs than heads each head is held more than once."""
    return max(1, shape.kv_heads // gpus)


def cache_bytes(shape: Shape, context: int, value_bytes: int, gpus: int = 1) -> int:
    """KV cache of one sequence of `context` tokens on each of `gpus`. MLA's latent belongs to all heads: each has all of it."""
    if shape.mla is not None:
        keys = (shape.indexer.dim + INDEXER_SCALE_BYTES) if shape.indexer else 0
        return shape.layers * (_layer_values(shape) * value_bytes + keys) * context
    layer = 2 * kv_heads_on_each(shape, gpus) * shape.head_dim * value_bytes
    held = min(context, shape.window) if shape.window_layers else 0
    return layer * (_full_layers(shape) * context + shape.window_layers * held)


# --- The table


class Unknown(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that people ask for, and what is known of it besides a shape."""

    name: str
    known: str
    aliases: tuple[str, ...] = ()


class ShapeTable:
    """Shapes by name or alias, without regard to case, an owner in front ("Qwen/") or an ending that says nothing here."""

    def __init__(self, shapes: Iterable[Shape], not_known: Iterable[Unknown] = ()) -> None:
        self.shapes = tuple(shapes)
        self._by_name = {name: shape for shape in self.shapes for name in (shape.name, *shape.aliases)}
        self._not_known = {name: row for row in not_known for name in (row.name, *row.aliases)}

    def names(self) -> list[str]:
        return list(self._by_name)

    def find(self, name: str) -> Shape:
        """Raises NotFound with what is known of the model, and the names most like it."""
        asked = name.lower().rsplit("/", 1)[-1].replace(":", "-")
        for bare in (asked, asked.removesuffix("-instruct"), asked.removesuffix("-fp8")):
            if bare in self._by_name:
                return self._by_name[bare]
        near = difflib.get_close_matches(asked, self._by_name, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        known = self._not_known.get(asked)
        if known is not None:
            raise NotFound(f"The shape of {name} is not known: {known.known}{hint}", code="model_not_found")
        raise NotFound(
            f"The shape of {name!r} is not known.{hint} A folder with the model's config.json is understood too.",
            code="model_not_found",
        )


def load_shapes(path: Path = SHAPES) -> ShapeTable:
    """The product's own table. A row with `like` takes what it does not say from the row of that name above it."""
    data = msgspec.json.decode(path.read_bytes())
    rows: dict[str, dict[str, Any]] = {}
    for row in data["shapes"]:
        base = {
            key: value for key, value in rows.get(row.get("like", ""), {}).items() if key not in ("aliases", "note")
        }
        rows[row["name"]] = base | {key: value for key, value in row.items() if key != "like"}
    return ShapeTable(
        msgspec.convert(list(rows.values()), list[Shape]), msgspec.convert(data["not_known"], list[Unknown])
    )
