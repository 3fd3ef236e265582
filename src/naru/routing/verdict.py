"""What the end of an attempt says about the deployment that was asked. Pure.

Only a provider's own failures count against it: a request that was wrong, a client that left and a limit of ours say nothing.
Sources: reliability.md 1.3 and the column "Health" of 1.6.
"""

from __future__ import annotations

from enum import Enum

from naru.errors import NaruError, Overloaded, RateLimited, UpstreamAuth, UpstreamError, UpstreamRefused


class Verdict(Enum):
    """`THROTTLED`: it works, and asks for a pause. `LOCKED`: it refuses our credential. `NEUTRAL`: nothing was learnt."""

    HEALTHY = "healthy"
    FAILED = "failed"
    THROTTLED = "throttled"
    LOCKED = "locked"
    NEUTRAL = "neutral"


#: Ends that are the client's or our own doing, whatever their class.
_OURS = frozenset({"client_gone", "client_stalled", "upstream_closed", "upstream_pool_exhausted", "hedge_lost"})
#: "Too busy" rather than "too many of yours": what lowers the number of requests that a deployment is given at once.
OVERLOADED_STATUSES = frozenset({429, 503, 529})
#: An empty account is not filled within seconds.
_EMPTY_ACCOUNT = "insufficient_quota"


def verdict(error: NaruError | None) -> Verdict:
    """None is an answer that came whole."""
    if error is None:
        return Verdict.HEALTHY
    if error.code in _OURS:
        return Verdict.NEUTRAL
    if isinstance(error, UpstreamAuth):
        return Verdict.LOCKED
    if isinstance(error, UpstreamRefused):
        return _refused(error)
    if isinstance(error, RateLimited | Overloaded) or not isinstance(error, UpstreamError):
        return Verdict.NEUTRAL  # our own limits, or the request itself
    return Verdict.FAILED


def _refused(error: UpstreamRefused) -> Verdict:
    if error.status in (402, 429) or error.code == _EMPTY_ACCOUNT:
        return Verdict.THROTTLED
    if error.status >= 500 or error.status == 408:
        return Verdict.FAILED
    # A request that it understood and refused shows that it works; one that it has no right to is the credential's matter.
    return Verdict.NEUTRAL


def is_empty_account(error: NaruError) -> bool:
    return error.code == _EMPTY_ACCOUNT or error.status == 402


def is_overload(error: NaruError) -> bool:
    """Whether it said that it has too much to do."""
    return isinstance(error, UpstreamRefused) and error.status in OVERLOADED_STATUSES and not is_empty_account(error)
