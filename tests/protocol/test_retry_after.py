"""How long a provider asks to wait, in every form it is said, and never longer than five minutes."""

from __future__ import annotations

import pytest

from naru.protocol.retry_after import duration_s, retry_after, retry_after_in_text

NOW = 1_445_412_470.0  # 2015-10-21 07:27:50 UTC

VALUES = [
    (b"5", 5.0),
    (b" 1.5 ", 1.5),
    (b"0", 0.0),
    (b"9999999", 300.0),
    (b"Wed, 21 Oct 2015 07:28:00 GMT", 10.0),
    (b"Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
    (b"Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
    (b"Fri, 99 Dec 2015 23:59:59 GMT", None),
    (b"soon", None),
    (b"-1", None),
    (b"nan", None),
    (b"inf", None),
    (b"1e3", None),
    (b"", None),
    (b"\xff\xfe", None),
    ("٣".encode(), None),
    (b"9" * 400, None),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_one_header(value: bytes, expected: float | None) -> None:
    """Seconds, decimals, dates; garbage is as good as absent."""
    assert retry_after([(b"Content-Type", b"x"), (b"Retry-After", value)], NOW) == expected


def test_milliseconds_win() -> None:
    """As in OpenAI's clients; where they are garbage the other header counts."""
    assert retry_after([(b"retry-after", b"7"), (b"retry-after-ms", b"250")], NOW) == 0.25
    assert retry_after([(b"retry-after-ms", b"x"), (b"retry-after", b"7")], NOW) == 7.0
    assert retry_after([], NOW) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Rate limit reached. Please try again in 1.3s.", 1.3),
        ("try again in 20ms", 0.02),
        ("Please try again in 6m0s.", 300.0),
        ("Please try again in 1m2.5s. Visit", 62.5),
        ("Retry after 2 seconds", 2.0),
        ("retrying in 3 minutes", 180.0),
        ("Try again later.", None),
        ("try again in many hours", None),
        ("", None),
    ],
)
def test_words_of_a_message(message: str, expected: float | None) -> None:
    """The phrase OpenAI and its imitators put into their messages."""
    assert retry_after_in_text(message) == (None if expected is None else pytest.approx(expected))


def test_durations_as_google_writes_them() -> None:
    """RetryInfo's retryDelay."""
    assert [duration_s(text) for text in ("17s", "45.25s", "52758s", "x")] == [17.0, 45.25, 300.0, None]
