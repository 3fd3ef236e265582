"""From model files to a model that is ready: checks first, then the engine that suits, then what the files say of decoding."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from naru.engine import openvino
from naru.engine.answers import Switchboard
from naru.engine.check import check, need
from naru.engine.files import ModelFiles
from naru.engine.hf.options import Options
from naru.engine.model import Model, Now, defaults_of
from naru.engine.port import Adapters, Backend, Embedder, Reranker
from naru.engine.template import ChatTemplate, Templates, load
from naru.engine.weights import read_json
from naru.errors import ConfigError

ENGINES = ("openvino", "transformers")
GIB = 1 << 30
#: Without a word on it a model is served with at most this context: a KV cache for more is memory that most never use.
USUAL_CONTEXT = 8_192
USUAL_STREAMS = 16


Quant = Literal["", "8bit", "4bit"]
Precision = Literal["", "f32", "bf16"]


class Wanted(Struct, frozen=True, kw_only=True):
    """What the operator asked for. `context` 0: the model's own, at most USUAL_CONTEXT. `quant`: at load, for files that are
    not quantised. `precision`: of the arithmetic; by default as the device does it best. `cache_gib` 0: see the function of
    that name."""

    engine: str = "auto"
    device: str = "CPU"
    context: int = 0
    max_streams: int = USUAL_STREAMS
    cache_gib: float = 0.0
    quant: Quant = ""
    precision: Precision = ""
    adapters: Adapters = {}
    names: tuple[str, ...] = ()


def engine_for(files: ModelFiles, wanted: str) -> str:
    """OpenVINO for what it reads, Transformers for the rest. Raises ConfigError for an unknown name."""
    if wanted != "auto":
        if wanted not in ENGINES:
            raise ConfigError(f"There is no engine {wanted!r}. Engines: auto, {', '.join(ENGINES)}.")
        return wanted
    return "transformers" if files.kind == "safetensors" else "openvino"


def open_model(
    files: ModelFiles, wanted: Wanted, board: Switchboard, now: Now, free_bytes: int
) -> Model | Embedder | Reranker:
    """Blocks for as long as the weights take to load. Raises ConfigError, before anything is loaded where it can be told.
    `free_bytes` is the memory that it may take."""
    engine = engine_for(files, wanted.engine)
    context = wanted.context or min(files.context or USUAL_CONTEXT, USUAL_CONTEXT)
    check(files, engine, free_bytes, context, 1)
    _need(engine)
    if files.task in ("embedding", "rerank"):
        return _reader(files, engine, wanted)
    if files.task == "speech":
        raise ConfigError(f"{files.name} turns speech into text, which this version's engines do not serve.")
    if not wanted.cache_gib:
        wanted = msgspec.structs.replace(wanted, cache_gib=cache_gib(files, context, wanted.max_streams, free_bytes))
    backend = _backend(files, engine, wanted, context, board)
    folder = files.path if files.path.is_dir() else files.path.parent
    names = wanted.names or (files.name,)
    return Model(names, backend, _templates(files, backend), defaults_of(folder), now)


def cache_gib(files: ModelFiles, context: int, streams: int, free_bytes: int) -> int:
    """KV memory for all streams, or half of what the weights leave, whichever is less; at least one GiB. It is only touched as
    it is used; where it runs out, the library sets answers aside and computes them again."""
    one = need(files, free_bytes, context, 1)
    left = free_bytes - one.weights - one.buffers
    return max(1, min(math.ceil(one.cache * streams / GIB), left // 2 // GIB))


def _need(engine: str) -> None:
    package, extra = {"openvino": ("openvino_genai", "local"), "transformers": ("transformers", "transformers")}[engine]
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"The {engine} engine needs another package: pip install 'naru[{extra}]'.")


#: Exact arithmetic is exact in the cache too.
_PROPERTIES: dict[Precision, dict[str, str]] = {
    "": {},
    "f32": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
}
_DTYPES: dict[Precision, Literal["auto", "float32", "bfloat16"]] = {"": "auto", "f32": "float32", "bf16": "bfloat16"}


def _backend(files: ModelFiles, engine: str, wanted: Wanted, context: int, board: Switchboard) -> Backend:
    adapters = {each.name: str(each.path) for each in files.adapters} | dict(wanted.adapters)
    if engine == "transformers":
        hf = importlib.import_module("naru.engine.hf.backend")
        options = Options(
            device=wanted.device.lower(),
            context=context,
            max_running=wanted.max_streams,
            quant=wanted.quant,
            dtype=_DTYPES[wanted.precision],
            adapters=adapters,
        )
        made: Backend = hf.TransformersBackend(files.path, board.deliver, options)
        return made
    if wanted.adapters:
        raise ConfigError(
            "The OpenVINO engine serves no adapters: its library (2026.4) does not apply them to requests that are computed "
            "together. Serve the safetensors with --engine transformers or vLLM, or merge the adapter into the model."
        )
    if wanted.quant:
        raise ConfigError(
            f"{files.name} is quantised in its files already; --quant is for the Transformers engine, which does it at load."
        )
    return openvino.OpenVinoBackend(
        files.path,
        board.deliver,
        openvino.Options(
            context=context,
            end_ids=_end_ids(files),
            device=wanted.device,
            max_streams=wanted.max_streams,
            cache_gib=wanted.cache_gib,
            takes_images=files.task == "vision",
            properties=_PROPERTIES[wanted.precision],
        ),
    )


def _reader(files: ModelFiles, engine: str, wanted: Wanted) -> Embedder | Reranker:
    """Their modules import the libraries."""
    module, name = _READERS[engine, files.task]
    made = getattr(importlib.import_module(module), name)
    options: Any = wanted.device if engine == "openvino" else Options(device=wanted.device.lower(), quant=wanted.quant)
    opened: Embedder | Reranker = made(files.path, options)
    return opened


_READERS = {
    ("openvino", "embedding"): ("naru.engine.openvino_vectors", "OpenVinoEmbedder"),
    ("openvino", "rerank"): ("naru.engine.openvino_vectors", "OpenVinoReranker"),
    ("transformers", "embedding"): ("naru.engine.hf.embedding", "TransformersEmbedder"),
    ("transformers", "rerank"): ("naru.engine.hf.rerank", "TransformersReranker"),
}


def _end_ids(files: ModelFiles) -> frozenset[int]:
    """generation_config.json goes before config.json; a .gguf file says it in its head, which the library reads."""
    if not files.path.is_dir():
        return frozenset()
    for name in ("generation_config.json", "config.json"):
        path = files.path / name
        found = ids_in(read_json(path).get("eos_token_id")) if path.is_file() else frozenset()
        if found:
            return found
    return frozenset()


def ids_in(value: Any) -> frozenset[int]:
    """One id or a list of them."""
    listed: Sequence[Any] = value if isinstance(value, list) else [value]
    return frozenset(each for each in listed if isinstance(each, int) and not isinstance(each, bool))


def _templates(files: ModelFiles, backend: Backend) -> Templates:
    if files.path.is_dir():
        return load(files.path)
    source = backend.facts.template
    return Templates({"default": ChatTemplate(source, str(files.path))} if source else {}, str(files.path))
