"""Examples for fine-tuning: JSON lines of {"messages": [...], "tools": [...]}, as OpenAI and TRL write them. Checked whole
before anything is loaded. Pure but for reading the file.

    {"messages": [{"role": "user", "content": "수도는?"}, {"role": "assistant", "content": "서울입니다."}]}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from naru.errors import BadRequest, NotFound

Json = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")
FIELDS = ("messages", "tools")
#: What chat templates read of a message.
MESSAGE_FIELDS = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id", "name")
MAX_LINE_BYTES = 16 << 20
#: So many mistakes are named at once.
SHOWN = 5


class Examples(Struct, frozen=True):
    """`digest`: SHA-256 of the file. `rows`: as they were read, arguments of tool calls as objects."""

    rows: tuple[Json, ...]
    digest: str


def read_examples(file: Path) -> Examples:
    """Raises NotFound, and BadRequest that names the first lines and what is wrong with each."""
    if not file.is_file():
        raise NotFound(f"{file} is no file.")
    rows: list[Json] = []
    mistakes: list[str] = []
    digest = hashlib.sha256()
    for number, line in _lines(file):
        digest.update(line)
        if not line.strip():
            continue
        row, mistake = _read(line)
        if mistake:
            mistakes.append(f"line {number}: {mistake}")
        else:
            rows.append(row)
    if mistakes:
        more = f"; and {len(mistakes) - SHOWN} more lines" if len(mistakes) > SHOWN else ""
        raise BadRequest(f"{file} cannot be trained on. {'; '.join(mistakes[:SHOWN])}{more}.")
    if not rows:
        raise BadRequest(f"{file} has no examples: one JSON object a line is expected.")
    return Examples(tuple(rows), digest.hexdigest())


def split(rows: tuple[Json, ...], part: float) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """(for training, for evaluation): evenly out of the whole file, at least one each. Raises BadRequest."""
    if part == 0:
        return rows, ()
    if not 0 < part < 1 or len(rows) < 2:
        raise BadRequest(
            f"--eval-split {part:g} of {len(rows)} examples leaves nothing to train on or to evaluate; 0.1 is usual."
        )
    count = min(len(rows) - 1, max(1, round(len(rows) * part)))
    chosen = {index * len(rows) // count for index in range(count)}
    kept = tuple(row for index, row in enumerate(rows) if index not in chosen)
    return kept, tuple(rows[index] for index in sorted(chosen))


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    with file.open("rb") as opened:
        for number, line in enumerate(iter(lambda: opened.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise BadRequest(f"{file}: line {number} is longer than {MAX_LINE_BYTES >> 20} MiB.")
            yield number, line


def _read(line: bytes) -> tuple[Json, str]:
    """(the example, what is wrong with it); one of the two is empty."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"no JSON ({error})"
    if not isinstance(row, dict):
        return {}, "no JSON object"
    unknown = sorted(row.keys() - set(FIELDS))
    if unknown:
        return {}, f"unknown field {unknown[0]!r} (known: {', '.join(FIELDS)})"
    mistake = _in_messages(row.get("messages")) or _in_tools(row.get("tools"))
    return (row, "") if not mistake else ({}, mistake)


def _in_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return "'messages' is no list of messages"
    before = ""
    for number, message in enumerate(messages, 1):
        mistake = _in_message(message) or _out_of_turn(message, before, number)
        if mistake:
            return f"message {number} {mistake}"
        before = "call" if message.get("tool_calls") else message["role"]
    if messages[-1]["role"] != "assistant":
        return "the last message is not the assistant's, so there is nothing to learn"
    return ""


def _in_message(message: Any) -> str:
    if not isinstance(message, dict):
        return "is no object"
    if message.get("role") not in ROLES:
        return f"has the role {message.get('role')!r} (known: {', '.join(ROLES)})"
    unknown = sorted(message.keys() - set(MESSAGE_FIELDS))
    if unknown:
        return f"has an unknown field {unknown[0]!r} (known: {', '.join(MESSAGE_FIELDS)})"
    calls, content = message.get("tool_calls"), message.get("content")
    if calls is not None and message["role"] != "assistant":
        return "calls tools and is not the assistant's"
    if not isinstance(message.get("reasoning_content", ""), str):
        return "has a reasoning_content that is no text"
    if content is None and not calls:
        return "has no content"
    if content is not None and not isinstance(content, str):
        return "has a content that is no text"
    return _in_calls(calls) if calls is not None else ""


def _in_calls(calls: Any) -> str:
    """Arguments that are JSON text become the object, because most templates want that."""
    if not isinstance(calls, list):
        return "has tool_calls that are no list"
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return "has a tool call without a function's name"
        arguments = function.get("arguments")
        try:
            function["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
        except (ValueError, RecursionError):
            return f"calls {function['name']} with arguments that are no JSON"
        if not isinstance(function["arguments"], dict):
            return f"calls {function['name']} with arguments that are no object"
    return ""


def _out_of_turn(message: Json, before: str, number: int) -> str:
    if message["role"] in ("system", "developer") and number > 1:
        return "is the system's and not the first"
    if message["role"] == "tool" and before not in ("call", "tool"):
        return "is a tool's result, and no tool was called before it"
    return ""


def _in_tools(tools: Any) -> str:
    if tools is None:
        return ""
    if not isinstance(tools, list):
        return "'tools' is no list"
    for number, tool in enumerate(tools, 1):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return f"tool {number} has no function with a name"
    return ""
