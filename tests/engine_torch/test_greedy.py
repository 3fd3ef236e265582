"""Token ids equal those of Transformers' `generate`, whatever is computed beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

from naru.engine.hf.loading import load
from naru.engine.hf.options import Options
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run, generated

pytestmark = pytest.mark.torch

LENGTHS = (3, 60, 17, 1, 33, 100)


@pytest.fixture(params=["dense", "experts", "sliding", "hybrid"])
def folder(request: pytest.FixtureRequest) -> Path:
    """A model of every kind of layer."""
    return request.getfixturevalue(request.param)


def test_requests_that_join_late_write_what_they_write_alone(folder: Path) -> None:
    """Prompts of mixed lengths and answers of mixed lengths, one more every third step, prompts read in parts."""
    run = Run(folder, Options(prefill_tokens=8))
    prompts = tiny.prompts(run.loaded.tokenizer, LENGTHS)
    numbers = []
    for index, prompt in enumerate(prompts):
        numbers.append(run.start(prompt, max_tokens=20 + index))
        for _ in range(3):
            run.step()
    run.finish()
    for index, (number, prompt) in enumerate(zip(numbers, prompts, strict=True)):
        assert run.ids(number) == generated(run.loaded.model, prompt, 20 + index)


def test_a_request_alone(folder: Path) -> None:
    run = Run(folder, Options())
    (prompt,) = tiny.prompts(run.loaded.tokenizer, [40], seed=5)
    number = run.start(prompt, max_tokens=60)
    run.finish()
    assert run.ids(number) == generated(run.loaded.model, prompt, 60)


def test_an_end_token_ends_and_is_not_shown(dense: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(dense, folder)
    (prompt,) = tiny.prompts(None, [12], seed=3)
    usual = generated(load(dense, Options()).model, prompt, 24)
    end = usual[10]
    tiny.rewrite(folder, "generation_config.json", eos_token_id=[end])
    run = Run(folder)
    ended, ignoring = run.start(prompt, max_tokens=24), run.start(prompt, max_tokens=24, ignores_end=True)
    run.finish()
    assert run.ids(ended) == usual[: usual.index(end)]
    assert run.ending(ended) == "stop"
    assert run.ids(ignoring) == usual
    assert run.ending(ignoring) == "length"


def test_max_tokens_and_the_context_end_an_answer(dense: Path) -> None:
    run = Run(dense, Options(context=40))
    (prompt,) = tiny.prompts(None, [30], seed=4)
    few, many, none = run.start(prompt, max_tokens=4), run.start(prompt, max_tokens=99), run.start(prompt, max_tokens=0)
    run.finish()
    assert [(len(run.ids(number)), run.ending(number)) for number in (few, many, none)] == [
        (4, "length"), (10, "length"), (0, "length"),
    ]  # fmt: skip


def test_at_most_max_running_at_once(dense: Path) -> None:
    run = Run(dense, Options(max_running=2, prefill_tokens=500))
    numbers = [run.start(prompt, max_tokens=4) for prompt in tiny.prompts(None, [5, 5, 5])]
    run.step()
    assert (run.engine.load.running, run.engine.load.waiting) == (2, 1)
    run.finish()
    assert [run.ending(number) for number in numbers] == ["length"] * 3
    assert run.engine.load.running == 0


def test_without_memory_the_newest_waits_and_is_read_again(dense: Path) -> None:
    """The bound on the KV memory holds, and nobody's answer changes because of it."""
    run = Run(dense, Options(cache_tokens=80))
    prompts = tiny.prompts(run.loaded.tokenizer, [20, 20, 20], seed=8)
    numbers = [run.start(prompt, max_tokens=40) for prompt in prompts]
    fullest, most = 0.0, 0
    while run.engine.has_work:
        run.step()
        load = run.engine.load
        fullest, most = max(fullest, load.cache_usage), max(most, load.running)
        assert load.cache_usage <= 1.0
    assert most >= 2
    assert fullest > 0.8
    for number, prompt in zip(numbers, prompts, strict=True):
        assert run.ids(number) == generated(run.loaded.model, prompt, 40)


def test_a_prompt_of_very_other_length_gets_a_batch_of_its_own(dense: Path) -> None:
    run = Run(dense, Options(prefill_tokens=5000))
    prompts = tiny.prompts(run.loaded.tokenizer, [4, 1200, 1100], seed=9)
    numbers = [run.start(prompt, max_tokens=20) for prompt in prompts]
    run.step()
    assert [len(batch.jobs) for batch in run.engine._writing] == [1, 2]
    run.finish()
    for number, prompt in zip(numbers, prompts, strict=True):
        assert run.ids(number) == generated(run.loaded.model, prompt, 20)


def test_cancelling_frees_the_place_at_once(dense: Path) -> None:
    """The row leaves, nothing more is delivered, the others write on unchanged."""
    run = Run(dense, Options(prefill_tokens=500, max_running=3))
    prompts = tiny.prompts(run.loaded.tokenizer, [50, 8, 20, 6], seed=12)
    numbers = [run.start(prompt, max_tokens=20) for prompt in prompts]
    for _ in range(4):
        run.step()
    assert (run.engine.load.running, run.engine.load.waiting) == (3, 1)
    written = len(run.ids(numbers[0]))
    run.engine.cancel(numbers[0])
    run.engine.cancel(12345)
    run.step()
    assert (run.engine.load.running, run.engine.load.waiting) == (3, 0)
    run.finish()
    assert len(run.ids(numbers[0])) == written
    for number, prompt in list(zip(numbers, prompts, strict=True))[1:]:
        assert run.ids(number) == generated(run.loaded.model, prompt, 20)


def test_cancelling_what_waits_and_what_is_being_read(dense: Path) -> None:
    run = Run(dense, Options(prefill_tokens=8, max_running=1))
    first, second = (run.start(prompt) for prompt in tiny.prompts(None, [30, 30]))
    run.step()
    run.engine.cancel(first)
    run.engine.cancel(second)
    assert not run.engine.has_work
    assert run.engine.step() == []
