"""The arithmetic of one bucket: never too much, never too little, whatever comes back and whichever way the clock goes."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.limits import gcra
from naru.limits.gcra import MAX_DIPS, MINUTE_NS, Bucket

S = 1_000_000_000
LIMITS = st.sampled_from([1, 5, 7, 60, 100, 999, 60_000, 7_000_001, 10**12])
SIZES = st.integers(1, 50)


def passes(bucket: Bucket, cost: int, now: int, mark: int = 1) -> bool:
    if bucket.wait_ns(cost, now) > 0:
        return False
    bucket.take(cost, now, mark)
    return True


def test_a_minutes_worth_at_once_then_at_the_rate() -> None:
    bucket = Bucket(5, 5)
    assert [passes(bucket, 1, 0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.wait_ns(1, 0) == 12 * S
    assert [passes(bucket, 1, 12 * S - 1), passes(bucket, 1, 12 * S), passes(bucket, 1, 12 * S)] == [False, True, False]
    assert bucket.left(12 * S) == (0, 60_000)
    assert bucket.left(72 * S) == (5, 0)


@settings(deadline=None)
@given(LIMITS, SIZES, st.lists(st.tuples(st.integers(0, 90 * S), st.integers(1, 50)), max_size=60))
def test_no_window_admits_more_than_the_bucket_and_the_rate(limit: int, size: int, asks: list[tuple[int, int]]) -> None:
    """Exactly so, in integers; and a refusal means that one more would have been too much (it is not stricter than it must be)."""
    bucket, now, took = Bucket(limit, size), 0, [(0, 0)]
    for gap, cost in asks:
        now += gap
        cost = min(cost, size)
        used = [sum(c for _, c in took[i:]) * MINUTE_NS - (now - at) * limit for i, (at, _) in enumerate(took)]
        fits = max(used) + cost * MINUTE_NS <= size * MINUTE_NS
        assert passes(bucket, cost, now) == fits
        if fits:
            took.append((now, cost))


@given(LIMITS, SIZES, st.integers(1, 50), st.integers(0, 3), st.integers(0, 10**18))
def test_the_wait_told_is_the_shortest_that_helps(limit: int, size: int, cost: int, extra: int, now: int) -> None:
    bucket, cost = Bucket(limit, size), min(cost, size)
    bucket.take(size + extra, now, 1)
    wait = bucket.wait_ns(cost, now)
    assert wait > 0
    assert bucket.wait_ns(cost, now + wait - 1) > 0
    assert bucket.wait_ns(cost, now + wait) <= 0


def test_no_rounding_adds_up() -> None:
    """A minute is no multiple of 7; a million requests later nothing has been lost or won."""
    bucket, now = Bucket(7, 7), 0
    bucket.take(7, now, 1)
    for number in range(1, 100_001):
        now = -(-MINUTE_NS * number // 7)
        assert bucket.wait_ns(1, now - 1) > 0
        assert passes(bucket, 1, now)


@given(LIMITS, SIZES, st.integers(0, 10**15), st.data())
def test_a_clock_that_goes_back_grants_nothing_and_blocks_no_longer_than_its_jump(
    limit: int, size: int, now: int, data: st.DataObject
) -> None:
    bucket = Bucket(limit, size)
    bucket.take(data.draw(st.integers(1, size)), now, 1)
    left = bucket.remaining(now)
    wait = bucket.wait_ns(size, now)
    back = data.draw(st.integers(0, 10**12))
    assert bucket.remaining(now - back) <= left
    assert bucket.wait_ns(size, now - back) == wait + back
    bucket.give_back(10**6, now - back, 1)
    assert bucket.remaining(now) <= size


@given(SIZES, st.integers(0, 100), st.integers(0, 100))
def test_a_refund_never_fills_beyond_the_bucket(size: int, took: int, back: int) -> None:
    bucket = Bucket(60, size)
    bucket.take(took, 0, 1)
    bucket.give_back(back, 0, 1)
    assert bucket.remaining(0) == max(0, size - max(0, took - back))
    assert not passes(bucket, size + 1, 0)


def test_what_has_drained_is_not_given_back_as_well() -> None:
    """The bucket was full again when the second came: a refund to the first would let 200 pass within an instant."""
    bucket = Bucket(100, 100)
    assert passes(bucket, 100, 0, 1)
    assert passes(bucket, 100, 60 * S, 2)
    bucket.give_back(100, 60 * S, 1)
    assert bucket.remaining(60 * S) == 0
    bucket.give_back(40, 60 * S, 2)
    assert bucket.remaining(60 * S) == 40


def test_a_debt_is_waited_for() -> None:
    bucket = Bucket(60, 60)
    bucket.take(180, 0, 1)
    assert bucket.left(0) == (0, 180_000)
    assert bucket.wait_ns(60, 0) == 180 * S
    assert bucket.wait_ns(1, 0) == 121 * S


def test_a_change_keeps_what_was_taken() -> None:
    bucket = Bucket(100, 100)
    bucket.take(80, 0, 1)
    bucket.change(1000, 1000, 0, 2)
    assert bucket.remaining(0) == 920
    bucket.change(50, 50, 0, 3)
    assert (bucket.remaining(0), bucket.wait_ns(1, 0)) == (0, MINUTE_NS // 50)
    bucket.change(100, 100, 0, 4)
    assert bucket.remaining(0) == 50
    bucket.take(70, 0, 4)  # 20 beyond the bucket
    bucket.change(10, 10, 0, 5)
    assert bucket.wait_ns(1, 0) == 21 * MINUTE_NS // 10


# --- What comes back late ------------------------------------------------------------------------------------------


@dataclass
class Traffic:
    """Requests as they were: when, how much they held, and how much they used once that is known."""

    limit: int
    took: list[list[int]] = field(default_factory=list)
    refused: int = 0

    def level(self, now: int) -> int:
        """From scratch, in units: every request asks for what is known of it today."""
        level, last = 0, 0
        for at, cost in self.took:
            level = max(0, level - (at - last) * self.limit) + cost * MINUTE_NS
            last = at
        return max(0, level - (now - last) * self.limit)


def rush(seed: int, longest_s: int) -> Iterator[tuple[Bucket, Traffic, int]]:
    """50 clients that hold much, use little and end late. Yields the bucket and its history before each step."""
    chance = random.Random(seed)
    bucket, traffic = Bucket(100_000, 100_000), Traffic(100_000)
    events = [(chance.randrange(S), number, -1, 0) for number in range(50)]
    heapq.heapify(events)
    for _ in range(600):
        now, client, index, held = heapq.heappop(events)
        yield bucket, traffic, now
        cost = chance.randint(1, 30_000)
        if index >= 0:
            used = chance.randint(0, held)
            bucket.give_back(held - used, now, index + 1)
            traffic.took[index][1] = used
            heapq.heappush(events, (now + chance.randrange(S), client, -1, 0))
        elif passes(bucket, cost, now, len(traffic.took) + 1):
            traffic.took.append([now, cost])
            heapq.heappush(events, (now + chance.randrange(longest_s * S), client, len(traffic.took) - 1, cost))
        else:
            traffic.refused += 1
            heapq.heappush(events, (now + bucket.wait_ns(cost, now), client, -1, 0))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("longest_s", [5, 200])
def test_late_refunds_are_what_the_right_amount_at_once_would_have_been(seed: int, longest_s: int) -> None:
    """At every moment the bucket is where it would be, had each asked for what it used: neither over, in any window, nor under
    what the rate allows."""
    for bucket, traffic, now in rush(seed, longest_s):
        assert max(0, bucket.tat - now * bucket.limit) == traffic.level(now)
    assert traffic.refused > 20
    over_windows(traffic)


@pytest.mark.parametrize("seed", range(8))
def test_with_more_dips_than_are_remembered_it_is_never_over(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcra, "MAX_DIPS", 4)
    for bucket, traffic, now in rush(seed, 200):
        assert max(0, bucket.tat - now * bucket.limit) >= traffic.level(now)
    over_windows(traffic)


def over_windows(traffic: Traffic) -> None:
    for first, (start, _) in enumerate(traffic.took):
        total = 0
        for at, cost in traffic.took[first:]:
            total += cost
            assert total * MINUTE_NS <= 100_000 * MINUTE_NS + (at - start) * traffic.limit


def test_memory_is_bounded() -> None:
    """Thousands take in one instant, then half of it comes back, or nearly."""
    bucket = Bucket(10**6, 10**6)
    for mark in range(1, 5001):
        bucket.take(2, 0, mark)
        assert len(bucket._steps) == len(bucket._marks) < MAX_DIPS
    for mark in range(1, 5001):
        bucket.give_back(1, 0, mark)
    assert 10**6 - 10_000 <= bucket.remaining(0) <= 10**6 - 5000
