"""Which grammar an answer is held to: a required tool call, a JSON schema. Pure.

Structural tags are xgrammar's, which both engines have inside (openvino-genai, and the library itself beside Transformers).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from naru.engine.parse.formats import Format
from naru.engine.port import Grammar
from naru.errors import BadRequest
from naru.protocol.messages import OpaqueTool, ResponseFormat, Tool, ToolChoice

Json = dict[str, Any]
ANY_OBJECT: Json = {"type": "object"}


def of_format(wanted: ResponseFormat | None) -> Grammar | None:
    if wanted is None or wanted.kind == "text":
        return None
    schema = _schema(wanted.schema) if wanted.kind == "json_schema" else ANY_OBJECT
    return Grammar("json_schema", _text(schema))


def of_choice(
    choice: ToolChoice | None, tools: Sequence[Tool | OpaqueTool], formats: Collection[Format], is_parallel: bool
) -> tuple[Grammar | None, frozenset[Format]]:
    """(grammar, formats that the parser has to expect beside the model's own). Required and named calls are written in the
    model's own form where that can be said as a structural tag, else as a JSON list."""
    offered = callable_tools(choice, tools)
    if choice is None or choice.mode not in ("required", "named"):
        return None, frozenset()
    if not offered:
        raise BadRequest("`tool_choice` asks for a call, but `tools` has no function to call.", param="tool_choice")
    tag = _native(offered, formats, is_parallel)
    if tag is not None:
        return Grammar(
            "structural_tag", json.dumps({"type": "structural_tag", "format": tag}, ensure_ascii=False)
        ), frozenset()
    return Grammar("json_schema", _text(_list_schema(offered, is_parallel))), frozenset({Format.JSON_LIST})


def callable_tools(choice: ToolChoice | None, tools: Sequence[Tool | OpaqueTool]) -> list[Tool]:
    """Those that this choice leaves. Raises BadRequest for a name that is not among them."""
    functions = [tool for tool in tools if isinstance(tool, Tool)]
    if choice is None or not choice.names:
        return functions
    known = {tool.name for tool in functions}
    unknown = [name for name in choice.names if name not in known]
    if unknown:
        raise BadRequest(
            f"`tool_choice` names {unknown[0]!r}, which is not among `tools`: {', '.join(sorted(known)) or 'none'}.",
            param="tool_choice",
        )
    return [tool for tool in functions if tool.name in choice.names]


def _native(tools: Sequence[Tool], formats: Collection[Format], is_parallel: bool) -> Json | None:
    if Format.QWEN_XML in formats:
        tags = [
            _tag(f"<tool_call>\n<function={t.name}>\n", "qwen_xml_parameter", t, "\n</function>\n</tool_call>")
            for t in tools
        ]
    elif Format.HERMES in formats:
        tags = [
            _tag(f'<tool_call>\n{{"name": {_text(t.name)}, "arguments": ', "json_schema", t, "}\n</tool_call>")
            for t in tools
        ]
    else:
        return None
    return {
        "type": "tags_with_separator",
        "tags": tags,
        "separator": "\n",
        "at_least_one": True,
        "stop_after_first": not is_parallel,
    }


def _tag(begin: str, kind: str, tool: Tool, end: str) -> Json:
    return {
        "type": "tag",
        "begin": begin,
        "content": {"type": kind, "json_schema": _schema(tool.parameters)},
        "end": end,
    }


def _list_schema(tools: Sequence[Tool], is_parallel: bool) -> Json:
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": tool.name}, "arguments": _schema(tool.parameters)},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    most = {} if is_parallel else {"maxItems": 1}
    return {"type": "array", "minItems": 1, **most, "items": {"anyOf": calls}}


def _schema(raw: Raw | None) -> Json:
    """A tool without parameters takes an empty object."""
    if raw is None:
        return ANY_OBJECT
    schema = msgspec.json.decode(raw)
    if not isinstance(schema, dict):
        raise BadRequest("A JSON schema must be an object.", code="invalid_value")
    return schema


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
