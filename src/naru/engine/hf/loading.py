"""A model's folder -> model, tokenizer, facts. Nothing is fetched: what is missing is an error with one sentence."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from msgspec import Struct
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor, AutoTokenizer

from naru.engine.hf.options import Options
from naru.engine.hf.rows import layers_of
from naru.engine.port import Facts
from naru.engine.vocabulary import Vocabulary
from naru.errors import ConfigError

#: Logprobs of so many alternatives: OpenAI's bound.
MOST_LOGPROBS = 20
#: Where a config says how many tokens a model takes, in this order.
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_DTYPES: Mapping[str, Any] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class Loaded(Struct):
    """`processor` is None for a model that reads text only; `layers` as rows.layers_of says; `vocabulary_size` is the width
    of the logits, which is often more than the tokenizer knows. `keeps_last`: logits can be had of the last position alone."""

    model: Any
    tokenizer: Any
    processor: Any
    facts: Facts
    vocabulary: Vocabulary
    layers: int | None
    vocabulary_size: int
    keeps_last: bool


def load(folder: Path, options: Options) -> Loaded:
    """Blocks for as long as the weights take to read. Raises ConfigError."""
    check_device(options.device)
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = from_folder(AutoConfig, folder, trust_remote_code=options.trusts_code)
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(f"{folder} holds an encoder-decoder model, which this engine does not run.")
    processor = None
    if _has_media(config):
        processor = from_folder(AutoProcessor, folder, trust_remote_code=options.trusts_code)
    return assemble(folder, config, processor, options)


def assemble(folder: Path, config: Any, processor: Any, options: Options) -> Loaded:
    """`processor` makes inputs of pictures and sounds (media.py); it may be another one than the folder's."""
    tokenizer = load_tokenizer(folder, options)
    model = load_model(AutoModelForMultimodalLM if _has_media(config) else AutoModelForCausalLM, folder, options)
    for name, path in options.adapters.items():
        _load_adapter(model, name, path)
    if options.adapters:
        model.disable_adapters()
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        processor=processor,
        facts=_facts(model, tokenizer, options),
        vocabulary=vocabulary_of(tokenizer),
        layers=layers_of(config),
        vocabulary_size=int(model.config.get_text_config(decoder=True).vocab_size),
        keeps_last="logits_to_keep" in inspect.signature(model.forward).parameters,
    )


def _has_media(config: Any) -> bool:
    return hasattr(config, "vision_config") or hasattr(config, "audio_config")


def check_device(device: str) -> None:
    """Raises ConfigError for a device that torch does not have here."""
    if device == "cpu":
        return
    if device != "auto" and device.split(":")[0] != "cuda":
        raise ConfigError(f"The device {device!r} is not known; say cpu, cuda, cuda:N or auto.")
    if not torch.cuda.is_available():
        raise ConfigError(f"The device {device!r} needs a GPU that torch can use, and there is none; say cpu.")


def load_tokenizer(folder: Path, options: Options) -> Any:
    return from_folder(AutoTokenizer, folder, trust_remote_code=options.trusts_code)


def load_model(kind: Any, folder: Path, options: Options) -> Any:
    """`kind` is one of Transformers' auto classes. The model is on its device and in inference mode."""
    more: dict[str, Any] = {"trust_remote_code": options.trusts_code, "attn_implementation": options.attention}
    more["dtype"] = _dtype(options)
    if options.quant:
        more["quantization_config"] = _quantization(options)
    if options.quant or options.device == "auto":
        _need("accelerate", "placing weights on devices")
        more["device_map"] = "auto" if options.device == "auto" else {"": options.device}
    model = from_folder(kind, folder, **more)
    if "device_map" not in more:
        model.to(options.device)
    return model.eval().requires_grad_(False)


def from_folder(kind: Any, folder: Path, **more: Any) -> Any:
    """`kind.from_pretrained`, without network, with one sentence for whatever goes wrong."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder.")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, **more)
    except Exception as error:  # anything: the library has no error of its own
        raise ConfigError(f"{folder} cannot be loaded by Transformers: {first_line(error)}") from error


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]

    def decode(ids: Any) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return Vocabulary(tokenizer.get_vocab(), added, decode)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """Special tokens are found, none is added. From any thread: the fast tokenizer's core has no state that this changes."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is not None:
        return list(core.encode(text, add_special_tokens=False).ids)
    return list(tokenizer.encode(text, add_special_tokens=False))


def context_of(config: Any) -> int:
    """Tokens that a model takes, 0 where its config does not say."""
    text = config.get_text_config(decoder=True)
    for key in _CONTEXT_KEYS:
        if isinstance(length := getattr(text, key, None), int) and length > 0:
            return length
    return 0


def first_line(error: BaseException) -> str:
    """Of an error of a library, for a sentence of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _facts(model: Any, tokenizer: Any, options: Options) -> Facts:
    config = model.config
    own = context_of(config)
    context = options.context or own
    if not context:
        raise ConfigError("The model's config.json does not say how many tokens it takes; set the engine's context.")
    if options.cache_tokens:
        context = min(context, options.cache_tokens)
    return Facts(
        library=f"transformers {transformers.__version__}",
        device=str(model.device),
        context=context,
        end_ids=_end_ids(model, tokenizer),
        adapters=tuple(options.adapters),
        takes_images=hasattr(config, "vision_config"),
        takes_audio=hasattr(config, "audio_config"),
        has_grammars=True,
        most_logprobs=MOST_LOGPROBS,
    )


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    said = getattr(model.generation_config, "eos_token_id", None)
    ids = list(said) if isinstance(said, list | tuple) else [said]
    return frozenset(int(token) for token in [*ids, tokenizer.eos_token_id] if token is not None)


def _dtype(options: Options) -> Any:
    if options.dtype == "auto":
        return torch.float32 if options.device == "cpu" else "auto"
    return _DTYPES[options.dtype]


def _quantization(options: Options) -> Any:
    _need("bitsandbytes", f"{options.quant} weights")
    if options.quant == "8bit":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.float32 if options.device == "cpu" else torch.bfloat16
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _load_adapter(model: Any, name: str, path: str) -> None:
    _need("peft", "LoRA adapters")
    if not Path(path).is_dir():  # or the library would look for it on the Hub
        raise ConfigError(f"The adapter {name} cannot be loaded: {path} is not a folder.")
    try:
        with warnings.catch_warnings():  # a second adapter makes PEFT ask whether that is meant
            warnings.simplefilter("ignore")
            model.load_adapter(path, adapter_name=name)
    except Exception as error:  # anything, as above
        raise ConfigError(f"The adapter {name} cannot be loaded from {path}: {first_line(error)}") from error
    model.requires_grad_(False)


def _need(package: str, purpose: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ConfigError(f"The package {package} is needed for {purpose}: pip install {package}")
