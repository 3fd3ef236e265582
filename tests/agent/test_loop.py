"""The loop core: tables and laws. Nothing here waits, and no endpoint is asked."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.agent import loop as core
from naru.agent.loop import (
    Approve,
    Approved,
    Ask,
    AskFailed,
    CallTool,
    Denied,
    End,
    Failed,
    Limits,
    Loop,
    Returned,
    Said,
    State,
    Tell,
)
from naru.agent.tool import Tool
from naru.protocol.messages import Usage

Json = dict[str, Any]
ASKED = [{"role": "user", "content": "compare"}]


async def unused(arguments: Mapping[str, Any]) -> object:
    raise AssertionError("the core calls nothing")


def a_tool(name: str = "look", **fields: Any) -> Tool:
    return Tool(name=name, description="", parameters={"type": "object"}, call=unused, **fields)


def loop_of(*tools: Tool, **limits: Any) -> Loop:
    return Loop({tool.name: tool for tool in tools or (a_tool(),)}, Limits(**limits))


def calls(*wanted: tuple[str, str]) -> Said:
    """An answer that calls tools: (name, arguments)."""
    listed = [
        {"id": f"c{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (name, arguments) in enumerate(wanted)
    ]
    return Said({"role": "assistant", "content": None, "tool_calls": listed}, Usage(10, 5), 1000, "tool_calls")


ANSWER = Said({"role": "assistant", "content": "Busan"}, Usage(20, 7), 2000)


def after(loop: Loop, *events: core.Event, at: float = 0.0) -> core.Step:
    """The step that the last of the events leads to."""
    step = loop.due(loop.begin(ASKED, at), at)
    for event in events:
        step = loop.step(step[0], event, at)
    return step


def told(state: State) -> list[Json]:
    return [message for message in state.messages if message["role"] == "tool"]


# --- The straight way -----------------------------------------------------------------------------------------------


def test_it_begins_by_asking() -> None:
    _, actions = after(loop_of())
    assert actions == (Ask((ASKED[0],)),)


def test_an_answer_without_calls_is_the_end() -> None:
    state, actions = after(loop_of(), ANSWER)
    assert actions == (End("done"),)
    assert state.messages[-1] == ANSWER.message
    assert (state.turns, state.usage, state.cost_nano) == (1, Usage(20, 7), 2000)


def test_calls_of_a_turn_are_due_together_and_the_model_is_asked_once_all_are_back() -> None:
    loop = loop_of()
    state, actions = after(loop, calls(("look", '{"at": 1}'), ("look", '{"at": 2}')))
    assert actions == (CallTool(0, "c0", "look", {"at": 1}, 1, 60.0), CallTool(1, "c1", "look", {"at": 2}, 1, 60.0))
    state, actions = loop.step(state, Returned(1, "two"), 0)
    assert [type(each) for each in actions] == [Tell]
    state, actions = loop.step(state, Returned(0, "one"), 0)
    assert isinstance(actions[-1], Ask)
    assert told(state) == [
        {"role": "tool", "tool_call_id": "c0", "content": "one"},
        {"role": "tool", "tool_call_id": "c1", "content": "two"},
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_results_stand_in_the_order_of_the_calls_whatever_the_order_they_come_in(order: tuple[int, ...]) -> None:
    loop = loop_of()
    state, _ = after(loop, calls(*[("look", "{}")] * 4))
    for place in order:
        state, _ = loop.step(state, Returned(place, f"r{place}"), 0)
    assert [each["content"] for each in told(state)] == ["r0", "r1", "r2", "r3"]
    assert [each["tool_call_id"] for each in told(state)] == ["c0", "c1", "c2", "c3"]


def test_usage_and_cost_are_sums_and_an_untold_cost_makes_the_sum_unknown() -> None:
    state, _ = after(loop_of(), calls(("look", "{}")), Returned(0, "x"), ANSWER)
    assert (state.turns, state.usage.input, state.usage.output, state.cost_nano) == (2, 30, 12, 3000)
    state, _ = after(loop_of(), calls(("look", "{}")), Returned(0, "x"), Said(ANSWER.message, Usage(1, 1)))
    assert state.cost_nano is None
    guessed = Said(ANSWER.message, Usage(1, 1, is_estimated=True))
    assert not after(loop_of(), ANSWER)[0].usage.is_estimated
    assert after(loop_of(), calls(("look", "{}")), Returned(0, "x"), guessed)[0].usage.is_estimated


# --- What goes wrong with a call ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("lok", "{}", "There is no tool 'lok'. The tools are: look."),
        ("look", "{", "The arguments are no valid JSON"),
        ("look", "[1]", "The arguments have to be one JSON object."),
        ("look", '"x"', "The arguments have to be one JSON object."),
    ],
)
def test_what_cannot_be_called_is_answered_to_the_model_at_once(name: str, arguments: str, words: str) -> None:
    state, actions = after(loop_of(), calls((name, arguments)))
    assert [type(each) for each in actions] == [Tell, Ask]
    assert told(state)[0]["content"].startswith(words)
    assert state.log[0].is_error


def test_one_bad_call_does_not_hold_up_a_good_one() -> None:
    state, actions = after(loop_of(), calls(("lok", "{}"), ("look", "")))
    assert [type(each) for each in actions] == [Tell, CallTool]
    assert state.phase == "calling"


@pytest.mark.parametrize(
    ("retries", "may_retry", "attempts"), [(0, True, 1), (1, True, 2), (2, True, 3), (2, False, 1)]
)
def test_a_failure_that_may_pass_is_tried_again_so_often_and_then_told(
    retries: int, may_retry: bool, attempts: int
) -> None:
    loop = loop_of(a_tool(retries=retries))
    state, actions = after(loop, calls(("look", "{}")))
    tried = 0
    while isinstance(actions[-1], CallTool):
        tried += 1
        assert actions[-1].attempt == tried
        state, actions = loop.step(state, Failed(0, "no answer", may_retry), 0)
    assert tried == attempts
    assert told(state)[0]["content"] == "no answer"


def test_a_long_result_is_cut_and_says_so() -> None:
    loop = loop_of(a_tool(result_chars=10))
    state, _ = after(loop, calls(("look", "{}")), Returned(0, "가" * 1234))
    assert told(state)[0]["content"] == "가" * 10 + "\n[cut: the first 10 of 1,234 characters]"
    state, _ = after(loop, calls(("look", "{}")), Failed(0, "x" * 1234))
    assert told(state)[0]["content"] == "x" * 10 + "\n[cut: the first 10 of 1,234 characters]"


def test_too_many_calls_at_once_are_refused_from_the_limit_on() -> None:
    state, actions = after(loop_of(max_calls=2), calls(*[("look", "{}")] * 3))
    assert [type(each) for each in actions] == [Tell, CallTool, CallTool]
    assert "at most 2" in state.calls[2].result


# --- Permission -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (Approved(0), CallTool(0, "c0", "look", {"at": 1}, 1, 60.0)),
        (Approved(0, '{"at": 9}'), CallTool(0, "c0", "look", {"at": 9}, 1, 60.0)),
        (Denied(0, "Too dear."), "The user did not allow this call. Too dear."),
        (Denied(0), "The user did not allow this call."),
        (Approved(0, "{"), "The arguments are no valid JSON"),
    ],
)
def test_who_is_asked_first_decides(answer: core.Event, then: CallTool | str) -> None:
    loop = loop_of(a_tool(needs_approval=True))
    state, actions = after(loop, calls(("look", '{"at": 1}')))
    assert actions == (Approve(0, "c0", "look", {"at": 1}),)
    state, actions = loop.step(state, answer, 0)
    if isinstance(then, CallTool):
        assert actions == (then,)
    else:
        assert told(state)[0]["content"].startswith(then)


# --- Limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "seconds", "ending"),
    [
        ({"max_turns": 1}, 0.0, "max_turns"),
        ({"max_tokens": 15}, 0.0, "max_tokens"),
        ({"max_tokens": 16}, 0.0, None),
        ({"max_cost_nano": 1000}, 0.0, "max_cost"),
        ({"max_cost_nano": 1001}, 0.0, None),
        ({"max_seconds": 5.0}, 5.0, "max_seconds"),
        ({"max_seconds": 5.0}, 4.9, None),
    ],
)
def test_each_limit_ends_the_run_before_tools_whose_results_nobody_would_read(
    limits: Json, seconds: float, ending: str | None
) -> None:
    loop = loop_of(**limits)
    state, _ = after(loop)
    state, actions = loop.step(state, calls(("look", "{}")), seconds)
    assert state.ending == ending
    assert isinstance(actions[-1], CallTool if ending is None else End)


def test_an_answer_at_the_limit_is_an_answer() -> None:
    assert after(loop_of(max_turns=1, max_tokens=1), ANSWER)[1] == (End("done"),)


def test_a_cost_limit_where_no_cost_is_told_ends_with_the_reason() -> None:
    said = Said(calls(("look", "{}")).message, Usage(1, 1), None)
    state, actions = after(loop_of(max_cost_nano=10), said)
    assert actions == (End("error"),)
    assert "does not tell what an answer costs" in state.error


def test_time_that_is_left_bounds_what_is_begun() -> None:
    loop = loop_of(a_tool(timeout_s=60.0), max_seconds=10.0)
    state, actions = after(loop)
    assert actions == (Ask((ASKED[0],), 10.0),)
    state, actions = loop.step(state, calls(("look", "{}")), 4.0)
    assert isinstance(actions[0], CallTool)
    assert actions[0].timeout_s == 6.0
    state, actions = loop.step(state, Failed(0, "no answer"), 10.0)
    assert actions[-1] == End("max_seconds")


@pytest.mark.parametrize(("seconds", "ending"), [(1.0, "error"), (10.0, "max_seconds")])
def test_an_endpoint_that_fails_ends_the_run(seconds: float, ending: str) -> None:
    loop = loop_of(max_seconds=10.0)
    state, _ = after(loop)
    state, actions = loop.step(state, AskFailed("gone"), seconds)
    assert actions == (End(ending),)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [{"max_turns": 1}, {"max_tokens": 15}, {"max_cost_nano": 1000}])
def test_a_run_that_a_limit_ended_goes_on_under_another(limit: Json) -> None:
    state, _ = after(loop_of(**limit), calls(("look", '{"at": 1}')))
    wider = loop_of()
    state, actions = wider.due(State.load(state.dump()), 0)
    assert actions == (CallTool(0, "c0", "look", {"at": 1}, 1, 60.0),)
    state, _ = wider.step(state, Returned(0, "x"), 0)
    assert wider.step(state, ANSWER, 0)[1] == (End("done"),)
    assert loop_of(**limit).due(state, 0)[1] != ()


def test_time_away_does_not_count() -> None:
    loop = loop_of(max_seconds=10.0)
    state, _ = loop.step(loop.due(loop.begin(ASKED, 0.0), 0.0)[0], calls(("look", "{}")), 4.0)
    state, actions = loop.due(State.load(state.dump()), 5000.0)
    assert isinstance(actions[0], CallTool)
    assert actions[0].timeout_s == 6.0


def test_a_clock_that_was_set_back_gives_no_time_back() -> None:
    loop = loop_of(max_seconds=10.0)
    state, _ = loop.step(loop.due(loop.begin(ASKED, 1000.0), 1000.0)[0], calls(("look", "{}")), 1004.0)
    state, (_, ask) = loop.step(state, Returned(0, "x"), 400.0)
    assert (state.seconds, ask) == (4.0, Ask(state.messages, 6.0))


# --- Tools that are somebody else's ---------------------------------------------------------------------------------


def test_calls_of_others_are_handed_over_after_ours_are_done() -> None:
    loop = Loop({"look": a_tool()}, Limits(max_turns=1), frozenset({"theirs"}))
    state, actions = after(loop, calls(("theirs", "{}")))
    assert actions == (End("handed_over"),)
    assert state.calls[0].name == "theirs"
    loop = Loop({"look": a_tool()}, Limits(), frozenset({"theirs"}))
    state, actions = after(loop, calls(("theirs", "{}"), ("look", "{}")))
    assert [type(each) for each in actions] == [CallTool]
    state, actions = loop.step(state, Returned(1, "mine"), 0)
    assert actions[-1] == End("handed_over")
    assert [each["tool_call_id"] for each in told(state)] == ["c1"]


# --- What does not belong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event", [Returned(0, "x"), Failed(0, "x"), Approved(0), Denied(0)], ids=lambda each: type(each).__name__
)
def test_an_event_that_nothing_waits_for_is_refused(event: core.Event) -> None:
    loop = loop_of()
    state, _ = after(loop)
    with pytest.raises(ValueError, match="not expected while asking"):
        loop.step(state, event, 0)


@pytest.mark.parametrize("event", [ANSWER, AskFailed("x"), Returned(7, "x"), Approved(0), Denied(0)], ids=str)
def test_an_event_that_the_call_does_not_wait_for_is_refused(event: core.Event) -> None:
    loop = loop_of()
    state, _ = after(loop, calls(("look", "{}")))
    with pytest.raises(ValueError, match="not expected while calling"):
        loop.step(state, event, 0)


def test_the_core_has_no_await() -> None:
    tree = ast.parse(inspect.getsource(core))
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor) for node in ast.walk(tree))


# --- Laws -----------------------------------------------------------------------------------------------------------

TURNS = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from(["look", "ask_first", "flaky", "unknown"]),
            st.sampled_from(["{}", '{"at": 1}', "{", ""]),
            st.sampled_from(["good", "bad", "passing", "denied"]),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=4,
)


def played(turns: list[list[tuple[str, str, str]]], data: st.DataObject, reload_at: frozenset[int]) -> State:
    """The whole of a run in which every outcome hangs on the call alone, so that only the order differs."""
    loop = loop_of(a_tool(), a_tool("ask_first", needs_approval=True), a_tool("flaky", retries=2), max_turns=6)
    state, actions = loop.due(loop.begin(ASKED, 0), 0)
    waiting, number = list(actions), 0
    while state.phase != "over":
        number += 1
        if number in reload_at:
            state, due = loop.due(State.load(state.dump()), 0)
            waiting = list(due)
        waiting = [each for each in waiting if not isinstance(each, Tell)]
        action = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        state, actions = loop.step(state, outcome_of(action, state, turns), 0)
        waiting += actions
    return state


def outcome_of(action: core.Action, state: State, turns: list[list[tuple[str, str, str]]]) -> core.Event:
    if isinstance(action, Ask):
        if state.turns >= len(turns):
            return ANSWER
        return calls(*((name, arguments) for name, arguments, _ in turns[state.turns]))
    assert isinstance(action, CallTool | Approve)
    how = turns[state.turns - 1][action.place][2]
    if isinstance(action, Approve):
        return Denied(action.place) if how == "denied" else Approved(action.place)
    if how == "bad" or (how == "passing" and action.attempt < 2):
        return Failed(action.place, "failed", how == "passing")
    return Returned(action.place, f"{state.turns}.{action.place}")


@given(TURNS, st.data(), st.frozensets(st.integers(1, 30)))
def test_the_end_is_the_same_whatever_the_order_and_wherever_it_was_interrupted(
    turns: list[list[tuple[str, str, str]]], data: st.DataObject, reload_at: frozenset[int]
) -> None:
    plain = played(turns, data, frozenset())
    other = played(turns, data, reload_at)
    assert other.dump() == plain.dump()


@given(TURNS, st.data())
def test_every_call_is_answered_once_before_the_model_is_asked_again(
    turns: list[list[tuple[str, str, str]]], data: st.DataObject
) -> None:
    state = played(turns, data, frozenset())
    open_calls: list[str] = []
    for message in state.messages:
        if message["role"] == "tool":
            assert open_calls.pop(0) == message["tool_call_id"]
        else:
            assert open_calls == []
            open_calls = [call["id"] for call in message.get("tool_calls") or ()]
    assert open_calls == []
