"""What is wrong with a folder, a device or an option is one sentence, before anything runs."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch

from naru.engine.hf.loading import load
from naru.engine.hf.options import Options
from naru.errors import ConfigError
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run, generated

pytestmark = pytest.mark.torch


@pytest.fixture
def copy(dense: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dense, tmp_path / "model"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        load(tmp_path / "nowhere", Options())


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_without_a_file(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        load(copy, Options())
    assert "\n" not in caught.value.message


def test_weights_that_are_cut_off(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load(copy, Options())


def test_an_architecture_that_nobody_knows(copy: Path) -> None:
    tiny.rewrite(copy, "config.json", model_type="ferry")
    with pytest.raises(ConfigError, match="ferry"):
        load(copy, Options())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (Options(device="tpu"), "not known"),
        (Options(attention="flying"), "flying"),
        (Options(adapters={"a": "/nowhere"}), "adapter a"),
    ],
    ids=["device", "attention", "adapter"],
)
def test_options_that_cannot_be(dense: Path, options: Options, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load(dense, options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(dense: Path) -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        load(dense, Options(device="cuda"))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize("quant", ["8bit", "4bit"])
def test_quantized_weights_need_a_library(dense: Path, quant: str) -> None:
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        load(dense, Options(quant=quant))  # type: ignore[arg-type]


def test_the_numbers_types(dense: Path) -> None:
    assert load(dense, Options()).model.dtype == torch.float32
    assert load(dense, Options(dtype="bfloat16")).model.dtype == torch.bfloat16


def test_bfloat16_and_eager_attention_write_too(dense: Path) -> None:
    (prompt,) = tiny.prompts(None, [20])
    run = Run(dense, Options(attention="eager"))
    number = run.start(prompt)
    run.finish()
    assert run.ids(number) == generated(run.loaded.model, prompt, 24)
    half = Run(dense, Options(dtype="bfloat16"))
    number = half.start(prompt)
    half.finish()
    assert half.ending(number) in ("length", "stop")
