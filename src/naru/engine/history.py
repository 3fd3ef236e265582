"""Messages as chat templates want them: what clients may write in several forms, in the one form that templates read.

Without this a template drops a user's text silently or fails (local_serving.md 1.1, 1.6).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from naru.errors import BadRequest

Json = dict[str, Any]


def prepare(messages: Sequence[Json]) -> list[Json]:
    """OpenAI's messages with text contents as strings, `reasoning_content` under that name, arguments as objects, and tool
    results in the order of their calls. Messages with pictures or sound keep their list of parts."""
    return _in_call_order([_prepared(message) for message in messages])


def _prepared(message: Json) -> Json:
    ready = dict(message)
    if isinstance(content := ready.get("content"), list):
        ready["content"] = _flat(content)
    elif content is None:
        ready["content"] = ""
    reasoning = ready.pop("reasoning", None)
    if isinstance(reasoning, str) and not ready.get("reasoning_content"):
        ready["reasoning_content"] = reasoning
    if ready.get("tool_calls"):
        ready["tool_calls"] = [_call(call) for call in ready["tool_calls"]]
    else:
        ready.pop("tool_calls", None)
    return ready


def _flat(parts: list[Any]) -> str | list[Any]:
    """Text alone becomes one string: templates that test `content is string` would print nothing otherwise."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) != len(parts):
        return parts
    return "\n".join(text for text in texts if isinstance(text, str))


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise BadRequest("A tool call in the history has no function.", param="messages")
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(value: Any) -> Json:
    """An object, since templates iterate over it. What does not parse is shown under one key, rather than failing the whole
    conversation because of what a model once wrote (T55)."""
    if isinstance(value, dict):
        return value
    if value is None or value == "":
        return {}
    try:
        decoded = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return {"arguments": value}
    return decoded if isinstance(decoded, dict) else {"arguments": decoded}


def _in_call_order(messages: list[Json]) -> list[Json]:
    """Templates do not print tool_call_id: the order is all that links a result to its call."""
    ordered: list[Json] = []
    rank: dict[str, int] = {}
    results: list[Json] = []
    for message in messages:
        if message.get("role") == "tool":
            results.append(message)
            continue
        ordered += _sorted(results, rank)
        results = []
        ordered.append(message)
        if calls := message.get("tool_calls"):
            rank = {str(call.get("id")): position for position, call in enumerate(calls)}
    return ordered + _sorted(results, rank)


def _sorted(results: Iterable[Json], rank: dict[str, int]) -> list[Json]:
    return sorted(results, key=lambda result: rank.get(str(result.get("tool_call_id")), len(rank)))
