"""The life of an engine as a table: what can follow what, and how long a restart waits."""

from __future__ import annotations

from random import Random

import pytest

from naru.engines.states import (
    FIRST_PAUSE_S,
    JITTER,
    MAX_PAUSE_S,
    STABLE_S,
    TRANSITIONS,
    WITH_PROCESS,
    Event,
    State,
    after,
    failures_after,
    is_hopeless,
    pause_s,
)


def reachable(state: State) -> set[State]:
    found = {state}
    while more := {to for (origin, _), to in TRANSITIONS.items() if origin in found} - found:
        found |= more
    return found


def test_every_state_can_be_reached_and_left_for_ready() -> None:
    """Nothing is a dead end: also from a failure there is a way back to an engine that answers."""
    assert reachable(State.STOPPED) == set(State)
    for state in State:
        assert State.READY in reachable(state), state


def test_a_process_begins_and_ends_with_certain_steps() -> None:
    """Only WANTED makes a process, only UP makes it ready, and every way out of having one is an end of it."""
    for (origin, event), to in TRANSITIONS.items():
        if origin not in WITH_PROCESS and to in WITH_PROCESS:
            assert (event, to) == (Event.WANTED, State.STARTING)
        if origin in WITH_PROCESS and to not in WITH_PROCESS:
            assert event in (Event.CRASHED, Event.HOPELESS, Event.ENDED)
        assert (event is Event.UP) == (to is State.READY)


def test_a_failure_for_good_is_left_by_nothing_but_a_wish() -> None:
    assert [event for origin, event in TRANSITIONS if origin is State.FAILED] == [Event.WANTED]


def test_a_request_never_stops_what_it_wants() -> None:
    """WANTED leads to a start from wherever it is possible; where a process is, it is no event at all."""
    assert {to for (_, event), to in TRANSITIONS.items() if event is Event.WANTED} == {State.STARTING}
    assert {origin for origin, event in TRANSITIONS if event is Event.WANTED} == set(State) - WITH_PROCESS


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_the_table_has_not_cannot_happen(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert after(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(KeyError):
            after(state, event)


def test_pauses_double_up_to_the_longest_and_differ_by_chance() -> None:
    """Within a quarter of the figure, and not the same for two engines."""
    random = Random(1)
    for failures in range(1, 40):
        usual = min(FIRST_PAUSE_S * 2 ** (failures - 1), MAX_PAUSE_S)
        pauses = [pause_s(failures, random) for _ in range(20)]
        assert all(usual * (1 - JITTER) <= pause <= usual * (1 + JITTER) for pause in pauses)
        assert len(set(pauses)) > 1


def test_crashes_in_a_row_are_counted_until_one_ran_well() -> None:
    assert failures_after(0, 0.0) == 1
    assert failures_after(4, STABLE_S - 1) == 5
    assert failures_after(4, STABLE_S) == 1


def test_only_the_code_for_configuration_is_without_hope() -> None:
    assert [code for code in (-9, -6, 0, 1, 2, 70, 77, 78, 79, 127) if is_hopeless(code)] == [78]
