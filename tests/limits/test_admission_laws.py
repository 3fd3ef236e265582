"""Any order of taking, ending, changing limits and waiting agrees with a model that replays history from scratch."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from naru.errors import NaruError
from naru.limits.admission import Admission, Hold
from naru.limits.meters import Limits, Meter

S = 1_000_000_000
FIGURE = st.none() | st.integers(1, 8)
LIMITS = st.tuples(FIGURE, FIGURE, FIGURE, FIGURE).map(
    lambda f: Limits(rpm=f[0], tpm=f[1], concurrency=f[2], burst=f[3] if f[0] else None)
)
START = Limits(rpm=3, tpm=6, concurrency=2)


@dataclass
class Taking:
    at: int
    cost: int


@dataclass
class Past:
    """A bucket as history: what it began with, then takings whose cost may still turn out smaller, then new rates."""

    limit: int
    size: int
    owed: Fraction = Fraction(0)
    since: int = 0
    events: list[Taking | tuple[int, int]] = field(default_factory=list)

    def level(self, now: int) -> Fraction:
        level, last, limit = self.owed, self.since, self.first_limit
        for event in self.events:
            at = event.at if isinstance(event, Taking) else event[0]
            level = max(Fraction(0), level - Fraction((at - last) * limit, 60 * S))
            last = at
            if isinstance(event, Taking):
                level += event.cost
            else:
                limit = event[1]
        return max(Fraction(0), level - Fraction((now - last) * limit, 60 * S))

    def __post_init__(self) -> None:
        self.first_limit = self.limit

    def change(self, limit: int, size: int, now: int) -> None:
        level = self.level(now)
        most = size + max(Fraction(0), level - self.size)
        if level > most:  # forgiven: history ends, and its takings are beyond reach
            self.owed, self.since, self.events, self.first_limit = most, now, [], limit
        else:
            self.events.append((now, limit))
        self.limit, self.size = limit, size

    def wait_ns(self, cost: int, now: int) -> int:
        return max(0, ceil((self.level(now) + cost - self.size) * 60 * S / self.limit))

    def take(self, cost: int, now: int) -> Taking:
        taking = Taking(now, cost)
        self.events.append(taking)
        return taking


class Scope:
    def __init__(self) -> None:
        self.places: int | None = None
        self.in_flight = 0
        self.requests: Past | None = None
        self.tokens: Past | None = None

    def change(self, limits: Limits, now: int) -> None:
        self.places = limits.concurrency
        self.requests = renewed(self.requests, limits.rpm, limits.burst or limits.rpm, now)
        self.tokens = renewed(self.tokens, limits.tpm, limits.tpm, now)


def renewed(past: Past | None, limit: int | None, size: int | None, now: int) -> Past | None:
    if limit is None or size is None:
        return None
    if past is None:
        return Past(limit, size, since=now)
    past.change(limit, size, now)
    return past


@dataclass
class Holding:
    hold: Hold
    scopes: list[Scope]
    tokens: int
    takings: list[Taking]
    of_requests: list[Taking]


class Limiting(RuleBasedStateMachine):
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.admission = Admission()
        self.meters = [Meter(f"scope {n}", START) for n in range(3)]
        self.scopes = [Scope() for _ in self.meters]
        for scope in self.scopes:
            scope.change(START, 0)

    def expected(self, scopes: list[Scope], tokens: int) -> tuple[str, int] | None:
        """The refusal's code and wait, by the rules as they are written."""
        if any(scope.tokens and tokens > scope.tokens.size for scope in scopes):
            return "request_exceeds_tpm", 0
        waits = [scope.requests.wait_ns(1, self.now) for scope in scopes if scope.requests]
        waits += [scope.tokens.wait_ns(tokens, self.now) for scope in scopes if scope.tokens and tokens]
        if any(waits):
            return "rate_limit_exceeded", max(waits)
        if any(scope.places is not None and scope.in_flight >= scope.places for scope in scopes):
            return "concurrency_limit_exceeded", S
        return None

    @rule(target=holds, which=st.sets(st.integers(0, 2)), tokens=st.integers(0, 7))
    def take(self, which: set[int], tokens: int) -> object:
        scopes = [self.scopes[n] for n in sorted(which)]
        expected = self.expected(scopes, tokens)
        try:
            hold = self.admission.take([self.meters[n] for n in sorted(which)], tokens, self.now)
            said = None
        except NaruError as refused:
            said = refused.code or "", round((refused.retry_after_s or 0) * S)
        assert said == expected
        if said is not None:
            return multiple()
        for scope in scopes:
            scope.in_flight += 1
        return Holding(
            hold,
            scopes,
            tokens,
            [scope.tokens.take(tokens, self.now) for scope in scopes if scope.tokens],
            [scope.requests.take(1, self.now) for scope in scopes if scope.requests],
        )

    @rule(holding=consumes(holds), used=st.none() | st.integers(0, 9))
    def release(self, holding: Holding, used: int | None) -> None:
        holding.hold.release(used, self.now)
        self.end(holding, holding.tokens if used is None else used)

    @rule(holding=consumes(holds))
    def cancel(self, holding: Holding) -> None:
        holding.hold.cancel(self.now)
        for taking in holding.of_requests:
            taking.cost = 0
        self.end(holding, 0)

    def end(self, holding: Holding, used: int) -> None:
        for taking in holding.takings:
            taking.cost = min(taking.cost, used)
        for scope in holding.scopes:
            scope.in_flight -= 1
            if scope.tokens and used > holding.tokens:
                scope.tokens.take(used - holding.tokens, self.now)

    @rule(ns=st.integers(0, 90 * S) | st.sampled_from([1, 10 * S, 20 * S]))
    def advance(self, ns: int) -> None:
        self.now += ns

    @rule(which=st.integers(0, 2), limits=LIMITS)
    def change(self, which: int, limits: Limits) -> None:
        self.admission.change(self.meters[which], limits, self.now)
        self.scopes[which].change(limits, self.now)

    @invariant()
    def agrees(self) -> None:
        for meter, scope in zip(self.meters, self.scopes, strict=True):
            assert meter.in_flight == scope.in_flight
            for bucket, past in ((meter.requests, scope.requests), (meter.tokens, scope.tokens)):
                assert (bucket is None) == (past is None)
                if bucket is not None and past is not None:
                    level = past.level(self.now)
                    assert Fraction(max(0, bucket.tat - self.now * bucket.limit), 60 * S) == level
                    assert bucket.remaining(self.now) == max(0, (past.size - level) // 1)
                    assert bucket.left(self.now)[1] == ceil(level * 60_000 / past.limit)


Limiting.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLimiting = Limiting.TestCase
