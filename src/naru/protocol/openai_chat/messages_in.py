"""The messages of a chat request to typed parts.

An assistant's fields become parts in OpenAI's own order: thinking, text, refusal, calls. The legacy `function_call` and
role `function` become a call and its result; ids are numbered, since the old form had none.
"""

from __future__ import annotations

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.messages import (
    Audio,
    Extra,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.openai_chat.repair import arguments_text
from naru.protocol.openai_chat.response import decode_call, reasoning_blocks
from naru.protocol.openai_chat.wire import NAME
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    raw_of,
    rest_of,
    text_of,
)

_MESSAGE_KEYS = frozenset({"role", "content", "name"})
_ASSISTANT_KEYS = _MESSAGE_KEYS | {
    "reasoning_content",
    "reasoning",
    "thinking_blocks",
    "refusal",
    "tool_calls",
    "function_call",
}
_PLAIN_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user"}
_RESULT_KEYS = _MESSAGE_KEYS | {"tool_call_id"}


def read_messages(raw: Raw) -> tuple[Message, ...]:
    """Raises BadRequest, with the path of the message at fault as `param`."""
    legacy = _LegacyCalls()
    return tuple(_message(item, f"messages[{place}]", legacy) for place, item in enumerate(decode_list(raw)))


class _LegacyCalls:
    """Ids for `function_call` and the role `function`: a result answers the last call of its name."""

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str, str] = {}

    def open(self, name: str) -> str:
        self._count += 1
        self._last[name] = f"call_legacy_{self._count}"
        return self._last[name]

    def id_of(self, name: str) -> str:
        return self._last.get(name) or self.open(name)


def _message(raw: Raw, path: str, legacy: _LegacyCalls) -> Message:
    if not is_object(raw):
        raise _wrong(path, "must be an object with `role` and `content`")
    fields = decode_fields(raw)
    role = text_of(fields.get("role"))
    name = text_of(fields.get("name"))
    try:
        if role == "assistant":
            return Message("assistant", _assistant(fields, path, legacy), name, rest_of(fields, _ASSISTANT_KEYS))
        if role in ("tool", "function"):
            return Message("tool", (_result(fields, path, legacy),))
        if (plain := _PLAIN_ROLES.get(role or "")) is not None:
            return Message(plain, _content(fields, path), name, rest_of(fields, _MESSAGE_KEYS))
    except BAD_JSON:
        raise _wrong(path, "has a field of the wrong type") from None
    raise _wrong(f"{path}.role", "must be system, developer, user, assistant or tool")


def _wrong(path: str, what: str) -> BadRequest:
    return BadRequest(f"`{path}` {what}.", code="invalid_value", param=path)


def _content(fields: Fields, path: str) -> tuple[Part, ...]:
    raw = fields.get("content")
    if raw is None or is_null(raw):
        return ()
    text = text_of(raw)
    if text is not None:
        return (Text(text),)
    if not is_list(raw):
        raise _wrong(f"{path}.content", "must be a string or a list of parts")
    return tuple(_part(item, f"{path}.content[{place}]") for place, item in enumerate(decode_list(raw)))


def _assistant(fields: Fields, path: str, legacy: _LegacyCalls) -> tuple[Part, ...]:
    parts: list[Part] = []
    if is_list(blocks := fields.get("thinking_blocks")):
        parts += reasoning_blocks(blocks)
    reasoning = text_of(fields.get("reasoning_content")) or text_of(fields.get("reasoning"))
    if reasoning and not parts:
        parts.append(Reasoning(reasoning))
    parts += _content(fields, path)
    if refusal := text_of(fields.get("refusal")):
        parts.append(Refusal(refusal))
    calls = fields.get("tool_calls")
    if is_list(calls):
        parts += [_call(raw, f"{path}.tool_calls[{place}]") for place, raw in enumerate(decode_list(calls))]
    elif calls is not None and not is_null(calls):
        raise _wrong(f"{path}.tool_calls", "must be a list")
    if is_object(call := fields.get("function_call")):
        function = decode_fields(call)
        name = text_of(function.get("name")) or ""
        arguments = text_of(arguments_text(function.get("arguments"))) or ""
        parts.append(ToolCall(legacy.open(name), name, arguments))
    return tuple(parts)


def _call(raw: Raw, path: str) -> ToolCall:
    fields = decode_fields(raw) if is_object(raw) else {}
    kind = "custom" if is_object(fields.get("custom")) and not is_object(fields.get("function")) else "function"
    if not is_object(inner_raw := fields.get(kind)):
        raise _wrong(path, "must be an object with `id`, `type` and `function`")
    inner = decode_fields(inner_raw)
    key = "arguments" if kind == "function" else "input"
    inner[key] = arguments_text(inner.get(key))  # SGLang's clients send an object
    call = decode_call({**fields, kind: raw_of(inner)})
    if not call.id:
        raise _wrong(f"{path}.id", "must be a non-empty string: the id that the tool's result refers to")
    if not call.name:
        raise _wrong(f"{path}.{kind}.name", "must be a non-empty string")
    return call


def _result(fields: Fields, path: str, legacy: _LegacyCalls) -> ToolResult:
    name = text_of(fields.get("name"))
    call_id = text_of(fields.get("tool_call_id"))
    if not call_id:
        if text_of(fields.get("role")) != "function" or not name:
            raise _wrong(f"{path}.tool_call_id", "must be the id of the call that this message answers")
        call_id = legacy.id_of(name)
    parts: list[Text | Image | File] = []
    for place, part in enumerate(_content(fields, path)):
        if not isinstance(part, Text | Image | File):
            raise _wrong(f"{path}.content[{place}]", "must be text, an image or a file")
        parts.append(part)
    return ToolResult(call_id, tuple(parts), name, extra=rest_of(fields, _RESULT_KEYS))


# --- Parts --------------------------------------------------------------------------------------------------------


def _part(raw: Raw, path: str) -> Part:
    text = text_of(raw)
    if text is not None:
        return Text(text)
    if not is_object(raw):
        raise _wrong(path, "must be an object with a `type`")
    fields = decode_fields(raw)
    kind = text_of(fields.pop("type", None))
    if kind == "text":
        return Text(_string(fields.pop("text", None), f"{path}.text"), rest_of(fields, frozenset()))
    if kind == "image_url":
        return _image(fields, path)
    if kind == "input_audio":
        inner, extra = _inner(fields, "input_audio", path)
        data = _string(inner.pop("data", None), f"{path}.input_audio.data")
        return Audio(data, text_of(inner.pop("format", None)) or "", _extra_of(extra, inner, "input_audio."))
    if kind == "file":
        return _file(fields, path)
    if kind == "refusal":
        return Refusal(_string(fields.get("refusal"), f"{path}.refusal"))
    if kind == "thinking":
        return Reasoning(_thinking(fields.get("thinking")))
    if not kind:
        raise _wrong(f"{path}.type", "must say what kind of part it is, such as text or image_url")
    return Opaque(NAME, kind, raw)


def _thinking(raw: Raw | None) -> str:
    """Mistral's form: a list of text parts."""
    if not is_list(raw):
        return text_of(raw) or ""
    return "".join(text_of(decode_fields(item).get("text")) or "" for item in decode_list(raw) if is_object(item))


def _image(fields: Fields, path: str) -> Image:
    if (url := text_of(fields.get("image_url"))) is not None:  # a bare string, as some clients send it
        fields.pop("image_url")
        return Image(url, None, rest_of(fields, frozenset()))
    inner, extra = _inner(fields, "image_url", path)
    url = _string(inner.pop("url", None), f"{path}.image_url.url")
    return Image(url, text_of(inner.pop("detail", None)), _extra_of(extra, inner, "image_url."))


def _file(fields: Fields, path: str) -> File:
    inner, extra = _inner(fields, "file", path)
    data, file_id = text_of(inner.pop("file_data", None)), text_of(inner.pop("file_id", None))
    if (data is None) == (file_id is None):
        raise _wrong(f"{path}.file", "must have either `file_data` or `file_id`")
    filename = text_of(inner.pop("filename", None))
    return File(data=data, file_id=file_id, filename=filename, extra=_extra_of(extra, inner, "file."))


def _inner(fields: Fields, name: str, path: str) -> tuple[Fields, Fields]:
    if not is_object(raw := fields.get(name)):
        raise _wrong(f"{path}.{name}", "must be an object")
    return decode_fields(raw), {key: value for key, value in fields.items() if key != name}


def _extra_of(outer: Fields, inner: Fields, prefix: str) -> Extra:
    extra = rest_of(outer, frozenset())
    return extra | {prefix + name: raw for name, raw in inner.items() if not is_null(raw)}


def _string(raw: Raw | None, path: str) -> str:
    text = text_of(raw)
    if text is None:
        raise _wrong(path, "must be a string")
    return text
