"""Can this engine serve this model on this machine? Asked before anything is loaded; pure but for the memory's size.

    weights + KV cache x streams + buffers  <=  free memory

The weights are counted from the files (naru.engine.weights), the rest is catalog.fit's arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct, structs

from naru.catalog.fit import CACHE_BYTES, Fit, Plan, fit, weights_in_all
from naru.catalog.hardware import RAM_OVERHEAD, Hardware, machine
from naru.catalog.shapes import Shape, cache_bytes
from naru.catalog.ways import LEAST_CONTEXT, gb
from naru.engine.files import ModelFiles
from naru.engine.supported import Engine, load_engines
from naru.errors import ConfigError

#: What reads a kind of files, in words, where the asked engine does not.
OTHER_READERS = {
    "openvino": "the OpenVINO engine reads it",
    "safetensors": "the Transformers engine reads it, and the OpenVINO engine reads a converted one",
    "gguf": "llama.cpp, Ollama or LM Studio read it: add one as a provider",
}
#: A model is worth quantising further when that saves a fifth or more.
WORTH = 0.8


class Need(Struct, frozen=True, kw_only=True):
    """Bytes. `cache` is 0 with `is_cache_known` False where the layers are of a kind that is not counted. `longest`: the
    tokens that would fit for so many streams, 0 when none do; `int4`: the same model with 4-bit weights, 0 when unknown."""

    weights: int
    cache: int
    buffers: int
    free: int
    context: int
    streams: int
    is_cache_known: bool = True
    longest: int = 0
    int4: int = 0

    @property
    def needed(self) -> int:
        return self.weights + self.cache + self.buffers

    @property
    def fits(self) -> bool:
        return self.needed <= self.free


def check(files: ModelFiles, engine: str, memory_bytes: int, context: int, streams: int, cache: str = "bf16") -> None:
    """Raises ConfigError, one sentence or two, when `engine` ("openvino" or "transformers") cannot take the files' kind or
    architecture, when the model has not so much context, and when it is too large for `memory_bytes` of free memory with
    `streams` sequences of `context` tokens each. `cache`: the type of the engine's KV cache, "bf16" or "int8"."""
    check_architecture(files, engine)
    if context < 1 or streams < 1:
        raise ConfigError(
            f"{files.name}: a context of {context} tokens for {streams} streams is none; both start at 1."
        )
    if files.context and context > files.context:
        raise ConfigError(
            f"{files.name} has at most {files.context:,} tokens of context, and {context:,} were asked for."
        )
    found = need(files, memory_bytes, context, streams, cache)
    if not found.fits:
        raise ConfigError(f"{files.name} is too large for this machine: {inequality(found)}. {_what_would_fit(found)}")


# --- Architecture


def check_architecture(files: ModelFiles, engine: str) -> None:
    """Raises ConfigError that says which engine would take it, if one does."""
    engines = load_engines()
    if engine not in engines:
        raise ConfigError(f"There is no engine {engine!r}. Engines: {', '.join(engines)}.")
    ours = engines[engine]
    if files.kind not in ours.kinds:
        raise ConfigError(
            f"{files.name} is in the format {files.kind}, which {ours.label} does not read; {OTHER_READERS[files.kind]}."
            f"{_how_to_convert(files, engine)}"
        )
    if not _takes(ours, files):
        what = ", ".join(files.architectures)
        raise ConfigError(
            f"{ours.title} does not take {what} for {files.task} ({files.name}). {_who_does(files, engines.values())}"
        )


def _takes(engine: Engine, files: ModelFiles) -> bool:
    """A config.json that names no class is let through: the engine itself goes by the model type then."""
    if files.kind == "gguf":
        return files.architectures[0] in engine.gguf
    return not files.architectures or any(name in engine.classes[files.task] for name in files.architectures)


def _who_does(files: ModelFiles, engines: Iterable[Engine]) -> str:
    able = [engine for engine in engines if _takes(engine, files)]
    for engine in able:
        if files.kind in engine.kinds:
            return f"{engine.title} does."
    if able:
        return f"{able[0].title} does, in the format {able[0].kinds[0]}."
    if files.kind == "gguf":
        return "llama.cpp, Ollama or LM Studio may: add one as a provider."
    return "vLLM or SGLang may: add one as a provider."


def _how_to_convert(files: ModelFiles, engine: str) -> str:
    if engine != "openvino" or files.kind != "safetensors":
        return ""
    name = files.name.partition("@")[0].rsplit("/", 1)[-1]
    return f" Look for one that is converted already: naru models pull OpenVINO/{name}-int4-ov (or -int8-ov)."


# --- Memory


def need(files: ModelFiles, memory_bytes: int, context: int, streams: int, cache: str = "bf16") -> Need:
    """The terms of the inequality. Raises ConfigError for a type of cache that is not known."""
    if cache not in CACHE_BYTES:
        raise ConfigError(f"No cache type {cache!r} is known. Known: {', '.join(CACHE_BYTES)}.")
    adapters = sum(adapter.weight_bytes for adapter in files.adapters)
    plain = Need(
        weights=files.weight_bytes + adapters,
        cache=0,
        buffers=RAM_OVERHEAD,
        free=memory_bytes,
        context=context,
        streams=streams,
        is_cache_known=False,
    )
    if files.shape is None or files.task == "speech":
        return plain
    found = _counted(files.shape, memory_bytes, context, streams, cache)
    int4 = weights_in_all(files.shape, "int4")
    counted = structs.replace(
        plain,
        cache=found.cache,
        buffers=found.activations + found.overhead,
        is_cache_known=True,
        int4=int4 + found.cache + found.activations + found.overhead if int4 < WORTH * files.weight_bytes else 0,
    )
    room = memory_bytes - counted.weights - counted.buffers
    return structs.replace(counted, longest=_longest(files.shape, room // streams, CACHE_BYTES[cache], context))


def _counted(shape: Shape, memory_bytes: int, context: int, streams: int, cache: str) -> Fit:
    plan = Plan(quant=shape.dtype, context=context, cache=cache, batch=streams)
    return fit(shape, Hardware(device=machine(memory_bytes, None)), plan)


def _longest(shape: Shape, room: int, value_bytes: int, most: int) -> int:
    """The most tokens, in whole thousands, whose cache fits in `room`; 0 when fewer than a thousand do."""
    low, high = 0, most // LEAST_CONTEXT
    while low < high:
        middle = (low + high + 1) // 2
        if cache_bytes(shape, middle * LEAST_CONTEXT, value_bytes) <= room:
            low = middle
        else:
            high = middle - 1
    return low * LEAST_CONTEXT


def inequality(found: Need) -> str:
    """`weights 15.7 GB + KV 4.5 GB (32,768 tokens x 1) + buffers 0.9 GB = 21.1 GB > 16.0 GB free`."""
    cache = f" + KV {gb(found.cache)} ({found.context:,} tokens x {found.streams})" if found.is_cache_known else ""
    sign = "<=" if found.fits else ">"
    total = f"{gb(found.needed)} {sign} {gb(found.free)} free"
    return f"weights {gb(found.weights)}{cache} + buffers {gb(found.buffers)} = {total}"


def _what_would_fit(found: Need) -> str:
    ways = []
    if 0 < found.longest < found.context:
        ways.append(f"a context of {found.longest:,} tokens")
    if found.streams > 1 and found.cache and found.needed - found.cache + found.cache // found.streams <= found.free:
        ways.append("one stream")
    if 0 < found.int4 <= found.free:
        ways.append(f"int4 weights ({gb(found.int4)} in all)")
    if not ways:
        return "Take a smaller model: `naru models recommend` names some that fit."
    return f"What would fit: {', or '.join(ways)}, or a smaller model (naru models recommend)."
