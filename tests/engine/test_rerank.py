"""The parts of reranking that need no library."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.engine.rerank import MAX_TOKENS, PREFIX, SUFFIX, Judge, body, score
from naru.errors import BadRequest, ConfigError


class Letters:
    """A model whose tokens are bytes; yes is as likely as a prompt has letters d."""

    def __init__(self, context: int = 10_000, words: Sequence[str] = ("yes", "no")) -> None:
        self.context = context
        self._words = words
        self.prompts: list[str] = []

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def id_of(self, token: str) -> int | None:
        return 1000 + self._words.index(token) if token in self._words else None

    def logits(self, rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[list[float]]:
        assert list(tokens) == [1000, 1001]
        self.prompts += [bytes(row).decode() for row in rows]
        return [[float(row.count(ord("d"))), 20.0] for row in rows]


def test_the_prompt_letter_by_letter() -> None:
    model = Letters()
    scores, tokens = Judge(model).scores("Q?", ["doc"], "Do")
    assert model.prompts == [f"{PREFIX}<Instruct>: Do\n<Query>: Q?\n<Document>: doc{SUFFIX}"]
    assert tokens == len(model.prompts[0])
    assert scores == [score(model.prompts[0].count("d"), 20.0)]


def test_scores_come_in_the_documents_order() -> None:
    documents = ["d" * (index * 7 % 23) + "x" * (index * 13 % 50) for index in range(40)]
    fixed = (PREFIX + body("Do", "Q", "") + SUFFIX).count("d")
    scores, _ = Judge(Letters()).scores("Q", documents, "Do")
    assert scores == [score(fixed + document.count("d"), 20.0) for document in documents]
    assert Judge(Letters()).scores("Q", []) == ([], 0)


@pytest.mark.parametrize("context", [10_000, 400])
def test_only_the_document_is_cut(context: int) -> None:
    model = Letters(context)
    _, tokens = Judge(model).scores("Q?", ["x" * 20_000], "Do")
    limit = min(context, MAX_TOKENS)
    assert tokens == len(model.prompts[0]) == limit
    assert model.prompts[0].endswith("x" + SUFFIX)
    assert model.prompts[0].startswith(PREFIX + "<Instruct>: Do\n<Query>: Q?\n<Document>: x")


def test_a_query_that_leaves_no_room() -> None:
    with pytest.raises(BadRequest, match="Query and instruction have"):
        Judge(Letters()).scores("q" * MAX_TOKENS, ["doc"])


def test_a_model_that_has_no_such_words() -> None:
    with pytest.raises(ConfigError, match="no reranker"):
        Judge(Letters(words=("yes",)))


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_the_score_is_a_softmax(yes: float, no: float) -> None:
    top = max(yes, no)
    wanted = math.exp(yes - top) / (math.exp(yes - top) + math.exp(no - top))
    assert score(yes, no) == pytest.approx(wanted, abs=1e-12)
    assert score(yes, no) + score(no, yes) == pytest.approx(1)
