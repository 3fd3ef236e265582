"""What a model reference means, and what the files behind it are. Only heads of files are read.

    resolve("naru-demo", home)                  the model that is shipped
    resolve("./qwen3", home)                    a folder, or a .gguf file
    resolve("Qwen/Qwen3-0.6B", home)            what `naru models pull` brought; also @REVISION and :FILE.gguf

Every error is a ConfigError with one sentence; naru.engine.check has those that depend on the engine and the memory.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from naru.catalog.model_config import shape_of_config
from naru.catalog.shapes import Shape
from naru.engine.adapters import Adapter, adapters_of
from naru.engine.gguf import Gguf, Length
from naru.engine.store import find, is_reference, parse_reference
from naru.engine.weights import openvino_bytes, read_gguf_model, read_json, safetensors_bytes
from naru.errors import BadRequest, ConfigError

Kind = Literal["openvino", "safetensors", "gguf"]
Task = Literal["chat", "embedding", "rerank", "vision", "speech"]

DEMO = "naru-demo"
#: What an .xml of openvino.genai's folders says of the task. The first that is there counts.
OPENVINO_PARTS: tuple[tuple[str, Task | None], ...] = (
    ("openvino_language_model.xml", "vision"),
    ("openvino_encoder_model.xml", "speech"),
    ("openvino_model.xml", None),
)
SPEECH_TYPES = frozenset(("whisper", "qwen3_asr", "speecht5", "wav2vec2"))
#: llama.cpp's architectures as transformers' model types, for those whose layers the catalogue can count.
GGUF_TYPES = {"qwen2": "qwen2", "qwen3": "qwen3", "llama": "llama", "qwen3moe": "qwen3_moe"}
#: transformers' name of a field -> llama.cpp's, which stands behind the architecture's name.
GGUF_FIELDS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
#: llama.cpp's pooling types: 4 is a classifier's rank, 1 to 3 are ways to make one vector of a text.
GGUF_POOLING: dict[int, Task] = {1: "embedding", 2: "embedding", 3: "embedding", 4: "rerank"}


class ModelFiles(Struct, frozen=True, kw_only=True):
    """A model on this machine. `path`: its folder, or its .gguf file. `name`: as it is called in answers. `architectures`:
    classes of config.json, or GGUF's general.architecture. `context`: tokens, 0 where no file says. `weight_bytes` is exact.
    `shape`: for counting the cache; None where the catalogue does not know such layers."""

    path: Path
    kind: Kind
    name: str
    architectures: tuple[str, ...]
    task: Task
    context: int
    weight_bytes: int
    shape: Shape | None = None
    adapters: tuple[Adapter, ...] = ()


def resolve(reference: str, home: Path, demo: Path | None = None) -> ModelFiles:
    """`home` is NARU_HOME; `demo` is where the shipped model is, by default in the package. Raises ConfigError."""
    if reference == DEMO:
        return inspect(demo_folder(demo), name=DEMO, home=home)
    path = Path(reference).expanduser()
    if reference.startswith((".", "/", "~")) or (path.exists() and not is_reference(reference)):
        return inspect(path, home=home)
    if not is_reference(reference):
        raise ConfigError(
            f"{reference!r} is no model: neither {DEMO}, a folder, a .gguf file nor one of the Hub such as Qwen/Qwen3-0.6B."
        )
    try:
        asked = parse_reference(reference)
    except BadRequest as error:
        raise ConfigError(error.message) from error
    pulled = find(home, asked)
    if pulled is not None:
        if not pulled.path.exists():
            raise ConfigError(
                f"The files of {reference} are gone from {pulled.folder}. Run: naru models pull {reference}"
            )
        return inspect(pulled.path, name=pulled.reference, home=home)
    if path.exists():
        return inspect(path, home=home)
    raise ConfigError(f"{reference} is not on this machine. Run: naru models pull {reference}")


def demo_folder(demo: Path | None = None) -> Path:
    """Raises ConfigError where this installation has none."""
    folder = demo or Path(str(resources.files("naru.engine") / "demo"))
    if not (folder / "config.json").is_file():
        raise ConfigError(f"This installation has no {DEMO}: {folder} is missing or empty. Install Naru again.")
    return folder


def inspect(path: Path, name: str = "", home: Path | None = None) -> ModelFiles:
    """Reads what is at `path`: a folder, or a .gguf file. Raises ConfigError for a wrong folder and for broken files."""
    path = path.expanduser().absolute()
    if path.is_dir():
        files = _folder(path, name or path.resolve().name)
    elif path.is_file() and path.suffix == ".gguf":
        files = _gguf(path, name or path.stem)
    elif path.exists():
        raise ConfigError(f"{path} is no model: a folder or a .gguf file is expected.")
    else:
        raise ConfigError(f"{path} does not exist.")
    return msgspec.structs.replace(files, adapters=adapters_of(files.name, path, home))


# --- Folders


def _folder(folder: Path, name: str) -> ModelFiles:
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ConfigError(f"{folder} is no folder of model files: it has no config.json, but {_what_is_there(folder)}.")
    config = read_json(config_file)
    kind, weights, said = _weights(folder)
    return ModelFiles(
        path=folder,
        kind=kind,
        name=name,
        architectures=_names(config.get("architectures")),
        task=said or _task(folder, name, config),
        context=_context(config),
        weight_bytes=weights,
        shape=_shape(msgspec.json.encode(config), name, str(config_file)),
    )


def _weights(folder: Path) -> tuple[Kind, int, Task | None]:
    """(kind, bytes, the task where the files themselves say it)."""
    for part, task in OPENVINO_PARTS:
        if (folder / part).is_file():
            models = [file for file in sorted(folder.glob("openvino_*.xml")) if "tokenizer" not in file.name]
            return "openvino", openvino_bytes(models), task
    if (folder / "model.safetensors.index.json").is_file() or any(folder.glob("*.safetensors")):
        return "safetensors", safetensors_bytes(folder), None
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        raise ConfigError(f"{folder} has .gguf files; name the one that is meant, such as {ggufs[0]}.")
    raise ConfigError(
        f"{folder} has no weights: neither openvino_model.xml nor *.safetensors, but {_what_is_there(folder)}. "
        "Files of PyTorch's own format (.bin, .pt) can run programs when they are opened and are not read."
    )


def _what_is_there(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "nothing at all"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _names(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _task(folder: Path, name: str, config: dict[str, Any]) -> Task:
    """Sentence-transformers' files say embedding; a model that judges or embeds under a chat model's class says it only in
    its name (Qwen3-Embedding, Qwen3-Reranker)."""
    classes, kind, lower = _names(config.get("architectures")), str(config.get("model_type", "")), name.lower()
    if kind in SPEECH_TYPES or any("SpeechSeq2Seq" in each for each in classes):
        return "speech"
    if "rerank" in lower or any(each.endswith("ForSequenceClassification") for each in classes):
        return "rerank"
    is_plain = bool(classes) and all(each.endswith(("Model", "ForMaskedLM")) for each in classes)
    has_pooling = (folder / "modules.json").is_file() or (folder / "1_Pooling").is_dir()
    if has_pooling or "embedding" in lower or (is_plain and "LMHead" not in classes[0]):
        return "embedding"
    return "vision" if isinstance(config.get("vision_config"), dict) else "chat"


def _context(config: dict[str, Any]) -> int:
    inner = config.get("text_config")
    for source in (config, inner if isinstance(inner, dict) else {}):
        for field in ("max_position_embeddings", "n_positions", "max_target_positions"):
            value = source.get(field)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0


def _shape(config: bytes, name: str, where: str) -> Shape | None:
    try:
        return shape_of_config(config, name, where)
    except BadRequest:  # layers of a kind that the catalogue does not count; check() then goes by the weights alone
        return None


# --- GGUF


def _gguf(path: Path, name: str) -> ModelFiles:
    head, weights = read_gguf_model(path)
    context = head.of_architecture("context_length")
    return ModelFiles(
        path=path,
        kind="gguf",
        name=name,
        architectures=(head.architecture,),
        task=_gguf_task(head, name),
        context=context if isinstance(context, int) else 0,
        weight_bytes=weights,
        shape=_gguf_shape(head, name, str(path)),
    )


def _gguf_task(head: Gguf, name: str) -> Task:
    pooling, said = head.of_architecture("pooling_type"), f"{name} {head.metadata.get('general.name', '')}".lower()
    if "rerank" in said:
        return "rerank"
    if head.architecture == "llama-embed" or head.architecture.endswith("bert") or "embedding" in said:
        return "embedding"
    return GGUF_POOLING.get(pooling, "chat") if isinstance(pooling, int) else "chat"


def _gguf_shape(head: Gguf, name: str, where: str) -> Shape | None:
    """The metadata as config.json would say it, counted by the same code."""
    if head.architecture not in GGUF_TYPES:
        return None
    config = {
        ours: value for ours, theirs in GGUF_FIELDS.items() if (value := head.of_architecture(theirs)) is not None
    }
    tokens = head.metadata.get("tokenizer.ggml.tokens", [])
    config["vocab_size"] = tokens.items if isinstance(tokens, Length) else len(tokens)
    config["model_type"] = GGUF_TYPES[head.architecture]
    return _shape(msgspec.json.encode(config), name, where)
