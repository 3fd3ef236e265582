"""Messages as templates want them: T41, T55, and the traps of local_serving.md 1.1."""

from __future__ import annotations

import pytest

from naru.engine.history import prepare
from naru.errors import BadRequest


def call(id: str, arguments: object) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_parts_of_text_become_one_string() -> None:
    parts = [{"type": "text", "text": "가"}, {"type": "text", "text": "나"}]
    picture = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert [
        message["content"]
        for message in prepare([{"role": "user", "content": parts}, {"role": "user", "content": picture}])
    ] == ["가\n나", picture]


def test_t41_both_names_of_reasoning() -> None:
    ready = prepare(
        [
            {"role": "assistant", "reasoning": "a", "content": "b"},
            {"role": "assistant", "reasoning_content": "c", "content": None},
        ]
    )
    assert ready == [
        {"role": "assistant", "reasoning_content": "a", "content": "b"},
        {"role": "assistant", "reasoning_content": "c", "content": ""},
    ]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        (None, {}),
        ('{"a": ', {"arguments": '{"a": '}),
        ("[1]", {"arguments": [1]}),
    ],
)
def test_t55_arguments_are_objects(written: object, read: object) -> None:
    assert (
        prepare([{"role": "assistant", "tool_calls": [call("1", written)]}])[0]["tool_calls"][0]["function"][
            "arguments"
        ]
        == read
    )


def test_results_stand_in_the_order_of_their_calls() -> None:
    calls = {"role": "assistant", "content": "", "tool_calls": [call("1", "{}"), call("2", "{}")]}
    results = [{"role": "tool", "tool_call_id": id, "content": id} for id in ("2", "3", "1")]
    assert [m["content"] for m in prepare([calls, *results, {"role": "user", "content": "x"}])] == [
        "",
        "1",
        "2",
        "3",
        "x",
    ]


def test_a_call_that_is_none() -> None:
    with pytest.raises(BadRequest):
        prepare([{"role": "assistant", "tool_calls": [{"id": "1"}]}])
