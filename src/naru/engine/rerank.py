"""Documents judged for a query, as Qwen3-Reranker is used: a prompt that asks for yes or no, and how likely the model finds
either as the next word (local_serving.md 1.7; README of Qwen3-Embedding, the Transformers variant: one line end between the
parts, where the vLLM one has two).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from naru.engine.embedding import DEFAULT_TASK, batches
from naru.errors import BadRequest, ConfigError

PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
#: Tokens, prefix and suffix included. What is longer loses the end of its document.
MAX_TOKENS = 8192
#: Tokens that are computed at once, padding included.
BATCH_TOKENS = 8192


class RerankModel(Protocol):
    """What a library does of it. `context` is in tokens."""

    @property
    def context(self) -> int: ...

    def encode(self, text: str) -> list[int]:
        """Special tokens are found in it, none is added."""
        ...

    def id_of(self, token: str) -> int | None: ...

    def logits(self, rows: Sequence[Sequence[int]], tokens: Sequence[int]) -> list[list[float]]:
        """Of these tokens after each row's last."""
        ...


class Judge:
    """port.Reranker over a library's model. Raises ConfigError for a tokenizer that has no `yes` and `no`."""

    def __init__(self, model: RerankModel) -> None:
        self._model = model
        yes, no = model.id_of("yes"), model.id_of("no")
        if yes is None or no is None:
            raise ConfigError('The model is no reranker of Qwen3\'s kind: "yes" and "no" are not tokens of it.')
        self._answers = (yes, no)
        self._prefix = model.encode(PREFIX)
        self._suffix = model.encode(SUFFIX)
        self._limit = min(MAX_TOKENS, model.context)

    def scores(self, query: str, documents: Sequence[str], instruction: str = "") -> tuple[list[float], int]:
        """(0 to 1 for each document, tokens read)."""
        rows = [self._row(instruction or DEFAULT_TASK, query, document) for document in documents]
        found = [0.0] * len(rows)
        for batch in batches([len(row) for row in rows], BATCH_TOKENS):
            answers = self._model.logits([rows[at] for at in batch], self._answers)
            for at, (yes, no) in zip(batch, answers, strict=True):
                found[at] = score(yes, no)
        return found, sum(map(len, rows))

    def _row(self, instruction: str, query: str, document: str) -> list[int]:
        ids = self._model.encode(body(instruction, query, document))
        query_ids = len(ids) if not document else len(self._model.encode(body(instruction, query, "")))
        room = self._limit - len(self._prefix) - len(self._suffix)
        if query_ids > room:
            raise BadRequest(
                f"Query and instruction have {query_ids} tokens; the reranker takes {room} together with a document.",
                param="query",
            )
        return [*self._prefix, *ids[:room], *self._suffix]


def body(instruction: str, query: str, document: str) -> str:
    return f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"


def score(yes: float, no: float) -> float:
    """The softmax over the two logits, which is the logistic function of their difference: p(yes) / (p(yes) + p(no))."""
    difference = yes - no
    if difference >= 0:
        return 1 / (1 + math.exp(-difference))
    odds = math.exp(difference)  # exp of a large number would overflow
    return odds / (1 + odds)
