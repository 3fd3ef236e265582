"""What every answer says about limits: OpenAI's `x-ratelimit-*` headers, with Go-style durations (reliability.md 2.7)."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from naru.limits.gcra import Bucket
from naru.limits.meters import Meter

SIZE = attrgetter("size")


def headers(meters: Iterable[Meter], now_ns: int) -> list[tuple[bytes, bytes]]:
    """Limit, remaining and reset of requests and of tokens, each from the meter with the least share left; empty when nothing is
    limited. Tokens remaining are what is left after the holds of requests under way."""
    requests: Bucket | None = None
    tokens: Bucket | None = None
    for meter in meters:
        if meter.is_limited:
            found = meter.requests
            if found is not None:
                requests = found if requests is None else tighter(requests, found, now_ns)
            found = meter.tokens
            if found is not None:
                tokens = found if tokens is None else tighter(tokens, found, now_ns)
    result: list[tuple[bytes, bytes]] = []
    if requests is not None:
        left, reset_ms = requests.left(now_ns)
        result += (
            (b"x-ratelimit-limit-requests", b"%d" % requests.limit),
            (b"x-ratelimit-remaining-requests", b"%d" % left),
            (b"x-ratelimit-reset-requests", duration(reset_ms)),
        )
    if tokens is not None:
        left, reset_ms = tokens.left(now_ns)
        result += (
            (b"x-ratelimit-limit-tokens", b"%d" % tokens.limit),
            (b"x-ratelimit-remaining-tokens", b"%d" % left),
            (b"x-ratelimit-reset-tokens", duration(reset_ms)),
        )
    return result


def tighter(one: Bucket, other: Bucket, now_ns: int) -> Bucket:
    """The one of which more is taken, as a share of its size; of two that are full, the smaller."""
    taken, taken_too = one.tat - now_ns * one.limit, other.tat - now_ns * other.limit
    if taken <= 0 and taken_too <= 0:
        return min(one, other, key=SIZE)
    return other if taken_too * one.size > taken * other.size else one


def duration(ms: int) -> bytes:
    """Go's notation for 0 or more milliseconds: `0s`, `12ms`, `1.5s`, `6m0s`, `1h0m2s`."""
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    seconds, ms = divmod(ms, 1000)
    rest = b"s"
    if ms:
        rest = (b".%03d" % ms).rstrip(b"0") + rest
    if seconds < 60:
        return b"%d%b" % (seconds, rest)
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return b"%dm%d%b" % (minutes, seconds, rest)
    return b"%dh%dm%d%b" % (*divmod(minutes, 60), seconds, rest)
