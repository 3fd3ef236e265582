"""The token estimate: deterministic, by character class, and near what providers counted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from naru.protocol.tokens import estimate_tokens, estimate_tokens_bytes
from tests.protocol.recordings import answers


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("The quick brown fox jumps over the lazy dog. " * 20, 160, 260),
        ("안녕하세요. 오늘은 날씨가 아주 좋습니다. " * 20, 200, 420),
        ("你好,今天天气很好。" * 20, 100, 220),
        ("1234567890" * 20, 67, 200),
        ('{"a":[1,2,{"b":"c"}]}' * 20, 140, 260),
        ("👋" * 20, 20, 60),
        ("\ud800", 1, 1),
    ],
)
def test_each_class_of_characters(text: str, low: int, high: int) -> None:
    """English, Korean, Chinese, digits, JSON, emoji: inside the range that real vocabularies give."""
    assert low <= estimate_tokens(text) <= high


def test_bytes_round_up_and_never_go_below_zero() -> None:
    """A count of bytes alone: a quarter, rounded up."""
    assert [estimate_tokens_bytes(size) for size in (-5, 0, 1, 4, 5)] == [0, 0, 1, 1, 2]


def plain_answers() -> Iterator[tuple[str, int]]:
    """(text, tokens as the provider billed them) of recorded answers that are running text and nothing else."""
    for answer in answers():
        message = answer["choices"][0]["message"]
        text, usage = message.get("content"), answer["usage"]
        details = usage.get("completion_tokens_details") or {}
        hidden = message.get("reasoning") or message.get("reasoning_content") or details.get("reasoning_tokens")
        if isinstance(text, str) and len(text) >= 200 and not hidden and not message.get("tool_calls"):
            yield text, usage["completion_tokens"]


@pytest.mark.transcripts
def test_near_what_providers_counted() -> None:
    """Over the recorded answers the sum is within 30 %, each of them within a factor of 1.6, by text and by bytes."""
    pairs = list(plain_answers())
    if len(pairs) < 3:
        pytest.skip("no recordings")
    for estimates in (
        [estimate_tokens(text) for text, _ in pairs],
        [estimate_tokens_bytes(len(t.encode())) for t, _ in pairs],
    ):
        assert 0.7 < sum(estimates) / sum(billed for _, billed in pairs) < 1.3
        assert all(1 / 1.6 < guess / billed < 1.6 for guess, (_, billed) in zip(estimates, pairs, strict=True))
