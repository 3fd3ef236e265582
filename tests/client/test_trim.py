"""What of a conversation is sent: within the budget, calls with their results, in order, the newest turn always."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.client.counting import count_body, count_message, most_output
from naru.client.reply import Json
from naru.client.trim import DoesNotFit, is_standing, trim, turns_of


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def said(text: str) -> Json:
    return {"role": "assistant", "content": text}


def called(*ids: str) -> Json:
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id: str) -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": "42"}


SYSTEM: Json = {"role": "system", "content": "be brief"}


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    messages: list[Json] = [SYSTEM] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(0, 6))):
        messages.append(user("q" * draw(st.integers(0, 60))))
        for step in range(draw(st.integers(0, 2))):
            ids = [f"{turn}.{step}.{number}" for number in range(draw(st.integers(1, 3)))]
            messages += [called(*ids), *(result(one) for one in draw(st.permutations(ids)))]
        if draw(st.booleans()):
            messages.append({"role": "developer", "content": "d"})
        messages.append(said("a" * draw(st.integers(0, 60))))
    return messages


@given(conversations(), st.integers(0, 300))
def test_the_laws_of_trimming(messages: list[Json], budget: int) -> None:
    turns = turns_of(messages)
    newest = [messages[index] for index in turns[-1]] if turns else []
    standing = [message for message in messages if is_standing(message)]
    try:
        fit = trim(messages, budget)
    except DoesNotFit as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.needed_tokens == sum(map(count_message, newest + standing)) > budget
        return
    assert fit.tokens == sum(map(count_message, fit.messages)) <= budget
    places = [next(at for at, other in enumerate(messages) if other is message) for message in fit.messages]
    assert places == sorted(places), "in order"
    assert len(fit.messages) + len(fit.dropped) == len(messages), "what is not sent is known"
    assert all(any(message is other for other in fit.messages) for message in newest + standing)
    calls = {call["id"] for message in fit.messages for call in message.get("tool_calls", ())}
    results = {message["tool_call_id"] for message in fit.messages if message["role"] == "tool"}
    assert calls == results, "no call is parted from its result"
    if fit.dropped:
        last = max(at for at, turn in enumerate(turns) if messages[turn[0]] in fit.dropped and turn[0] not in places)
        more = sum(count_message(messages[index]) for index in turns[last])
        assert fit.tokens + more > budget, "the next older turn would not have fitted"


def test_the_oldest_turns_go_first() -> None:
    talk = [SYSTEM, user("one"), said("1"), user("two"), called("x"), result("x"), said("2"), user("three")]
    fit = trim(talk, sum(map(count_message, [SYSTEM, *talk[3:]])))
    assert fit.messages == [SYSTEM, *talk[3:]]
    assert fit.dropped == talk[1:3]


def test_a_question_between_a_call_and_its_result_begins_no_turn() -> None:
    talk = [user("one"), called("x", "y"), result("x"), user("hurry"), result("y"), said("1"), user("two")]
    assert turns_of(talk) == [[0, 1, 2, 3, 4, 5], [6]]


def test_a_greeting_before_the_first_question_is_a_turn() -> None:
    assert turns_of([SYSTEM, said("hello"), user("hi"), said("yes")]) == [[1], [2, 3]]


def test_what_does_not_fit_says_how_much_it_is_and_what_to_do() -> None:
    with pytest.raises(DoesNotFit, match=r"about 3\d tokens, and 20 are there.*context_tokens") as caught:
        trim([SYSTEM, user("word " * 20)], 20)
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("message", "least"),
    [
        (user(""), 4),
        (user("The weather in Seoul is fine today."), 10),
        (user("오늘 서울은 맑습니다."), 9),
        (called("x"), 8),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            769,
        ),
        ({"role": "user", "content": [{"type": "odd", "data": "x" * 400}]}, 100),
        ({"role": "assistant", "content": "yes", "reasoning_content": "because it rains"}, 8),
    ],
)
def test_everything_that_a_message_says_counts(message: Json, least: int) -> None:
    assert least <= count_message(message) <= least + 12


def test_tools_count_and_the_most_that_may_be_answered_is_read() -> None:
    body: dict[str, Any] = {"messages": [user("x")]}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    assert count_body({**body, "tools": [tool]}) > count_body(body) + 10
    assert most_output(body) is None
    assert most_output({"max_tokens": 5, "max_completion_tokens": 7, "n": 2}) == 14
