"""Why a request does not pass: whose limit, which, how large, and when to try again."""

from __future__ import annotations

from collections.abc import Sequence

from naru.errors import BadRequest, NaruError, RateLimited
from naru.limits.gcra import MS_NS, Bucket
from naru.limits.headers import duration
from naru.limits.meters import Meter

#: Nobody knows when a place will be free. Clients that heed `retry-after` come back after this.
PLACE_RETRY_S = 1.0


class NoPlace(RateLimited):
    """As many requests as `meter` may have are under way. Nothing else stood in the way, so waiting helps."""

    code: str | None = "concurrency_limit_exceeded"

    def __init__(self, meter: Meter, why: str = "") -> None:
        super().__init__(
            f"Limit reached for {meter.scope}: {meter.places:,} concurrent requests.{why} Try again when one of them has ended.",
            retry_after_s=PLACE_RETRY_S,
        )
        self.meter = meter


def refusal(meters: Sequence[Meter], tokens: int, now_ns: int) -> NaruError:
    """What to say of a request that does not pass: what never can, else the rate that takes longest, else the missing place."""
    slowest: tuple[int, Meter, Bucket] | None = None
    for meter in meters:
        if meter.tokens is not None and tokens > meter.tokens.size:
            return _too_large(meter, tokens, meter.tokens.size)
        for bucket, cost in ((meter.requests, 1), (meter.tokens, tokens)):
            if bucket is not None and cost:
                wait_ns = bucket.wait_ns(cost, now_ns)
                if wait_ns > 0 and (slowest is None or wait_ns > slowest[0]):
                    slowest = (wait_ns, meter, bucket)
    if slowest is not None:
        return _too_fast(*slowest, tokens, now_ns)
    return NoPlace(next(meter for meter in meters if meter.in_flight >= meter.places))


def _too_large(meter: Meter, tokens: int, size: int) -> BadRequest:
    return BadRequest(
        f"This request may need {tokens:,} tokens (its input and the most it may answer), and {meter.scope} may use {size:,} per "
        "minute, so it can never pass. Send less input or ask for a shorter answer (max_tokens), or have the limit raised.",
        code="request_exceeds_tpm",
    )


def _too_fast(wait_ns: int, meter: Meter, bucket: Bucket, tokens: int, now_ns: int) -> RateLimited:
    if bucket is meter.requests:
        what = f"{bucket.limit:,} requests per minute."
    else:
        left = bucket.remaining(now_ns)
        what = f"{bucket.limit:,} tokens per minute. This request may need {tokens:,}, and {left:,} are left."
    again = duration(-(-wait_ns // MS_NS)).decode()
    return RateLimited(
        f"Limit reached for {meter.scope}: {what} Try again in {again}.",
        code="rate_limit_exceeded",
        retry_after_s=wait_ns / 1e9,
    )
