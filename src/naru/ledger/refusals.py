"""What a caller is told when there is no money for a request: whose, how much is left, and when there is more."""

from __future__ import annotations

from datetime import UTC, datetime

from naru.errors import BadRequest, BudgetExceeded, InsufficientCredits, NaruError
from naru.ledger.purses import CREDIT, Purse
from naru.ledger.windows import NEVER


def cannot_pay(purse: Purse, hold: int, now: float) -> NaruError:
    left = max(0, purse.limit - purse.spent - purse.held)
    figures = f"{usd(left)} USD are left and this request may cost {usd(hold)} USD"
    if purse.scope.mode == CREDIT:
        return InsufficientCredits(
            f"There is not enough left of {purse.words}: {figures}. Top up, or ask for less (max_tokens)."
        )
    when = f" It starts anew at {_when(purse.ends_at)}." if purse.ends_at < NEVER else ""
    wait = purse.ends_at - now if purse.ends_at < NEVER else None
    return BudgetExceeded(
        f"This request would exceed {purse.words}: {figures}.{when} Ask for less (max_tokens), or have the budget raised.",
        retry_after_s=wait,
    )


def no_bound(purse: Purse) -> BadRequest:
    return BadRequest(
        f"{purse.words[0].upper()}{purse.words[1:]} is strict, and how long this model's answers can be is not known. Send "
        "`max_tokens`, so that the most that it can cost is known before it is sent.",
        code="max_tokens_required",
        param="max_tokens",
    )


def usd(nano: int) -> str:
    whole, rest = divmod(nano, 1_000_000_000)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
