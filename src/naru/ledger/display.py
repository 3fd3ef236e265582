"""Figures in the currency that they are shown in. Pure. The ledger counts in USD; the rate stands in each entry."""

from __future__ import annotations

from decimal import Context, Decimal

from naru.protocol.dialect import ShownCost

#: Digits enough for any amount in 64 bits at any rate that a person writes: nothing is rounded.
EXACT = Context(prec=60)


def fx_of(currency: str, krw_per_usd: Decimal | None) -> str:
    """How an entry says the rate: "1390.5 KRW/USD", or nothing where figures are shown in USD."""
    return f"{krw_per_usd} KRW/USD" if currency == "KRW" and krw_per_usd is not None else ""


def krw(nano_usd: int, fx: str) -> str:
    """Nano-dollars in won at the rate `fx`, as a decimal with every digit: 1_234_500 at 1390.5 is 1.71656725 won."""
    rate = Decimal(fx.partition(" ")[0])
    won = EXACT.scaleb(EXACT.multiply(Decimal(nano_usd), rate), -9)
    text = format(won, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(nano_usd: int, fx: str) -> int:
    """The same cost, which a stream's last event then also tells in won."""
    return ShownCost(nano_usd, krw(nano_usd, fx)) if fx else nano_usd


def cost_headers(nano: int, fx: str) -> list[tuple[bytes, bytes]]:
    """What an answer cost, in USD and in the currency of `fx`."""
    headers = [(b"x-naru-cost-usd", cost_usd(nano))]
    if fx:
        headers.append((b"x-naru-cost-krw", krw(nano, fx).encode()))
    return headers


def cost_usd(nano: int) -> bytes:
    """Nano-dollars as a decimal USD figure, exact."""
    return b"%d.%09d" % divmod(nano, 1_000_000_000)
