"""From the logits of one position to the next token of one request. All of it on the CPU, in float32, so that a seed means
the same on every device.

The order is Transformers': repetition penalty, OpenAI's penalties, grammar, temperature, top_k, top_p, min_p.
Logprobs are the model's own, of before all that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from msgspec import Struct

from naru.engine.port import Decoding, TokenLogprobs

#: So many of the likeliest tokens hold top_p's mass nearly always; sorting a whole vocabulary takes 10 ms.
_FIRST_TRY = 1024


class Mask(Protocol):
    """What a grammar allows next."""

    def apply(self, logits: Any) -> None:
        """Sets the logits of forbidden tokens to -inf, in place."""
        ...

    def accept(self, token: int) -> None: ...


class Chosen(Struct, frozen=True):
    token: int
    logprobs: TokenLogprobs | None = None


class Sampler:
    """One request's choices: what it has written so far (for the penalties), its random numbers, its grammar."""

    def __init__(self, decoding: Decoding, prompt: Sequence[int], vocabulary: int, mask: Mask | None = None) -> None:
        self._decoding = decoding
        self._mask = mask
        self._random = torch.Generator()
        if decoding.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(decoding.seed & 0xFFFF_FFFF_FFFF_FFFF)
        penalizes = decoding.presence_penalty or decoding.frequency_penalty or decoding.repetition_penalty != 1.0
        self._counts = torch.zeros(vocabulary) if penalizes else None
        self._prompted = torch.zeros(vocabulary, dtype=torch.bool)
        if decoding.repetition_penalty != 1.0 and len(prompt):
            self._prompted[torch.tensor(list(prompt))] = True

    def choose(self, logits: Any) -> Chosen:
        """`logits`: [vocabulary], float32. Raises ValueError where they are no numbers, or the grammar allows nothing."""
        scores = self._masked(self._penalized(logits.clone()))
        token = _likeliest(scores) if self._decoding.temperature <= 0 else self._drawn(scores)
        if self._mask is not None:
            self._mask.accept(token)
        if self._counts is not None:
            self._counts[token] += 1
        wanted = self._decoding.logprobs
        return Chosen(token, None if wanted is None else logprobs_of(logits, token, wanted))

    def _penalized(self, scores: Any) -> Any:
        if self._counts is None:
            return scores
        written = self._counts > 0
        if (penalty := self._decoding.repetition_penalty) != 1.0:
            seen = written | self._prompted
            scores = torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)
        return scores - self._decoding.frequency_penalty * self._counts - self._decoding.presence_penalty * written

    def _masked(self, scores: Any) -> Any:
        if self._mask is not None:
            self._mask.apply(scores)
        return scores

    def _drawn(self, scores: Any) -> int:
        tokens, chances = candidates(scores, self._decoding)
        total = torch.cumsum(chances.double(), 0)
        if not bool(torch.isfinite(total[-1])):
            raise ValueError(_NO_NUMBERS)
        point = torch.rand((), generator=self._random, dtype=torch.float64) * total[-1]
        at = min(int(torch.searchsorted(total, point, right=True)), len(total) - 1)
        return int(tokens[at])


_NO_NUMBERS = "The model's output is no number, or the grammar allows no further token."


def _likeliest(scores: Any) -> int:
    best = int(torch.argmax(scores))
    if not bool(torch.isfinite(scores[best])):
        raise ValueError(_NO_NUMBERS)
    return best


def candidates(scores: Any, decoding: Decoding) -> tuple[Any, Any]:
    """(tokens, their chances, which need not sum to 1), likeliest first."""
    scores = scores / decoding.temperature
    size = len(scores)
    if not bool(torch.isfinite(scores.max())):
        raise ValueError(_NO_NUMBERS)
    if decoding.top_k > 0:
        top = torch.topk(scores, min(decoding.top_k, size))
        return _cut(top.indices, torch.softmax(top.values, 0), decoding)
    if decoding.top_p >= 1.0 and decoding.min_p <= 0.0:
        return torch.arange(size), torch.softmax(scores, 0)
    for count in (min(_FIRST_TRY, size), size):
        top = torch.topk(scores, count)
        chances = torch.exp(top.values - torch.logsumexp(scores, 0))
        if count == size or (decoding.top_p < 1.0 and float(chances.sum()) >= decoding.top_p):
            break
    return _cut(top.indices, chances, decoding)


def _cut(tokens: Any, chances: Any, decoding: Decoding) -> tuple[Any, Any]:
    """top_p keeps a token if those before it hold less than top_p; min_p, if it has that part of the first one's chance."""
    before = torch.cumsum(chances, 0) - chances
    kept = (before < decoding.top_p) if decoding.top_p < 1.0 else torch.ones_like(before, dtype=torch.bool)
    kept &= chances >= decoding.min_p * chances[0]
    kept[0] = True
    return tokens[kept], chances[kept]


def logprobs_of(logits: Any, token: int, alternatives: int) -> TokenLogprobs:
    """Natural logarithms, of the unchanged distribution."""
    logprobs = torch.log_softmax(logits, 0)
    top = torch.topk(logprobs, min(alternatives, len(logprobs)))
    likeliest = tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True))
    return TokenLogprobs(float(logprobs[token]), likeliest)
