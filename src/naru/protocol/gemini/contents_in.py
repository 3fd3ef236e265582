"""The contents of a Gemini request to typed messages.

A content of calls' results alone becomes a message of role `tool`; results beside other parts stay in the user's message.
Calls without an id, which Gemini allows, are numbered; a result without one answers the first open call of its name.
"""

from __future__ import annotations

from msgspec import Raw

from naru.protocol.gemini.parts import KINDS, arguments_of, kind_of, media_of, split_call, unwrapped
from naru.protocol.gemini.wire import FUNCTION_NAMES, NAME, PART_NAMES, canonical, compact, items_of, nest, wrong
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.wire import BAD_JSON, TRUE, Fields, decode_fields, is_null, is_object, rest_of, text_of

_ROLES: dict[str, Role] = {"user": "user", "model": "assistant", "function": "tool", "tool": "tool"}
_KINDS = frozenset(KINDS)
_CONTENT_KEYS = frozenset({"role", "parts"})


def read_contents(fields: Fields) -> tuple[Message, ...]:
    """systemInstruction first, then the contents. Raises BadRequest, with the path at fault as `param`."""
    calls = _OpenCalls()
    system = fields.pop("systemInstruction", None)
    messages = [] if is_null(system) else [_content(system, "systemInstruction", calls)]
    for place, raw in enumerate(items_of(fields.pop("contents", None))):
        messages.append(_content(raw, f"contents[{place}]", calls))
    return tuple(messages)


class _OpenCalls:
    """Calls that wait for their results, in order."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []

    def open(self, name: str, given: str | None) -> str:
        self._count += 1
        call_id = given or f"call_gemini_{self._count}"
        self._open.append((name, call_id))
        return call_id

    def answer(self, name: str, given: str | None) -> str:
        found = next((pair for pair in self._open if (pair[1] == given if given else pair[0] == name)), None)
        if found is not None:
            self._open.remove(found)
            return found[1]
        self._count += 1
        return given or f"call_gemini_{self._count}"


def _content(raw: Raw | None, path: str, calls: _OpenCalls) -> Message:
    if not is_object(raw):
        raise wrong(path, "an object with `parts`")
    fields = decode_fields(raw)
    try:
        given = fields.get("role")
        role = _ROLES.get(text_of(given) or "user")
        if path == "systemInstruction":
            return Message("system", _system_parts(fields, path, calls), extra=rest_of(fields, ("parts",)))
        if role is None or not (given is None or is_null(given) or text_of(given) is not None):
            raise wrong(f"{path}.role", "user or model")
        parts = tuple(
            _part(part, f"{path}.parts[{place}]", calls) for place, part in enumerate(items_of(fields.get("parts")))
        )
        if role == "user" and parts and all(isinstance(part, ToolResult) for part in parts):
            role = "tool"
        return Message(role, parts, extra=rest_of(fields, _CONTENT_KEYS))
    except BAD_JSON:
        raise wrong(path, "a content as the API describes it; one of its fields has the wrong type") from None


def _system_parts(fields: Fields, path: str, calls: _OpenCalls) -> tuple[Part, ...]:
    parts = tuple(_part(raw, f"{path}.parts[{n}]", calls) for n, raw in enumerate(items_of(fields.get("parts"))))
    if not all(isinstance(part, Text) for part in parts):
        raise wrong(f"{path}.parts", "text")
    return parts


def _part(raw: Raw, path: str, calls: _OpenCalls) -> Part:
    if not is_object(raw):
        raise wrong(path, "an object such as {text: …}")
    fields = {name: value for name, value in canonical(decode_fields(raw), PART_NAMES).items() if not is_null(value)}
    kind = kind_of(fields)
    if len(_KINDS & fields.keys()) > 1:
        raise wrong(path, "one thing: text, a file, a call or a result")
    if kind is None:
        return Text("", fields)  # a signature that came alone
    if kind == "text":
        return _text(fields, path)
    if kind in ("inlineData", "fileData"):
        if not is_object(fields[kind]):
            raise wrong(f"{path}.{kind}", "an object")
        return media_of(fields, kind)
    if kind == "functionCall":
        return _call(fields, path, calls)
    if kind == "functionResponse":
        return _result(fields, path, calls)
    return Opaque(NAME, kind, raw)


def _text(fields: Fields, path: str) -> Part:
    text = text_of(fields.pop("text"))
    if text is None:
        raise wrong(f"{path}.text", "a string")
    if fields.pop("thought", None) != TRUE:
        return Text(text, fields)
    pair = unwrapped(fields.get("thoughtSignature"))
    if pair is None:
        return Reasoning(text, extra=fields)
    del fields["thoughtSignature"]
    return Reasoning(text, pair[0], pair[1], fields)


def _call(fields: Fields, path: str, calls: _OpenCalls) -> ToolCall:
    raw = fields.pop("functionCall")
    given = canonical(decode_fields(raw), FUNCTION_NAMES) if is_object(raw) else {}
    name = text_of(given.get("name"))
    args = given.get("args")
    if not name:
        raise wrong(f"{path}.functionCall.name", "a non-empty string")
    if not is_null(args) and not is_object(args):
        raise wrong(f"{path}.functionCall.args", "an object")
    call_id = calls.open(name, text_of(given.get("id")))
    signature, extra = split_call(fields, given)
    return ToolCall(call_id, name, arguments_of(args), extra=extra, signature=signature)


def _result(fields: Fields, path: str, calls: _OpenCalls) -> ToolResult:
    raw = fields.pop("functionResponse")
    given = canonical(decode_fields(raw), FUNCTION_NAMES) if is_object(raw) else {}
    name = text_of(given.pop("name", None))
    response = given.pop("response", None)
    if not name:
        raise wrong(f"{path}.functionResponse.name", "a non-empty string: the function that was called")
    if not is_null(response) and not is_object(response):
        raise wrong(f"{path}.functionResponse.response", "an object")
    call_id = calls.answer(name, text_of(given.pop("id", None)))
    said, is_error = _said(response)
    parts: list[Text | Image | File] = [Text(said)] if said is not None else []
    for place, item in enumerate(items_of(given.pop("parts", None))):
        parts.append(_media_result(item, f"{path}.functionResponse.parts[{place}]"))
    extra = {**fields, **nest(given, "functionResponse.")}
    return ToolResult(call_id, tuple(parts), name, is_error, extra)


def _media_result(raw: Raw, path: str) -> Image | File:
    fields = canonical(decode_fields(raw), PART_NAMES) if is_object(raw) else {}
    kind = kind_of(fields)
    if kind not in ("inlineData", "fileData") or not is_object(fields[kind]):
        raise wrong(path, "inlineData or fileData")
    part = media_of(fields, kind)
    if isinstance(part, Audio):
        return File(data=part.data, media_type=f"audio/{part.format}", extra=part.extra)
    return part


def _said(response: Raw | None) -> tuple[str | None, bool]:
    """What a function gave back, as text, and whether it failed: {"result" | "output": text}, {"error": text}, or JSON."""
    if response is None or is_null(response):
        return None, False
    fields = decode_fields(response)
    if len(fields) == 1:
        (name, raw), *_ = fields.items()
        text = text_of(raw)
        if text is not None and name in ("result", "output", "error"):
            return text, name == "error"
    return compact(response), False
