"""How fast a model can be at best: tokens a second that the memory's bandwidth allows, and where arithmetic takes over.

At batch 1 every token reads all active weights and the whole cache once, so bandwidth / bytes is a ceiling that nothing
passes (speculative decoding aside, which makes several tokens of one reading). What engines reach of it is EFFICIENCY.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct, structs

from naru.catalog.fit import CACHE_BYTES, WEIGHT_BYTES, Plan, weights_on_each
from naru.catalog.hardware import Hardware
from naru.catalog.shapes import Shape, active_experts, cache_bytes, parts_of

#: The part of the ceiling that engines reach, lowest and highest. Measured: Qwen's speed table on an H20 of 4,000 GB/s (dense
#: 0.31 to 0.35, MoE 0.21), Qwen3-30B-A3B on an RTX 4090 (0.36), Qwen3-235B on eight H20 (0.10), two models on an i7-8700 (0.46).
#: Taken from others' rules: 0.55 and, for a CPU, 0.30 (llmfit). For several GPUs the upper end is what one alone reaches.
EFFICIENCY = {"dense": (0.30, 0.55), "moe": (0.20, 0.36), "several": (0.10, 0.35), "cpu": (0.30, 0.50)}


class Speed(Struct, frozen=True, kw_only=True):
    """`read`: bytes that each device reads for one token at batch 1 and the plan's context. Tokens a second: `ceiling` by
    bandwidth, `low` to `high` by EFFICIENCY. `compute_batch`: from this batch on arithmetic is the limit, None: not known."""

    read: int
    bandwidth: int
    ceiling: float
    low: float
    high: float
    kind: str
    compute_batch: int | None


def speed_of(shape: Shape, hardware: Hardware, plan: Plan) -> Speed | None:
    """None where the bandwidth is not known, or the model does not write (embeddings, rerankers)."""
    device = hardware.device
    if device.bandwidth is None or shape.kind in ("embedding", "rerank"):
        return None
    read = read_per_token(shape, plan, hardware.count)
    kind = "cpu" if not device.is_gpu else "several" if hardware.count > 1 else "moe" if shape.experts else "dense"
    low, high = EFFICIENCY[kind]
    ceiling = device.bandwidth / read
    return Speed(
        read=read,
        bandwidth=device.bandwidth,
        ceiling=ceiling,
        low=ceiling * low,
        high=ceiling * high,
        kind=kind,
        compute_batch=_compute_batch(shape, hardware, plan),
    )


def read_per_token(shape: Shape, plan: Plan, gpus: int) -> int:
    """Active weights but for the embedding table, of which one row is read (a tied one is the head and read whole)."""
    parts = parts_of(shape)
    embed = parts.embed if shape.tied else 0
    active = structs.replace(parts, embed=embed, tower=0, experts=active_experts(shape, parts))
    cache = cache_bytes(shape, plan.context, CACHE_BYTES[plan.cache], gpus)
    return weights_on_each(active, shape, plan.quant, gpus) + cache


def _compute_batch(shape: Shape, hardware: Hardware, plan: Plan) -> int | None:
    """Where 2 x active parameters x batch / FLOPS passes the time to read the weights once, by then every expert's."""
    device = hardware.device
    flops = device.flops8 if plan.quant == "fp8" and device.flops8 else device.flops
    if flops is None or device.bandwidth is None:
        return None
    parts = parts_of(shape)
    embed = parts.embed if shape.tied else 0
    weights = parts.low * WEIGHT_BYTES[plan.quant] + (parts.head + parts.plain + embed) * 2
    active = parts.low - parts.experts + active_experts(shape, parts) + parts.head + parts.plain + embed
    return -int(-Fraction(flops) * weights // (2 * active * device.bandwidth))
