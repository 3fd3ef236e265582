"""What is wrong with a model's arguments, so that the model can put it right in one go."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from naru.agent.json_schema import Json
from naru.agent.tool import ArgumentsError

MAX_SHOWN_CHARS = 80
#: More than these tell a model no more.
MAX_PROBLEMS = 10

_MISSING = frozenset(("missing", "missing_argument", "missing_keyword_only_argument"))
_UNKNOWN = frozenset(("extra_forbidden", "unexpected_keyword_argument"))


def refusal(name: str, error: ValidationError, arguments: Mapping[str, Any], parameters: Json) -> ArgumentsError:
    """All problems of one call, a line each: where, what came, what fits."""
    grouped: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        grouped.setdefault(_path(detail, arguments), []).append(detail)
    lines = [_line(path, details, parameters) for path, details in grouped.items()]
    if len(lines) > MAX_PROBLEMS:
        lines = [*lines[:MAX_PROBLEMS], f"and {len(lines) - MAX_PROBLEMS} more"]
    listed = "\n".join(f"- {line}" for line in lines)
    return ArgumentsError(f"The arguments of {name} do not fit. Put this right and call it again:\n{listed}")


def _path(detail: ErrorDetails, arguments: Mapping[str, Any]) -> tuple[str | int, ...]:
    """Where in the arguments. pydantic's `loc` also names branches of unions (`int`, `list[str]`), which the model has never
    seen: a step counts if it leads somewhere in the arguments, or is the one that is missing."""
    path: list[str | int] = []
    value: Any = arguments
    for step in detail["loc"]:
        if _leads_on(value, step):
            value = value[step]
            path.append(step)
    if detail["type"] in _MISSING:
        path.append(detail["loc"][-1])
    return tuple(path)


def _leads_on(value: Any, step: str | int) -> bool:
    if isinstance(value, Mapping):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)


def _line(path: tuple[str | int, ...], details: list[ErrorDetails], parameters: Json) -> str:
    first = details[0]
    shown = _shown(path)
    if first["type"] in _MISSING:
        return f"{shown} is missing.{_about(path, parameters)}"
    if first["type"] in _UNKNOWN:
        return f"{shown} is not a parameter.{_known(path, parameters)}"
    wanted = " or ".join(dict.fromkeys(_wanted(detail["msg"]) for detail in details)).replace(" or should be ", " or ")
    return f"{shown}: {wanted}; it was {_cut(first['input'])}"


def _wanted(message: str) -> str:
    """`Input should be …` in the voice of a list."""
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should", "should", 1) if message.startswith("Input should") else message


def _shown(path: Iterable[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the arguments"


def _about(path: tuple[str | int, ...], parameters: Json) -> str:
    """What its schema says of a missing parameter."""
    schema = parameters["properties"].get(path[0], {}) if len(path) == 1 else {}
    words = [str(schema[key]) for key in ("type", "description") if key in schema]
    if "enum" in schema:
        words.insert(1, "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"]))
    return f" It is: {'; '.join(words)}" if words else ""


def _known(path: tuple[str | int, ...], parameters: Json) -> str:
    if len(path) != 1:
        return " Leave it out."
    names = list(parameters["properties"])
    if not names:
        return " The tool takes no arguments: send {}."
    near = difflib.get_close_matches(str(path[0]), names, n=1)
    return f" Did you mean {near[0]}?" if near else f" It takes: {', '.join(names)}."


def _cut(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + "…"
