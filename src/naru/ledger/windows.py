"""The windows of budgets: from when to when, in a named time zone. Pure.

A window is stored as [start, end) in Unix seconds, decided once: a clock set back, a change to summer time or of the time
zone's rules moves no money from one window to another (reliability.md 1.6 E).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from naru.errors import BadRequest

Window = Literal["total", "day", "week", "month"]
WINDOWS: tuple[str, ...] = get_args(Window)

#: The end of a window that has none. SQLite and JSON keep it exactly.
NEVER = 253_402_300_800.0  # the year 10000


def period(window: str, at: float, zone: str) -> tuple[float, float]:
    """[start, end) of the window that holds at `at`. Weeks begin on Monday. The zone was checked by `check_zone`."""
    if window == "total":
        return 0.0, NEVER
    local = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(zone))
    first = datetime(local.year, local.month, local.day)
    if window == "day":
        after = first + timedelta(days=1)
    elif window == "week":
        first -= timedelta(days=local.weekday())
        after = first + timedelta(days=7)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return _unix(first, zone), _unix(after, zone)


def _unix(naive: datetime, zone: str) -> float:
    """The moment a local day begins. Where midnight is skipped by a clock change, the first moment after it."""
    return naive.replace(tzinfo=ZoneInfo(zone)).timestamp()


def check_zone(zone: str) -> str:
    """The same name. Raises BadRequest for one that nobody knows."""
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest(
            f"{zone[:60]!r} is no time zone. Write one such as Asia/Seoul, America/New_York or UTC.", param="time_zone"
        ) from None
    return zone
