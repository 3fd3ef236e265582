"""Tools and tool choice, both ways.

Custom tools (free text in, perhaps under a grammar) and namespaces are Responses' own. Towards another API a custom tool is a
function with one string, and a tool of a namespace a function named `namespace__tool`; `aliases` undoes both in what
the model calls (providers.md B2.1). The caller's own form stays in `extra`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.errors import BadRequest
from naru.protocol.messages import OpaqueTool, Tool, ToolChoice
from naru.protocol.openai_chat.request_in import wrong
from naru.protocol.openai_chat.wire import NAME as CHAT
from naru.protocol.openai_responses.wire import NAME, items_of
from naru.protocol.wire import (
    BAD_JSON,
    NULL,
    Fields,
    decode_any,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    rest_of,
    text_of,
)

_FUNCTION_KEYS = frozenset({"type", "name", "description", "parameters", "strict"})
#: In Tool.extra: the custom tool or namespace as the caller wrote it; and the mark of a namespace's further tools.
CUSTOM = "custom"
NAMESPACE = "namespace"
IN_NAMESPACE = "in_namespace"

_INPUT_SCHEMA = Raw(
    b'{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}'
)
_decode_strict = msgspec.json.Decoder(bool | None).decode


class Alias(Struct, frozen=True):
    """What a function of ours is to the caller."""

    name: str
    is_custom: bool = False
    namespace: str | None = None


def wrap_input(text: str) -> str:
    """A custom tool's free text as the arguments of its function."""
    return encode({"input": text}).decode()


def unwrap_input(arguments: str) -> str:
    """The free text again; arguments of another shape are passed on as they are."""
    try:
        value = decode_any(arguments.encode("utf-8", "surrogatepass"))
    except BAD_JSON:
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments


def flat_name(namespace: str | None, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


def aliases(fields: Fields) -> dict[str, Alias]:
    """Function name -> what it is, for the tools of a request that are no plain functions."""
    raw = fields.get("tools")
    if raw is None or not (b'"custom"' in bytes(raw) or b'"namespace"' in bytes(raw)):
        return {}
    found: dict[str, Alias] = {}
    for tool in items_of(raw):
        kind, name = text_of(tool.get("type")), text_of(tool.get("name")) or ""
        if kind == "custom":
            found[name] = Alias(name, is_custom=True)
        elif kind == "namespace":
            for inner in items_of(tool.get("tools")):
                inner_name = text_of(inner.get("name")) or ""
                is_custom = text_of(inner.get("type")) == "custom"
                found[flat_name(name, inner_name)] = Alias(inner_name, is_custom, name)
    return found


# --- In -----------------------------------------------------------------------------------------------------------


def read_tools(raw: Raw | None) -> tuple[Tool | OpaqueTool, ...]:
    """Raises BadRequest, with the path of the tool at fault as `param`."""
    if raw is None or is_null(raw):
        return ()
    if not is_list(raw):
        raise wrong("tools", "`tools` must be a list.")
    tools: list[Tool | OpaqueTool] = []
    for place, item in enumerate(decode_list(raw)):
        tools += _read_tool(item, f"tools[{place}]")
    return tuple(tools)


def _read_tool(raw: Raw, path: str) -> list[Tool | OpaqueTool]:
    fields = decode_fields(raw) if is_object(raw) else {}
    kind = text_of(fields.get("type"))
    if not kind:
        raise wrong(f"{path}.type", f"`{path}.type` must say what kind of tool it is, such as function.")
    if kind == "function":
        return [_function(fields, path)]
    if kind == "custom":
        return [_custom(fields, raw, path)]
    if kind == "namespace":
        return list(_namespace(fields, raw, path))
    return [OpaqueTool(NAME, kind, raw)]


def _name_of(fields: Fields, path: str) -> str:
    name = text_of(fields.get("name"))
    if not name:
        raise wrong(f"{path}.name", f"`{path}.name` must be a non-empty string.")
    return name


def _function(fields: Fields, path: str) -> Tool:
    name = _name_of(fields, path)
    parameters = fields.get("parameters")
    try:
        strict = _decode_strict(fields.get("strict", NULL))
    except BAD_JSON:
        raise wrong(f"{path}.strict", f"`{path}.strict` must be true or false.") from None
    return Tool(
        name=name,
        description=text_of(fields.get("description")),
        parameters=None if is_null(parameters) else parameters,
        strict=strict,
        extra=rest_of(fields, _FUNCTION_KEYS),
    )


def _custom(fields: Fields, raw: Raw, path: str) -> Tool:
    name = _name_of(fields, path)
    lines = [text_of(fields.get("description")) or "", "Put the whole input, as text, into `input`."]
    form = decode_fields(fields["format"]) if is_object(fields.get("format")) else {}
    if definition := text_of(form.get("definition")):
        lines.append(f"The text must follow this {text_of(form.get('syntax')) or 'formal'} grammar:\n{definition}")
    description = "\n\n".join(line for line in lines if line)
    return Tool(name, description, _INPUT_SCHEMA, extra={CUSTOM: raw})


def _namespace(fields: Fields, raw: Raw, path: str) -> list[Tool]:
    """The tools in it, by their flat names. Those that are neither functions nor custom are refused."""
    namespace = _name_of(fields, path)
    tools: list[Tool] = []
    for place, inner in enumerate(items_of(fields.get("tools"))):
        inner_path, kind = f"{path}.tools[{place}]", text_of(inner.get("type"))
        if kind not in ("function", "custom"):
            raise wrong(f"{inner_path}.type", f"`{inner_path}.type` must be function or custom.")
        tool = _function(inner, inner_path) if kind == "function" else _custom(inner, raw, inner_path)
        extra = {IN_NAMESPACE: raw} if tools else {NAMESPACE: raw}
        name = flat_name(namespace, tool.name)
        tools.append(Tool(name, tool.description, tool.parameters, tool.strict, extra))
    if not tools:
        raise wrong(f"{path}.tools", f"`{path}.tools` must be a list with at least one tool.")
    return tools


_WORDS = {"none": ToolChoice("none"), "auto": ToolChoice("auto"), "required": ToolChoice("required")}


def read_choice(raw: Raw | None) -> ToolChoice | None:
    """A word, a named function or custom tool, or allowed_tools. A server's own tool cannot be chosen elsewhere."""
    if raw is None or is_null(raw):
        return None
    if (word := text_of(raw)) is not None:
        if word not in _WORDS:
            raise wrong("tool_choice", "`tool_choice` must be none, auto, required, or an object that names a tool.")
        return _WORDS[word]
    if not is_object(raw):
        raise wrong("tool_choice", "`tool_choice` must be a string or an object.")
    fields = decode_fields(raw)
    if text_of(fields.get("type")) != "allowed_tools":
        return ToolChoice("named", (_chosen(fields),))
    mode = text_of(fields.get("mode"))
    if mode not in ("auto", "required") or not is_list(fields.get("tools")):
        raise wrong("tool_choice", "`tool_choice` must have the `mode` auto or required, and a list of `tools`.")
    names = tuple(_chosen(tool) for tool in items_of(fields["tools"]))
    return ToolChoice("auto" if mode == "auto" else "required", names)


def _chosen(fields: Fields) -> str:
    kind, name = text_of(fields.get("type")), text_of(fields.get("name"))
    if kind in ("function", "custom") and name:
        return flat_name(text_of(fields.get("namespace")), name)
    if kind in ("function", "custom"):
        raise wrong("tool_choice", "`tool_choice` must name a tool.")
    raise BadRequest(
        f"`tool_choice` asks for `{kind}`, a tool of OpenAI's servers that this model's provider does not have. "
        "Choose a function, or a model of OpenAI.",
        code="unsupported_tool",
        param="tool_choice",
    )


# --- Out ----------------------------------------------------------------------------------------------------------


def write_tools(tools: tuple[Tool | OpaqueTool, ...], owns_extra: bool) -> list[Any]:
    """Raises BadRequest for another API's own tools, chat's custom tools excepted: they differ in form alone."""
    return [_tool_fields(tool, owns_extra) for tool in tools if not (owns_extra and _is_in_namespace(tool))]


def _is_in_namespace(tool: Tool | OpaqueTool) -> bool:
    return isinstance(tool, Tool) and IN_NAMESPACE in tool.extra


def _tool_fields(tool: Tool | OpaqueTool, owns_extra: bool) -> Any:
    if isinstance(tool, OpaqueTool):
        if tool.dialect == CHAT and tool.kind == "custom":
            return _chat_custom(tool)
        if tool.dialect != NAME:
            raise BadRequest(
                f"The tool `{tool.kind}` belongs to another API and this model's provider does not have it. "
                "Leave it out, or choose a model of that API.",
                code="unsupported_tool",
                param="tools",
            )
        return tool.raw
    if owns_extra and (raw := tool.extra.get(CUSTOM) or tool.extra.get(NAMESPACE)) is not None:
        return raw
    fields: dict[str, Any] = {"type": "function", "name": tool.name}
    if tool.description is not None:
        fields["description"] = tool.description
    # The type requires both. Left out, `strict` means true, which refuses most schemas (providers.md A5.5).
    fields["parameters"] = tool.parameters
    fields["strict"] = tool.strict is True
    return {**tool.extra, **fields} if owns_extra else fields


def _chat_custom(tool: OpaqueTool) -> dict[str, Any]:
    outer = decode_fields(tool.raw) if is_object(tool.raw) else {}
    inner: dict[str, Any] = decode_fields(outer["custom"]) if is_object(outer.get("custom")) else {}
    form = decode_fields(inner["format"]) if is_object(inner.get("format")) else {}
    if is_object(grammar := form.get("grammar")):
        inner["format"] = {"type": "grammar", **decode_fields(grammar)}
    return {**inner, "type": "custom"}


def custom_names(tools: tuple[Tool | OpaqueTool, ...], owns_extra: bool) -> set[str]:
    """The names that are custom tools in what `write_tools` writes."""
    names: set[str] = set()
    for tool in tools:
        if isinstance(tool, OpaqueTool) and tool.kind == "custom":
            written = _tool_fields(tool, owns_extra)
            fields = written if isinstance(written, dict) else decode_fields(written)
            names.add(text_of(fields.get("name")) or "")
        elif isinstance(tool, Tool) and owns_extra and CUSTOM in tool.extra:
            names.add(tool.name)
    return names


def write_choice(choice: ToolChoice, customs: set[str]) -> Any:
    def named(name: str) -> dict[str, str]:
        return {"type": "custom" if name in customs else "function", "name": name}

    if choice.mode == "named":
        if len(choice.names) != 1:
            raise BadRequest("A named tool choice names exactly one tool.", code="invalid_value", param="tool_choice")
        return named(choice.names[0])
    if not choice.names:
        return choice.mode
    return {"type": "allowed_tools", "mode": choice.mode, "tools": [named(name) for name in choice.names]}
