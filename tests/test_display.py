"""Figures in won: exact, beside the dollars, with the rate in the entry. The ledger itself counts in dollars."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.ledger.display import krw
from tests.harness import MESSAGES, running

KRW = '[ledger]\ndisplay_currency = "KRW"\nkrw_per_usd = 1390.123456789\n'
RATE = Fraction("1390.123456789")


@given(st.integers(0, 2**63 - 1), st.decimals("0.000001", 100_000, places=9))
def test_no_digit_is_lost(nano_usd: int, rate: Decimal) -> None:
    """Whatever the amount and the rate: what is shown is the product itself, written without an exponent."""
    shown = krw(nano_usd, f"{rate} KRW/USD")
    assert re.fullmatch(r"\d+(\.\d*[1-9])?", shown)
    assert Fraction(shown) == Fraction(nano_usd, 10**9) * Fraction(rate)


async def test_a_plain_answer_and_its_entry(tmp_path: Path) -> None:
    """The header beside the one in dollars; the entry has dollars and the rate."""
    async with running(tmp_path, KRW) as gateway:
        status, headers, _ = await gateway.chat(model="sandbox/echo")
        (entry,) = await gateway.entries()
        assert (status, entry.fx) == (200, "1390.123456789 KRW/USD")
        assert Fraction(headers["x-naru-cost-usd"]) == Fraction(entry.cost_nano, 10**9) > 0
        assert Fraction(headers["x-naru-cost-krw"]) == Fraction(entry.cost_nano, 10**9) * RATE


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
        "/v1/responses",
        "/v1beta/models/sandbox/echo:streamGenerateContent?alt=sse",
    ],
)
async def test_streams_carry_it_where_they_carry_the_dollars(tmp_path: Path, path: str) -> None:
    """In every protocol, as a number of which every digit stands there."""
    async with running(tmp_path, KRW) as gateway:
        fields = {
            "/v1/completions": {"prompt": "hello", "stream_options": {"include_usage": True}},
            "/v1/chat/completions": {"messages": MESSAGES, "stream_options": {"include_usage": True}},
            "/v1/messages": {"messages": MESSAGES, "max_tokens": 50},
            "/v1/responses": {"input": "hello"},
        }.get(path, {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})
        if "contents" not in fields:
            fields |= {"model": "sandbox/echo", "stream": True}
        status, _, told = await gateway.post(msgspec.json.encode(fields), path)
        assert status == 200, told
        (entry,) = await gateway.entries()
        found = re.findall(rb'"cost_usd":([0-9.]+),"cost_krw":([0-9.]+)', told)
        assert found
        cost = Fraction(entry.cost_nano, 10**9)
        assert (Fraction(found[-1][0].decode()), Fraction(found[-1][1].decode())) == (cost, cost * RATE)


async def test_sound_says_it_in_its_head(tmp_path: Path) -> None:
    async with running(tmp_path, KRW) as gateway:
        body = msgspec.json.encode({"model": "sandbox/speech", "input": "hello", "voice": "alloy"})
        status, headers, _ = await gateway.post(body, "/v1/audio/speech")
        (entry,) = await gateway.entries()
        assert status == 200
        assert Fraction(headers["x-naru-cost-krw"]) == Fraction(entry.cost_nano, 10**9) * RATE


async def test_dollars_alone_unless_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        _, headers, _ = await gateway.chat(model="sandbox/echo")
        assert "x-naru-cost-krw" not in headers
        (entry,) = await gateway.entries()
        assert entry.fx == ""
