"""Texts to vectors, as Qwen3-Embedding is used: the parts without a library, and what every library's embedder does alike.

A text ends in <|endoftext|>, which the tokenizer's post-processor appends; its vector is the last hidden state of that token,
brought to length 1. A query carries its task, a document is the text alone (local_serving.md 1.7; README of Qwen3-Embedding).
Models of other families say in 1_Pooling/config.json, as sentence-transformers has it, what their vector is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from naru.engine.weights import read_json
from naru.errors import BadRequest, ConfigError

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
#: Tokens that are computed at once, padding included.
BATCH_TOKENS = 8192

Pooling = Literal["last", "mean", "cls"]
_POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


class EmbeddingModel(Protocol):
    """What a library does of it. `context` is in tokens."""

    @property
    def context(self) -> int: ...
    @property
    def dimensions(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """With the special tokens that the tokenizer adds."""
        ...

    def hidden(self, rows: Sequence[Sequence[int]], mask: Sequence[Sequence[int]]) -> Any:
        """The last hidden states, an array of [rows, tokens, dimensions]; rows are padded on the right."""
        ...


class Embeddings:
    """port.Embedder over a library's model."""

    def __init__(self, model: EmbeddingModel, pooling: Pooling) -> None:
        self._model = model
        self._pooling = pooling

    @property
    def dimensions(self) -> int:
        return self._model.dimensions

    def embed(self, texts: Sequence[str], *, truncate: bool = False) -> tuple[list[list[float]], int]:
        """(a vector of length 1 for each text, tokens read). A text that is longer than the model's context raises BadRequest,
        or loses its end with `truncate`."""
        rows = [fitted(self._model.encode(text), self._model.context, truncate, at) for at, text in enumerate(texts)]
        vectors: list[list[float]] = [[] for _ in rows]
        for batch in batches([len(row) for row in rows], BATCH_TOKENS):
            chosen = [rows[at] for at in batch]
            hidden = self._model.hidden(*padded(chosen, "right"))
            for at, vector in zip(batch, pooled(hidden, [len(row) for row in chosen], self._pooling), strict=True):
                vectors[at] = normalized(vector)
        return vectors, sum(map(len, rows))


def query_text(query: str, task: str = DEFAULT_TASK) -> str:
    """What is embedded for a query. No blank after `Query:`, as the model was trained."""
    return f"Instruct: {task}\nQuery:{query}"


def fitted(ids: Sequence[int], context: int, truncate: bool, at: int) -> list[int]:
    """Of text number `at`. Cutting keeps the last token, which is the end that the vector is taken from."""
    if not ids:
        raise BadRequest(f"Text {at} is empty; there is nothing to embed.", param="input")
    if len(ids) <= context:
        return list(ids)
    if not truncate:
        raise BadRequest(
            f"Text {at} has {len(ids)} tokens; the model takes {context}. Shorten it, or allow truncation.",
            param="input",
        )
    return [*ids[: context - 1], ids[-1]]


def batches(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Positions of rows that are computed together: of like length, at most so many tokens, padding included; a longer row
    alone."""
    result: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda at: lengths[at]):  # each row is the longest of its batch so far
        if result and (len(result[-1]) + 1) * lengths[at] <= tokens:
            result[-1].append(at)
        else:
            result.append([at])
    return result


def padded(rows: Sequence[Sequence[int]], side: Literal["left", "right"]) -> tuple[list[list[int]], list[list[int]]]:
    """(ids, mask), all of the longest row's length. What stands on padding is masked, so 0 will do."""
    longest = max(map(len, rows))
    gaps = [[0] * (longest - len(row)) for row in rows]
    ones = [[1] * len(row) for row in rows]
    if side == "left":
        pairs = zip(gaps, rows, ones, strict=True)
        return _columns((gap + list(row), gap + one) for gap, row, one in pairs)
    pairs = zip(gaps, rows, ones, strict=True)
    return _columns((list(row) + gap, one + gap) for gap, row, one in pairs)


def pooled(hidden: Any, lengths: Sequence[int], pooling: Pooling) -> list[list[float]]:
    """One vector a row, of arrays of NumPy or torch: [rows, tokens, size], padded on the right."""
    match pooling:
        case "last":
            vectors = [hidden[row, length - 1] for row, length in enumerate(lengths)]
        case "cls":
            vectors = [hidden[row, 0] for row in range(len(lengths))]
        case "mean":
            vectors = [hidden[row, :length].mean(0) for row, length in enumerate(lengths)]
    return [vector.tolist() for vector in vectors]


def normalized(vector: Sequence[float]) -> list[float]:
    """Of length 1; zeros stay zeros."""
    length = math.sqrt(math.fsum(value * value for value in vector))
    return [value / length for value in vector] if length else list(vector)


def shortened(vector: Sequence[float], dimensions: int) -> list[float]:
    """Matryoshka (MRL): the first so many numbers, brought to length 1 again."""
    if not 1 <= dimensions <= len(vector):
        raise BadRequest(
            f"dimensions is {dimensions}; the model's vectors have 1 to {len(vector)}.", param="dimensions"
        )
    return normalized(vector[:dimensions])


def pooling_of(folder: Path) -> Pooling:
    """As 1_Pooling/config.json says; Qwen3-Embedding's where there is none. Raises ConfigError for a way that is not built."""
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "last"
    said = read_json(path)
    for key, pooling in _POOLING_KEYS.items():
        if said.get(key):
            return pooling
    raise ConfigError(f"{path} names no pooling that is known: last token, mean or first token.")


def _columns(pairs: Any) -> tuple[list[list[int]], list[list[int]]]:
    ids, mask = zip(*pairs, strict=True)
    return list(ids), list(mask)
