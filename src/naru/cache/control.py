"""What a request itself says about the cache, in the standard's words (RFC 9111, 5.2.1) and two of our own. Pure.

    cache-control: no-store      neither taken from the cache nor put there        x-naru-cache: off says the same
    cache-control: no-cache      not taken from it, but put there: a refresh
    cache-control: max-age=60    taken if it is at most 60 s old
    x-naru-cache-ttl: 600        kept for 600 s, if that is not longer than the operator keeps answers

The other directives of a request's cache-control (max-stale, min-fresh, no-transform, only-if-cached) change nothing here.
"""

from __future__ import annotations

from msgspec import Struct

from naru.errors import BadRequest
from naru.transport.exchange import HeaderList

SWITCH = b"x-naru-cache"
TTL = b"x-naru-cache-ttl"
_CONTROL = b"cache-control"
#: RFC 9111, 1.2.2: what is larger counts as this.
_MOST_S = 2**31


class Control(Struct, frozen=True):
    """`ttl_s`: how long the answer is kept; None: as long as the operator says. Times are whole seconds."""

    reads: bool = True
    writes: bool = True
    max_age_s: int | None = None
    ttl_s: int | None = None

    def takes(self, age_s: float) -> bool:
        """Whether an entry of this age will do."""
        return self.reads and (self.max_age_s is None or age_s <= self.max_age_s)


DEFAULT = Control()


def control_of(headers: HeaderList, max_ttl_s: int) -> Control:
    """Raises BadRequest for values of our own headers that mean nothing; in cache-control they are passed over."""
    directives: list[bytes] = []
    switch: bytes | None = None
    ttl: bytes | None = None
    for name, value in headers:
        if name == _CONTROL:
            directives += value.lower().split(b",")
        elif name == SWITCH:
            switch = value
        elif name == TTL:
            ttl = value
    if not directives and switch is None and ttl is None:
        return DEFAULT
    kept_s = None if ttl is None else min(_ttl(ttl), max_ttl_s)
    return _merged(directives, switch is not None and _is_off(switch), kept_s)


def _merged(directives: list[bytes], is_off: bool, ttl_s: int | None) -> Control:
    """The strictest of what was said."""
    reads, max_age_s = True, None
    for directive in directives:
        name, _, value = directive.strip().partition(b"=")
        if name == b"no-store":
            is_off = True
        elif name == b"no-cache":
            reads = False
        elif name == b"max-age" and (found := _seconds(value)) is not None:
            max_age_s = found if max_age_s is None else min(found, max_age_s)
    if is_off:
        return Control(reads=False, writes=False)
    # 0 asks for an answer of now, whatever the clock's grain.
    return Control(reads and max_age_s != 0, True, max_age_s, ttl_s)


def _seconds(value: bytes) -> int | None:
    """A token or a quoted one (RFC 9111, 5.2: both are to be taken)."""
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    if not value.isdigit():
        return None
    return int(value) if len(value) <= 10 else _MOST_S


def _is_off(value: bytes) -> bool:
    word = value.strip().lower()
    if word not in (b"on", b"off"):
        raise BadRequest(
            "x-naru-cache is `off`, for a request whose answer is neither taken from the cache nor kept there, or `on`, as "
            "without it.",
            code="invalid_value",
            param="x-naru-cache",
        )
    return word == b"off"


def _ttl(value: bytes) -> int:
    value = value.strip()
    seconds = int(value) if value.isdigit() and len(value) <= 10 else 0
    if seconds < 1:
        raise BadRequest(
            "x-naru-cache-ttl is the number of seconds to keep the answer: a whole number of at least 1, such as 600. For an "
            "answer that is not to be kept send `cache-control: no-store`.",
            code="invalid_value",
            param="x-naru-cache-ttl",
        )
    return seconds
