"""Same dialect, request side: the caller's body with the model's name and this upstream's quirks applied."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from naru.errors import BadRequest
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat import OPENAI_CHAT
from tests.protocol.samples import PLAIN, body


def sent(quirks: Quirks, **fields: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON as the upstream gets it, without model and messages unless given; and the names of what was dropped."""
    forwarded = OPENAI_CHAT.forward(OPENAI_CHAT.read(body(**fields)), "theirs", quirks)
    found = json.loads(forwarded.body)
    assert found.pop("model") == "theirs"
    if "messages" not in fields:
        del found["messages"]
    return found, forwarded.dropped


def test_only_the_model_changes() -> None:
    """Bytes of every other value stay as they were, digits included."""
    data = b'{"model":"a","messages":[{"role":"user","content":"\\uc548"}],"top_p":0.10,"x":1e2,"seed":12345678901234567890}'
    forwarded = OPENAI_CHAT.forward(OPENAI_CHAT.read(data), "b", PLAIN)
    assert forwarded.body == data.replace(b'"model":"a"', b'"model":"b"')
    assert forwarded.dropped == ()


def test_one_envelope_serves_several_attempts() -> None:
    """Forwarding to one upstream leaves nothing behind for the next."""
    history = [{"role": "developer", "content": "d"}, {"role": "assistant", "content": "a", "reasoning_content": "r"}]
    read = OPENAI_CHAT.read(body(messages=history, stream=True, max_tokens=5, reasoning_effort="low", user="u"))
    before = msgspec.structs.replace(read, fields=dict(read.fields))
    odd = Quirks(drops=frozenset({"user"}), renames=(("max_tokens", "limit"),), thinking_style="deepseek")
    first = OPENAI_CHAT.forward(read, "m", PLAIN)
    OPENAI_CHAT.forward(read, "m", odd)
    assert read == before
    assert OPENAI_CHAT.forward(read, "m", PLAIN) == first


@pytest.mark.parametrize(
    ("quirks", "fields", "expected"),
    [
        (PLAIN, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            PLAIN,
            {"stream": True, "stream_options": {"include_obfuscation": False}},
            {"stream": True, "stream_options": {"include_obfuscation": False, "include_usage": True}},
        ),
        (
            PLAIN,
            {"stream": True, "stream_options": {"include_usage": False}},
            {"stream": True, "stream_options": {"include_usage": True}},
        ),
        (Quirks(has_stream_usage=False), {"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        (Quirks(is_stream_only=True), {}, {"stream": True, "stream_options": {"include_usage": True}}),
        (Quirks(max_tokens_field="max_tokens"), {"max_completion_tokens": 7}, {"max_tokens": 7}),
        (Quirks(max_tokens_field="max_completion_tokens"), {"max_tokens": 7}, {"max_completion_tokens": 7}),
        (Quirks(max_tokens_field="max_tokens"), {"max_tokens": 1, "max_completion_tokens": 2}, {"max_tokens": 2}),
        (Quirks(max_tokens_field="max_tokens"), {"max_tokens": 1, "max_completion_tokens": None}, {"max_tokens": 1}),
        (PLAIN, {"max_tokens": 1, "max_completion_tokens": 2}, {"max_tokens": 1, "max_completion_tokens": 2}),
        (Quirks(renames=(("user", "user_id"),)), {"user": "u"}, {"user_id": "u"}),
        (Quirks(renames=(("user", "user_id"),)), {"user": "u", "user_id": "v"}, {"user_id": "v"}),
        (Quirks(has_n=False), {"n": 1}, {}),
    ],
)
def test_quirks_of_fields(quirks: Quirks, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Usage is always asked for where it may be; limits under the one known name; renames meet no double."""
    assert sent(quirks, **fields) == (expected, ())


def test_what_is_dropped_is_named() -> None:
    """Nothing is dropped silently."""
    quirks = Quirks(drops=frozenset({"seed", "logit_bias", "user"}))
    assert sent(quirks, seed=1, user="u", top_p=0.5) == ({"top_p": 0.5}, ("seed", "user"))


def test_several_choices_where_one_is_given() -> None:
    """Refused by name rather than answered with less."""
    with pytest.raises(BadRequest) as caught:
        sent(Quirks(has_n=False), n=2)
    assert caught.value.param == "n"


DEEPSEEK = Quirks(thinking_style="deepseek", effort_values=(("xhigh", "high"),))
QWEN = Quirks(thinking_style="qwen_toggle")
QWEN_EFFORT = Quirks(thinking_style="qwen_effort", effort_values=(("high", "xhigh"),))
TEMPLATE = Quirks(thinking_style="template_kwarg")
ROUTER = Quirks(thinking_style="openrouter")
ON = {"enable_thinking": True, "thinking": True}
OFF = {"enable_thinking": False, "thinking": False}

THINKING: list[tuple[Quirks, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    (PLAIN, {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
    (PLAIN, {"reasoning_effort": None}, {"reasoning_effort": None}, ()),
    (PLAIN, {"enable_thinking": False}, {"reasoning_effort": "none"}, ()),
    (PLAIN, {"enable_thinking": True}, {"reasoning_effort": "medium"}, ()),
    (PLAIN, {"thinking_budget": 2_000}, {"reasoning_effort": "medium"}, ()),
    (PLAIN, {"thinking_budget": 0}, {"reasoning_effort": "none"}, ()),
    (PLAIN, {"thinking_budget": 10**6}, {"reasoning_effort": "high"}, ()),
    (PLAIN, {"thinking_budget": 5, "reasoning_effort": "low"}, {"reasoning_effort": "low"}, ("thinking_budget",)),
    (PLAIN, {"enable_thinking": None}, {}, ()),
    (Quirks(effort_values=(("max", "xhigh"),)), {"reasoning_effort": "max"}, {"reasoning_effort": "xhigh"}, ()),
    (DEEPSEEK, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
    (DEEPSEEK, {"reasoning_effort": "xhigh"}, {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}, ()),
    (DEEPSEEK, {"enable_thinking": True}, {"thinking": {"type": "enabled"}}, ()),
    (QWEN, {"reasoning_effort": "low"}, {"enable_thinking": True, "thinking_budget": 1_024}, ()),
    (QWEN, {"reasoning_effort": "max"}, {"enable_thinking": True}, ()),
    (QWEN, {"reasoning_effort": "none"}, {"enable_thinking": False}, ()),
    (QWEN, {"enable_thinking": True, "thinking_budget": 77}, {"enable_thinking": True, "thinking_budget": 77}, ()),
    (QWEN, {"enable_thinking": False, "thinking_budget": 77}, {"enable_thinking": False}, ()),
    (QWEN_EFFORT, {"reasoning_effort": "high"}, {"enable_thinking": True, "reasoning_effort": "xhigh"}, ()),
    (QWEN_EFFORT, {"thinking_budget": 9}, {"enable_thinking": True, "thinking_budget": 9}, ()),
    (TEMPLATE, {"enable_thinking": False}, {"chat_template_kwargs": OFF}, ()),
    (TEMPLATE, {"thinking_budget": 9}, {"chat_template_kwargs": ON, "thinking_token_budget": 9}, ()),
    (TEMPLATE, {"reasoning_effort": "low"}, {"chat_template_kwargs": ON, "reasoning_effort": "low"}, ()),
    (
        TEMPLATE,
        {"enable_thinking": True, "chat_template_kwargs": {"thinking": False, "x": 1}},
        {"chat_template_kwargs": {"enable_thinking": True, "thinking": False, "x": 1}},
        (),
    ),
    (ROUTER, {"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}, ()),
    (ROUTER, {"thinking_budget": 9}, {"reasoning": {"max_tokens": 9}}, ()),
    (ROUTER, {"enable_thinking": False}, {"reasoning": {"enabled": False}}, ()),
    (ROUTER, {"enable_thinking": True}, {"reasoning": {"enabled": True}}, ()),
    (
        Quirks(thinking_style="none"),
        {"enable_thinking": True, "thinking_budget": 5},
        {},
        ("enable_thinking", "thinking_budget"),
    ),
]


@pytest.mark.parametrize(("quirks", "fields", "expected", "dropped"), THINKING)
def test_thinking(quirks: Quirks, fields: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]) -> None:
    """One policy, every spelling; what cannot be said is named."""
    assert sent(quirks, **fields) == (expected, dropped)


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": "yes"},
        {"thinking_budget": -1},
        {"thinking_budget": 1.5},
        {"thinking_budget": 10**9},
        {"reasoning_effort": 3},
    ],
)
def test_thinking_of_the_wrong_type(fields: dict[str, Any]) -> None:
    """Refused by name where it has to be understood."""
    with pytest.raises(BadRequest) as caught:
        sent(QWEN, **fields)
    assert caught.value.param in fields


def roles(quirks: Quirks, *messages: dict[str, Any], **fields: Any) -> tuple[list[Any], tuple[str, ...]]:
    found, dropped = sent(quirks, messages=list(messages), **fields)
    return found["messages"], dropped


def test_the_developer_role_is_openais() -> None:
    """Everyone else gets system; the word in a text stays."""
    message = {"role": "developer", "content": 'the "developer"', "x": 1}
    assert roles(PLAIN, message) == ([{**message, "role": "system"}], ())
    assert roles(Quirks(has_developer_role=True), message) == ([message], ())


SAID = {"role": "assistant", "content": "a", "x": 1.5}


@pytest.mark.parametrize(
    ("field", "given", "expected", "dropped"),
    [
        (None, {"reasoning_content": "r"}, {}, ("messages.reasoning_content",)),
        (
            None,
            {"reasoning": "r", "thinking_blocks": [], "reasoning_details": [1]},
            {},
            ("messages.reasoning", "messages.reasoning_details", "messages.thinking_blocks"),
        ),
        (None, {"reasoning_content": None}, {}, ()),
        ("reasoning", {"reasoning_content": "r"}, {"reasoning": "r"}, ()),
        ("reasoning_content", {"reasoning": "r"}, {"reasoning_content": "r"}, ()),
        ("reasoning_content", {"reasoning_content": "r", "reasoning": "s"}, {"reasoning_content": "r"}, ()),
        (
            "reasoning_content",
            {"reasoning_content": "r", "thinking_blocks": []},
            {"reasoning_content": "r", "thinking_blocks": []},
            (),
        ),
        ("reasoning_content", {}, {}, ()),
    ],
)
def test_earlier_reasoning(
    field: str | None, given: dict[str, Any], expected: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    """Under the upstream's own name, or away where it refuses the field; users' messages are left alone."""
    user = {"role": "user", "content": "u", "reasoning": "mine"}
    found = roles(Quirks(thinking_replay_field=field), user, {**SAID, **given})
    assert found == ([user, {**SAID, **expected}], dropped)


def test_reasoning_that_must_be_there() -> None:
    """DeepSeek refuses a history with tools whose answers lack their reasoning: a single space stands in (A2.3)."""
    quirks = Quirks(thinking_replay_field="reasoning_content", needs_reasoning_replay=True)
    tools = [{"type": "function", "function": {"name": "f"}}]
    kept = {**SAID, "reasoning_content": "r"}
    found, _ = sent(quirks, messages=[SAID, {**SAID, "reasoning_content": ""}, kept], tools=tools)
    assert [message["reasoning_content"] for message in found["messages"]] == [" ", " ", "r"]
    found, _ = sent(quirks, messages=[SAID])
    assert found["messages"] == [SAID]


def test_messages_of_a_wrong_shape_are_the_upstreams_to_refuse() -> None:
    """The provider's own words are better than a guess."""
    assert roles(PLAIN, *(["developer", {"role": "developer"}])) == (["developer", {"role": "developer"}], ())  # type: ignore[arg-type]
