"""naru models list | show | aliases | fit | recommend | pull | remove"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from naru import config
from naru.catalog import Catalog, load_catalog
from naru.catalog.models import Model
from naru.cli.backend import config_option, connect, json_option
from naru.cli.models_fit import fit_model
from naru.cli.models_folder import describe, is_path
from naru.cli.models_local import is_here, local_models, print_local
from naru.cli.models_pull import pull_model, remove_model
from naru.cli.models_recommend import recommend
from naru.cli.output import print_json, print_table
from naru.errors import NaruError, NotFound
from naru.machine import free_bytes


@click.group("models")
def command() -> None:
    """List and show the models that this gateway offers, find what suits your task and hardware, and download it."""


command.add_command(fit_model)
command.add_command(recommend)
command.add_command(pull_model)
command.add_command(remove_model)


@command.command("list")
@click.option("--all", "show_all", is_flag=True, help="The whole catalogue, not only what is enabled here.")
@click.option("--local", "only_local", is_flag=True, help="Only the models on this machine; no gateway is asked.")
@config_option
@json_option
def list_models(show_all: bool, only_local: bool, config_path: Path | None, as_json: bool) -> None:
    """Model names that a key can use here, and the models on this machine."""
    local = local_models(config.settings_of_process(config_path, {}).home)
    try:
        data = None if only_local else _offered(show_all, config_path)
    except NaruError:
        if local and not as_json:  # they are here whatever became of the gateway
            print_local(local)
        raise
    if as_json:
        print_json({"local": local} if data is None else {"data": data, "local": local})
        return
    if data is not None:
        rows = [(m["id"], m["label"], m["context"], m["source"], ", ".join(m["deployments"])) for m in data]
        print_table(("model", "label", "context", "source", "deployments"), rows, "No models. `naru check` says why.")
        if local:
            click.echo()
    if only_local or local:
        print_local(local)


def _offered(show_all: bool, config_path: Path | None) -> list[dict[str, Any]]:
    catalog = _catalog(config_path)
    if show_all:
        return [_summary(model) for model in catalog.models()]
    return list(_enabled(catalog, connect(config_path).request("GET", "/admin/deployments")["data"]))


def _enabled(catalog: Catalog, deployments: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    by_route: dict[str, list[str]] = {}
    for deployment in deployments:
        by_route.setdefault(deployment["route"], []).append(deployment["id"])
    for route, ids in by_route.items():
        model = catalog.get(route)
        summary = _summary(model) if model else {"id": route, "label": "", "context": None, "source": "naru.toml"}
        yield summary | {"id": route, "deployments": ids}


def _summary(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "label": model.label,
        "context": model.context,
        "max_output": model.max_output,
        "source": model.source,
        "aliases": list(model.aliases),
        "deployments": [f"{offer.provider}/{offer.upstream_model}" for offer in model.offers],
    }


@command.command("show")
@click.argument("model")
@config_option
def show(model: str, config_path: Path | None) -> None:
    """All that is known of MODEL, as JSON.

    For a name or an alias: the catalogue's entry, prices with source and date. For a folder of model files (./qwen3), a .gguf
    file, and a model that is on this machine: task, kind, weights and whether they fit into the memory that is free now; its
    chat templates, the formats in which the model writes its thoughts and tool calls, and the prompt of a short question.
    """
    home = config.settings_of_process(config_path, {}).home
    if is_path(model) or is_here(model, home):
        print_json(describe(model, home, datetime.now().astimezone(), free_bytes()))
        return
    catalog = _catalog(config_path)
    found = catalog.get(model)
    if found is None:
        near = catalog.nearest(model)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise NotFound(f"The catalogue has no model {model!r}.{hint}", code="model_not_found")
    shown = msgspec.json.decode(msgspec.json.encode(found))
    for offer, source in zip(shown["offers"], found.offers, strict=True):
        price = source.price
        offer["price"] = price and {
            "version": price.version,
            "source": price.source,
            "as_of": price.as_of,
            "currency": price.currency,
            "unit": "nano-USD per million tokens",
            "rows": msgspec.to_builtins(price.rows),
            "tiers": {name: f"{tier.top}/{tier.bottom} of the tokens' price" for name, tier in price.tiers.items()},
            "tools": {name: f"{nano} nano-USD a call" for name, nano in price.tools.items()},
        }
    print_json(shown)


@command.command("aliases")
@config_option
@json_option
def aliases(config_path: Path | None, as_json: bool) -> None:
    """Other names that reach the same models."""
    pairs = [(alias, model.id) for model in _catalog(config_path).models() for alias in model.aliases]
    declared = config.settings_of_process(config_path, {}).models.values()
    pairs += [(alias, model.name) for model in declared for alias in model.aliases]
    if as_json:
        print_json(dict(pairs))
    else:
        print_table(("alias", "model"), sorted(pairs), "No aliases.")


def _catalog(config_path: Path | None) -> Catalog:
    return load_catalog(config.settings_of_process(config_path, {}).ledger.krw_per_usd)
