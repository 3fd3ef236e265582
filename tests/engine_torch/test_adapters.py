"""LoRA adapters, chosen by each request, against PEFT's own generation."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

from peft import PeftModel
from transformers import Qwen3ForCausalLM

from naru.engine.hf.options import Options
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run, generated

pytestmark = pytest.mark.torch


def test_each_request_gets_its_adapter(dense: Path, adapters: dict[str, str]) -> None:
    """Two requests of each of two adapters and of none, mixed and joining late."""
    run = Run(dense, Options(adapters=adapters, prefill_tokens=16))
    names = ["", "harbour", "island", "harbour", "", "island"]
    prompts = tiny.prompts(None, [9, 9, 9, 40, 25, 17], seed=21)
    numbers = []
    for name, prompt in zip(names, prompts, strict=True):
        numbers.append(run.start(prompt, adapter=name))
        run.step()
    run.finish()
    for name in ("", "harbour", "island"):
        base = Qwen3ForCausalLM.from_pretrained(dense)
        model = PeftModel.from_pretrained(base, adapters[name]).eval() if name else base
        for index in [index for index, other in enumerate(names) if other == name]:
            assert run.ids(numbers[index]) == generated(model, prompts[index], 24)


def test_adapters_change_what_is_written(dense: Path, adapters: dict[str, str]) -> None:
    run = Run(dense, Options(adapters=adapters))
    (prompt,) = tiny.prompts(None, [9], seed=22)
    numbers = [run.start(prompt, adapter=name) for name in ("", "harbour", "island")]
    run.finish()
    assert len({tuple(run.ids(number)) for number in numbers}) == 3
    assert run.loaded.facts.adapters == ("harbour", "island")


def test_an_unknown_adapter_is_an_error_of_that_request(dense: Path, adapters: dict[str, str]) -> None:
    run = Run(dense, Options(adapters=adapters))
    wrong, right = run.start([4, 5], adapter="nowhere"), run.start([4, 5], adapter="island")
    run.finish()
    assert run.pieces[wrong][0].error == "There is no adapter 'nowhere'."
    assert run.ending(right) in ("stop", "length")
