"""What a tool's schema says of a parameter that the model wrote as bare text (local_serving.md 1.6, T50).

`null` is null for any type; a number, a truth value, a list or an object is taken where the schema allows one and the text is
one; anything else is the string it is. Numbers keep their digits: they are JSON text already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from naru.protocol.messages import OpaqueTool, Tool

#: How deep anyOf, allOf and $ref are followed: a schema may name itself.
_DEPTH = 8
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")

Types = frozenset[str]
#: Nothing is known: the empty set of types.
UNKNOWN: Types = frozenset()


class Schemas:
    """The parameters' types of each tool, looked up as a call needs them."""

    __slots__ = ("_tools",)

    def __init__(self, tools: Sequence[Tool | OpaqueTool]) -> None:
        self._tools = {tool.name: tool for tool in tools if isinstance(tool, Tool)}

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def of(self, name: str) -> dict[str, Types]:
        tool = self._tools.get(name)
        if tool is None or tool.parameters is None:
            return {}
        try:
            root = msgspec.json.decode(tool.parameters)
        except msgspec.DecodeError:
            return {}
        properties = root.get("properties") if isinstance(root, dict) else None
        if not isinstance(properties, dict):
            return {}
        return {key: types_of(value, root, _DEPTH) for key, value in properties.items()}


def types_of(schema: Any, root: Mapping[str, Any], depth: int) -> Types:
    """The JSON types that `schema` allows, through anyOf, oneOf, allOf, enum, const, nullable and local $ref."""
    if not isinstance(schema, dict) or depth == 0:
        return UNKNOWN
    found: set[str] = set()
    kind = schema.get("type")
    found.update([kind] if isinstance(kind, str) else [k for k in kind if isinstance(k, str)] if kind else ())
    for name in ("anyOf", "oneOf", "allOf"):
        options = schema.get(name)
        for option in options if isinstance(options, list) else ():
            found |= types_of(option, root, depth - 1)
    if isinstance(reference := schema.get("$ref"), str):
        found |= types_of(_resolve(reference, root), root, depth - 1)
    if not found:
        values = schema.get("enum") if isinstance(schema.get("enum"), list) else []
        found.update(_type_of(value) for value in [*(values or ()), *([schema["const"]] if "const" in schema else ())])
    if schema.get("nullable") is True and found:
        found.add("null")
    return frozenset(found)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    if not reference.startswith("#/"):
        return None
    node: Any = root
    for step in reference[2:].split("/"):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object" if isinstance(value, dict) else "string"


def is_text(types: Types) -> bool:
    """Whether nothing but a string, or null, can be meant, so that it may be streamed."""
    return "string" in types and types <= {"string", "null"}


def coerced(text: str, types: Types) -> str:
    """The JSON of a value written as bare text. Without known types: what is JSON is taken as JSON."""
    bare = text.strip()
    if bare == "null":
        return "null"
    for matches, known in _READERS:
        if (not types or types & known) and (found := matches(bare)) is not None:
            return found
    return quoted(text)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _integer(text: str) -> str | None:
    return text if _INTEGER.fullmatch(text) else None


def _number(text: str) -> str | None:
    return text if _NUMBER.fullmatch(text) else None


def _boolean(text: str) -> str | None:
    return text.lower() if text.lower() in ("true", "false") else None


def _structure(text: str) -> str | None:
    """A list or an object, in the model's own spelling."""
    if not text.startswith(("[", "{")):
        return None
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return text


def _quoted(text: str) -> str | None:
    """A JSON string, quotes and all: only where nothing is known of the type."""
    if not text.startswith('"'):
        return None
    try:
        return quoted(msgspec.json.decode(text, type=str))
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


_READERS = (
    (_integer, frozenset({"integer", "number"})),
    (_number, frozenset({"number"})),
    (_boolean, frozenset({"boolean"})),
    (_structure, frozenset({"array", "object"})),
    (_quoted, frozenset[str]()),
)
