"""naru models fit"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from naru.catalog.fit import Fit, fit, notes_on, plan_for
from naru.catalog.hardware import Hardware, device_of_memory, gpu_named, machine, tokens_of
from naru.catalog.model_config import shape_of_config
from naru.catalog.shapes import Shape, active_of, load_shapes, parts_of
from naru.catalog.speed import Speed, speed_of
from naru.catalog.ways import Way, billions, gb, inequality, terms, ways_to_fit
from naru.cli.backend import json_option
from naru.cli.exits import FAILED, OK
from naru.cli.output import print_json, print_table
from naru.errors import BadRequest
from naru.machine import copy_bandwidth, memory_bytes

KINDS = {
    "dense": "a dense model on one GPU",
    "moe": "experts on one GPU",
    "several": "several GPUs",
    "cpu": "a CPU",
}
#: A config.json is some kilobytes.
MAX_CONFIG_BYTES = 1 << 20


@click.command("fit")
@click.argument("model")
@click.option("--gpu", help="What it is to run on: h100, h100x8, rtx4090, … (default: this machine's RAM).")
@click.option("--memory", help="Memory of any other device: 24GiB.")
@click.option("--quant", help="bf16, fp8, int8 or int4 (default: as it is published).")
@click.option("--context", help="Tokens of each sequence: 32k (default: 32k, or what the model has).")
@click.option("--batch", default=1, show_default=True, help="Sequences at once.")
@click.option("--kv", default="bf16", show_default=True, help="Type of the KV cache: bf16, fp8 or int8.")
@json_option
def fit_model(
    model: str, gpu: str | None, memory: str | None, quant: str | None, context: str | None, as_json: bool, **more: Any
) -> int:
    """Does MODEL fit, and how fast can it be at best?

    MODEL is a name (qwen3-8b) or a folder with a config.json. Nothing is loaded or downloaded: weights, cache and buffers
    are counted and held against the memory, in the open. Exit code 1 when it does not fit.
    """
    shape = shape_named(model)
    tokens = None if context is None else tokens_of(context, "--context")
    plan = plan_for(shape, quant, tokens, more["kv"], more["batch"])
    hardware = hardware_of(gpu, memory)
    found = fit(shape, hardware, plan)
    speed = speed_of(shape, hardware, plan)
    ways = [] if found.fits else ways_to_fit(shape, hardware, found)
    if as_json:
        print_json(_as_data(shape, hardware, found, speed, ways))
    else:
        _print(shape, hardware, found, speed, ways)
    return OK if found.fits else FAILED


def shape_named(model: str) -> Shape:
    """A folder that exists, or a path that can be nothing else, is read; everything else is a name of the table."""
    path = Path(model).expanduser()
    if path.name == "config.json":
        path = path.parent
    if not path.is_dir():
        if model.endswith((".json", ".gguf")) or model.startswith((".", "/", "~")):
            raise BadRequest(f"{model} is no folder with a config.json, and other files are not read.")
        return load_shapes().find(model)
    file = path / "config.json"
    try:
        with file.open("rb") as opened:
            raw = opened.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise BadRequest(f"{file} is larger than any config.json.")
    return shape_of_config(raw, path.resolve().name, str(file))


def hardware_of(gpu: str | None, memory: str | None) -> Hardware:
    """Raises BadRequest when both are given; this machine when neither is."""
    if gpu is not None and memory is not None:
        raise BadRequest("Say --gpu or --memory, not both.")
    if memory is not None:
        return Hardware(device=device_of_memory(memory))
    if gpu is not None and gpu.lower() != "cpu":
        return gpu_named(gpu)
    return Hardware(device=machine(memory_bytes(), copy_bandwidth()))


# --- What it prints


def _print(shape: Shape, hardware: Hardware, found: Fit, speed: Speed | None, ways: list[Way]) -> None:
    plan = found.plan
    active = f", {billions(active_of(shape))} active" if shape.experts else ""
    click.echo(
        f"{shape.name} ({billions(parts_of(shape).total)} parameters{active}) in {plan.quant} on {hardware.words}\n"
    )
    rows = [(term, gb(size), how) for term, size, how in terms(shape, hardware, found)]
    print_table(("term", "size", "how"), rows, "")
    click.echo(f"\n{inequality(shape, hardware, found)}\n")
    for line in (*_room(shape, found), *_speed(speed, hardware, found.fits)):
        click.echo(line)
    if ways:
        click.echo("What would fit:" if any(way.fits for way in ways) else "Nothing that was tried would fit:")
        for way in ways:
            sign = "<=" if way.fits else ">"
            verdict = "fits" if way.fits else "still not"
            click.echo(f"  {way.what}: {gb(way.needed)} {sign} {gb(way.usable)}, {verdict}")
    for note in notes_on(shape, hardware, plan):
        click.echo(f"Note: {note}")
    click.echo("These are bounds from arithmetic, not promises: measure before you buy.")


def _room(shape: Shape, found: Fit) -> list[str]:
    if not found.longest:
        return ["The weights and buffers alone are too much: no context fits."]
    limit = " (all the model has)" if found.longest == shape.max_context else ""
    return [
        f"Sequences of {found.plan.context:,} tokens at once: {found.sequences:,}",
        f"Longest context of one sequence: {found.longest:,} tokens{limit}",
    ]


def _speed(speed: Speed | None, hardware: Hardware, fits: bool) -> list[str]:
    if speed is None:
        return []
    low, high = (part / speed.ceiling for part in (speed.low, speed.high))
    rate, read = speed.bandwidth / 10**9, f"{gb(speed.read)} read a token"
    if hardware.device.is_measured:
        # What one thread moves is a lower bound, so what follows from it is no ceiling.
        ceiling = f"{speed.ceiling:,.1f} by the {rate:.1f} GB/s that one thread reached here, a lower bound ({read})"
    else:
        ceiling = f"at most {speed.ceiling:,.1f} ({rate:,.0f} GB/s as listed / {read})"
    what = "Tokens a second at batch 1" if fits else "Tokens a second at batch 1, if it fitted"
    lines = [
        f"{what}: {ceiling}; engines reach {low:.2f} to {high:.2f} of that with {KINDS[speed.kind]}: "
        f"{speed.low:,.1f} to {speed.high:,.1f}"
    ]
    if speed.compute_batch is not None:
        lines.append(f"Arithmetic becomes the limit from about batch {speed.compute_batch:,} (the cache's reads apart)")
    return lines


def _as_data(shape: Shape, hardware: Hardware, found: Fit, speed: Speed | None, ways: list[Way]) -> dict[str, Any]:
    """All numbers, in bytes of each device and tokens."""
    plan, device = found.plan, hardware.device
    return {
        "model": shape.name,
        "shape_source": shape.source,
        "parameters": parts_of(shape).total,
        "active_parameters": active_of(shape),
        "hardware": {
            "device": device.name,
            "count": hardware.count,
            "memory_bytes": device.memory,
            "usable_part": float(hardware.usable_part),
            "bandwidth_bytes_per_s": device.bandwidth,
            "bandwidth_source": None if device.bandwidth is None else "measured" if device.is_measured else "listed",
        },
        "plan": {"quant": plan.quant, "kv": plan.cache, "context": plan.context, "batch": plan.batch},
        "bytes_on_each_device": {
            "weights": found.weights,
            "kv_cache": found.cache,
            "kv_cache_per_token": found.cache_per_token,
            "activations": found.activations,
            "runtime": found.overhead,
            "needed": found.needed,
            "usable": found.usable,
            "left": found.left,
        },
        "fits": found.fits,
        "inequality": inequality(shape, hardware, found),
        "sequences_at_once": found.sequences,
        "longest_context": found.longest,
        "speed": speed
        and {
            "read_bytes_per_token": speed.read,
            "ceiling_tokens_per_s": round(speed.ceiling, 2),
            "likely_tokens_per_s": [round(speed.low, 2), round(speed.high, 2)],
            "compute_bound_from_batch": speed.compute_batch,
        },
        "ways": [
            {"what": way.what, "needed_bytes": way.needed, "usable_bytes": way.usable, "fits": way.fits} for way in ways
        ],
        "notes": notes_on(shape, hardware, plan),
    }
