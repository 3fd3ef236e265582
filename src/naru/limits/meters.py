"""What one scope (a key, a team, an organisation, a model, a deployment) may use, and what of it is in use."""

from __future__ import annotations

from msgspec import Struct

from naru.limits.gcra import MINUTE_NS, Bucket

#: Beyond any machine of this decade; a figure above it is a slip of the pen or a unit mistaken.
MAX_LIMIT = 1_000_000_000_000
#: No limit, as a figure to compare with.
UNBOUNDED = 1 << 62


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests and tokens per minute and requests under way at once; None is unlimited.

    A minute's worth of tokens may pass at once, and `burst` requests (default: a minute's worth as well): `rpm = 5` lets 5 pass
    at once and then one each 12 s, `rpm = 600, burst = 1` one each 100 ms. Raises ValueError, which names the field.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            check(name, getattr(self, name))
        if self.burst is not None and self.rpm is None:
            raise ValueError(
                "burst says how many requests of rpm may pass at once, so it needs rpm; set rpm or leave it out."
            )


def check(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        said = "a huge number" if isinstance(value, int) and value > MAX_LIMIT else repr(value)[:40]
        hint = " To let nothing pass, revoke or disable instead." if value == 0 and value is not False else ""
        raise ValueError(
            f"{name} must be a whole number from 1 to {MAX_LIMIT:,}, not {said}; leave it out for no limit.{hint}"
        )


NO_LIMITS = Limits()


class Meter:
    """`scope` is words for people: "key abc", "team research", "model gpt-x". What passes it is counted whatever is limited, so a
    limit changed later knows of it."""

    __slots__ = ("in_flight", "is_limited", "limits", "places", "requests", "scope", "tokens")

    def __init__(self, scope: str, limits: Limits = NO_LIMITS) -> None:
        self.scope = scope
        self.in_flight = 0
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.set(limits, 0, 0)

    def set(self, limits: Limits, now_ns: int, mark: int) -> None:
        """New limits; what is in use stays in use. `Admission.change` does this and gives those who wait their turn."""
        self.limits = limits
        self.requests = changed(self.requests, limits.rpm, limits.burst or limits.rpm, now_ns, mark)
        self.tokens = changed(self.tokens, limits.tpm, limits.tpm, now_ns, mark)
        self.places = UNBOUNDED if limits.concurrency is None else limits.concurrency
        self.is_limited = limits != NO_LIMITS

    def admits(self, tokens: int, now_ns: int) -> bool:
        """Whether one more request with so many tokens may pass now."""
        if self.in_flight >= self.places:
            return False
        # Bucket.wait_ns(…) > 0, without its division: this runs for each meter of each request.
        bucket = self.requests
        if bucket is not None and bucket.tat + MINUTE_NS > now_ns * bucket.limit + bucket.room:
            return False
        bucket = self.tokens
        if bucket is None or not tokens:
            return True
        return tokens <= bucket.size and bucket.tat + tokens * MINUTE_NS <= now_ns * bucket.limit + bucket.room


def changed(bucket: Bucket | None, limit: int | None, size: int | None, now_ns: int, mark: int) -> Bucket | None:
    if limit is None or size is None:
        return None
    if bucket is None:
        return Bucket(limit, size, now_ns)
    bucket.change(limit, size, now_ns, mark)
    return bucket
