"""The models on this machine, for `naru models list`: shipped and pulled. No gateway is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from naru.catalog.ways import gb
from naru.cli.output import print_table
from naru.engine.files import DEMO, inspect, resolve
from naru.engine.store import Pulled, find, is_reference, parse_reference, pulled_models
from naru.errors import ConfigError

COLUMNS = ("local model", "task", "kind", "size", "context", "path")


def local_models(home: Path) -> list[dict[str, Any]]:
    """The shipped model first, where this installation has it. A broken one has `error` and no task."""
    try:
        shipped = [_entry(DEMO, resolve(DEMO, home).path, "shipped")]
    except ConfigError:  # an installation without it; `naru engine serve naru-demo` says so
        shipped = []
    return shipped + [_pulled(pulled) for pulled in pulled_models(home)]


def is_here(model: str, home: Path) -> bool:
    """Whether it is the shipped model, or one of the Hub's that was pulled."""
    return model == DEMO or (is_reference(model) and find(home, parse_reference(model)) is not None)


def print_local(models: list[dict[str, Any]]) -> None:
    rows = [
        (
            m["id"],
            m["task"] or m["error"],
            m["kind"],
            gb(m["weight_bytes"]) if m["weight_bytes"] else "",
            m["context"],
            m["path"],
        )
        for m in models
    ]
    print_table(COLUMNS, rows, "No local models. `naru models pull Qwen/Qwen3-0.6B` downloads one.")


def _pulled(pulled: Pulled) -> dict[str, Any]:
    about = {"revision": pulled.revision, "commit": pulled.commit, "license": pulled.license}
    return {**_entry(pulled.reference, pulled.path, "pulled"), **about}


def _entry(name: str, path: Path, origin: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": name, "origin": origin, "path": str(path)}
    try:
        files = inspect(path, name=name)
    except ConfigError as error:
        return {**entry, "task": None, "kind": None, "weight_bytes": None, "context": None, "error": error.message}
    about = {
        "task": files.task,
        "kind": files.kind,
        "weight_bytes": files.weight_bytes,
        "context": files.context or None,
    }
    return {**entry, **about, "error": None}
