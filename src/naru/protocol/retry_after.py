"""How long a provider asks to wait, from its headers or from the words of its message; and how our callers are asked to. Pure:
the clock is an argument.

Sources: RFC 9110 10.2.3 (seconds or a date); providers.md A0.4 (retry-after-ms, decimal seconds, "try again in 1.3s").
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

from naru.errors import Fault, NaruError, Overloaded

#: reliability.md A13: nobody's header may take a deployment away for longer than five minutes.
MAX_WAIT_S = 300.0

_NUMBER = re.compile(rb"[0-9]{1,15}(\.[0-9]{1,9})?")
_IN_TEXT = re.compile(
    r"(?:try|retry|retrying) (?:again )?(?:in|after) ((?:[0-9]{1,12}(?:\.[0-9]{1,9})?\s?(?:ms|s|m|h)[a-z]*\s?)+)",
    re.IGNORECASE,
)
_PIECE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s?(ms|mil[a-z]*|s[a-z]*|m[a-z]*|h[a-z]*)", re.IGNORECASE)
_SECONDS_OF = {"ms": 0.001, "mil": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after(headers: Iterable[tuple[bytes, bytes]], now: float) -> float | None:
    """Seconds to wait, from 0 to 300, or None where no header says. `now` is Unix seconds, for dates.

    `retry-after-ms` wins over `retry-after`, as in OpenAI's own clients; garbage counts as absent.
    """
    seconds: float | None = None
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"retry-after-ms":
            milliseconds = _number(value.strip())
            if milliseconds is not None:
                return _clamp(milliseconds / 1000)
        elif lowered == b"retry-after" and seconds is None:
            seconds = _number(value.strip())
            if seconds is None:
                seconds = _until(value, now)
    return None if seconds is None else _clamp(seconds)


def retry_after_in_text(message: str) -> float | None:
    """Seconds from phrases such as "try again in 1.3s", "20ms", "6m0s"; None where there is none."""
    found = _IN_TEXT.search(message)
    return None if found is None else duration_s(found.group(1))


def duration_s(text: str) -> float | None:
    """Seconds of a duration such as "17s", "1h2m3s", "45.25s", "100ms", from 0 to 300; None for anything else."""
    pieces = _PIECE.findall(text)
    if not pieces:
        return None
    return _clamp(sum(float(number) * _unit_s(unit.lower()) for number, unit in pieces))


def _unit_s(unit: str) -> float:
    return _SECONDS_OF.get(unit) or _SECONDS_OF.get(unit[:3]) or _SECONDS_OF[unit[0]]


def _number(value: bytes) -> float | None:
    return float(value) if _NUMBER.fullmatch(value) else None


def _until(value: bytes, now: float) -> float | None:
    try:
        return parsedate_to_datetime(value.decode("ascii")).timestamp() - now
    except (ValueError, TypeError, OverflowError):  # not a date, or one outside the calendar
        return None


def _clamp(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S) if math.isfinite(seconds) else MAX_WAIT_S


def retry_headers(error: NaruError) -> list[tuple[bytes, bytes]]:
    """What a client's own retry logic reads. Once every deployment was tried, a client should not multiply the attempts."""
    headers: list[tuple[bytes, bytes]] = []
    wait = error.retry_after_s
    if wait is None and isinstance(error, Overloaded):
        wait = 1.0
    if wait is not None:
        headers.append((b"retry-after", b"%d" % max(1, -int(-wait // 1))))
        headers.append((b"retry-after-ms", b"%d" % -int(-wait * 1000 // 1)))
    if error.fault is Fault.UPSTREAM and error.status != 429:
        headers.append((b"x-should-retry", b"false"))
    return headers
