"""What a deployment's calls teach about it, and what they do not."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.errors import (
    BadRequest,
    NaruError,
    Overloaded,
    RateLimited,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from naru.routing.budget import RetryBudget
from naru.routing.verdict import Verdict, verdict
from naru.routing.vitals import MAX_PAUSE_S, MIN_ROOM, MIN_SAMPLES, ROOM_FORGET_S, Credential, Quantiles, Speed, Vitals
from tests.routing.world import POLICY, refused


def vitals() -> Vitals:
    return Vitals(POLICY, Credential())


def end(found: Vitals, error: NaruError | None, now: float = 0.0) -> None:
    found.began(now)
    found.ended(error, now, Random(1))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, Verdict.HEALTHY),
        (UpstreamUnreachable("x"), Verdict.FAILED),
        (UpstreamTimeout("x"), Verdict.FAILED),
        (UpstreamBroken("x"), Verdict.FAILED),
        (refused(500), Verdict.FAILED),
        (refused(529), Verdict.FAILED),
        (refused(408), Verdict.FAILED),
        (refused(429), Verdict.THROTTLED),
        (refused(402), Verdict.THROTTLED),
        (refused(429, code="insufficient_quota"), Verdict.THROTTLED),
        (UpstreamAuth(401), Verdict.LOCKED),
        (UpstreamAuth(403), Verdict.LOCKED),
        (refused(400), Verdict.NEUTRAL),
        (refused(404), Verdict.NEUTRAL),
        (refused(413), Verdict.NEUTRAL),
        (refused(422), Verdict.NEUTRAL),
        (BadRequest("x"), Verdict.NEUTRAL),
        (RateLimited("our own"), Verdict.NEUTRAL),
        (Overloaded("x", code="upstream_pool_exhausted"), Verdict.NEUTRAL),
        (UpstreamBroken("x", code="client_gone"), Verdict.NEUTRAL),
        (UpstreamBroken("x", code="client_stalled"), Verdict.NEUTRAL),
        (UpstreamBroken("x", code="upstream_closed"), Verdict.NEUTRAL),
    ],
    ids=lambda value: getattr(value, "code", None) or type(value).__name__,
)
def test_only_a_providers_own_failures_count(error: NaruError | None, expected: Verdict) -> None:
    """The request's, the client's and our own say nothing of it."""
    assert verdict(error) is expected


def test_throttling_pauses_for_as_long_as_the_provider_says() -> None:
    found = vitals()
    end(found, refused(429, retry_after_s=7.0), now=100.0)
    assert found.paused_until == 107.0
    assert not found.is_well(106.9)
    assert found.is_well(107.0)
    assert found.ailment(101.0) == "its provider asked for a pause, 6.0 s are left"


def test_throttling_without_a_time_pauses_longer_each_time() -> None:
    """With some chance in it, so that a crowd of gateways does not come back in one moment; a success starts anew."""
    found, now, waits = vitals(), 0.0, []
    for _ in range(9):
        end(found, refused(429), now)
        waits.append(found.paused_until - now)
        now = found.paused_until
    assert all(0.5 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:6]))
    assert max(waits) <= MAX_PAUSE_S
    end(found, None, now)
    end(found, refused(429), now)
    assert found.paused_until - now <= 1.0


def test_throttling_is_no_failure() -> None:
    """A provider that answers 429 works."""
    found = vitals()
    for _ in range(20):
        end(found, refused(429, retry_after_s=0.0))
    assert found.is_well(0.0)


def test_an_empty_account_is_left_alone_for_a_minute() -> None:
    found = vitals()
    end(found, refused(429, code="insufficient_quota"))
    assert not found.is_well(59.0)
    assert found.is_well(60.0)


def test_a_wrong_key_is_tried_again_ever_more_rarely() -> None:
    found, now = vitals(), 0.0
    for expected in (60, 120, 240, 480, 600, 600):
        end(found, UpstreamAuth(401), now)
        assert found.credential.locked_until - now == expected
        now = found.credential.locked_until
    end(found, None, now)
    assert found.credential.refusals == 0


def test_room_shrinks_once_for_a_flood_and_grows_with_answers() -> None:
    """AIMD: three quarters of what was in hand, then one more for each full round; forgotten after a quiet minute."""
    found = vitals()
    for _ in range(16):
        found.began(0.0)
    for _ in range(4):
        found.ended(refused(529), 5.0, Random(1))
    assert found.room == 12.0
    assert (found.in_flight, found.has_room(5.0)) == (12, False)
    for _ in range(13):  # a round of answers, its places taken again at once
        found.ended(None, 5.0, Random(1))
        found.began(5.0)
    assert 13.0 <= found.room < 13.1
    found.began(5.0)
    found.began(5.0)
    assert not found.has_room(5.0)
    assert found.has_room(5.0 + ROOM_FORGET_S)
    assert found.room is None


def test_room_never_closes() -> None:
    found = vitals()
    end(found, refused(503))
    assert found.room == MIN_ROOM


def test_a_lost_race_is_neither_healthy_nor_failed() -> None:
    """The breaker keeps what it knew."""
    found = vitals()
    for _ in range(POLICY.failures - 1):
        end(found, refused(500))
    found.began(0.0)
    found.lost(0.0)
    assert (found.in_flight, found.breaker.in_a_row) == (0, POLICY.failures - 1)
    end(found, refused(500))
    assert not found.is_well(0.0)


# --- Speed ------------------------------------------------------------------------------------------------------------


def test_a_slow_answer_counts_at_once_and_fades() -> None:
    speed = Speed()
    speed.saw(0.1, 0.0)
    speed.saw(2.0, 1.0)
    assert speed.now(1.0) == 2.0
    speed.saw(0.1, 2.0)
    assert 1.5 < speed.now(2.0) < 2.0
    assert speed.now(60.0) < 0.01


def test_what_was_given_up_on_was_at_least_so_slow() -> None:
    speed = Speed()
    speed.saw(1.0, 0.0)
    speed.at_least(0.5, 0.0)
    assert speed.now(0.0) == 1.0
    speed.at_least(3.0, 0.0)
    assert speed.now(0.0) == 3.0


@given(st.lists(st.floats(0.001, 100), min_size=MIN_SAMPLES, max_size=128), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_quantiles_are_of_what_was_seen(samples: list[float], part: float) -> None:
    """At least the part asked for took so long at most."""
    found = Quantiles()
    for seconds in samples:
        found.saw(seconds)
    answer = found.of(part, 100.0)
    assert answer in samples
    assert sum(seconds <= answer for seconds in samples) >= part * len(samples) - 1e-9


def test_few_samples_say_nothing_of_a_tail() -> None:
    found = Quantiles()
    for _ in range(MIN_SAMPLES - 1):
        found.saw(1.0)
    assert found.of(0.95, 0.0) is None


# --- Retry budget --------------------------------------------------------------------------------------------------------


def test_a_burst_is_paid_for_and_a_flood_is_not() -> None:
    """A deployment that dies fails all its calls at once; a gateway whose upstreams are all down must not double its load."""
    budget = RetryBudget(0.2, least=10.0)
    for number in range(2000):  # ten seconds at 200 a second
        budget.request(number / 200)
    assert sum(budget.take(10.0) for _ in range(1000)) > 200
    assert not budget.take(10.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.5)), max_size=300))
def test_retries_stay_below_their_share(events: list[tuple[bool, float]]) -> None:
    """Never more than the share of all requests, and what came of itself."""
    budget, now, requests, retries = RetryBudget(0.2, least=10.0), 0.0, 0, 0
    for is_request, after in events:
        now += after
        if is_request:
            requests += 1
            budget.request(now)
        else:
            retries += budget.take(now)
    assert retries <= 0.2 * requests + 10.0 + (now + 1) * 10.0 * 0.1 + 1e-6


def test_a_quiet_gateway_may_retry_again_after_a_while() -> None:
    budget = RetryBudget(0.0, least=5.0)
    assert sum(budget.take(0.0) for _ in range(9)) == 5
    assert sum(budget.take(100.0) for _ in range(9)) == 5
