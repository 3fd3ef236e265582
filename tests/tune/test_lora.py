"""LoRA on a model of a few thousand parameters, made here: it learns, goes on where it stopped, and its folder is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from naru.engine.adapters import read_adapter
from naru.engine.files import inspect
from naru.errors import BadRequest, ConfigError
from naru.tune.data import read_examples
from naru.tune.lora import CARD, CHECKPOINTS, RECORD, Job, Settings, check_job, train
from tests.engine_files import models
from tests.tune.test_data import ANSWER, CALL, RESULT, TOOL, USER, write

#: With TRL's marks around what the assistant writes, and without.
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ m.tool_calls | tojson if m.tool_calls }}</s>{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
PLAIN = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")


def data(folder: Path, count: int = 8) -> Path:
    rows = [{"messages": [USER, ANSWER]}, {"messages": [USER, CALL, RESULT, ANSWER], "tools": [TOOL]}]
    return write(folder / "data.jsonl", *(rows * count)[:count])


def job(folder: Path, **settings: Any) -> Job:
    base = folder / "tiny"
    if not base.exists():
        models.safetensors(base)
    return Job(inspect(base), read_examples(data(folder)), folder / "out" / "mine", Settings(**settings))


# --- Without the libraries


def test_other_formats_and_tasks_are_refused(tmp_path: Path) -> None:
    examples = read_examples(data(tmp_path))
    ir = inspect(models.openvino(tmp_path / "ir"))
    with pytest.raises(
        ConfigError, match=r"ir is in the format openvino, and LoRA trains on safetensors: pull the original"
    ):
        check_job(Job(ir, examples, tmp_path / "out"), resume=False)
    embedding = inspect(models.safetensors(tmp_path / "Qwen3-Embedding"))
    with pytest.raises(ConfigError, match="Qwen3-Embedding is for embedding; only chat models are trained here"):
        check_job(Job(embedding, examples, tmp_path / "out"), resume=False)


@pytest.mark.parametrize("settings", [{"rank": 0}, {"learning_rate": -1.0}, {"epochs": 0.0}, {"max_length": 0}])
def test_settings_are_checked(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=f"{next(iter(settings))} is .*a number above 0 is expected"):
        check_job(job(tmp_path, **settings), resume=False)


def test_a_folder_with_something_in_it_is_not_written_over(tmp_path: Path) -> None:
    made = job(tmp_path)
    with pytest.raises(ConfigError, match=r"has no checkpoint to go on from\. Leave --resume out"):
        check_job(made, resume=True)
    (made.out / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"mine is not empty\. Choose another --out, or go on with --resume"):
        check_job(made, resume=False)
    (made.out / RECORD).write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        check_job(made, resume=True)
    (made.out / RECORD).write_text(
        json.dumps({"base": made.base_name, "data_sha256": "x", "rank": 1, "alpha": 32, "four_bit": False})
    )
    with pytest.raises(ConfigError, match="was begun with another data_sha256 and rank"):
        check_job(made, resume=True)


def test_the_base_is_named_so_that_it_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder by its whole path, wherever the command was typed; a model of the Hub by its name."""
    made = job(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Job(inspect(Path("tiny")), made.data, made.out).base_name == str(tmp_path / "tiny")
    pulled = Job(inspect(tmp_path / "tiny", name="Org/Tiny"), made.data, made.out)
    assert (pulled.base_name, pulled.served_as) == ("Org/Tiny", "Org/Tiny:mine")


# --- With them


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A Qwen3 of two layers with random weights, and a tokenizer of single bytes."""
    pytest.importorskip("torch", reason="the extra `tune` is not installed")
    pytest.importorskip("trl", reason="the extra `tune` is not installed")
    import tokenizers
    import torch
    import transformers

    folder = tmp_path / "tiny"
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    vocab = {token: number for number, token in enumerate(["</s>", *sorted(letters)])}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = MARKED
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(vocab), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=256, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, step: int, steps: int, loss: float) -> None:
        self.seen.append((step, steps))


@pytest.mark.torch
@pytest.mark.filterwarnings("default")  # the libraries' own
def test_an_adapter_is_trained_and_described(base: Path, tmp_path: Path) -> None:
    """The loss falls; the folder is one that is served; the card says what it came from."""
    made = job(
        tmp_path, rank=4, alpha=8, steps=6, learning_rate=0.05, batch=4, accumulate=1, eval_split=0.25, save_steps=3
    )
    steps = Steps()
    tuned = train(made, False, steps)
    assert steps.seen == [(step, 6) for step in range(1, 7)]
    assert tuned.final_loss < tuned.loss
    assert tuned.eval_loss is not None
    assert (tuned.trained_on, tuned.steps, tuned.examples) == ("assistant", 6, 8)
    adapter = read_adapter(made.out)
    assert (adapter.name, adapter.rank, adapter.alpha, adapter.base) == ("mine", 4, 8.0, str(base))
    assert not [file for file in made.out.glob("*") if file.suffix in (".bin", ".pt")]
    text = (made.out / CARD).read_text()
    for part in (
        f"base_model: {base}",
        made.data.digest,
        f"last {tuned.final_loss:.4f}",
        "`tiny:mine`",
        "| rank | 4 |",
    ):
        assert part in text
    assert json.loads((made.out / RECORD).read_text())["settings"]["steps"] == 6


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_a_run_goes_on_from_its_checkpoint(base: Path, tmp_path: Path) -> None:
    """Stopped at step 3 of 6, the second half begins with step 4."""

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    made = job(tmp_path, rank=4, steps=6, batch=2, accumulate=1, save_steps=3)
    with pytest.raises(KeyboardInterrupt):
        train(made, False, stop)
    steps = Steps()
    assert train(made, True, steps).steps == 6
    assert [step for step, _ in steps.seen] == [4, 5, 6]


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_a_template_without_marks_learns_from_every_token(base: Path, tmp_path: Path) -> None:
    (base / "chat_template.jinja").write_text(PLAIN)
    made = job(tmp_path, steps=1, batch=2, accumulate=1)
    assert train(made, False, Steps()).trained_on == "all"
    assert "Trained on all tokens" in (made.out / CARD).read_text()


@pytest.mark.torch
def test_what_cannot_be_trained_here_is_said(base: Path, tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--4bit needs a CUDA GPU; this machine has none"):
            train(job(tmp_path, four_bit=True), False, Steps())
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ConfigError, match="The base model has no chat template; take an instruct model"):
        train(job(tmp_path), False, Steps())


def test_without_the_libraries_the_extra_is_named(tmp_path: Path) -> None:
    try:
        import trl  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match=r"Fine-tuning needs TRL, PEFT and PyTorch: pip install 'naru\[tune\]'"):
            train(job(tmp_path), False, Steps())
    else:
        pytest.skip("the extra `tune` is installed")
