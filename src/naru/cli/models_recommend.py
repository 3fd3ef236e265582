"""naru models recommend"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from naru import config
from naru.catalog import load_catalog
from naru.catalog.advice import COMPARED_AT, Advice, assumptions, hosted, read_task
from naru.catalog.hardware import Hardware, device_of_memory, gpu_named, machine
from naru.catalog.local_advice import local
from naru.catalog.shapes import load_shapes
from naru.cli.backend import config_option, json_option
from naru.cli.exits import FAILED, OK
from naru.cli.output import print_json, print_table
from naru.errors import BadRequest
from naru.machine import memory_bytes


@click.command("recommend")
@click.argument("task")
@click.option("--gpu", help="What local models may run on: h100, h100x8, rtx4090, … (default: this machine's RAM).")
@click.option("--memory", help="Memory of any other device: 24GiB.")
@click.option(
    "--languages", default="", help="Languages of the task: ko,en. Korean counts for models that are known for it."
)
@click.option(
    "--hosted/--local", "only_hosted", default=None, help="Only hosted models, or only local ones (default: both)."
)
@config_option
@json_option
def recommend(
    task: str,
    gpu: str | None,
    memory: str | None,
    languages: str,
    only_hosted: bool | None,
    config_path: Path | None,
    as_json: bool,
) -> int:
    """Which model for TASK, in a few words of Korean or English, and why?

    Rules by words, not a model: what the task needs, who can do it, who is known for it, what it costs, what fits. Exit code
    1 when nothing suits.
    """
    if not task.strip():
        raise BadRequest('Say what the model is for, as in "긴 계약서 요약" or "refactor Python code".')
    read = read_task(task, languages.split(","))
    far: list[Advice] | None = None
    near: list[Advice] | None = None
    words = ""
    if only_hosted is not False:
        krw_per_usd = config.settings_of_process(config_path, {}).ledger.krw_per_usd or COMPARED_AT
        far = hosted(read, load_catalog(krw_per_usd).models())
    if only_hosted is not True:
        hardware = _hardware(gpu, memory)
        words = hardware.words
        near = local(read, load_shapes(), hardware)
    notes = assumptions(read, far is not None, near is not None)
    if as_json:
        data = {"needs": read.needs, "endpoint": read.endpoint, "hosted": _rows(far), "local": _rows(near)}
        print_json(data | {"hardware": words or None, "assumed": notes})
    else:
        click.echo(f"The task needs: {read.words}")
        _print(far, near, words)
        for note in notes:
            click.echo(f"Assumed: {note}")
    return OK if far or near else FAILED


def _hardware(gpu: str | None, memory: str | None) -> Hardware:
    """Nothing is measured here: the same question has the same answer."""
    if gpu is not None and memory is not None:
        raise BadRequest("Say --gpu or --memory, not both.")
    if memory is not None:
        return Hardware(device=device_of_memory(memory))
    if gpu is not None and gpu.lower() != "cpu":
        return gpu_named(gpu)
    return Hardware(device=machine(memory_bytes(), None))


def _print(far: list[Advice] | None, near: list[Advice] | None, words: str) -> None:
    if far is not None:
        click.echo("\nHosted:" if far else "\nHosted: no model with a known price can do that.")
        rows = [(item.model, item.place, item.price, "; ".join(item.reasons)) for item in far]
        if rows:
            print_table(("model", "provider", "price", "why"), rows, "")
    if near is not None:
        click.echo(
            f"\nLocal, on {words}:" if near else f"\nLocal: no model whose shape is known can do that on {words}."
        )
        local_rows = [(item.model, item.place, "; ".join(item.reasons)) for item in near]
        if local_rows:
            print_table(("model", "memory", "why"), local_rows, "")
    click.echo()


def _rows(advice: list[Advice] | None) -> list[dict[str, object]] | None:
    return None if advice is None else [msgspec.to_builtins(item) for item in advice]
