"""The choice of a token, against Transformers' own processors of logits."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="the Transformers engine needs torch")
pytest.importorskip("transformers", reason="the Transformers engine needs transformers")
pytest.importorskip("xgrammar", reason="the Transformers engine needs xgrammar")
pytest.importorskip("peft", reason="the tests of the Transformers engine need peft")

import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from naru.engine.hf.sampling import Sampler, candidates, logprobs_of
from naru.engine.port import Decoding

pytestmark = pytest.mark.torch


def logits(seed: int, size: int = 3000) -> torch.Tensor:
    return 3 * torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(1),
        Decoding(1, temperature=0.6, top_p=0.95, top_k=20),
        Decoding(1, temperature=1.3, top_p=0.3),
        Decoding(1, temperature=3.0, top_p=0.99),
        Decoding(1, temperature=0.9, top_p=0.97, min_p=0.05),
        Decoding(1, min_p=0.1),
        Decoding(1, top_k=7),
        Decoding(1, top_p=1e-9),
    ],
    ids=repr,
)
def test_the_same_tokens_with_the_same_chances_as_transformers(decoding: Decoding) -> None:
    scores = logits(1)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_k:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p:
        warpers.append(MinPLogitsWarper(decoding.min_p))
    wanted = torch.softmax(warpers(torch.zeros((1, 0), dtype=torch.long), scores[None])[0], 0)
    tokens, chances = candidates(scores, decoding)
    mine = torch.zeros_like(wanted)
    mine[tokens] = chances / chances.sum()
    assert set(tokens.tolist()) == set(torch.nonzero(wanted)[:, 0].tolist())
    torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=1e-4)


def test_what_is_drawn_follows_the_chances() -> None:
    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    sampler = Sampler(Decoding(1, seed=7), [], 4)
    drawn = [sampler.choose(scores).token for _ in range(4000)]
    for token, chance in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert drawn.count(token) / 4000 == pytest.approx(chance, abs=0.03)


def test_a_seed_repeats_and_another_differs() -> None:
    def draws(seed: int | None) -> list[int]:
        sampler = Sampler(Decoding(1, seed=seed), [], 3000)
        return [sampler.choose(logits(step)).token for step in range(20)]

    assert draws(5) == draws(5) != draws(6)
    assert draws(None) != draws(None)
    assert draws(-1) == draws(-1)


def test_the_repetition_penalty_is_transformers() -> None:
    """Of the prompt's and the answer's tokens."""
    prompt, scores = [3, 9, 9, 40], logits(2, 50)
    wanted = RepetitionPenaltyLogitsProcessor(1.7)
    sampler = Sampler(Decoding(1, temperature=0, repetition_penalty=1.7), prompt, 50)
    written: list[int] = []
    for _ in range(12):
        best = int(wanted(torch.tensor([prompt + written]), scores[None]).argmax())
        written.append(sampler.choose(scores).token)
        assert written[-1] == best


def test_presence_and_frequency_count_the_answer_only() -> None:
    """OpenAI's formula: logit - count * frequency - (count > 0) * presence."""
    scores = torch.tensor([5.0, 4.5, 4.0, 0.0])
    sampler = Sampler(Decoding(1, temperature=0, presence_penalty=0.4, frequency_penalty=0.3), [0, 0, 0], 4)
    counts = [0, 0, 0, 0]
    for _ in range(20):
        penalized = [float(scores[t]) - 0.3 * counts[t] - 0.4 * (counts[t] > 0) for t in range(4)]
        token = sampler.choose(scores).token
        assert penalized[token] == pytest.approx(max(penalized), abs=1e-5)
        counts[token] += 1
    assert counts[0] < 20


def test_logprobs_are_the_models_own() -> None:
    """Of the whole distribution, whatever is drawn from."""
    scores = logits(3, 100)
    chosen = Sampler(
        Decoding(1, temperature=0, repetition_penalty=2.0, logprobs=100), [int(scores.argmax())], 100
    ).choose(scores)
    assert chosen.logprobs is not None
    assert sum(math.exp(value) for _, value in chosen.logprobs.likeliest) == pytest.approx(1, abs=1e-5)
    assert dict(chosen.logprobs.likeliest)[chosen.token] == pytest.approx(chosen.logprobs.logprob)
    assert [value for _, value in chosen.logprobs.likeliest] == sorted(
        (value for _, value in chosen.logprobs.likeliest), reverse=True
    )
    assert chosen.token != chosen.logprobs.likeliest[0][0]
    assert logprobs_of(scores, 4, 0).likeliest == ()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number_is_an_error(temperature: float, value: float) -> None:
    sampler = Sampler(Decoding(1, temperature=temperature, top_p=0.9), [], 8)
    with pytest.raises(ValueError, match="no number"):
        sampler.choose(torch.full((8,), value))
