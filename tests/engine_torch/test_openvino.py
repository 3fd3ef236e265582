"""The OpenVINO engine on the same weights: ids equal those of Transformers' `generate`, alone, together, and from the prefix cache."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the models are made with torch")
pytest.importorskip("openvino_genai", reason="the OpenVINO engine needs openvino-genai")
pytest.importorskip("optimum.intel", reason="the models are converted with optimum-intel")

from naru.engine.hf.loading import load
from naru.engine.hf.options import Options as HfOptions
from naru.engine.openvino import OpenVinoBackend, Options
from naru.engine.port import Decoding, Grammar, Piece, Prompt
from tests.engine_torch import tiny
from tests.engine_torch.export import export_openvino
from tests.engine_torch.runs import generated

pytestmark = pytest.mark.torch

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
LENGTHS = (3, 60, 17, 5, 33, 100)
SPACE_S = 60.0


class Engine:
    """The backend with its pieces gathered by number."""

    def __init__(self, folder: Path, **options: object) -> None:
        self._pieces: queue.SimpleQueue[Sequence[tuple[int, Piece]]] = queue.SimpleQueue()
        ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
        given = {"context": tiny.CONTEXT, "end_ids": frozenset(ends), "properties": EXACT, **options}
        self.backend = OpenVinoBackend(folder, self._pieces.put, Options(**given))  # type: ignore[arg-type]
        self._numbers = iter(range(1, 10_000))

    def start(self, prompt: Sequence[int], tokens: int, **decoding: object) -> int:
        number = next(self._numbers)
        fields = {"max_tokens": tokens, "temperature": 0.0, **decoding}
        self.backend.start(number, Prompt(prompt), Decoding(**fields))  # type: ignore[arg-type]
        return number

    def ids(self, numbers: Sequence[int]) -> list[list[int]]:
        """Of all of them, once each has ended."""
        found: dict[int, list[int]] = {number: [] for number in numbers}
        endings: dict[int, str] = {}
        while len(endings) < len(numbers):
            for number, piece in self._pieces.get(timeout=SPACE_S):
                found[number] += piece.ids
                if piece.ending:
                    endings[number] = piece.ending
                    assert piece.ending != "error", piece.error
        return [found[number] for number in numbers]


@pytest.fixture(scope="module", params=["dense", "experts"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(Hugging Face's folder, the same weights as IR in float32)."""
    folder: Path = request.getfixturevalue(request.param)
    return folder, export_openvino(folder, tmp_path_factory.mktemp("ir"))


@pytest.fixture
def engine(pair: tuple[Path, Path]) -> Iterator[Engine]:
    made = Engine(pair[1])
    yield made
    made.backend.close()


def test_alone_together_and_from_the_cache_the_ids_are_those_of_generate(
    pair: tuple[Path, Path], engine: Engine
) -> None:
    model = load(pair[0], HfOptions()).model
    prompts = tiny.prompts(None, LENGTHS)
    wanted = [generated(model, prompt, 24) for prompt in prompts]
    alone = [engine.ids([engine.start(prompt, 24)])[0] for prompt in prompts]
    assert alone == wanted
    together = engine.ids([engine.start(prompt, 24) for prompt in prompts * 3])
    assert together == wanted * 3


def test_who_goes_on_from_another_prompt_writes_what_it_would_have_written(engine: Engine) -> None:
    """What a thinking budget does: the same tokens as a prompt, from the cache."""
    (prompt,) = tiny.prompts(None, [40], seed=9)
    whole = engine.ids([engine.start(prompt, 30, ignores_end=True)])[0]
    rest = engine.ids([engine.start([*prompt, *whole[:13]], 17, ignores_end=True)])[0]
    assert whole[13:] == rest


def test_a_cancelled_request_ends_and_its_place_is_free(engine: Engine) -> None:
    (prompt,) = tiny.prompts(None, [20], seed=2)
    number = engine.start(prompt, 1500, ignores_end=True)
    engine.backend.cancel(number)
    assert len(engine.ids([engine.start(prompt, 5, ignores_end=True)])[0]) == 5
    assert engine.backend.load().waiting == 0


def test_the_text_of_tokens_is_the_tokenizers(engine: Engine) -> None:
    text = '나루 ferry <think>\n{"name": 1}</think> 😀 <|im_end|>'
    feeder = engine.backend.vocabulary.feeder()
    assert engine.backend.vocabulary.is_byte_level
    assert "".join(map(feeder.feed, engine.backend.encode(text))) + feeder.close() == text


def test_a_grammar_holds(engine: Engine) -> None:
    grammar = Grammar("regex", "(yes|no)")
    (prompt,) = tiny.prompts(None, [8], seed=1)
    numbers = [engine.start(prompt, 8, temperature=1.0, seed=n, grammar=grammar) for n in range(6)]
    feeders = [(engine.backend.vocabulary.feeder(), ids) for ids in engine.ids(numbers)]
    assert {"".join(map(feeder.feed, [id for id in ids if id < 400])) for feeder, ids in feeders} <= {"yes", "no"}


def test_a_broken_grammar_is_an_error_of_its_request_alone(engine: Engine) -> None:
    (prompt,) = tiny.prompts(None, [8], seed=1)
    broken = engine.start(prompt, 8, grammar=Grammar("json_schema", "{not json"))
    with pytest.raises(AssertionError, match=r"\w"):
        engine.ids([broken])
    assert len(engine.ids([engine.start(prompt, 5, ignores_end=True)])[0]) == 5


def test_a_closed_engine_tells_who_waits(pair: tuple[Path, Path]) -> None:
    made = Engine(pair[1])
    (prompt,) = tiny.prompts(None, [8], seed=1)
    number = made.start(prompt, 1500, ignores_end=True)
    made.backend.close()
    with pytest.raises(AssertionError, match="stopped"):
        made.ids([number])


def test_a_closed_engine_tells_who_comes_later(pair: tuple[Path, Path]) -> None:
    made = Engine(pair[1])
    made.backend.close()
    with pytest.raises(AssertionError, match="stopped"):
        made.ids([made.start([5, 6], 4)])
