"""One policy on thinking: soft switches, and when a plain call has to be streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bridge import PassThrough, Translation, Upstream
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Message, ReasoningPolicy, Request, Text
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.reasoning import has_switch, must_stream, switched
from tests.protocol.samples import body

DEEPSEEK = Quirks(thinking_style="deepseek")


NO_POLICY = ReasoningPolicy()


def asked(*messages: tuple[str, str], policy: ReasoningPolicy = NO_POLICY) -> Request:
    return Request("m", tuple(Message(role, (Text(text),)) for role, text in messages), reasoning=policy)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "rest", "wanted"),
    [
        ("Hi /no_think", "Hi", False),
        ("Hi\n/think \n", "Hi", True),
        ("/no_think", "", False),
        ("see docs/think", "see docs/think", None),
        ("/think about it", "/think about it", None),
    ],
)
def test_a_switch_is_a_word_at_the_end(text: str, rest: str, wanted: bool | None) -> None:
    found = switched(asked(("user", text)))
    assert (found.messages[0].parts, found.reasoning.enabled) == ((Text(rest),), wanted)


def test_the_last_switch_counts_and_all_are_taken_out() -> None:
    found = switched(asked(("system", "Be brief. /think"), ("user", "a /no_think"), ("assistant", "x"), ("user", "b")))
    assert found.reasoning.enabled is False
    assert [part.text for message in found.messages for part in message.parts if isinstance(part, Text)] == [
        "Be brief.", "a", "x", "b",
    ]  # fmt: skip


def test_what_is_said_in_a_field_wins() -> None:
    policy = ReasoningPolicy(effort="high")
    assert switched(asked(("user", "a /no_think"), policy=policy)).reasoning == policy


def test_what_a_model_said_is_no_switch() -> None:
    given = asked(("user", "a"), ("assistant", "I /no_think"))
    assert switched(given) is given


def upstream(quirks: Quirks) -> Upstream:
    return Upstream("m", quirks)


def sent(bridge: Any, quirks: Quirks, text: str) -> dict[str, Any]:
    envelope = OPENAI_CHAT.read(body(messages=[{"role": "user", "content": text, "name": "kim"}], seed=5))
    return dict(json.loads(bridge.request(envelope, upstream(quirks), False).body))


def test_an_upstream_that_was_not_taught_gets_its_own_switch() -> None:
    """Same dialect and other: the text without the word, the upstream's field, and every other field as it was."""
    same = sent(PassThrough(OPENAI_CHAT), DEEPSEEK, "Hi /no_think")
    assert same["messages"] == [{"role": "user", "content": "Hi", "name": "kim"}]
    assert (same["thinking"], same["seed"]) == ({"type": "disabled"}, 5)
    other = sent(Translation(OPENAI_CHAT, ANTHROPIC_MESSAGES), Quirks(thinking_style="anthropic_adaptive"), "Hi /think")
    assert other["messages"] == [{"role": "user", "content": "Hi"}]
    assert other["thinking"]["type"] == "adaptive"


def test_one_that_was_taught_reads_it_itself() -> None:
    found = sent(
        PassThrough(OPENAI_CHAT), Quirks(reads_soft_switch=True, thinking_style="template_kwarg"), "Hi /no_think"
    )
    assert found["messages"][0]["content"] == "Hi /no_think"
    assert "chat_template_kwargs" not in found


def test_the_search_looks_at_the_conversation_alone() -> None:
    assert has_switch(OPENAI_CHAT.read(body(messages=[{"role": "user", "content": "a /no_think"}])))
    assert not has_switch(OPENAI_CHAT.read(body(user="/think")))


def test_plain_calls_that_may_think_are_streamed() -> None:
    plain, thinking = OPENAI_CHAT.read(body()), OPENAI_CHAT.read(body(enable_thinking=True))
    hybrid = Quirks(thinks_only_streamed=True)
    assert [must_stream(envelope, hybrid) for envelope in (plain, thinking)] == [False, True]
    assert [must_stream(envelope, Quirks()) for envelope in (plain, thinking)] == [False, False]
    assert must_stream(plain, Quirks(is_stream_only=True))


def forwarded(quirks: Quirks, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    found = OPENAI_CHAT.forward(OPENAI_CHAT.read(body(**fields)), "m", quirks)
    return json.loads(found.body), found.dropped


FORCED = {"type": "function", "function": {"name": "f"}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def test_a_forced_tool_switches_thinking_off_where_both_are_refused() -> None:
    """The choice decides what the answer is, thinking only how good. Who asked for thinking is told."""
    quirks = Quirks(thinking_style="deepseek", thinking_excludes=frozenset({"tool_choice"}))
    found, dropped = forwarded(quirks, tools=TOOLS, tool_choice=FORCED)
    assert (found["thinking"], found["tool_choice"], dropped) == ({"type": "disabled"}, FORCED, ())
    found, dropped = forwarded(quirks, tools=TOOLS, tool_choice="required", reasoning_effort="high")
    assert (found["thinking"], "reasoning_effort" in found) == ({"type": "disabled"}, False)
    assert dropped == ("thinking", "reasoning_effort")
    for choice in ("auto", "none", None):
        found, dropped = forwarded(quirks, tools=TOOLS, tool_choice=choice, reasoning_effort="high")
        assert (found["thinking"], dropped) == ({"type": "enabled"}, ())


def test_json_mode_switches_thinking_off_where_both_are_refused() -> None:
    quirks = Quirks(thinking_style="qwen_toggle", thinking_excludes=frozenset({"response_format"}))
    found, dropped = forwarded(quirks, response_format={"type": "json_object"}, enable_thinking=True, thinking_budget=9)
    assert (found["enable_thinking"], "thinking_budget" in found) == (False, False)
    assert dropped == ("enable_thinking", "thinking_budget")
    found, dropped = forwarded(quirks, response_format={"type": "text"}, enable_thinking=True)
    assert (found["enable_thinking"], dropped) == (True, ())


def test_translated_callers_get_the_same() -> None:
    quirks = Quirks(thinking_style="deepseek", thinking_excludes=frozenset({"tool_choice"}))
    message = {"role": "user", "content": "x"}
    tool = {"name": "f", "input_schema": {"type": "object"}}
    asked_for = {"model": "m", "max_tokens": 9, "messages": [message], "tools": [tool], "tool_choice": {"type": "any"}}
    envelope = ANTHROPIC_MESSAGES.read(json.dumps(asked_for).encode(), "/v1/messages")
    found = Translation(ANTHROPIC_MESSAGES, OPENAI_CHAT).request(envelope, upstream(quirks), False)
    assert json.loads(found.body)["thinking"] == {"type": "disabled"}


def test_no_space_is_sent_for_lost_reasoning_once_thinking_is_off() -> None:
    quirks = Quirks(thinking_style="deepseek", thinking_replay_field="reasoning_content", needs_reasoning_replay=True)
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    on, _ = forwarded(quirks, messages=history, tools=TOOLS)
    off, _ = forwarded(quirks, messages=history, tools=TOOLS, enable_thinking=False)
    assert (on["messages"][1].get("reasoning_content"), off["messages"][1].get("reasoning_content")) == (" ", None)


def test_a_number_beyond_python_is_left_to_the_upstream() -> None:
    """Found by mutation: 1e400 is JSON, and no float."""
    raw = b'{"model":"m","messages":[{"role":"user","content":"x"}],"thinking":{"type":1e400},"tool_choice":[1e400]}'
    request = OPENAI_CHAT.decode_request(OPENAI_CHAT.read(raw.replace(b',"tool_choice":[1e400]', b"")))
    assert request.reasoning == ReasoningPolicy()
    quirks = Quirks(thinking_style="deepseek", thinking_excludes=frozenset({"tool_choice"}))
    assert OPENAI_CHAT.forward(OPENAI_CHAT.read(raw), "m", quirks).dropped == ()
