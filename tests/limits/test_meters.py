"""What may be said in a limit, and what callers are told about theirs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.errors import BadRequest, NaruError, RateLimited
from naru.limits.admission import Admission
from naru.limits.headers import duration, headers
from naru.limits.meters import Limits, Meter

S = 1_000_000_000


@pytest.mark.parametrize("name", ["rpm", "tpm", "concurrency"])
@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "not 0; .*revoke"), (-1, "not -1"), (10**13, "not a huge number"), (2.5, "not 2.5"), (True, "not True")],
)
def test_a_bad_figure_is_refused_by_name(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be a whole number from 1 to 1,000,000,000,000, {said}"):
        Limits(**{name: value})


def test_figures_from_outside_are_refused_the_same() -> None:
    assert msgspec.convert({"rpm": 5}, Limits) == Limits(rpm=5)
    for given_one, said in [({"tpm": -3}, "tpm must be a whole number"), ({"tpm": 1.5}, "got `float` - at `\\$.tpm`")]:
        with pytest.raises(msgspec.ValidationError, match=said):
            msgspec.convert(given_one, Limits)
    with pytest.raises(msgspec.ValidationError, match="so it needs rpm"):
        msgspec.convert({"burst": 3}, Limits)


def refused(limits: Limits, tokens: int, before: int = 0) -> NaruError:
    """Why a request with so many tokens does not pass after one that took `before`."""
    admission, meter = Admission(), Meter("team research", limits)
    admission.take([meter], before, 0)
    with pytest.raises(NaruError) as caught:
        admission.take([meter], tokens, 0)
    return caught.value


def test_a_refusal_says_whose_limit_which_and_when_again() -> None:
    error = refused(Limits(rpm=100, burst=1), 0)
    assert (type(error), error.status, error.code, error.retry_after_s) == (
        RateLimited,
        429,
        "rate_limit_exceeded",
        0.6,
    )
    assert error.message == "Limit reached for team research: 100 requests per minute. Try again in 600ms."
    error = refused(Limits(tpm=10_000), 500, before=9_880)
    assert (error.status, error.code, error.retry_after_s) == (429, "rate_limit_exceeded", 2.28)
    assert error.message == (
        "Limit reached for team research: 10,000 tokens per minute. This request may need 500, and 120 are left. Try again in 2.28s."
    )
    error = refused(Limits(concurrency=1), 500)
    assert (error.status, error.code, error.retry_after_s) == (429, "concurrency_limit_exceeded", 1.0)
    assert error.message == (
        "Limit reached for team research: 1 concurrent requests. Try again when one of them has ended."
    )


def test_what_could_never_pass_is_no_429() -> None:
    error = refused(Limits(rpm=1, tpm=1000, concurrency=1), 1001)
    assert (type(error), error.status, error.code) == (BadRequest, 400, "request_exceeds_tpm")
    assert "1,001 tokens" in error.message
    assert "team research may use 1,000 per minute" in error.message


def test_the_longest_wait_is_told() -> None:
    """Waiting for the nearer limit alone would end in another 429."""
    error = refused(Limits(rpm=60, tpm=60, burst=1, concurrency=1), 60, before=60)
    assert error.retry_after_s == 60
    assert "tokens per minute" in error.message


def test_headers_tell_what_is_left() -> None:
    admission, key = Admission(), Meter("key", Limits(rpm=60, tpm=6000))
    assert headers([key], 0)[1:3] == [
        (b"x-ratelimit-remaining-requests", b"60"),
        (b"x-ratelimit-reset-requests", b"0s"),
    ]
    hold = admission.take([key], 1200, 0)
    assert headers([key], 500_000_000) == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"500ms"),
        (b"x-ratelimit-limit-tokens", b"6000"),
        (b"x-ratelimit-remaining-tokens", b"4850"),
        (b"x-ratelimit-reset-tokens", b"11.5s"),
    ]
    hold.release(9000, S)
    assert headers([key], S)[4:] == [(b"x-ratelimit-remaining-tokens", b"0"), (b"x-ratelimit-reset-tokens", b"1m29s")]
    assert headers([Meter("free"), Meter("free too", Limits(concurrency=3))], 0) == []
    assert headers([], 0) == []


def test_headers_are_of_the_meter_with_the_least_share_left() -> None:
    admission = Admission()
    key, team = Meter("key", Limits(rpm=10, tpm=1000)), Meter("team", Limits(rpm=100, tpm=500))
    assert [value for _, value in headers([team, key], 0)] == [b"10", b"10", b"0s", b"500", b"500", b"0s"]
    admission.take([team], 400, 0)
    admission.take([key], 10, 0)
    for meters in ([team, key], [key, team]):
        shown = headers(meters, 0)
        assert [shown[0][1], shown[3][1], shown[4][1]] == [b"10", b"500", b"100"]


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, b"0s"), (12, b"12ms"), (999, b"999ms"), (1000, b"1s"), (1500, b"1.5s"), (1001, b"1.001s"), (60_000, b"1m0s"),
        (360_000, b"6m0s"), (90_250, b"1m30.25s"), (3_602_000, b"1h0m2s"), (360_000_000, b"100h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_go_does(ms: int, text: bytes) -> None:
    assert duration(ms) == text


@given(st.integers(0, 10**10))
def test_a_duration_reads_back(ms: int) -> None:
    text, total = duration(ms).decode(), 0.0
    for unit, worth in (("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if unit in text:
            figure, text = text.split(unit, 1)
            total += float(figure) * worth
    assert (text, round(total)) == ("", ms)
