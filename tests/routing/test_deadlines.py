"""How long an answer may take where nobody said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from naru.protocol.dialect import Envelope
from naru.routing.deadlines import MAX_TOTAL_S, MAX_TTFT_S, TOTAL_S, patience_s, total_s, ttft_s
from naru.routing.table import Timeouts
from tests.routing.world import deployment


def asked(input_bytes: int = 100, output: int | None = None, n: int = 1) -> Envelope:
    return Envelope({}, "m", True, False, output, n, input_bytes)


PLAIN, THINKS = deployment("plain"), deployment("thinks", reasons=True)


def test_what_the_operator_says_holds() -> None:
    """Whatever the request."""
    said = deployment("said", timeouts=Timeouts(ttft_s=2.0, total_s=9.0), reasons=True)
    assert ttft_s(said, asked(10_000_000)) == 2.0
    assert total_s(said, asked(10_000_000, 500_000)) == 9.0


def test_a_model_that_thinks_first_may_be_silent_for_minutes() -> None:
    assert 60 <= ttft_s(PLAIN, asked()) < 61
    assert 300 <= ttft_s(THINKS, asked()) < 301


def test_a_long_prompt_takes_longer_to_its_first_word() -> None:
    """A second for each thousand tokens, up to a bound."""
    assert 100 < ttft_s(PLAIN, asked(400_000)) < 240
    assert ttft_s(PLAIN, asked(100_000_000)) == MAX_TTFT_S


def test_a_long_answer_has_longer() -> None:
    """At 25 tokens a second and half as much again; n answers n times; up to a bound."""
    assert total_s(PLAIN, asked()) == total_s(PLAIN, asked(output=8_000)) == TOTAL_S
    assert 1_900 < total_s(PLAIN, asked(output=32_000)) < 1_930
    assert total_s(PLAIN, asked(output=16_000, n=2)) == total_s(PLAIN, asked(output=32_000))
    assert total_s(PLAIN, asked(output=1_000_000)) == MAX_TOTAL_S


@given(st.integers(0, 10_000_000), st.integers(0, 1_000_000), st.floats(0.1, 3_600))
def test_patience_leaves_time_for_another(input_bytes: int, output: int, left_s: float) -> None:
    """At least half of what is left, never more than four fifths."""
    patience = patience_s(PLAIN, asked(input_bytes, output), left_s)
    assert left_s / 2 <= patience <= left_s * 0.8 + 1e-9


@given(st.integers(0, 10_000_000), st.integers(0, 1_000_000))
def test_more_never_gets_less_time(input_bytes: int, output: int) -> None:
    assert total_s(PLAIN, asked(input_bytes + 1_000, output + 100)) >= total_s(PLAIN, asked(input_bytes, output))
    assert ttft_s(PLAIN, asked(input_bytes + 1_000)) >= ttft_s(PLAIN, asked(input_bytes))
