"""The breaker, as a table of what happens and what follows."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.routing.breaker import TRANSITIONS, Breaker, BreakerPolicy, State

POLICY = BreakerPolicy(failures=3, open_s=10.0, max_open_s=25.0)


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(now, Random(1), breaker.called(now))


def test_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 0.0, 2)
    breaker.healthy(0.0)
    fail(breaker, 0.0, 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 0.0)
    assert breaker.state is State.OPEN
    assert not breaker.may_call(1.0)


def test_more_than_half_of_ten_within_ten_seconds_open_it() -> None:
    """Never as many in a row, but most of them."""
    breaker = Breaker(BreakerPolicy(failures=100))
    for number in range(9):
        fail(breaker, number / 2, 1) if number % 3 else breaker.healthy(number / 2)
    assert breaker.state is State.CLOSED
    fail(breaker, 5.0)
    assert breaker.state is State.OPEN


def test_what_is_older_than_ten_seconds_does_not_count() -> None:
    breaker = Breaker(BreakerPolicy(failures=100))
    fail(breaker, 0.0, 9)
    fail(breaker, 10.5)
    assert breaker.state is State.CLOSED


def test_half_open_lets_one_through_whose_end_decides() -> None:
    breaker = Breaker(POLICY)
    fail(breaker, 0.0, 3)
    later = breaker.open_until
    assert breaker.may_call(later)
    assert breaker.called(later)
    assert breaker.state is State.HALF_OPEN
    assert not breaker.may_call(later)
    assert not breaker.called(later)
    breaker.healthy(later, decides=True)
    assert breaker.state is State.CLOSED


def test_half_open_only_the_one_call_decides() -> None:
    """Not those that began before the trip and end now, nor a last resort beside it: neither good nor bad, nor untold."""
    breaker = Breaker(POLICY)
    fail(breaker, 0.0, 3)
    later = breaker.open_until
    assert breaker.called(later)
    breaker.failed(later, Random(1))
    breaker.healthy(later)
    breaker.undecided(later)
    assert (breaker.state, breaker.may_call(later), breaker.trips) == (State.HALF_OPEN, False, 1)
    breaker.failed(later, Random(1), decides=True)
    assert (breaker.state, breaker.trips) == (State.OPEN, 2)


def test_an_end_that_tells_nothing_gives_the_next_one_the_try() -> None:
    """A client that leaves must not hold a deployment half open for ever."""
    breaker = Breaker(POLICY)
    fail(breaker, 0.0, 3)
    later = breaker.open_until
    breaker.undecided(later, breaker.called(later))
    assert breaker.may_call(later)


def test_each_trip_in_a_row_lasts_longer_up_to_a_bound() -> None:
    breaker, now, lasted = Breaker(POLICY), 0.0, []
    fail(breaker, now, 3)
    for _ in range(4):
        lasted.append(breaker.open_until - now)
        now = breaker.open_until
        fail(breaker, now)
    assert [round(seconds / 10) for seconds in lasted[:2]] == [1, 2]
    assert all(seconds <= 25 * 1.1 for seconds in lasted)
    breaker.healthy(breaker.open_until, breaker.called(breaker.open_until))
    assert breaker.trips == 0


def test_calls_that_began_before_a_trip_change_nothing_when_they_end_after_it() -> None:
    """Neither a late failure nor a late success moves an open breaker: one call that is meant to decide does."""
    breaker = Breaker(POLICY)
    fail(breaker, 0.0, 3)
    until = breaker.open_until
    breaker.failed(1.0, Random(2))
    breaker.healthy(1.0)
    assert (breaker.state, breaker.open_until) == (State.OPEN, until)


@pytest.mark.parametrize("state", State)
def test_every_state_can_be_left(state: State) -> None:
    assert any(before is state and after is not state for (before, _), after in TRANSITIONS.items())


@given(st.lists(st.tuples(st.sampled_from(["call", "healthy", "failed", "undecided"]), st.floats(0, 30)), max_size=60))
def test_it_always_comes_back(events: list[tuple[str, float]]) -> None:
    """Whatever happened: after the longest open time a call may be made, and a good end of it closes the breaker."""
    breaker, now, random = Breaker(POLICY), 0.0, Random(3)
    under_way: list[bool] = []
    for what, after in events:
        now += after
        if what == "call":
            under_way.append(breaker.called(now))
            assert sum(under_way) <= 1
        elif under_way and what == "failed":
            breaker.failed(now, random, under_way.pop())
        elif under_way:
            getattr(breaker, what)(now, under_way.pop())
    for decides in under_way:
        breaker.undecided(now, decides)
    now += POLICY.max_open_s * 1.2
    assert breaker.may_call(now)
    breaker.healthy(now, breaker.called(now))
    assert breaker.state is State.CLOSED
