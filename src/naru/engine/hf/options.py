"""What may be set for the Transformers engine. Needs no torch, so that a command line can read it."""

from __future__ import annotations

import importlib.util
from typing import Literal

from msgspec import Struct

from naru.engine.port import Adapters
from naru.errors import ConfigError

_LIBRARIES = ("torch", "transformers", "xgrammar", "PIL", "numpy")


class Options(Struct, frozen=True):
    """`device`: cpu, cuda, cuda:1, or auto, which spreads a model over all GPUs. `dtype`: auto is float32 on a CPU and the
    checkpoint's own on a GPU. `attention`: Transformers' name of an implementation. `quant`: by bitsandbytes, while loading.

    `context` and `cache_tokens` are in tokens, 0 for the model's own length and for no bound but memory; `prefill_tokens` is
    what one step reads of new prompts, so that the answers being written do not wait for a long one. `threads` 0 leaves
    torch's choice. `trusts_code`: the folder's own Python files may run.
    """

    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attention: str = "sdpa"
    quant: Literal["", "8bit", "4bit"] = ""
    max_running: int = 16
    context: int = 0
    cache_tokens: int = 0
    prefill_tokens: int = 512
    threads: int = 0
    adapters: Adapters = {}
    trusts_code: bool = False


def check_libraries() -> None:
    """Raises ConfigError where a module of this package could not be imported."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The Transformers engine needs {', '.join(missing)}, not installed here: pip install 'naru[transformers]'"
        )
