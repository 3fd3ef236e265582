"""Who can answer: one file of data each, found by scanning this folder. A new provider is a new file."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from naru.providers.base import Provider

__all__ = ["Provider", "load_providers"]


def load_providers() -> dict[str, Provider]:
    """Every provider by its kind, in alphabetical order. Each file but base.py exports `PROVIDER`."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")
    found = (import_module(f"{__name__}.{name}").PROVIDER for name in names)
    return {provider.kind: provider for provider in found}
