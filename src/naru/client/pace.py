"""When the next of many requests may go. Pure: the time is an argument, in nanoseconds of a monotonic clock.

Four things are asked, and the slowest decides:

- the caller's own figures (`rpm`, `tpm`), as `Allowance`s: never more than that in any minute, spread evenly over it;
- what the server says of its limits in the headers of its answers, as `Told`: its room may be used at once, for the server
  has just said that it is there;
- a hold: while the server says `retry-after`, nobody goes;
- the lanes: how many may be under way. Where no limit of requests is known they are found as TCP finds its window (AIMD).

A fixed window, a sliding one and a leaky bucket (GCRA) all take `rpm` requests that are spread evenly over each minute; that
is why nothing begins with a burst unless the server said that it has the room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from naru.protocol.retry_after import duration_s

MINUTE_NS = 60_000_000_000
#: A minute of the caller's figure is this long: two requests that leave a minute apart may arrive a little closer, and a
#: server that counts them in one minute would refuse the last.
WINDOW_NS = 60_500_000_000
#: What a hold or a slow turn has kept back may follow at once, up to so much time's worth; never beyond the figure itself.
CATCH_UP_NS = 5_000_000_000
#: Where nothing is known, as many are under way at first; each answer makes room for one more until the first refusal.
FIRST_LANES = 4
#: Too many refusals take this share of the lanes, at most once for each time that the requests under way are renewed.
LANES_KEPT = 0.7
#: Some servers refuse now and then whatever the pace. So many of the last answers are too many: a share of as many as there are
#: lanes, and of a few at least.
TOO_MANY_REFUSED = 0.15
FEWEST_ANSWERS = 16
#: The same for the rate, where the server refuses what the caller's figure allows and says no limit of its own. An answer
#: brings back 0.75 %, so that one stray refusal in twenty costs next to nothing, and a figure that is too high is left.
RATE_KEPT = 0.9
RATE_GROWTH = 0.0075
LOWEST_RATE = 1 / 64
#: Where no limit is known, too many refusals hold everybody at least so long: one lane alone may be faster than the limit.
BLIND_HOLD_NS = 2_000_000_000
#: Requests that are remembered for a server that has not said anything since.
MAX_LATER = 4096


class Ticket(NamedTuple):
    """A request that has been let go. `number` orders them; `tokens` is what it may use; `at_ns` when it went."""

    number: int
    tokens: int
    at_ns: int


class Allowance:
    """At most `limit` in any window of `WINDOW_NS`, one each `WINDOW_NS / limit`. Exact: integers, no rounding adds up.

    A cost above `limit` counts as `limit`: it goes when nothing else went for a whole window.
    """

    __slots__ = ("_due_ns", "_entries", "_order", "_sum", "limit", "rate")

    def __init__(self, limit: int, now_ns: int) -> None:
        self.limit = limit
        #: The share of `limit` that is used, where the server refuses more.
        self.rate = 1.0
        self._due_ns = now_ns + CATCH_UP_NS  # as if what may be caught up had been: no burst to begin with
        #: [when, number, cost]; and the same by number, for those whose cost may still change.
        self._order: deque[list[int]] = deque()
        self._entries: dict[int, list[int]] = {}
        self._sum = 0

    def wait_ns(self, cost: int, now_ns: int) -> int:
        """How long until `cost` may go; 0 when it may now."""
        cost = min(cost, self.limit)
        self._forget(now_ns)
        wait_ns = max(0, self._due_ns - CATCH_UP_NS - now_ns)
        over = self._sum + cost - self.limit
        if over > 0:
            for at_ns, _, spent in self._order:
                over -= spent
                if over <= 0:
                    return max(wait_ns, at_ns + WINDOW_NS - now_ns)
        return wait_ns

    def take(self, cost: int, number: int, now_ns: int) -> None:
        cost = min(cost, self.limit)
        entry = [now_ns, number, cost]
        self._order.append(entry)
        self._entries[number] = entry
        self._sum += cost
        self._due_ns = max(self._due_ns, now_ns) + self._interval_ns(cost)

    def settle(self, number: int, cost: int) -> None:
        """What it really was. Less brings the rest back, more is taken from those that follow."""
        entry = self._entries.pop(number, None)
        if entry is not None:
            self._sum += cost - entry[2]
            self._due_ns += self._interval_ns(cost - entry[2])
            entry[2] = cost

    def _interval_ns(self, cost: int) -> int:
        return int(cost * WINDOW_NS / (self.limit * self.rate))

    def _forget(self, now_ns: int) -> None:
        order = self._order
        while order and order[0][0] <= now_ns - WINDOW_NS:
            _, number, cost = order.popleft()
            self._entries.pop(number, None)
            self._sum -= cost


class Told:
    """A limit as the server last told it: `limit` a minute, and how much is left of it.

    The room told is what was left when the request came there (OpenAI), or when its answer left (Naru): nobody says which. So
    each answer gives two bounds. At least: what was told, less all that was let go after the request. At most: what was told,
    or that counted on from when the request was let go. The first answer is taken at its least; from then on our own count
    holds, brought within the bounds of each answer. It alone is exact: the bounds are apart by what one answer's time brings,
    and to go by the upper one is to be refused again and again.
    Whether room comes back steadily (OpenAI, Naru) or all at once when the minute ends is not said; it is taken to come
    back steadily, up to what `reset` shows the bucket to hold. A server of the other kind refuses a few and says `retry-after`.
    """

    __slots__ = ("_at_ns", "_have", "_heard", "_later", "_limit", "_size")

    def __init__(self) -> None:
        self._limit = 0
        self._size = 0
        self._have = 0  # in units, MINUTE_NS to one request or token
        self._at_ns = 0
        #: The number of the request whose answer was heard last, and what was let go after it: (number, when, cost).
        self._heard = 0
        self._later: deque[tuple[int, int, int]] = deque(maxlen=MAX_LATER)

    @property
    def is_known(self) -> bool:
        return self._limit > 0

    def hear(self, said: Said, ticket: Ticket, back: int, now_ns: int) -> None:
        """`ticket` is the request that was answered; `back` how much of its cost may come back with the answer."""
        if ticket.number <= self._heard:
            return  # the answers came in another order; a later one has said more
        counted = self._now(now_ns) + back * MINUTE_NS if self._limit else None
        self._heard = ticket.number
        self._limit = said.limit
        refill = said.limit if said.reset_ns is None else -(-said.reset_ns * said.limit // MINUTE_NS)
        self._size = max(1, min(said.limit, said.remaining + refill))
        while self._later and self._later[0][0] <= ticket.number:
            self._later.popleft()
        told = min(said.remaining, self._size) * MINUTE_NS
        least = told - sum(min(cost, self._size) for _, _, cost in self._later) * MINUTE_NS
        if counted is None:
            self._have = least
        else:
            self._have, self._at_ns = told, ticket.at_ns
            for _, at_ns, cost in self._later:
                self._spend(cost, at_ns)
            self._have = max(least, min(counted, max(told, self._now(now_ns))))
        self._at_ns = now_ns

    def wait_ns(self, cost: int, now_ns: int) -> int:
        if not self._limit:
            return 0
        lacking = min(cost, self._size) * MINUTE_NS - self._now(now_ns)
        return max(0, -(-lacking // self._limit))

    def take(self, cost: int, number: int, now_ns: int) -> None:
        self._later.append((number, now_ns, cost))
        self._spend(cost, now_ns)

    def _spend(self, cost: int, now_ns: int) -> None:
        self._have = self._now(now_ns) - min(cost, self._size) * MINUTE_NS
        self._at_ns = now_ns

    def _now(self, now_ns: int) -> int:
        return min(self._size * MINUTE_NS, self._have + (now_ns - self._at_ns) * self._limit)


class Said(NamedTuple):
    """The headers of one answer about one limit. `reset_ns`: when it is whole again, None where that is not said."""

    limit: int
    remaining: int
    reset_ns: int | None


class Lanes:
    """How many may be under way: at most `most`, and fewer where the server refuses more (additive increase, multiplicative
    decrease)."""

    __slots__ = ("_cut_at", "_is_crowded", "_refused", "_width", "most")

    def __init__(self, most: int, first: int) -> None:
        self.most = most
        self._width = float(min(first, most))
        self._cut_at: int | None = None
        self._is_crowded = False
        #: The share of the last answers that were refusals, older ones counting less.
        self._refused = 0.0

    @property
    def width(self) -> int:
        return max(1, int(self._width))

    def open(self) -> None:
        """A limit of requests is known now, so nothing has to be found out; unless the server minds how many are under way."""
        if not self._is_crowded:
            self._width = float(self.most)

    def answered(self) -> None:
        self._count(0.0)
        self._width = min(float(self.most), self._width + (1.0 if self._cut_at is None else 1.0 / self._width))

    def refused(self, number: int, sent: int, *, is_crowded: bool) -> bool:
        """The request `number` was refused, of `sent` so far. True: that is one too many. What was let go before the last cut
        says nothing new."""
        self._is_crowded |= is_crowded
        self._count(1.0)
        if not is_crowded and self._refused < TOO_MANY_REFUSED:
            return False
        if self._cut_at is None or number > self._cut_at:
            self._width = max(1.0, self._width * LANES_KEPT)
            self._cut_at = sent
        return True

    def _count(self, refused: float) -> None:
        self._refused += (refused - self._refused) / max(self._width, FEWEST_ANSWERS)


class Pace:
    """Ask `wait_ns`, then `let_go`; each ticket ends once, by `answered`, `refused` or `failed`.

    `rpm`, `tpm`: the caller's figures, None for none. `concurrency`: the most under way at once.
    """

    def __init__(self, rpm: int | None, tpm: int | None, concurrency: int, now_ns: int) -> None:
        self._requests = None if rpm is None else Allowance(rpm, now_ns)
        self._tokens = None if tpm is None else Allowance(tpm, now_ns)
        self._told_requests = Told()
        self._told_tokens = Told()
        self._lanes = Lanes(concurrency, FIRST_LANES if rpm is None else concurrency)
        self._held_ns = now_ns
        self._slowed_at = 0
        self._sent = 0
        self.under_way = 0

    @property
    def lanes(self) -> int:
        return self._lanes.width

    def held_ns(self, now_ns: int) -> int:
        """How long the server still wants nobody to come."""
        return max(0, self._held_ns - now_ns)

    def wait_ns(self, tokens: int, now_ns: int) -> int | None:
        """How long until a request that may use `tokens` may go: 0 now, None not before one under way has ended."""
        if self.under_way >= self._lanes.width:
            return None
        waits = [
            self.held_ns(now_ns),
            self._told_requests.wait_ns(1, now_ns),
            self._told_tokens.wait_ns(tokens, now_ns),
        ]
        if self._requests is not None:
            waits.append(self._requests.wait_ns(1, now_ns))
        if self._tokens is not None:
            waits.append(self._tokens.wait_ns(tokens, now_ns))
        return max(waits)

    def let_go(self, tokens: int, now_ns: int) -> Ticket:
        self._sent += 1
        self.under_way += 1
        ticket = Ticket(self._sent, tokens, now_ns)
        self._told_requests.take(1, ticket.number, now_ns)
        self._told_tokens.take(tokens, ticket.number, now_ns)
        if self._requests is not None:
            self._requests.take(1, ticket.number, now_ns)
        if self._tokens is not None:
            self._tokens.take(tokens, ticket.number, now_ns)
        return ticket

    def answered(self, ticket: Ticket, tokens: int, headers: Mapping[str, str], now_ns: int) -> None:
        """`tokens` is what was used; `headers` have lower-case names."""
        self._end(ticket, tokens)
        self._lanes.answered()
        if self._requests is not None:
            self._requests.rate = min(1.0, self._requests.rate + RATE_GROWTH)
        if (said := said_of(headers, "requests")) is not None:
            self._told_requests.hear(said, ticket, 0, now_ns)
            self._lanes.open()
        if (said := said_of(headers, "tokens")) is not None:
            self._told_tokens.hear(said, ticket, ticket.tokens, now_ns)

    def refused(self, ticket: Ticket, hold_ns: int, now_ns: int, *, lacks_place: bool) -> None:
        """The server has no room, and wants nobody for `hold_ns`. `lacks_place`: too many were under way, whatever the rate."""
        self._end(ticket, 0)
        is_blind = self._requests is None and not self._told_requests.is_known
        if is_blind or lacks_place:
            is_too_many = self._lanes.refused(ticket.number, self._sent, is_crowded=lacks_place)
            hold_ns = max(hold_ns, BLIND_HOLD_NS) if is_too_many and not lacks_place else hold_ns
        self._held_ns = max(self._held_ns, now_ns + hold_ns)
        if is_blind or lacks_place or self._requests is None:
            return
        if not self._told_requests.is_known and ticket.number > self._slowed_at:
            self._requests.rate = max(LOWEST_RATE, self._requests.rate * RATE_KEPT)
            self._slowed_at = self._sent

    def failed(self, ticket: Ticket) -> None:
        """It ended in a way that says nothing about limits."""
        self._end(ticket, 0)

    def _end(self, ticket: Ticket, tokens: int) -> None:
        self.under_way -= 1
        if self._tokens is not None:
            self._tokens.settle(ticket.number, tokens)


def said_of(headers: Mapping[str, str], what: str) -> Said | None:
    """`x-ratelimit-*-requests` or `-tokens`, as OpenAI and Naru send them; None where limit or remaining make no sense."""
    limit = _count(headers.get(f"x-ratelimit-limit-{what}"))
    remaining = _count(headers.get(f"x-ratelimit-remaining-{what}"))
    if not limit or remaining is None:
        return None
    return Said(limit, remaining, _reset_ns(headers.get(f"x-ratelimit-reset-{what}", "").strip()))


def _count(text: str | None) -> int | None:
    text = "" if text is None else text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def _reset_ns(text: str) -> int | None:
    """Of "6m0s", "20ms", or a bare number of seconds."""
    seconds = duration_s(text)
    if seconds is None:
        try:
            seconds = min(max(float(text), 0.0), 300.0)
        except ValueError:
            return None
    return int(seconds * 1e9) if seconds == seconds else None
