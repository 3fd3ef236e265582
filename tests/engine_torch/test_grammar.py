"""What is written under a grammar obeys it, whatever the weights say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

from naru.engine.hf.grammar import Grammars
from naru.engine.hf.loading import Loaded, load
from naru.engine.hf.options import Options
from naru.engine.port import Grammar
from naru.errors import BadRequest
from tests.engine_torch import tiny
from tests.engine_torch.runs import Run

pytestmark = pytest.mark.torch

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["city", "unit", "days", "tags"],
    "additionalProperties": False,
}
SEEDS = range(16)


@pytest.fixture(scope="module")
def loaded(dense: Path) -> Loaded:
    return load(dense, Options())


def text(run: Run, number: int) -> str:
    """xgrammar takes the three bytes of half a surrogate pair for a character (0.2.8)."""
    data = b"".join(run.loaded.vocabulary.text_of(token) for token in run.ids(number))
    return data.decode(errors="surrogatepass")


def follow(loaded: Loaded, grammar: Grammar, dense: Path, **decoding: object) -> list[str]:
    """What is written with each seed, eight at once."""
    run = Run(dense, Options(max_running=8), loaded)
    numbers = []
    for seed, prompt in zip(SEEDS, tiny.prompts(None, [5 + seed % 9 for seed in SEEDS]), strict=True):
        numbers.append(
            run.start(prompt, grammar=grammar, max_tokens=1000, seed=seed, **{"temperature": 1.0, **decoding})
        )
    run.finish()
    assert {run.ending(number) for number in numbers} == {"stop"}
    return [text(run, number) for number in numbers]


def test_json_parses_and_obeys_its_schema(loaded: Loaded, dense: Path) -> None:
    answers = [json.loads(answer) for answer in follow(loaded, Grammar("json_schema", json.dumps(SCHEMA)), dense)]
    for answer in answers:
        assert set(answer) == {"city", "unit", "days", "tags"}
        assert isinstance(answer["city"], str)
        assert len(answer["city"]) <= 12
        assert answer["unit"] in ("celsius", "fahrenheit")
        assert 1 <= answer["days"] <= 14
        assert all(isinstance(tag, bool) for tag in answer["tags"])
    assert len({answer["city"] for answer in answers}) > 8


def test_a_regular_expression(loaded: Loaded, dense: Path) -> None:
    pattern = r"[A-Z][a-z]{2,5}-[0-9]{3}"
    answers = follow(loaded, Grammar("regex", pattern), dense, top_k=20)
    assert all(re.fullmatch(pattern, answer) for answer in answers)


def test_an_ebnf_grammar(loaded: Loaded, dense: Path) -> None:
    grammar = Grammar("ebnf", 'root ::= term | term op term\nterm ::= [0-9] [0-9]?\nop ::= " + " | " * "')
    assert all(re.fullmatch(r"\d\d?( [+*] \d\d?)?", answer) for answer in follow(loaded, grammar, dense))


def test_a_structural_tag_binds_the_inside_of_its_tag(loaded: Loaded, dense: Path) -> None:
    tag = {
        "type": "structural_tag",
        "format": {
            "type": "tag",
            "begin": "<tool_call>",
            "content": {"type": "json_schema", "json_schema": {"enum": [{"unit": "celsius"}, {"unit": "kelvin"}]}},
            "end": "</tool_call>",
        },
    }
    for answer in follow(loaded, Grammar("structural_tag", json.dumps(tag)), dense):
        assert answer.startswith("<tool_call>")
        assert answer.endswith("</tool_call>")
        assert json.loads(answer[11:-12])["unit"] in ("celsius", "kelvin")


def test_a_grammar_changes_nothing_for_the_others(loaded: Loaded, dense: Path) -> None:
    (prompt,) = tiny.prompts(None, [20])
    alone, beside = Run(dense, None, loaded), Run(dense, None, loaded)
    one = alone.start(prompt)
    alone.finish()
    beside.start(prompt, grammar=Grammar("regex", "[ab]{40}"))
    two = beside.start(prompt)
    beside.finish()
    assert alone.ids(one) == beside.ids(two)


def test_ignoring_the_end_does_not_outlive_the_grammar(loaded: Loaded, dense: Path) -> None:
    run = Run(dense, None, loaded)
    number = run.start([5, 6, 7], grammar=Grammar("regex", "[ab]{5}"), ignores_end=True)
    run.finish()
    assert re.fullmatch("[ab]{5}", text(run, number))
    assert run.ending(number) == "stop"


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", "{"),
        Grammar("json_schema", '{"type": "nothing"}'),
        Grammar("regex", "[a"),
        Grammar("ebnf", "root ::= missing"),
        Grammar("structural_tag", "{}"),
    ],
    ids=repr,
)
def test_a_bad_grammar_is_the_callers_fault(loaded: Loaded, grammar: Grammar) -> None:
    grammars = Grammars(loaded.tokenizer, loaded.vocabulary_size, loaded.facts.end_ids)
    with pytest.raises(BadRequest, match="cannot be followed"):
        grammars.compile(grammar)
