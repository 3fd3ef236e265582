"""Messages for common kinds of work."""

from __future__ import annotations

import pytest

from naru import prompts


def test_each_is_a_system_message_and_the_task() -> None:
    for messages in (
        prompts.reasoning("2 + 2?"),
        prompts.coding("A cache."),
        prompts.multilingual("Why is the sky blue?"),
    ):
        assert [message["role"] for message in messages] == ["system", "user"]
        assert all(message["content"] == message["content"].strip() != "" for message in messages)
        assert "<|im_start|>" not in str(messages)


def test_context_stands_apart_from_the_task() -> None:
    system, user = prompts.reasoning("How much?", context="  A ticket is 3 dollars.\n")
    assert system["content"].endswith("<context>\nA ticket is 3 dollars.\n</context>")
    assert user["content"] == "How much?"
    assert "<context>" not in prompts.reasoning("How much?")[0]["content"]


@pytest.mark.parametrize("constraints", ["thread safe", ["thread safe"], ["", " thread safe "]])
def test_constraints_are_listed(constraints: str | list[str]) -> None:
    system, user = prompts.coding("A cache.", "Rust", constraints=constraints)
    assert "You write Rust" in system["content"]
    assert user["content"] == "A cache.\n\nConstraints:\n- thread safe"


def test_languages_are_named_once_and_in_order() -> None:
    (system, _) = prompts.multilingual("?", ["zh", "KO", "Klingon", "zh"])
    assert "Chinese (中文), Korean (한국어), Klingon." in system["content"]
    with pytest.raises(ValueError, match="at least one"):
        prompts.multilingual("?", [])
