"""The clock that stands still."""

import pytest

from naru.clock import Clock
from naru.testing import FakeClock


def test_it_is_a_clock_that_moves_only_when_told() -> None:
    clock = FakeClock(now_s=100.0, monotonic_s=5.0)
    as_port: Clock = clock
    assert (as_port.now(), as_port.monotonic(), as_port.now()) == (100.0, 5.0, 100.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 7.5)


def test_a_jump_moves_wall_time_alone() -> None:
    clock = FakeClock(now_s=100.0, monotonic_s=5.0)
    clock.jump(-60)
    assert (clock.now(), clock.monotonic()) == (40.0, 5.0)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_it_never_goes_back_by_advancing(seconds: float) -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="cannot advance"):
        clock.advance(seconds)
    assert clock.monotonic() == 1000.0
