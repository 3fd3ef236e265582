"""What was spent, by day and month, exactly; and one alert a month."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from naru.agent.loop import State
from naru.agent.run import Run
from naru.client.reply import Outcome, Reply
from naru.client.usage import Report, UsageTracker
from naru.protocol.messages import Usage
from naru.testing import FakeClock

KST = timezone(timedelta(hours=9))


def reply(cost_nano: int | None, tokens: int = 10) -> Reply:
    return Reply(text="", message={}, usage=Usage(input=tokens, output=2 * tokens), cost_nano=cost_nano)


def test_a_day_is_the_sum_of_its_answers() -> None:
    clock = FakeClock()
    tracker = UsageTracker(clock=clock)
    tracker.record(reply(100_000_001))
    tracker.record(reply(200_000_002, tokens=5))
    tracker.record(reply(None))
    today = tracker.report()
    assert today == Report(requests=3, input_tokens=25, output_tokens=50, cost_nano=300_000_003, unpriced=1)
    assert today.cost_usd == Decimal("0.300000003")
    clock.advance(86_400)
    assert tracker.report() == Report()
    assert tracker.report(date(2026, 1, 1)) == today
    tracker.record(reply(1))
    assert (tracker.month.requests, tracker.month.cost_nano) == (4, 300_000_004)
    clock.advance(31 * 86_400)
    assert tracker.month.requests == 0


def test_runs_replies_and_outcomes_are_recorded_alike() -> None:
    tracker, usage = UsageTracker(clock=FakeClock()), Usage(input=10, output=20)
    tracker.record(Run(State((), usage=usage, cost_nano=1_500_000_000)))
    tracker.record(Outcome(index=0, reply=reply(1_500_000_000)))
    assert tracker.report() == Report(requests=2, input_tokens=20, output_tokens=40, cost_nano=3_000_000_000)
    assert Run(State((), cost_nano=1)).cost_usd == reply(1).cost_usd == Decimal("0.000000001")
    assert Outcome(index=0, reply=reply(None)).cost_usd is None
    assert [str(reply(cost).cost_usd) for cost in (0, 7_188, 1_500_000_000, 100 * 10**9)] == [
        "0",
        "0.000007188",
        "1.5",
        "100",
    ]


def test_a_day_is_that_of_the_time_zone() -> None:
    tracker = UsageTracker(tz=KST, clock=FakeClock())
    tracker.record(reply(5), at=datetime(2026, 1, 31, 16, 0, tzinfo=UTC))
    assert tracker.report(date(2026, 2, 1)).requests == 1
    assert tracker.report_month(date(2026, 2, 9)).cost_nano == 5
    with pytest.raises(ValueError, match="time zone"):
        tracker.record(reply(5), at=datetime(2026, 1, 31))


def test_the_alert_comes_once_a_month_when_the_share_is_reached() -> None:
    clock, alerts = FakeClock(), []
    tracker = UsageTracker(monthly_budget_usd="0.10", alert_at="0.9", on_alert=alerts.append, clock=clock)
    tracker.record(reply(89_999_999))
    assert alerts == []
    tracker.record(reply(1))
    tracker.record(reply(50_000_000))
    assert [(alert.cost_nano, alert.share) for alert in alerts] == [(90_000_000, Decimal("0.9"))]
    assert tracker.month.share == Decimal("1.4")
    clock.advance(31 * 86_400)
    tracker.record(reply(100_000_000))
    assert len(alerts) == 2


@pytest.mark.parametrize("wrong", [{"monthly_budget_usd": 0}, {"monthly_budget_usd": "-1"}, {"alert_at": 0}])
def test_a_budget_of_nothing_is_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        UsageTracker(**wrong)  # type: ignore[arg-type]
