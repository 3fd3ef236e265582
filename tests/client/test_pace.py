"""The pace's laws: never more than the figures in any minute, whatever the interleaving, and never a stop for good."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.client.pace import CATCH_UP_NS, MINUTE_NS, WINDOW_NS, Allowance, Pace, Said, Ticket, said_of

S = 1_000_000_000
LIMITS = st.sampled_from([1, 2, 7, 60, 600, 90_000])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-ratelimit-limit-requests": st.sampled_from(["600", "1", "0", "many", "9999999"]),
        "x-ratelimit-remaining-requests": st.sampled_from(["0", "1", "599", "-3"]),
        "x-ratelimit-reset-requests": st.sampled_from(["0s", "6m0s", "100ms", "12", "nan", "soon"]),
        "x-ratelimit-limit-tokens": st.sampled_from(["1000", "120000"]),
        "x-ratelimit-remaining-tokens": st.sampled_from(["0", "999"]),
        "x-ratelimit-reset-tokens": st.sampled_from(["59s", "1h0m2s", ""]),
    },
)


def most_in_a_minute(taken: list[tuple[int, int]]) -> int:
    return max((sum(cost for at, cost in taken if begun <= at < begun + MINUTE_NS) for begun, _ in taken), default=0)


@settings(deadline=None)
@given(LIMITS, st.lists(st.tuples(st.integers(0, 30 * S), st.integers(1, 400)), max_size=50))
def test_no_minute_has_more_than_the_allowance(limit: int, asks: list[tuple[int, int]]) -> None:
    """And the wait told is one that helps: after it the cost may go."""
    allowance, now, taken = Allowance(limit, 0), 0, []
    for number, (gap, cost) in enumerate(asks):
        now += gap
        now += allowance.wait_ns(cost, now)
        assert allowance.wait_ns(cost, now) == 0
        allowance.take(cost, number, now)
        taken.append((now, min(cost, limit)))
    assert most_in_a_minute(taken) <= limit


def test_an_allowance_is_spread_evenly_from_the_first_on() -> None:
    allowance, now = Allowance(600, 0), 0
    sent = []
    for number in range(1_200):
        now += allowance.wait_ns(1, now)
        allowance.take(1, number, now)
        sent.append(now)
    gaps = {later - earlier for earlier, later in pairwise(sent)}
    assert max(gaps) <= WINDOW_NS // 600 + 600  # whole nanoseconds, six hundred of them
    assert min(gaps) >= WINDOW_NS // 600
    assert sent[-1] <= 2 * WINDOW_NS


def test_what_a_hold_kept_back_follows_at_once_up_to_a_few_seconds_worth() -> None:
    allowance = Allowance(600, 0)
    allowance.take(1, 0, 0)
    now, sent = 30 * S, 0
    while allowance.wait_ns(1, now) == 0:
        sent += 1
        allowance.take(1, sent, now)
    assert sent == CATCH_UP_NS * 600 // WINDOW_NS + 1


def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_taken() -> None:
    allowance = Allowance(1_000, 0)
    allowance.take(900, 1, 0)
    assert allowance.wait_ns(200, 50 * S) == WINDOW_NS - 50 * S
    allowance.settle(1, 100)
    assert allowance.wait_ns(200, 50 * S) == 0
    allowance.take(200, 2, 50 * S)
    allowance.settle(2, 950)
    assert allowance.wait_ns(100, 51 * S) > 0
    assert allowance.wait_ns(50, 50 * S + WINDOW_NS) == 0


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_whatever_happens_in_whatever_order_the_figures_hold(data: st.DataObject) -> None:
    rpm, tpm, concurrency = data.draw(LIMITS), data.draw(LIMITS), data.draw(st.integers(1, 5))
    pace, now = Pace(rpm, tpm, concurrency, 0), 0
    under_way: list[Ticket] = []
    requests: list[tuple[int, int]] = []
    tokens: dict[int, list[int]] = {}
    for _ in range(data.draw(st.integers(0, 40))):
        now += data.draw(st.sampled_from([0, 1, S // 10, 7 * S, 61 * S]))
        cost = data.draw(st.integers(1, 500))
        wait = pace.wait_ns(cost, now)
        if wait is None:
            assert under_way, "nothing is under way, so nothing would ever end"
        elif data.draw(st.booleans()):
            now += wait
            assert pace.wait_ns(cost, now) == 0, "what was told is enough"
            ticket = pace.let_go(cost, now)
            under_way.append(ticket)
            requests.append((now, 1))
            tokens[ticket.number] = [now, min(cost, tpm)]
            window = [spent for at, spent in tokens.values() if at > now - MINUTE_NS]
            assert sum(window) <= tpm
        if under_way and data.draw(st.booleans()):
            ticket = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            end = data.draw(st.sampled_from(["answered", "refused", "failed"]))
            used = data.draw(st.integers(0, ticket.tokens)) if end == "answered" else 0
            if tokens[ticket.number][0] > now - WINDOW_NS:
                tokens[ticket.number][1] = used
            if end == "answered":
                pace.answered(ticket, used, data.draw(HEADERS), now)
            elif end == "refused":
                hold = data.draw(st.sampled_from([0, S, 90 * S]))
                pace.refused(ticket, hold, now, lacks_place=data.draw(st.booleans()))
                next_wait = pace.wait_ns(1, now)
                assert next_wait is None or next_wait >= hold
            else:
                pace.failed(ticket)
        assert pace.under_way == len(under_way) <= concurrency
    assert most_in_a_minute(requests) <= rpm


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (("600", "599", "100ms"), Said(600, 599, S // 10)),
        (("60", "0", "6m0s"), Said(60, 0, 300 * S)),
        (("60", "0", "1.5"), Said(60, 0, 3 * S // 2)),
        (("60", "0", "soon"), Said(60, 0, None)),
        (("60", "0", ""), Said(60, 0, None)),
        (("0", "0", "1s"), None),
        (("60", "", "1s"), None),
        (("sixty", "3", "1s"), None),
    ],
)
def test_the_headers_are_read_as_openai_and_naru_write_them(headers: tuple[str, str, str], said: Said | None) -> None:
    names = ("limit", "remaining", "reset")
    given = {f"x-ratelimit-{name}-tokens": value for name, value in zip(names, headers, strict=True)}
    assert said_of(given, "tokens") == said
    assert said_of({}, "tokens") is None


def told(limit: int, remaining: int, reset: str) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(remaining),
        "x-ratelimit-reset-requests": reset,
    }


def let_go_at(pace: Pace, now: int) -> int:
    count = 0
    while pace.wait_ns(1, now) == 0:
        pace.let_go(1, now)
        count += 1
    return count


def test_room_that_the_server_told_is_used_at_once_and_its_rate_after_that() -> None:
    pace = Pace(None, None, 1_000, 0)
    first = pace.let_go(1, 0)
    pace.answered(first, 1, told(600, 20, "58s"), 0)
    assert let_go_at(pace, 0) == 20
    assert pace.wait_ns(1, 0) == S // 10
    assert let_go_at(pace, S) == 10


def test_what_was_let_go_meanwhile_is_taken_off_the_room_told() -> None:
    pace = Pace(None, None, 1_000, 0)
    first, *_ = [pace.let_go(1, 0) for _ in range(4)]
    pace.answered(first, 1, told(600, 20, "58s"), 0)
    assert let_go_at(pace, 0) == 17


def test_a_bucket_of_one_that_told_nothing_for_a_while_is_followed_exactly() -> None:
    """An answer that comes late tells what was left when its request came; the bucket has been emptied again since."""
    pace = Pace(None, None, 1_000, 0)
    pace.answered(pace.let_go(1, 0), 1, told(600, 0, "100ms"), 0)
    late = pace.let_go(1, S)
    pace.let_go(1, 9 * S)
    pace.answered(late, 1, told(600, 0, "100ms"), 9 * S)
    assert pace.wait_ns(1, 9 * S + S // 20) == S // 20


def test_an_answer_to_an_earlier_request_says_nothing_new() -> None:
    pace = Pace(None, None, 1_000, 0)
    first, second = pace.let_go(1, 0), pace.let_go(1, 0)
    pace.answered(second, 1, told(600, 2, "59s"), 0)
    pace.answered(first, 1, told(600, 500, "10s"), 0)
    assert let_go_at(pace, 0) == 2


def test_a_bucket_of_one_is_not_filled_beyond_one() -> None:
    """`rpm = 600, burst = 1`: remaining 0 after each, whole again in 100 ms."""
    pace = Pace(None, None, 1_000, 0)
    pace.answered(pace.let_go(1, 0), 1, told(600, 0, "100ms"), 0)
    assert let_go_at(pace, 50 * S) == 1


def test_an_answer_that_took_long_does_not_bring_its_time_twice() -> None:
    """Naru tells what is left when the answer leaves; counted from when the request was let go it would be too much."""
    pace = Pace(None, None, 1_000, 0)
    pace.answered(pace.let_go(1, 0), 1, told(600, 0, "60s"), 0)
    slow = pace.let_go(1, S)
    assert let_go_at(pace, S) == 9
    pace.answered(slow, 1, told(600, 50, "55s"), 6 * S)
    assert let_go_at(pace, 6 * S) == 50


def test_a_hold_keeps_everybody_back_until_its_end() -> None:
    pace = Pace(None, None, 10, 0)
    pace.refused(pace.let_go(1, 0), 3 * S, 0, lacks_place=False)
    assert pace.wait_ns(1, 0) == 3 * S
    assert pace.wait_ns(1, 3 * S) == 0


def test_without_a_limit_the_lanes_grow_until_a_refusal_and_are_cut_once_for_it() -> None:
    pace = Pace(None, None, 64, 0)
    assert pace.lanes == 4
    for _ in range(20):
        pace.answered(pace.let_go(1, 0), 1, {}, 0)
    assert pace.lanes == 24
    tickets = [pace.let_go(1, 0) for _ in range(24)]
    for ticket in tickets:
        pace.refused(ticket, 0, 0, lacks_place=False)
    assert pace.lanes == 16
    assert pace.wait_ns(1, 0) == 2 * S, "nobody said how long"
    for _ in range(17):
        pace.answered(pace.let_go(1, 2 * S), 1, {}, 2 * S)
    assert pace.lanes == 17


def test_where_the_server_refuses_what_the_caller_allows_the_rate_falls_and_comes_back() -> None:
    pace, now = Pace(600, None, 10, 0), 0
    for _ in range(10):
        now += pace.wait_ns(1, now) or 0
        pace.refused(pace.let_go(1, now), 0, now, lacks_place=False)
    slow = pace.wait_ns(1, now) or 0
    assert slow > 2 * WINDOW_NS // 600
    for _ in range(200):
        now += pace.wait_ns(1, now) or 0
        pace.answered(pace.let_go(1, now), 1, {}, now)
    assert pace.wait_ns(1, now) <= WINDOW_NS // 600  # type: ignore[operator]
