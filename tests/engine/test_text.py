"""Bytes and tokens to text, and stop strings (T25)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.engine.parse.text import StopScanner, TokenFeeder, Utf8Feeder

TEXT = "가나다 😀 é end"


def test_a_character_split_across_pieces() -> None:
    data = TEXT.encode()
    feeder = Utf8Feeder()
    assert "".join(feeder.feed(data[at : at + 1]) for at in range(len(data))) + feeder.close() == TEXT
    for at in range(len(data)):
        feeder = Utf8Feeder()
        assert feeder.feed(data[:at]) + feeder.feed(data[at:]) + feeder.close() == TEXT


def test_bytes_that_are_no_text() -> None:
    feeder = Utf8Feeder()
    assert feeder.feed(b"a\xff") + feeder.feed(b"b\xed\x95") + feeder.close() == "a\ufffdb\ufffd"


def _decode(ids: Sequence[int]) -> str:
    return bytes(ids).decode(errors="replace")


@given(st.text(max_size=40))
def test_tokens_of_one_byte(text: str) -> None:
    feeder = TokenFeeder(_decode)
    pieces = [feeder.feed(token) for token in text.encode()]
    assert "".join(pieces) + feeder.close() == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_tokens_decode_only_a_window() -> None:
    sizes = []

    def decode(ids: Sequence[int]) -> str:
        sizes.append(len(ids))
        return _decode(ids)

    feeder = TokenFeeder(decode)
    for token in ("한글" * 500).encode():
        feeder.feed(token)
    assert max(sizes) <= 16


@pytest.mark.parametrize(
    ("stops", "text", "said", "found"),
    [
        (["END"], "abcENDdef", "abc", "END"),
        (["END"], "abcEN", "abcEN", None),
        (["\n\n", "User:"], "a\nb\n\nUser:", "a\nb", "\n\n"),
        (["끝"], "시작끝", "시작", "끝"),
        (["aab"], "aaab", "a", "aab"),
        (["ab", "abc"], "xabc", "x", "ab"),
        (["", "b"], "ab", "a", "b"),
        ([], "ab", "ab", None),
    ],
)
def test_stop_strings_wherever_the_text_is_cut(stops: list[str], text: str, said: str, found: str | None) -> None:
    cuts = [[text], list(text), *([text[:at], text[at:]] for at in range(1, len(text)))]
    for pieces in cuts:
        scanner = StopScanner(stops)
        assert ("".join(map(scanner.feed, pieces)) + scanner.close(), scanner.found) == (said, found)
        assert scanner.feed("more") == "" if found else True
