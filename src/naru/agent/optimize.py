"""Tool lists that cost fewer tokens: every request of a run sends them again."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from naru.agent.function import as_tool
from naru.agent.json_schema import Json, mapped, without_unused
from naru.agent.tool import Tool
from naru.protocol.tokens import estimate_tokens

#: Keywords that no model chooses by.
_NOISE = frozenset(("title", "examples", "example", "$comment", "$schema"))
#: Leaving these out says the same.
_EMPTY: dict[str, tuple[object, ...]] = {"required": ([],), "description": ("",), "default": (None, "", [], {})}
#: Keywords whose subschemas also say what is required.
_BRANCHES = ("allOf", "anyOf", "oneOf")
_SENTENCE_END = re.compile(r"(?<![\s.(]\w)[.!?](?=\s)|[。！？]")  # not the dots of "e.g. Seoul"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """In characters: a tool's own description, and each one inside its schema."""

    tool_chars: int
    parameter_chars: int


class Optimized(msgspec.Struct, frozen=True):
    """`tools` stand in the order given: dicts for dicts, Tools for Tools and functions. Tokens are estimates, of the list as
    JSON; what a provider makes of it for its model varies."""

    tools: list[Any]
    tokens_before: int
    tokens_after: int

    @property
    def saved_tokens(self) -> int:
        return self.tokens_before - self.tokens_after


def optimize_tools(
    tools: Iterable[object], *, required_only: bool = False, tool_chars: int = 200, parameter_chars: int = 100
) -> Optimized:
    """Drops titles, examples, comments, empty descriptions, defaults and definitions that say nothing, and shortens
    descriptions at the end of a sentence or a word. `required_only` drops the optional parameters of every tool as well: the
    model can then no longer set them. What is required keeps its name, its type and its limits.

    Takes OpenAI's dicts (chat completions' or Responses'), Tools and functions. Tools that providers run themselves
    (`web_search`) stay as they are. Raises TypeError for anything else, ValueError for limits under 1."""
    if tool_chars < 1 or parameter_chars < 1:
        raise ValueError("tool_chars and parameter_chars are lengths of 1 character or more.")
    limits = Limits(tool_chars=tool_chars, parameter_chars=parameter_chars)
    given = [each if isinstance(each, Mapping) else as_tool(each) for each in tools]
    lean = [_lean(each, limits, required_only) for each in given]
    return Optimized(lean, sum(map(_tokens, given)), sum(map(_tokens, lean)))


def _tokens(tool: Mapping[str, Any] | Tool) -> int:
    spec = tool.spec() if isinstance(tool, Tool) else tool
    return estimate_tokens(json.dumps(spec, ensure_ascii=False, separators=(",", ":")))


def _lean(tool: Mapping[str, Any] | Tool, limits: Limits, required_only: bool) -> Mapping[str, Any] | Tool:
    if isinstance(tool, Tool):
        parameters = lean_schema(tool.parameters, limits.parameter_chars, required_only)
        return msgspec.structs.replace(
            tool, description=shortened(tool.description, limits.tool_chars), parameters=parameters
        )
    if tool.get("type") != "function":
        return tool
    if isinstance(tool.get("function"), Mapping):
        return {**tool, "function": _lean_function(tool["function"], limits, required_only)}
    if "name" not in tool:
        raise TypeError(
            f"This is no tool as OpenAI writes them, it has no function: {json.dumps(tool, default=str):.80}"
        )
    return _lean_function(tool, limits, required_only)


def _lean_function(function: Mapping[str, Any], limits: Limits, required_only: bool) -> Json:
    lean = dict(function)
    if isinstance(lean.get("description"), str):
        lean["description"] = shortened(lean["description"], limits.tool_chars)
    if not lean.get("description", True):
        del lean["description"]
    if isinstance(lean.get("parameters"), Mapping):
        lean["parameters"] = lean_schema(lean["parameters"], limits.parameter_chars, required_only)
    return lean


def lean_schema(schema: Mapping[str, Any], chars: int, required_only: bool) -> Json:
    """A function's parameters without what costs tokens and says nothing; the schema given is not changed."""
    lean = mapped(schema, lambda inner: _lean_one(inner, chars))
    return without_unused(_required_part(lean) if required_only else lean)


def _lean_one(schema: Json, chars: int) -> Json:
    lean: Json = {}
    for key, value in schema.items():
        if key == "description" and isinstance(value, str):
            value = shortened(value, chars)
        if key not in _NOISE and value not in _EMPTY.get(key, ()):
            lean[key] = value
    return lean


def _required_part(schema: Json) -> Json:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or "minProperties" in schema:
        return schema
    needed = _required_names(schema)
    return schema | {"properties": {name: inner for name, inner in properties.items() if name in needed}}


def _required_names(schema: Mapping[str, Any]) -> set[str]:
    """Those of its branches as well: `anyOf: [{required: [a]}, {required: [b]}]` needs both to stay."""
    names = set(schema.get("required", ()))
    for others in schema.get("dependentRequired", {}).values():
        names.update(others)
    branches = [branch for key in _BRANCHES for branch in schema.get(key, ())]
    branches += [schema[key] for key in ("if", "then", "else") if key in schema]
    branches += schema.get("dependentSchemas", {}).values()
    return names.union(*(_required_names(branch) for branch in branches if isinstance(branch, Mapping)))


def shortened(text: str, chars: int) -> str:
    """At most `chars` characters: whole sentences if they fill a third of it, else whole words, else whole characters (a
    syllable with its marks, an emoji with its parts). Blanks and line ends become one blank each."""
    text = " ".join(text.split())
    if len(text) <= chars:
        return text
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, chars + 1) if match.end() <= chars]
    if ends and ends[-1] * 3 >= chars:
        return text[: ends[-1]]
    word = text.rfind(" ", 0, chars + 1)
    if word > 0:
        return text[:word].rstrip(" ,;:-–—(")
    cut = chars
    while cut > 0 and _belongs_together(text[cut - 1], text[cut]):
        cut -= 1
    return text[:cut]


def _belongs_together(left: str, right: str) -> bool:
    """Whether a reader sees one character (the common cases of Unicode's annex 29): marks, Hangul spelt in jamo, joined emoji,
    skin tones, flags."""
    is_mark = unicodedata.category(right).startswith("M") or right == "\u200d"
    is_jamo = "\u1160" <= right <= "\u11ff" or ("\u1100" <= right <= "\u115f" and "\u1100" <= left <= "\u115f")
    is_flag = all("\U0001f1e6" <= char <= "\U0001f1ff" for char in (left, right))
    return is_mark or is_jamo or is_flag or left == "\u200d" or "\U0001f3fb" <= right <= "\U0001f3ff"
