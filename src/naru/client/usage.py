"""What a program has used and spent, by day and by month, and a call when the month's budget runs low.

    tracker = UsageTracker(monthly_budget_usd="500", on_alert=lambda month: print(f"{month.share:.0%} of the budget"))
    tracker.record(client.run("안녕하세요!"))            # a Run, a Reply, or an Outcome that is ok
    print(tracker.report().cost_usd, tracker.month.cost_usd)

It knows what this program did, since it began. What everybody did with a key is the gateway's to say: `naru usage`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from naru.clock import Clock, SystemClock
from naru.protocol.messages import Usage

NANO_PER_USD = 1_000_000_000


class Used(Protocol):
    """What an answer has used: a Reply, a Run, an Outcome."""

    @property
    def usage(self) -> Usage: ...

    @property
    def cost_nano(self) -> int | None: ...


class Report(Struct, frozen=True, kw_only=True):
    """Of a day or a month. `unpriced`: so many answers said no cost, so `cost_nano` (nano-dollars) is short of theirs.
    `budget_nano` is the month's, None for a day or without one."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nano: int = 0
    unpriced: int = 0
    budget_nano: int | None = None

    @property
    def cost_usd(self) -> Decimal:
        """Dollars, exact."""
        return Decimal(self.cost_nano) / NANO_PER_USD

    @property
    def share(self) -> Decimal:
        """Of the budget that is spent: 1 is all of it. 0 without a budget."""
        return Decimal(self.cost_nano) / self.budget_nano if self.budget_nano else Decimal(0)

    def plus(self, other: Report) -> Report:
        return Report(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_nano=self.cost_nano + other.cost_nano,
            unpriced=self.unpriced + other.unpriced,
            budget_nano=self.budget_nano,
        )


class UsageTracker:
    """`alert_at` is a share of the budget; `on_alert` gets the month's Report, once a month, when it is reached. Days and
    months are those of `tz`. Raises ValueError for a budget or a share that is not positive."""

    def __init__(
        self,
        *,
        monthly_budget_usd: Decimal | int | str | None = None,
        alert_at: Decimal | int | str = "0.9",
        on_alert: Callable[[Report], None] | None = None,
        tz: tzinfo = UTC,
        clock: Clock | None = None,
    ) -> None:
        self._budget_nano = None if monthly_budget_usd is None else int(Decimal(monthly_budget_usd) * NANO_PER_USD)
        self._alert_at = Decimal(alert_at)
        if (self._budget_nano is not None and self._budget_nano <= 0) or self._alert_at <= 0:
            raise ValueError(
                f"monthly_budget_usd and alert_at must be above 0, not {monthly_budget_usd} and {alert_at}."
            )
        self._on_alert = on_alert
        self._tz = tz
        self._clock: Clock = SystemClock() if clock is None else clock
        self._days: dict[date, Report] = {}
        self._alerted: set[tuple[int, int]] = set()

    def record(self, used: Used, at: datetime | None = None) -> None:
        """`at`: when it was, with its time zone; now unless told."""
        day = self._day(at)
        more = Report(
            requests=1,
            input_tokens=used.usage.input,
            output_tokens=used.usage.output,
            cost_nano=used.cost_nano or 0,
            unpriced=int(used.cost_nano is None),
        )
        self._days[day] = self._days.get(day, Report()).plus(more)
        self._alert(day)

    def report(self, day: date | None = None) -> Report:
        """Of one day, today unless told."""
        return self._days.get(self._day(None) if day is None else day, Report())

    @property
    def month(self) -> Report:
        """Of this month so far, with its budget."""
        return self.report_month(self._day(None))

    def report_month(self, day: date) -> Report:
        """Of the month that `day` is in."""
        total = Report(budget_nano=self._budget_nano)
        for other, report in self._days.items():
            if (other.year, other.month) == (day.year, day.month):
                total = total.plus(report)
        return total

    def _alert(self, day: date) -> None:
        month = (day.year, day.month)
        if self._on_alert is None or month in self._alerted:
            return
        report = self.report_month(day)
        if report.budget_nano is not None and report.share >= self._alert_at:
            self._alerted.add(month)
            self._on_alert(report)

    def _day(self, at: datetime | None) -> date:
        if at is None:
            at = datetime.fromtimestamp(self._clock.now(), UTC)
        elif at.tzinfo is None:
            raise ValueError("`at` needs a time zone: datetime.now(UTC), or whichever it is in.")
        return at.astimezone(self._tz).date()
