"""LoRA fine-tuning (arXiv:2106.09685) with TRL's SFTTrainer and PEFT: a base model and examples in, an adapter folder out.

    OUT/adapter_config.json, adapter_model.safetensors     the adapter, as PEFT writes it
    OUT/README.md, naru_tune.json                          its card: base, data, settings, losses
    OUT/checkpoints/                                       for --resume

Names of TRL 1.x: processing_class, max_length, and quantization_config as an argument of the trainer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from naru.engine.files import DEMO, ModelFiles
from naru.engine.store import is_reference
from naru.errors import BadRequest, ConfigError
from naru.tune.data import Examples, split

CARD, RECORD, CHECKPOINTS = "README.md", "naru_tune.json", "checkpoints"
NOT_INSTALLED = "Fine-tuning needs TRL, PEFT and PyTorch: pip install 'naru[tune]'"


class Settings(Struct, frozen=True, kw_only=True):
    """`steps` 0: as many as `epochs` make. `alpha`: LoRA's scale is alpha / rank. `eval_split`: part of the examples that is
    kept for evaluation. `save_steps`: a checkpoint after so many steps."""

    rank: int = 16
    alpha: int = 32
    epochs: float = 1.0
    steps: int = 0
    learning_rate: float = 1e-4
    max_length: int = 2048
    batch: int = 1
    accumulate: int = 8
    four_bit: bool = False
    seed: int = 0
    eval_split: float = 0.0
    save_steps: int = 50


class Tuned(Struct, frozen=True, kw_only=True):
    """What came out. `loss`: the mean of the whole run; `final_loss`: of its last logged step; `eval_loss` without an
    evaluation is None. `trained_on`: "assistant" where only its tokens counted, else "all"."""

    name: str
    base: str
    data_sha256: str
    examples: int
    steps: int
    loss: float
    final_loss: float
    eval_loss: float | None
    trained_on: str
    settings: Settings


#: Called at each logged step: (step, of how many, loss).
OnStep = Callable[[int, int, float], None]


class Job(Struct, frozen=True):
    """One fine-tuning. `name` is the adapter's, the last part of `out`."""

    base: ModelFiles
    data: Examples
    out: Path
    settings: Settings = Settings()

    @property
    def name(self) -> str:
        return self.out.name

    @property
    def base_name(self) -> str:
        """What the adapter names as its base, and what a person serves: a name where it has one everywhere, else the path."""
        is_known = self.base.name == DEMO or is_reference(self.base.name)
        return self.base.name if is_known else str(self.base.path)

    @property
    def served_as(self) -> str:
        return f"{self.base.name}:{self.name}"


def check_job(job: Job, resume: bool) -> None:
    """Everything that can be said before PyTorch is loaded. Raises ConfigError and BadRequest."""
    if job.base.kind != "safetensors":
        raise ConfigError(
            f"{job.base.name} is in the format {job.base.kind}, and LoRA trains on safetensors: pull the original repository "
            "with --format safetensors."
        )
    if job.base.task not in ("chat", "vision"):
        raise ConfigError(f"{job.base.name} is for {job.base.task}; only chat models are trained here.")
    settings = job.settings
    for name in ("rank", "alpha", "epochs", "learning_rate", "max_length", "batch", "accumulate", "save_steps"):
        if getattr(settings, name) <= 0:
            raise BadRequest(f"{name} is {getattr(settings, name)}, and a number above 0 is expected.")
    split(job.data.rows, settings.eval_split)
    _check_out(job, resume)


def _check_out(job: Job, resume: bool) -> None:
    record = job.out / RECORD
    if not resume:
        if job.out.exists() and any(job.out.iterdir()):
            raise ConfigError(f"{job.out} is not empty. Choose another --out, or go on with --resume.")
        return
    if not any((job.out / CHECKPOINTS).glob("checkpoint-*")) or not record.is_file():
        raise ConfigError(f"{job.out} has no checkpoint to go on from. Leave --resume out.")
    try:
        begun = msgspec.json.decode(record.read_bytes())
    except msgspec.DecodeError as error:
        raise ConfigError(f"{record} is damaged ({error}). Start again in another folder.") from error
    now = _begun(job)
    changed = [name for name in now if begun.get(name) != now[name]]
    if changed:
        raise ConfigError(f"{job.out} was begun with another {' and '.join(changed)}. Start again in another folder.")


def _begun(job: Job) -> dict[str, Any]:
    """What has to stay the same between two halves of a run."""
    steady = msgspec.to_builtins(job.settings)
    return {"base": job.base_name, "data_sha256": job.data.digest} | {
        n: steady[n] for n in ("rank", "alpha", "four_bit")
    }


def train(job: Job, resume: bool, on_step: OnStep) -> Tuned:
    """Trains, and writes the adapter and its card. Raises ConfigError where the packages or the device are missing."""
    check_job(job, resume)
    libraries = _libraries()
    if job.settings.four_bit and not libraries.torch.cuda.is_available():
        raise ConfigError("--4bit needs a CUDA GPU; this machine has none. Train a smaller model, or leave --4bit out.")
    job.out.mkdir(parents=True, exist_ok=True)
    (job.out / RECORD).write_bytes(msgspec.json.encode(_begun(job)))
    trainer, trained_on = _trainer(job, libraries, on_step)
    done = trainer.train(resume_from_checkpoint=resume or None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    evaluated = trainer.evaluate().get("eval_loss") if job.settings.eval_split else None
    trainer.model.peft_config["default"].base_model_name_or_path = job.base_name
    trainer.model.save_pretrained(str(job.out))
    tuned = Tuned(
        name=job.name,
        base=job.base_name,
        data_sha256=job.data.digest,
        examples=len(job.data.rows),
        steps=int(trainer.state.global_step),
        loss=float(done.training_loss),
        final_loss=float(losses[-1]) if losses else float(done.training_loss),
        eval_loss=None if evaluated is None else float(evaluated),
        trained_on=trained_on,
        settings=job.settings,
    )
    (job.out / RECORD).write_bytes(msgspec.json.encode(_begun(job) | msgspec.to_builtins(tuned)))
    (job.out / CARD).write_text(card(tuned, job.served_as), encoding="utf-8")
    return tuned


def card(tuned: Tuned, served_as: str) -> str:
    """README.md of the adapter, with the front matter that the Hub reads."""
    settings = msgspec.to_builtins(tuned.settings)
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    evaluated = "" if tuned.eval_loss is None else f", loss on the examples kept for evaluation {tuned.eval_loss:.4f}"
    which = "the assistant's tokens" if tuned.trained_on == "assistant" else "all tokens"
    return (
        f"---\nbase_model: {tuned.base}\nlibrary_name: peft\ntags:\n- lora\n---\n# {tuned.name}\n\n"
        f"A LoRA adapter for `{tuned.base}`, trained by `naru tune lora` on {tuned.examples:,} examples (SHA-256 "
        f"`{tuned.data_sha256}`) for {tuned.steps:,} steps. Trained on {which}; mean loss {tuned.loss:.4f}, last "
        f"{tuned.final_loss:.4f}{evaluated}.\n\nServed as `{served_as}`.\n\n| setting | value |\n|---|---|\n{rows}\n"
    )


# --- The libraries


class _Libraries(Struct, frozen=True):
    torch: Any
    transformers: Any
    datasets: Any
    peft: Any
    trl: Any


def _libraries() -> _Libraries:
    """Raises ConfigError that says how to install them."""
    try:
        import datasets
        import peft
        import torch
        import transformers
        import trl
        import trl.chat_template_utils
    except ImportError as error:
        raise ConfigError(f"{NOT_INSTALLED} ({error}).") from error
    datasets.disable_progress_bars()  # there is one bar, and it is ours
    transformers.utils.logging.disable_progress_bar()
    return _Libraries(torch, transformers, datasets, peft, trl)


def _trainer(job: Job, libraries: _Libraries, on_step: OnStep) -> tuple[Any, str]:
    settings, has_gpu = job.settings, libraries.torch.cuda.is_available()
    tokenizer = libraries.transformers.AutoTokenizer.from_pretrained(str(job.base.path))
    trained_on = "assistant" if _has_marks(libraries, tokenizer) else "all"
    rows, kept = split(job.data.rows, settings.eval_split)
    arguments = libraries.trl.SFTConfig(
        output_dir=str(job.out / CHECKPOINTS),
        learning_rate=settings.learning_rate,
        max_length=settings.max_length,
        num_train_epochs=settings.epochs,
        max_steps=settings.steps or -1,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        gradient_checkpointing=has_gpu,
        bf16=has_gpu and libraries.torch.cuda.is_bf16_supported(),
        use_cpu=not has_gpu,
        assistant_only_loss=trained_on == "assistant",
        seed=settings.seed,
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16" if has_gpu else "float32"},
    )
    trainer = libraries.trl.SFTTrainer(
        model=str(job.base.path),
        args=arguments,
        processing_class=tokenizer,
        train_dataset=_dataset(libraries, rows),
        eval_dataset=_dataset(libraries, kept) if kept else None,
        peft_config=libraries.peft.LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        quantization_config=_four_bit(libraries) if settings.four_bit else None,
        callbacks=[_listener(libraries, on_step)],
    )
    trainer.remove_callback(libraries.transformers.PrinterCallback)
    return trainer, trained_on


def _has_marks(libraries: _Libraries, tokenizer: Any) -> bool:
    """Whether the chat template says which tokens are the assistant's, or TRL has a version of it that does."""
    if not tokenizer.chat_template:
        raise ConfigError("The base model has no chat template; take an instruct model.")
    try:
        libraries.trl.chat_template_utils.get_training_chat_template(tokenizer)
    except ValueError:  # a template that TRL does not know: every token counts then
        return bool(libraries.trl.chat_template_utils.has_generation_markers(tokenizer.chat_template))
    return True


def _dataset(libraries: _Libraries, rows: tuple[dict[str, Any], ...]) -> Any:
    """Messages keep the fields that they have and no others: a table's columns would fill the rest with nulls, which chat
    templates print. Tools go as text, which TRL reads."""
    data = libraries.datasets
    features = data.Features({"messages": data.List(data.Json()), "tools": data.Value("string")})
    packed = [
        {
            "messages": row["messages"],
            "tools": json.dumps(row["tools"], ensure_ascii=False) if row.get("tools") else None,
        }
        for row in rows
    ]
    return data.Dataset.from_list(packed, features=features)


def _four_bit(libraries: _Libraries) -> Any:
    """QLoRA's (arXiv:2305.14314): NF4 with double quantisation."""
    return libraries.transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=libraries.torch.bfloat16,
    )


def _listener(libraries: _Libraries, on_step: OnStep) -> Any:
    def on_log(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            on_step(state.global_step, state.max_steps, float(logs["loss"]))

    return type("Listener", (libraries.transformers.TrainerCallback,), {"on_log": on_log})()
