"""What is taken out of recorded text, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.protocol.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("my key is nk-0123456789ab-" + "S" * 49 + ", keep it", "my key is [key], keep it"),
        ("키는nk-0123456789ab-" + "S" * 49 + "입니다", "키는[key]입니다"),
        ("nka-0123456789ab-" + "S" * 49, "[key]"),
        ("sk-proj-abcdEFGH_1234-xyz.", "[key]."),
        ("nv-1234567890abcdef1234567890abcdefABCD", "[key]"),
        ("hf_abcdefghijklmnop gsk_abcdefghijkl", "[key] [key]"),
        ("AIzaSyA1234567890abcdefghijk", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE", "[key]"),
        ("Authorization: Bearer abc.def-ghi_jkl", "Authorization: [key]"),
        ("curl -H 'authorization: bearer AAAAAAAAAA'", "curl -H 'authorization: [key]'"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123", "[key]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----\nafter", "[key]\nafter"),
        ("postgresql://naru:hush@db/naru", "postgresql://[key]@db/naru"),
        ("연락은 minsu.kim+work@example.co.kr로", "연락은 [email]로"),
        ("<a@b.io>, x@y", "<[email]>, x@y"),
        ("주민번호 900101-1234567 입니다", "주민번호 [resident number] 입니다"),
        ("9001011234567", "[resident number]"),
        ("카드 4111 1111 1111 1111, 5500-0000-0000-0004", "카드 [card], [card]"),
        ("4111111111111112", "4111111111111112"),
        ("0000000000000000", "0000000000000000"),
        ("010-1234-5678 / 01012345678 / +82 10-1234-5678", "[phone] / [phone] / [phone]"),
        ("02-123-4567, 031-1234-5678, (415) 555-2671, +44 20 7946 0958", "[phone], [phone], [phone], [phone]"),
        ("전화는010-1234-5678로", "전화는[phone]로"),
    ],
)
def test_what_is_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the risk-free rate; a task-oriented sk- prefix; nk-",
        "2026-11-25 12:30:00, 1,234,567 won, version 10.12.1234",
        "3.141592653589793238",
        "order 991332-1234567",
        "pip install a@b; @decorator",
        "안녕하세요, 오늘 날씨는 어때요?",
        "1234567890123",
    ],
)
def test_what_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text())
def test_twice_is_once(text: str) -> None:
    """Nothing that stands in for something is itself taken for something."""
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "piece", ["a@", "1 ", "-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaa.", "+1 ", "://a:", "Bearer ", "sk-"]
)
def test_hostile_text_costs_little(piece: str) -> None:
    """A hundred kilobytes of nearly-matches come back; a pattern that backtracks would not come back at all."""
    assert redact(piece * (100_000 // len(piece))) is not None
