"""Pictures: what is written about them equals what `generate` writes, whatever is computed beside it."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")
pytest.importorskip("PIL", reason="pictures need pillow")

import torch
from PIL import Image
from transformers import AutoConfig

from naru.engine.hf.loading import Loaded, assemble, load
from naru.engine.hf.media import inputs_of
from naru.engine.hf.options import Options
from naru.engine.port import Prompt
from naru.errors import BadRequest
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run, generated, greedy

pytestmark = pytest.mark.torch

SIGHT = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def loaded(vision: Path) -> Loaded:
    """With the folder's own processor where torchvision is installed."""
    if importlib.util.find_spec("torchvision"):
        return load(vision, Options())
    return assemble(vision, AutoConfig.from_pretrained(vision), tiny.Pictures(vision), Options())


def picture(width: int, height: int, seed: int = 0, form: str = "PNG") -> bytes:
    colours = torch.randint(0, 256, (width * height * 3,), generator=torch.Generator().manual_seed(seed))
    file = io.BytesIO()
    Image.frombytes("RGB", (width, height), bytes(colours.tolist())).save(file, form)
    return file.getvalue()


def prompt(text: str, *images: bytes) -> Prompt:
    return Prompt([], text, images)


def seen(loaded: Loaded, asked: Prompt, max_tokens: int) -> list[int]:
    inputs: dict[str, Any] = inputs_of(loaded.processor, asked)
    output = loaded.model.generate(**inputs, do_sample=False, max_new_tokens=max_tokens)
    written = output[0, inputs["input_ids"].shape[1] :].tolist()
    return [token for token in written if token not in loaded.facts.end_ids]


ASKED = [
    prompt(f"what is in {SIGHT}?", picture(40, 24)),
    prompt(f"{SIGHT}", picture(16, 48, 1)),
    prompt(f"compare {SIGHT} and {SIGHT}: the first river", picture(24, 24, 2), picture(32, 16, 3)),
]


@pytest.mark.parametrize("cache_tokens", [0, 120])
def test_pictures_beside_text(vision: Path, loaded: Loaded, cache_tokens: int) -> None:
    """Also where memory runs out, and prompts with pictures are read again together with what was written."""
    run = Run(vision, Options(cache_tokens=cache_tokens, prefill_tokens=500), loaded)
    (words,) = tiny.prompts(None, [30], seed=2)
    text = run.start(words, max_tokens=30)
    numbers = []
    for asked in ASKED:
        numbers.append(run.ask(asked, greedy(30)))
        run.step()
    run.finish()
    for number, asked in zip(numbers, ASKED, strict=True):
        assert run.ids(number) == seen(loaded, asked, 30)
    assert run.ids(text) == generated(loaded.model, words, 30)


def test_another_picture_is_another_answer(vision: Path, loaded: Loaded) -> None:
    run = Run(vision, None, loaded)
    numbers = [run.ask(prompt(f"{SIGHT}", picture(40, 24, seed)), greedy()) for seed in (5, 6)]
    run.finish()
    assert run.ids(numbers[0]) != run.ids(numbers[1])
    assert loaded.facts.takes_images
    assert not loaded.facts.takes_audio


def test_the_usual_forms(loaded: Loaded) -> None:
    for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
        assert inputs_of(loaded.processor, prompt(SIGHT, picture(24, 24, 0, form)))["pixel_values"].shape[0] > 0


def test_what_is_no_picture(vision: Path, loaded: Loaded) -> None:
    """An error of that request alone; the number of placeholders counts too."""
    run = Run(vision, None, loaded)
    numbers = [
        run.ask(asked, greedy(4, ignores_end=True))
        for asked in (prompt(SIGHT, b"no picture"), prompt(SIGHT, picture(40, 24)[:60]), prompt(SIGHT, picture(24, 24)))
    ]
    run.finish()
    assert [run.ending(number) for number in numbers] == ["error", "error", "length"]
    assert "PNG, JPEG" in run.pieces[numbers[0]][0].error


def test_a_picture_too_large_to_decode(loaded: Loaded) -> None:
    file = io.BytesIO()
    Image.new("1", (20000, 20000)).save(file, "PNG")
    assert len(file.getvalue()) < 1 << 20
    with pytest.raises(BadRequest, match=r"pixels|cannot be read"):
        inputs_of(loaded.processor, prompt(SIGHT, file.getvalue()))
