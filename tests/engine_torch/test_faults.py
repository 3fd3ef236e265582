"""The model fails in the middle: one request hears of it, the others' answers do not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch

from naru.engine.hf.loading import Loaded, load
from naru.engine.hf.options import Options
from naru.engine.hf.rows import Rows
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run, generated

pytestmark = pytest.mark.torch


@pytest.fixture
def loaded(dense: Path) -> Loaded:
    return load(dense, Options())


def fail(loaded: Loaded, error: Exception, when: Callable[[torch.Tensor], bool]) -> Any:
    """The second layer raises where `when` is true of the hidden states, so that the first has written its keys already."""

    def hook(module: Any, arguments: Any) -> None:
        if when(arguments[0]):
            raise error

    return loaded.model.model.layers[1].register_forward_pre_hook(hook)


def test_without_memory_for_a_batch_the_newest_gives_way(dense: Path, loaded: Loaded) -> None:
    """Three are one too many: the last is told, two are read again and write what they write alone."""
    prompts = tiny.prompts(None, [20, 9, 14], seed=41)
    wanted = [generated(loaded.model, prompt, 20) for prompt in prompts]
    fail(loaded, torch.OutOfMemoryError("CUDA out of memory"), lambda hidden: hidden.shape[0] > 2)
    run = Run(dense, Options(prefill_tokens=16), loaded)
    numbers = []
    for prompt in prompts:
        numbers.append(run.start(prompt, max_tokens=20))
        run.step()
        run.step()
    run.finish()
    assert [run.ids(number) for number in numbers[:2]] == wanted[:2]
    assert run.ending(numbers[2]) == "error"
    assert run.pieces[numbers[2]][-1].error == "The engine has not enough memory for this request."


def test_a_prompt_that_cannot_be_read(dense: Path, loaded: Loaded) -> None:
    prompts = tiny.prompts(None, [8, 30, 9], seed=42)
    wanted = [generated(loaded.model, prompt, 20) for prompt in prompts]
    fail(loaded, RuntimeError("a kernel failed\nwith details"), lambda hidden: hidden.shape[1] > 20)
    run = Run(dense, Options(prefill_tokens=500), loaded)
    numbers = [run.start(prompt, max_tokens=20) for prompt in prompts]
    run.finish()
    assert run.pieces[numbers[1]][-1].error == "The engine failed on this request: a kernel failed"
    assert [run.ids(numbers[0]), run.ids(numbers[2])] == [wanted[0], wanted[2]]


def test_a_model_that_always_fails_tells_everybody(dense: Path, loaded: Loaded) -> None:
    fail(loaded, RuntimeError("broken"), lambda hidden: True)
    run = Run(dense, None, loaded)
    numbers = [run.start(prompt) for prompt in tiny.prompts(None, [8, 30, 9])]
    run.finish()
    assert [run.ending(number) for number in numbers] == ["error"] * 3


def test_without_memory_to_join_all_are_read_again(
    dense: Path, loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tiny.prompts(None, [20, 9, 14], seed=43)
    run = Run(dense, Options(prefill_tokens=16), loaded)
    numbers = [run.start(prompt, max_tokens=20) for prompt in prompts[:2]]
    for _ in range(4):
        run.step()
    join, calls = Rows.join, []

    def without_memory(rows: Rows, other: Rows) -> None:
        calls.append(other)
        if len(calls) == 1:
            rows.layers[0].join(other.layers[0])  # one layer is joined, the other not
            raise torch.OutOfMemoryError("out of memory")
        join(rows, other)

    monkeypatch.setattr(Rows, "join", without_memory)
    numbers.append(run.start(prompts[2], max_tokens=20))
    run.finish()
    assert len(calls) > 1
    assert [run.ids(number) for number in numbers] == [generated(loaded.model, prompt, 20) for prompt in prompts]
