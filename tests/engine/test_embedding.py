"""The parts of embedding that need no library."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.engine.embedding import (
    BATCH_TOKENS,
    Embeddings,
    batches,
    fitted,
    normalized,
    padded,
    pooling_of,
    query_text,
    shortened,
)
from naru.errors import BadRequest, ConfigError


class Letters:
    """A model whose tokens are bytes and whose state of a token is (its byte, how many there are up to it)."""

    context = 10_000
    dimensions = 2

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def encode(self, text: str) -> list[int]:
        return [*text.encode(), 0]

    def hidden(self, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> dict[tuple[int, int], Vector]:
        self.sizes.append((len(rows), len(rows[0])))
        assert [len(row) for row in rows] == [len(row) for row in mask]
        return {
            (row, at): Vector([float(token), float(sum(mask[row][: at + 1]))])
            for row, tokens in enumerate(rows)
            for at, token in enumerate(tokens)
        }


class Vector(list[float]):
    def tolist(self) -> list[float]:
        return list(self)


def test_the_query_has_its_task_and_no_blank() -> None:
    assert query_text("where?", "Find it") == "Instruct: Find it\nQuery:where?"
    assert query_text("a") == (
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:a"
    )


def test_vectors_come_in_order_whatever_the_batches() -> None:
    """The state of the end token alone, of every text; tokens count without padding."""
    model = Letters()
    texts = ["a" * (index * 37 % 900) for index in range(60)]
    vectors, tokens = Embeddings(model, "last").embed(texts)
    assert vectors == [[0.0, 1.0]] * 60
    assert tokens == sum(len(text) + 1 for text in texts)
    assert len(model.sizes) > 3
    assert all(rows * longest <= BATCH_TOKENS for rows, longest in model.sizes)
    assert Embeddings(model, "last").embed([]) == ([], 0)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_batches_hold_everything_once_within_the_bound(lengths: list[int], tokens: int) -> None:
    found = batches(lengths, tokens)
    assert sorted(at for batch in found for at in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[at] for at in batch) <= tokens for batch in found)


def test_padding_on_either_side() -> None:
    assert padded([[5, 6, 7], [8]], "left") == ([[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]])
    assert padded([[5, 6, 7], [8]], "right") == ([[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]])


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8).filter(lambda v: any(abs(x) > 1e-3 for x in v)))
def test_normalized_vectors_have_length_1(vector: list[float]) -> None:
    found = normalized(vector)
    assert math.hypot(*found) == pytest.approx(1)
    assert [math.copysign(1, x) for x in found] == [math.copysign(1, x) for x in vector]


def test_shortened_vectors_have_length_1_again() -> None:
    assert shortened([0.6, 0.0, 0.8], 2) == [1.0, 0.0]
    assert shortened([0.6, 0.0, 0.8], 3) == pytest.approx([0.6, 0.0, 0.8])
    assert normalized([0.0, 0.0]) == [0.0, 0.0]
    for wrong in (0, 4, -1):
        with pytest.raises(BadRequest, match="1 to 3"):
            shortened([0.6, 0.0, 0.8], wrong)


def test_cutting_keeps_the_end_token() -> None:
    assert fitted([1, 2, 3, 4, 9], 3, True, 0) == [1, 2, 9]
    assert fitted([1, 2, 9], 3, False, 0) == [1, 2, 9]
    with pytest.raises(BadRequest, match="Text 2 has 5 tokens; the model takes 3"):
        fitted([1, 2, 3, 4, 9], 3, False, 2)
    with pytest.raises(BadRequest, match="Text 0 is empty"):
        fitted([], 3, True, 0)


def test_the_pooling_that_a_folder_names(tmp_path: Path) -> None:
    assert pooling_of(tmp_path) == "last"
    file = tmp_path / "1_Pooling" / "config.json"
    file.parent.mkdir()
    for key, wanted in (("lasttoken", "last"), ("mean_tokens", "mean"), ("cls_token", "cls")):
        file.write_text(json.dumps({"pooling_mode_cls_token": False, f"pooling_mode_{key}": True}))
        assert pooling_of(tmp_path) == wanted
    for wrong in ('{"pooling_mode_max_tokens": true}', "{", "[]"):
        file.write_text(wrong)
        with pytest.raises(ConfigError):
            pooling_of(tmp_path)
