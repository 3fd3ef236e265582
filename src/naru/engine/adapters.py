"""LoRA adapters beside a model: folders as PEFT writes them, with an adapter_config.json (huggingface.co/docs/peft).

A model's adapters are those in its own folder (adapters/NAME), and those in NARU_HOME/adapters/NAME that name it as their
base. In requests an adapter is called MODEL:NAME.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from naru.engine.weights import read_json, safetensors_file_bytes
from naru.errors import ConfigError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Adapter(Struct, frozen=True, kw_only=True):
    """`base`: what it was trained on, as it says itself. `rank` and `alpha`: LoRA's r and lora_alpha (arXiv:2106.09685).
    `targets`: names of the layers that it changes, or one word for all of them."""

    name: str
    path: Path
    base: str
    rank: int
    alpha: float
    targets: tuple[str, ...]
    weight_bytes: int


def read_adapter(folder: Path) -> Adapter:
    """Raises ConfigError: no adapter, not LoRA, broken or missing weights."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"{folder} is no adapter: it has no {CONFIG}.")
    config = read_json(folder / CONFIG)
    kind, rank, alpha = config.get("peft_type"), config.get("r"), config.get("lora_alpha")
    if kind != "LORA":
        raise ConfigError(f"{folder} is an adapter of type {kind!r}; only LORA is served.")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1 or not isinstance(alpha, int | float):
        raise ConfigError(f"{folder / CONFIG}: r is {rank!r} and lora_alpha {alpha!r}; numbers are expected.")
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{folder} has no {WEIGHTS}. Save the adapter as safetensors.")
    return Adapter(
        name=folder.name,
        path=folder,
        base=str(config.get("base_model_name_or_path") or ""),
        rank=rank,
        alpha=float(alpha),
        targets=_targets(config.get("target_modules")),
        weight_bytes=safetensors_file_bytes(folder / WEIGHTS),
    )


def adapters_of(name: str, path: Path, home: Path | None) -> tuple[Adapter, ...]:
    """By name. Of two with one name that in the model's own folder counts. Raises ConfigError for a broken one."""
    found: dict[str, Adapter] = {}
    for folder in _folders(path / "adapters"):
        found[folder.name] = read_adapter(folder)
    bases = {name, name.partition("@")[0], str(path), str(path.resolve())}
    for folder in _folders(home / "adapters") if home else ():
        if folder.name not in found and read_json(folder / CONFIG).get("base_model_name_or_path") in bases:
            found[folder.name] = read_adapter(folder)
    return tuple(found[each] for each in sorted(found))


def _folders(parent: Path) -> Iterator[Path]:
    if parent.is_dir():
        yield from (folder for folder in sorted(parent.iterdir()) if (folder / CONFIG).is_file())


def _targets(value: Any) -> tuple[str, ...]:
    return tuple(sorted(map(str, value))) if isinstance(value, list) else (str(value or ""),)
