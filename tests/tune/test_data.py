"""Examples are checked whole before anything is loaded; the line and its mistake are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from naru.errors import BadRequest, NotFound
from naru.tune.data import read_examples, split

USER = {"role": "user", "content": "수도는?"}
ANSWER = {"role": "assistant", "content": "서울입니다."}
CALL = {"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}]}
RESULT = {"role": "tool", "content": "1", "tool_call_id": "a"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def write(file: Path, *rows: Any) -> Path:
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows))
    return file


def call(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def test_good_examples_are_read(tmp_path: Path) -> None:
    """Empty lines apart; arguments that are text become what they say; the digest is the file's."""
    file = write(
        tmp_path / "a.jsonl",
        {"messages": [{"role": "system", "content": "s"}, USER, ANSWER]},
        "",
        {"messages": [USER, CALL, RESULT, RESULT, {**ANSWER, "reasoning_content": "음"}], "tools": [TOOL]},
    )
    found = read_examples(file)
    assert len(found.rows) == 2
    assert found.rows[1]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("row", "mistake"),
    [
        ("{", "no JSON ("),
        ("[1]", "no JSON object"),
        ({"messages": [USER, ANSWER], "text": ""}, "unknown field 'text' (known: messages, tools)"),
        ({"prompt": "a", "completion": "b"}, "unknown field 'completion'"),
        ({}, "'messages' is no list of messages"),
        ({"messages": []}, "'messages' is no list of messages"),
        ({"messages": [USER]}, "the last message is not the assistant's, so there is nothing to learn"),
        ({"messages": ["hi", ANSWER]}, "message 1 is no object"),
        (
            {"messages": [USER, {"role": "bot", "content": "x"}]},
            "message 2 has the role 'bot' (known: system, developer, user,",
        ),
        ({"messages": [USER, {**ANSWER, "weight": 1}]}, "message 2 has an unknown field 'weight'"),
        ({"messages": [{**USER, "tool_calls": []}, ANSWER]}, "message 1 calls tools and is not the assistant's"),
        ({"messages": [USER, {"role": "assistant"}]}, "message 2 has no content"),
        ({"messages": [USER, {**ANSWER, "content": [{"type": "text"}]}]}, "message 2 has a content that is no text"),
        ({"messages": [USER, {**ANSWER, "reasoning_content": 1}]}, "has a reasoning_content that is no text"),
        (
            {"messages": [USER, {"role": "system", "content": "s"}, ANSWER]},
            "message 2 is the system's and not the first",
        ),
        ({"messages": [USER, RESULT, ANSWER]}, "message 2 is a tool's result, and no tool was called before it"),
        ({"messages": [USER, {**ANSWER, "tool_calls": {}}]}, "has tool_calls that are no list"),
        ({"messages": [USER, {**ANSWER, "tool_calls": [{"name": "f"}]}]}, "has a tool call without a function's name"),
        ({"messages": [USER, call("{")]}, "calls f with arguments that are no JSON"),
        ({"messages": [USER, call("[1]")]}, "calls f with arguments that are no object"),
        ({"messages": [USER, call(None)]}, "calls f with arguments that are no object"),
        ({"messages": [USER, ANSWER], "tools": {}}, "'tools' is no list"),
        ({"messages": [USER, ANSWER], "tools": [TOOL, {"name": "g"}]}, "tool 2 has no function with a name"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, row: Any, mistake: str) -> None:
    file = write(tmp_path / "a.jsonl", {"messages": [USER, ANSWER]}, row)
    with pytest.raises(BadRequest) as error:
        read_examples(file)
    assert error.value.message.startswith(f"{file} cannot be trained on. line 2: ")
    assert mistake in error.value.message


def test_the_first_mistakes_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"line 1: .*; line 5: .*; and 2 more lines\.$"):
        read_examples(write(tmp_path / "a.jsonl", *["{}"] * 7))


def test_files_without_examples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="has no examples: one JSON object a line is expected"):
        read_examples(write(tmp_path / "a.jsonl", "", ""))
    with pytest.raises(NotFound, match=r"b\.jsonl is no file"):
        read_examples(tmp_path / "b.jsonl")


def test_the_split_is_even_and_whole() -> None:
    rows = tuple({"n": number} for number in range(10))
    kept, chosen = split(rows, 0.2)
    assert [row["n"] for row in chosen] == [0, 5]
    assert len(kept) == 8
    assert split(rows, 0) == (rows, ())
    assert [len(part) for part in split(rows[:2], 0.9)] == [1, 1]
    for part, some in ((1.0, rows), (-0.1, rows), (0.5, rows[:1])):
        with pytest.raises(BadRequest, match="leaves nothing to train on"):
            split(some, part)
