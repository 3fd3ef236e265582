"""Does a model fit? An inequality for each device, every term of it said. Pure: a shape and hardware in, numbers out.

    weights + KV cache + activations + runtime  <=  usable part x memory

Upper bounds where a term depends on the engine, nominal memory on the right: who is told that it fits has some air.
Sources: reference figures of engines as cited at each constant; the shape of the terms is gguf-parser's and vLLM's.
"""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct

from naru.catalog.hardware import Hardware
from naru.catalog.shapes import Parts, Shape, cache_bytes, kv_heads_on_each, parts_of
from naru.errors import BadRequest

#: Bytes of one quantised weight. int4: AWQ's and GPTQ's form, a 16-bit scale and a 4-bit zero for each group of 128.
#: The scales of int8 (one a channel) and fp8 (one a 128 x 128 block) are under 0.1 % and not counted.
WEIGHT_BYTES = {
    "bf16": Fraction(2),
    "fp8": Fraction(1),
    "int8": Fraction(1),
    "int4": Fraction(4 * 128 + 16 + 4, 8 * 128),
}
QUANT_ALIASES = {"fp16": "bf16", "f16": "bf16", "16bit": "bf16", "8bit": "int8", "w8a8": "int8", "q8": "int8"}
QUANT_ALIASES |= {"4bit": "int4", "awq": "int4", "gptq": "int4", "q4": "int4"}
CACHE_BYTES = {"bf16": 2, "fp8": 1, "int8": 1}
#: Tokens that an engine takes through the layers at once when it reads a prompt (vLLM's chunked prefill).
STEP_TOKENS = 2048
GROUP = 128
SOURCES = {
    "config": "The model's dimensions are those of its published configuration.",
    "estimate": "Some of the model's dimensions are second-hand: an estimate.",
}


class Plan(Struct, frozen=True, kw_only=True):
    """How the model is to be run: `batch` sequences of `context` tokens at once."""

    quant: str
    context: int
    cache: str = "bf16"
    batch: int = 1


class Fit(Struct, frozen=True, kw_only=True):
    """Bytes on each device. `sequences`: how many of the plan's context fit at once; `longest`: the most tokens that one
    sequence can have, the model's own limit included; both 0 when the weights alone are too much."""

    plan: Plan
    weights: int
    cache: int
    activations: int
    overhead: int
    usable: int
    sequences: int
    longest: int
    cache_per_token: int

    @property
    def needed(self) -> int:
        return self.weights + self.cache + self.activations + self.overhead

    @property
    def left(self) -> int:
        return self.usable - self.needed

    @property
    def fits(self) -> bool:
        return self.left >= 0


def plan_for(shape: Shape, quant: str | None, context: int | None, cache: str = "bf16", batch: int = 1) -> Plan:
    """Checks what was asked; by default the type that the weights are published in, and 32k tokens or what the model has."""
    chosen = (quant or shape.dtype).lower()
    chosen = QUANT_ALIASES.get(chosen, chosen)
    if chosen not in WEIGHT_BYTES:
        raise BadRequest(f"No quantisation {quant!r} is known. Known: {', '.join(WEIGHT_BYTES)}.")
    if cache not in CACHE_BYTES:
        raise BadRequest(f"No cache type {cache!r} is known. Known: {', '.join(CACHE_BYTES)}.")
    if batch < 1:
        raise BadRequest(f"A batch of {batch} is not one; it starts at 1.")
    tokens = min(32768, shape.max_context) if context is None else context
    if not 1 <= tokens <= shape.max_context:
        raise BadRequest(
            f"{shape.name} has at most {shape.max_context:,} tokens of context, and {tokens:,} were asked for."
        )
    return Plan(quant=chosen, context=tokens, cache=cache, batch=batch)


def split_problem(shape: Shape, gpus: int) -> str:
    """Why a tensor-parallel group of `gpus` cannot hold the model; empty when it can."""
    kv = shape.kv_heads
    fits_kv = shape.mla is not None or kv % gpus == 0 or gpus % kv == 0
    if shape.heads % gpus == 0 and fits_kv:
        return ""
    possible = [str(n) for n in (1, 2, 4, 8, 16, 32, 64) if shape.heads % n == 0 and (kv % n == 0 or n % kv == 0)]
    heads = f"{shape.heads} heads" if shape.mla else f"{shape.heads} heads and {kv} KV heads"
    return f"{shape.name} has {heads}, which {gpus} GPUs cannot share evenly; {', '.join(possible)} can."


def fit(shape: Shape, hardware: Hardware, plan: Plan) -> Fit:
    """Raises BadRequest where the model cannot be split over so many devices."""
    problem = split_problem(shape, hardware.count)
    if problem:
        raise BadRequest(problem)
    value = CACHE_BYTES[plan.cache]
    one = cache_bytes(shape, plan.context, value, hardware.count)
    weights = weights_on_each(parts_of(shape), shape, plan.quant, hardware.count)
    step, logits = _step_bytes(shape), 4 * shape.vocab
    room = hardware.usable - hardware.overhead - weights - step
    return Fit(
        plan=plan,
        weights=weights,
        cache=one * plan.batch,
        activations=step + logits * plan.batch,
        overhead=hardware.overhead,
        usable=hardware.usable,
        sequences=max(0, room // (one + logits)),
        longest=_longest(shape, room - logits, value, hardware.count),
        cache_per_token=cache_bytes(shape, 1, value, hardware.count),
    )


def weights_on_each(parts: Parts, shape: Shape, quant: str, gpus: int) -> int:
    """Split evenly, but for what every GPU has a copy of: norms, routers, MLA's compressions, a vision part, and keys'
    and values' projections where there are more GPUs than KV heads."""
    kv = Fraction(parts.kv * kv_heads_on_each(shape, gpus), shape.kv_heads) if gpus > 1 else Fraction(parts.kv)
    low = Fraction(parts.attention + parts.ffn + parts.experts, gpus) + kv + parts.latent
    high = Fraction(parts.embed + parts.head, gpus) + parts.plain + parts.tower
    return -int(-(low * WEIGHT_BYTES[quant] + high * 2) // 1)


def weights_in_all(shape: Shape, quant: str) -> int:
    return weights_on_each(parts_of(shape), shape, quant, 1)


def _step_bytes(shape: Shape) -> int:
    """Activations of one prefill step, 16 bits a value: the stream and its copies (4 x hidden), queries with keys and
    values, and the three buffers of the widest feed-forward. Engines differ; this is on the high side for most."""
    experts = shape.experts
    ffn = max(shape.ffn, (experts.active + experts.shared) * experts.ffn if experts else 0)
    ffn = ffn or 4 * shape.hidden
    attention = (shape.heads + 2 * (shape.heads if shape.mla else shape.kv_heads)) * shape.head_dim
    return STEP_TOKENS * 2 * (4 * shape.hidden + attention + 3 * ffn)


def _longest(shape: Shape, room: int, value_bytes: int, gpus: int) -> int:
    """The most tokens whose cache fits in `room`: a search, because sliding windows bend the line."""
    low, high = 0, shape.max_context
    while low < high:
        middle = (low + high + 1) // 2
        if cache_bytes(shape, middle, value_bytes, gpus) <= room:
            low = middle
        else:
            high = middle - 1
    return low if room >= 0 else 0


def notes_on(shape: Shape, hardware: Hardware, plan: Plan) -> list[str]:
    """What holds for these figures besides the figures."""
    notes = [f"{SOURCES[shape.source]} {shape.note}".strip()]
    experts, gpus = shape.experts, hardware.count
    if plan.context > shape.context:
        notes.append(
            f"Beyond {shape.context:,} tokens the model needs YaRN switched on, which costs some quality on short texts."
        )
    if plan.quant in ("fp8", "int8", "int4"):
        notes.append(
            "Embeddings, the output head, norms and routers are counted in 16 bits, as quantised checkpoints keep them."
        )
    if plan.quant == "fp8" and hardware.device.is_gpu and hardware.device.flops and not hardware.device.flops8:
        notes.append(
            f"{hardware.device.label} has no FP8 arithmetic: engines unpack the weights, which saves memory but no time."
        )
    if gpus > 1 and shape.mla is not None:
        notes.append(
            "MLA's cache belongs to all heads, so each GPU holds all of it (data-parallel attention would divide it)."
        )
    elif gpus > shape.kv_heads:
        notes.append(f"{gpus} GPUs share {shape.kv_heads} KV heads: each head is held {gpus // shape.kv_heads} times.")
    if experts and plan.quant in ("fp8", "int4") and gpus > 1 and experts.ffn % (gpus * GROUP):
        notes.append(
            f"An expert's {experts.ffn:,} columns over {gpus} GPUs are no multiple of {GROUP}: engines want expert parallelism "
            "(vLLM: --enable-expert-parallel), which needs the same memory."
        )
    return notes
