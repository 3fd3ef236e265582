"""The input of a request to typed messages.

Consecutive pieces of the assistant (messages, reasoning, calls) are one message, in their order (providers.md B2.2). A
custom tool's call is a function call here, as its tool is a function (tools.py); its item's `type` stays in `extra`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    Refusal,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.openai_chat.repair import arguments_text
from naru.protocol.openai_responses.parts import call_extra, message_extra, read_reasoning, text_extra
from naru.protocol.openai_responses.tools import flat_name, wrap_input
from naru.protocol.openai_responses.wire import NAME
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    rest_of,
    text_of,
)

_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant"}
_MESSAGE_KEYS = frozenset({"type", "role", "content"})
_RESULT_KEYS = frozenset({"type", "call_id", "output"})
_CUSTOM_RESULT_KEYS = frozenset({"call_id", "output"})
_TEXT_TYPES = frozenset({"input_text", "output_text", "text", "summary_text"})


def read_input(raw: Raw) -> tuple[Message, ...]:
    """Raises BadRequest, with the path of the item at fault as `param`."""
    reader = _InputReader()
    try:
        text = text_of(raw)
    except BAD_JSON:
        raise _wrong("input", "is not a readable string") from None
    if text is not None:
        return (Message("user", (Text(text),)),)
    for place, item in enumerate(decode_list(raw)):
        reader.add(item, f"input[{place}]")
    return reader.messages()


class _InputReader:
    """Collects messages; the parts of an assistant's turn wait until something else comes."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._turn: list[Part] = []

    def messages(self) -> tuple[Message, ...]:
        self._end_turn()
        return tuple(self._messages)

    def _end_turn(self) -> None:
        if self._turn:
            self._messages.append(Message("assistant", tuple(self._turn)))
            self._turn = []

    def _other(self, message: Message) -> None:
        self._end_turn()
        self._messages.append(message)

    def add(self, raw: Raw, path: str) -> None:
        if not is_object(raw):
            raise _wrong(path, "must be an object: a message or another item")
        fields = decode_fields(raw)
        try:
            kind = text_of(fields.get("type"))
            if kind == "message" or (not kind and "role" in fields):
                self._message(fields, path)
            elif kind in ("function_call_output", "custom_tool_call_output"):
                self._other(Message("tool", (_result(fields, kind, path),)))
            elif kind == "item_reference" or not kind:
                raise _reference(fields, path)
            else:
                reader = _READERS.get(kind)
                self._turn.append(Opaque(NAME, kind, raw) if reader is None else reader(fields, path))
        except BAD_JSON:
            raise _wrong(path, "has a field of the wrong type") from None

    def _message(self, fields: Fields, path: str) -> None:
        role = _ROLES.get(text_of(fields.get("role")) or "")
        if role is None:
            raise _wrong(f"{path}.role", "must be system, developer, user or assistant")
        parts = _content(fields.get("content"), f"{path}.content")
        if role != "assistant":
            self._other(Message(role, parts, extra=rest_of(fields, _MESSAGE_KEYS)))
            return
        if extra := message_extra(fields):
            parts = _with_item_extra(parts, extra)
        self._turn += parts


def _with_item_extra(parts: tuple[Part, ...], extra: Extra) -> tuple[Part, ...]:
    """The item's own fields go with its first text; an item of refusals alone has no place for them."""
    for place, part in enumerate(parts):
        if isinstance(part, Text):
            return (*parts[:place], Text(part.text, {**part.extra, **extra}), *parts[place + 1 :])
    return parts


def _reference(fields: Fields, path: str) -> BadRequest:
    if "id" not in fields:
        return _wrong(f"{path}.type", "must say what kind of item it is, such as message")
    return BadRequest(
        f"`{path}` refers to an item kept by OpenAI, which this model's provider cannot see. Send the whole input: the "
        "item itself in place of the reference.",
        code="unsupported_content",
        param=path,
    )


def _wrong(path: str, what: str) -> BadRequest:
    return BadRequest(f"`{path}` {what}.", code="invalid_value", param=path)


def _string(raw: Raw | None, path: str) -> str:
    text = text_of(raw)
    if text is None:
        raise _wrong(path, "must be a string")
    return text


# --- Items --------------------------------------------------------------------------------------------------------


def _function_call(fields: Fields, path: str) -> ToolCall:
    arguments = text_of(arguments_text(fields.get("arguments"))) or ""
    return _call(fields, path, arguments, call_extra(fields))


def _custom_call(fields: Fields, path: str) -> ToolCall:
    extra = {**call_extra(fields), "type": fields["type"]}
    return _call(fields, path, wrap_input(_string(fields.get("input"), f"{path}.input")), extra)


def _call(fields: Fields, path: str, arguments: str, extra: Extra) -> ToolCall:
    call_id, name = text_of(fields.get("call_id")), text_of(fields.get("name"))
    if not call_id:
        raise _wrong(f"{path}.call_id", "must be a non-empty string: the id that the call's output refers to")
    if not name:
        raise _wrong(f"{path}.name", "must be a non-empty string")
    return ToolCall(call_id, flat_name(text_of(fields.get("namespace")), name), arguments, extra=extra)


def _reasoning(fields: Fields, path: str) -> Part:
    return read_reasoning(fields)


_READERS: dict[str, Callable[[Fields, str], Part]] = {
    "function_call": _function_call,
    "custom_tool_call": _custom_call,
    "reasoning": _reasoning,
}


def _result(fields: Fields, kind: str, path: str) -> ToolResult:
    """Of a custom tool's output the `type` stays in `extra`."""
    call_id = text_of(fields.get("call_id"))
    if not call_id:
        raise _wrong(f"{path}.call_id", "must be the id of the call that this item answers")
    parts: list[Text | Image | File] = []
    for place, part in enumerate(_content(fields.get("output"), f"{path}.output")):
        if not isinstance(part, Text | Image | File):
            raise _wrong(f"{path}.output[{place}]", "must be text, an image or a file")
        parts.append(part)
    known = _RESULT_KEYS if kind == "function_call_output" else _CUSTOM_RESULT_KEYS
    return ToolResult(call_id, tuple(parts), extra=rest_of(fields, known))


# --- Parts --------------------------------------------------------------------------------------------------------


def _content(raw: Raw | None, path: str) -> tuple[Part, ...]:
    text = text_of(raw)
    if text is not None:
        return (Text(text),)
    if not is_list(raw):
        if is_null(raw):
            return ()
        raise _wrong(path, "must be a string or a list of parts")
    return tuple(_part(item, f"{path}[{place}]") for place, item in enumerate(decode_list(raw)))


def _part(raw: Raw, path: str) -> Part:
    if not is_object(raw):
        raise _wrong(path, "must be an object with a `type`")
    fields = decode_fields(raw)
    kind = text_of(fields.get("type"))
    if not kind:
        raise _wrong(f"{path}.type", "must say what kind of part it is, such as input_text or input_image")
    if kind in _TEXT_TYPES:
        return Text(_string(fields.get("text"), f"{path}.text"), text_extra(fields))
    if kind == "refusal":
        return Refusal(_string(fields.get("refusal"), f"{path}.refusal"))
    if kind == "input_image":
        return _image(fields, raw)
    if kind == "input_file":
        return _file(fields, path)
    if kind == "input_audio":
        return _audio(fields, path)
    return Opaque(NAME, kind, raw)


def _image(fields: Fields, raw: Raw) -> Part:
    url = text_of(fields.get("image_url"))
    if url is None:  # by file_id: only who keeps the file can look at it
        return Opaque(NAME, "input_image", raw)
    detail = text_of(fields.get("detail"))
    extra = rest_of(fields, frozenset({"type", "image_url", "detail"}))
    return Image(url, None if detail == "auto" else detail, extra)  # auto is what no detail means


def _file(fields: Fields, path: str) -> File:
    names = ("file_data", "file_url", "file_id")
    found: list[Any] = [text_of(fields.get(name)) for name in names]
    if sum(value is not None for value in found) != 1:
        raise _wrong(path, "must have exactly one of `file_data`, `file_url` and `file_id`")
    data, url, file_id = found
    extra = rest_of(fields, frozenset({"type", "filename", *names}))
    return File(data=data, url=url, file_id=file_id, filename=text_of(fields.get("filename")), extra=extra)


def _audio(fields: Fields, path: str) -> Audio:
    if not is_object(raw := fields.get("input_audio")):
        raise _wrong(f"{path}.input_audio", "must be an object with `data` and `format`")
    inner = decode_fields(raw)
    data = _string(inner.get("data"), f"{path}.input_audio.data")
    return Audio(data, text_of(inner.get("format")) or "", rest_of(fields, frozenset({"type", "input_audio"})))
