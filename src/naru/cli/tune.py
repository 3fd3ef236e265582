"""naru tune lora"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress

from naru import config
from naru.cli.backend import config_option, json_option
from naru.cli.output import print_json
from naru.engine.files import resolve
from naru.tune.data import read_examples
from naru.tune.lora import Job, Settings, Tuned, check_job, train

DEFAULTS = Settings()


@click.group("tune")
def command() -> None:
    """Fine-tune a local model on examples of your own."""


@command.command("lora")
@click.argument("model")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Adapter folder (default: NARU_HOME/adapters/DATA's name)."
)
@click.option("--rank", default=DEFAULTS.rank, show_default=True, help="LoRA's rank.")
@click.option("--alpha", default=DEFAULTS.alpha, show_default=True, help="LoRA's alpha; the scale is alpha / rank.")
@click.option("--epochs", default=DEFAULTS.epochs, show_default=True, help="Passes over the examples.")
@click.option(
    "--steps", default=DEFAULTS.steps, show_default=True, help="Steps instead of epochs; 0: as many as those make."
)
@click.option("--learning-rate", default=DEFAULTS.learning_rate, show_default=True)
@click.option(
    "--max-length", default=DEFAULTS.max_length, show_default=True, help="Tokens of an example; more are cut off."
)
@click.option("--batch", default=DEFAULTS.batch, show_default=True, help="Examples at once.")
@click.option("--accumulate", default=DEFAULTS.accumulate, show_default=True, help="Batches of one step.")
@click.option("--4bit", "four_bit", is_flag=True, help="Keep the base in 4 bits (QLoRA); needs a CUDA GPU.")
@click.option("--seed", default=DEFAULTS.seed, show_default=True)
@click.option(
    "--eval-split", default=DEFAULTS.eval_split, show_default=True, help="Part of the examples for evaluation."
)
@click.option("--save-steps", default=DEFAULTS.save_steps, show_default=True, help="Steps between two checkpoints.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in --out.")
@click.option("--check", "only_check", is_flag=True, help="Only look at MODEL and DATA.")
@config_option
@json_option
def lora(
    model: str, data: Path, out: Path | None, resume: bool, only_check: bool, as_json: bool, **options: Any
) -> None:
    """Train a LoRA adapter for MODEL on DATA.

    MODEL is a model on this machine in safetensors. DATA has one JSON object a line: {"messages": [...], "tools": [...]}, in
    OpenAI's form. It is checked whole before anything is loaded. Where the model's chat template says which tokens are the
    assistant's, only those are learned.
    """
    home = config.settings_of_process(options.pop("config_path"), {}).home
    job = Job(
        base=resolve(model, home),
        data=read_examples(data),
        out=(out or home / "adapters" / data.stem).expanduser().resolve(),
        settings=Settings(**options),
    )
    check_job(job, resume)
    if only_check:
        _say(as_json, {"examples": len(job.data.rows)}, f"{len(job.data.rows):,} examples, and {model} can be trained.")
        return
    tuned = _train(job, resume)
    about = {**msgspec.to_builtins(tuned), "path": str(job.out), "model": job.served_as}
    _say(as_json, about, _words(job, tuned))


def _train(job: Job, resume: bool) -> Tuned:
    is_watched = sys.stderr.isatty()
    with Progress(console=Console(stderr=True), disable=not is_watched) as bar:
        task = bar.add_task("loading", total=None)

        def on_step(step: int, steps: int, loss: float) -> None:
            bar.update(task, completed=step, total=steps, description=f"loss {loss:.4f}")
            if not is_watched:
                click.echo(f"step {step} of {steps}, loss {loss:.4f}", err=True)

        return train(job, resume, on_step)


def _words(job: Job, tuned: Tuned) -> str:
    evaluated = "" if tuned.eval_loss is None else f", {tuned.eval_loss:.4f} on what was kept for evaluation"
    return (
        f"{job.out} is trained: {tuned.steps:,} steps, loss {tuned.final_loss:.4f}{evaluated}.\n"
        f"Serve it: naru engine serve {job.base_name}; in requests its model is {job.served_as}"
    )


def _say(as_json: bool, data: dict[str, Any], text: str) -> None:
    if as_json:
        print_json(data)
    else:
        click.echo(text)
