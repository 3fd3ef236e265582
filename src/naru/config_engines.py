"""[engines.NAME] of naru.toml: reading it, its names, the engine that is there without a file, and what engines see of the
environment."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from typing import Any

from naru.config_read import PROVIDER_NAME, Reader
from naru.config_schema import EngineSettings, ProviderSettings
from naru.providers import load_providers

DEMO = EngineSettings(name="demo", model="naru-demo")
#: What runs the shipped model.
DEMO_NEEDS = "openvino_genai"
#: Models come from the Hub, some of them for those with a token only.
HUB_TOKENS = frozenset({"HF_TOKEN"})


def read_engines(tables: Mapping[str, Any], reader: Reader) -> dict[str, EngineSettings]:
    """Raises ConfigError."""
    for name in tables:
        if not PROVIDER_NAME.fullmatch(name):
            message = "an engine's name has letters, digits, dots, dashes and underscores"
            raise reader.error(f"engines.{name}", message)
    return {name: reader.struct(EngineSettings, table, f"engines.{name}", name=name) for name, table in tables.items()}


def check_engine_names(
    engines: Mapping[str, EngineSettings], enabled: Mapping[str, ProviderSettings], reader: Reader
) -> None:
    """`name/model` must mean one of the two."""
    for name in engines:
        if name in enabled:
            raise reader.error(f"engines.{name}", f'a provider is called "{name}" too; give the engine another name')


def with_demo(
    engines: dict[str, EngineSettings], enabled: Mapping[str, ProviderSettings], is_installed: bool
) -> dict[str, EngineSettings]:
    """Where nothing but the sandbox would answer, the shipped model does too. It starts with the first request for it."""
    if engines or not is_installed or set(enabled) - {"sandbox"}:
        return engines
    return {DEMO.name: DEMO}


def is_demo_installed(package: Traversable | None = None, runner: str = DEMO_NEEDS) -> bool:
    """Whether the package holds the shipped model, and what runs it is there too."""
    folder = (package or files("naru")).joinpath("engine", "demo")
    return folder.is_dir() and find_spec(runner) is not None


def environment_for_engines(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the credentials of providers and of this gateway: an engine is other people's code, and needs none of them."""
    held = {name for kind in load_providers().values() for name in kind.env} - HUB_TOKENS
    return {
        name: value
        for name, value in environ.items()
        if name not in held and not name.startswith(("AWS_", "NARU_ADMIN"))
    }
