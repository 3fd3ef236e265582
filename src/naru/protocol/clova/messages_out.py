"""Typed messages to CLOVA Studio's: one system message, arguments as objects, pictures as it wants them (A1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.wire import BAD_JSON, decode_any

Out = dict[str, Any]

#: Between system messages that become one, and between texts that become one string.
_JOINT = "\n\n"


class MessageWriter:
    """`dropped` collects the names of what had to be left out. With tools every content has to be a string."""

    def __init__(self, has_tools: bool) -> None:
        self._has_tools = has_tools
        self.dropped: list[str] = []

    def messages(self, messages: Iterable[Message], more_system: str = "") -> list[Out]:
        """The one system message stands first; `more_system` is added to it."""
        system: list[str] = []
        written: list[Out] = []
        for message in messages:
            if message.name is not None:
                self.dropped.append("messages.name")
            if message.role in ("system", "developer"):
                system.append(self._text(message.parts, "a system message"))
            elif message.role == "assistant":
                written.append(self._assistant(message))
            else:
                written += self._user(message)
        if more_system:
            system.append(more_system)
        head = [{"role": "system", "content": _JOINT.join(system)}] if system else []
        return [*head, *written]

    def _assistant(self, message: Message) -> Out:
        thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
        calls = [part for part in message.parts if isinstance(part, ToolCall)]
        said = tuple(part for part in message.parts if not isinstance(part, Reasoning | ToolCall))
        if thoughts:
            self.dropped.append("messages.reasoning")  # never sent back (A1.3)
        # An empty text is "", never null, which is refused (A1.2).
        fields: Out = {"role": "assistant", "content": self._text(said, "an assistant message")}
        if calls:
            fields["toolCalls"] = [_call_fields(call) for call in calls]
        return fields

    def _user(self, message: Message) -> list[Out]:
        results = [self._result(part) for part in message.parts if isinstance(part, ToolResult)]
        rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
        if rest or not results:
            return [*results, {"role": "user", "content": self._content(rest)}]
        return results

    def _result(self, result: ToolResult) -> Out:
        if result.is_error:
            self.dropped.append("messages.tool.is_error")
        said = self._text(result.parts, "a tool's result")
        return {"role": "tool", "toolCallId": result.call_id, "content": said}

    def _content(self, parts: tuple[Part, ...]) -> Any:
        if not any(isinstance(part, Image) for part in parts):
            return self._text(parts, "a message")
        if self._has_tools:
            raise _unsupported("images together with tools")
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> Out:
        if isinstance(part, Image):
            if part.detail not in (None, "auto"):
                self.dropped.append("messages.image.detail")
            return _image_fields(part)
        return {"type": "text", "text": self._text((part,), "a message")}

    def _text(self, parts: tuple[Part, ...], where: str) -> str:
        texts: list[str] = []
        for part in parts:
            if isinstance(part, Text | Refusal):
                texts.append(part.text)
            else:
                raise _unsupported(f"{_kind(part)} in {where}")
        return _JOINT.join(text for text in texts if text)


def _kind(part: Part) -> str:
    if isinstance(part, Audio | File):
        return "sound" if isinstance(part, Audio) else "files"
    return f"a part of the kind `{part.kind}`" if isinstance(part, Opaque) else type(part).__name__.lower()


def _image_fields(image: Image) -> Out:
    if not image.url.startswith("data:"):
        return {"type": "image_url", "imageUrl": {"url": image.url}}
    head, comma, data = image.url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise _unsupported("a data: address that is not base64")
    return {"type": "image_url", "dataUri": {"data": data}}


def _call_fields(call: ToolCall) -> Out:
    function = {"name": call.name, "arguments": _arguments_object(call)}
    return {"id": call.id, "type": "function", "function": function}


def _arguments_object(call: ToolCall) -> Raw | Out:
    """Text that is no JSON object goes under a name, so that the model sees what it wrote."""
    if call.kind == "custom":
        return {"input": call.arguments}
    text = call.arguments.strip()
    if not text:
        return {}
    try:
        data = text.encode()
        if isinstance(decode_any(data), dict):
            return Raw(data)
    except (*BAD_JSON, UnicodeEncodeError):
        return {"arguments": call.arguments}
    return {"arguments": call.arguments}


def _unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (CLOVA Studio) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="messages",
    )
