"""Amounts: what is read is exact, and what is not plainly an amount is refused by name."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.control.money import MAX_NANO, read_allowance, read_amount, usd, won
from naru.errors import BadRequest

RATE = Decimal(1390)


@pytest.mark.parametrize(
    ("text", "nano", "said"),
    [
        ("10usd", 10_000_000_000, "10 USD"),
        ("0.5 USD", 500_000_000, "0.5 USD"),
        (" 0.000000001usd ", 1, "0.000000001 USD"),
        ("007.50Usd", 7_500_000_000, "7.5 USD"),
        ("100000000usd", MAX_NANO, "100000000 USD"),
        ("15000krw", 10_791_366_906, "15000 KRW"),
        ("0usd", 0, "0 USD"),
    ],
)
def test_amounts_are_exact(text: str, nano: int, said: str) -> None:
    """Whole nano-dollars, and the words as they stand in the books; won at the rate, down to the nano."""
    amount = read_amount(text, RATE)
    assert (amount.nano, amount.said, amount.fx) == (nano, said, "1390 KRW/USD" if "KRW" in said else "")


@given(st.integers(0, MAX_NANO))
def test_what_is_written_is_read_back(nano: int) -> None:
    """Every amount there is survives being shown."""
    assert read_amount(f"{usd(nano)}usd", None).nano == nano


@given(st.integers(0, 10**11), st.decimals("0.01", "10000", places=2))
def test_won_never_become_more_than_was_paid(krw: int, rate: Decimal) -> None:
    """Rounded down, by less than a nano-dollar."""
    if krw / rate > 100_000_000:
        return
    nano = read_amount(f"{krw}krw", rate).nano
    top, bottom = rate.as_integer_ratio()
    assert nano * top <= krw * 10**9 * bottom < (nano + 1) * top


BAD = [
    ("-5usd", "invalid_amount"),
    ("+5usd", "invalid_amount"),
    ("5", "invalid_amount"),
    ("usd", "invalid_amount"),
    ("$5", "invalid_amount"),
    ("5,000usd", "invalid_amount"),
    ("1e3usd", "invalid_amount"),
    ("nan usd", "invalid_amount"),
    ("infinity usd", "invalid_amount"),
    ("5.usd", "invalid_amount"),
    (".5usd", "invalid_amount"),
    ("0x10usd", "invalid_amount"),
    ("٥usd", "invalid_amount"),
    ("5 usd; DROP TABLE key", "invalid_amount"),
    ("5usd\x00", "invalid_amount"),
    ("5usd\n", "invalid_amount"),
    ("9" * 1_000_000 + "usd", "invalid_amount"),
    ("", "invalid_amount"),
    ("0.0000000001usd", "invalid_amount"),
    ("100000000.000000001usd", "invalid_amount"),
    ("999999999999999999999999999999usd", "invalid_amount"),
    ("0.5krw", "invalid_amount"),
    ("5eur", "unknown_currency"),
    ("5usdt", "unknown_currency"),
]


@pytest.mark.parametrize(("text", "code"), BAD, ids=[repr(text)[:30] for text, _ in BAD])
def test_what_is_no_amount_is_refused_by_name(text: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_amount(text, RATE)
    assert (caught.value.code, caught.value.param) == (code, "amount")
    assert len(caught.value.message) < 300


def test_won_need_a_rate() -> None:
    with pytest.raises(BadRequest, match="krw_per_usd") as caught:
        read_amount("5krw", None)
    assert caught.value.code == "no_exchange_rate"


def test_an_allowance_names_its_window() -> None:
    assert read_allowance("5usd/month", None).window == "month"
    assert read_allowance("5usd / Day", None).window == "day"
    assert read_allowance("5usd", None).window == ""
    with pytest.raises(BadRequest, match="total, day, week, month"):
        read_allowance("5usd/fortnight", None)


def test_signs_where_they_mean_something() -> None:
    """Only an adjustment has them, and they are shown."""
    assert read_amount("-5usd", None, may_be_negative=True).nano == -5_000_000_000
    assert usd(-1_500_000_000) == "-1.50"
    assert won(10_791_366_906, RATE) == "15,000"
    assert won(4_400, RATE) == "0.0061"
    assert won(0, RATE) == "0"
