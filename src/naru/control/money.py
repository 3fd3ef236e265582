"""Amounts of money as people write them: "10usd", "0.5 USD", "15000krw", "5usd/month". Pure, exact, strict.

What is not plainly an amount is refused by name, never rounded: a budget that is silently another one is worse than none.
"""

from __future__ import annotations

import re
from decimal import Decimal

from msgspec import Struct

from naru.errors import BadRequest
from naru.ledger.windows import WINDOWS

NANO_PER_USD = 1_000_000_000
#: A hundred million USD: room for ninety such credits of one owner in 64 bits.
MAX_NANO = 100_000_000 * NANO_PER_USD
USD_DECIMALS = 9
CURRENCIES = ("USD", "KRW")

AMOUNT = re.compile(
    r"(?P<sign>[+-]?)(?P<whole>[0-9]{1,30})(?:\.(?P<part>[0-9]{1,30}))? ?(?P<currency>[A-Za-z]{1,10})", re.ASCII
)
EXAMPLES = 'such as "10usd", "0.5 USD" or "15000krw"'


class Amount(Struct, frozen=True):
    """`said` is what was written, tidied ("15000 KRW"); `fx` the rate at which it became USD, empty for USD."""

    nano: int
    said: str
    fx: str = ""


class Allowance(Struct, frozen=True):
    """An amount for each window; `window` is empty where none was written."""

    amount: Amount
    window: str = ""


def read_amount(text: str, krw_per_usd: Decimal | None, param: str = "amount", may_be_negative: bool = False) -> Amount:
    """Raises BadRequest: invalid_amount, unknown_currency, no_exchange_rate."""
    match = AMOUNT.fullmatch(text.strip(" ")) if len(text) < 80 else None
    if match is None:
        raise BadRequest(
            f"{text[:40]!r} is no amount of money. Write one {EXAMPLES}.", code="invalid_amount", param=param
        )
    currency = match["currency"].upper()
    if currency not in CURRENCIES:
        raise BadRequest(
            f"{match['currency']!r} is no currency that amounts are taken in. Use {' or '.join(CURRENCIES)}.",
            code="unknown_currency",
            param=param,
        )
    if match["sign"] and not may_be_negative:
        raise BadRequest(
            f"{text[:40]!r}: an amount has no sign. Write one {EXAMPLES}.", code="invalid_amount", param=param
        )
    part = (match["part"] or "").rstrip("0")
    plain = f"{int(match['whole'])}{'.' + part if part else ''}"
    sign = "-" if match["sign"] == "-" else ""
    if currency == "USD":
        return Amount(_within(_nano(plain, part, param), sign, param), f"{sign}{plain} USD")
    nano, fx = _from_won(plain, part, krw_per_usd, param)
    return Amount(_within(nano, sign, param), f"{sign}{plain} KRW", fx)


def read_allowance(text: str, krw_per_usd: Decimal | None, param: str = "amount") -> Allowance:
    """An amount with or without a window behind a slash."""
    amount, slash, window = text.partition("/")
    window = window.strip(" ").lower()
    if slash and window not in WINDOWS:
        raise BadRequest(
            f"{window[:40]!r} is no window of a budget. Use {', '.join(WINDOWS)}, as in 5usd/month.", param=param
        )
    return Allowance(read_amount(amount, krw_per_usd, param), window)


def _nano(plain: str, part: str, param: str) -> int:
    if len(part) > USD_DECIMALS:
        raise BadRequest(
            f"{plain[:40]} USD is finer than a billionth of a dollar, the least that is counted. Write at most "
            f"{USD_DECIMALS} decimals.",
            code="invalid_amount",
            param=param,
        )
    whole = plain.partition(".")[0]
    return int(whole) * NANO_PER_USD + int(part.ljust(USD_DECIMALS, "0") or "0")


def _from_won(plain: str, part: str, krw_per_usd: Decimal | None, param: str) -> tuple[int, str]:
    """Down to the whole nano-USD: nobody gets more than was paid."""
    if part:
        raise BadRequest(f"{plain[:40]} KRW: a won has no parts. Write whole won.", code="invalid_amount", param=param)
    if krw_per_usd is None:
        raise BadRequest(
            "Amounts in KRW need a rate. Set ledger.krw_per_usd in naru.toml, or write the amount in USD.",
            code="no_exchange_rate",
            param=param,
        )
    top, bottom = krw_per_usd.as_integer_ratio()
    return int(plain) * NANO_PER_USD * bottom // top, f"{krw_per_usd} KRW/USD"


def _within(nano: int, sign: str, param: str) -> int:
    if nano > MAX_NANO:
        raise BadRequest(
            f"That is more than {MAX_NANO // NANO_PER_USD:,} USD, the most that is taken at once. Is it a slip?",
            code="invalid_amount",
            param=param,
        )
    return -nano if sign else nano


def usd(nano: int) -> str:
    """As people write it: exact, with at least two decimals."""
    whole, part = divmod(abs(nano), NANO_PER_USD)
    decimals = f"{part:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nano < 0 else ''}{whole}.{decimals}"


def won(nano: int, krw_per_usd: Decimal) -> str:
    """Whole won, rounded half to even, below one won with four decimals: for display only."""
    exact = nano * krw_per_usd / NANO_PER_USD
    return f"{exact:.4f}" if 0 < abs(exact) < 1 else f"{round(exact):,}"
