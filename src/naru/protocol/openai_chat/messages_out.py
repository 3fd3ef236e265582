"""Typed messages to chat messages: one message may become several (tool results stand alone in this dialect)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from naru.errors import BadRequest
from naru.protocol.dialect import Quirks
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
    Text,
    ToolCall,
    ToolResult,
)
from naru.protocol.openai_chat.response import call_fields, prefixed
from naru.protocol.openai_chat.wire import NAME

Out = dict[str, Any]


class MessageWriter:
    """Writes messages under one upstream's quirks; `dropped` collects the names of what had to be left out."""

    def __init__(self, quirks: Quirks, owns_extra: bool, has_tools: bool) -> None:
        self._quirks = quirks
        self._owns_extra = owns_extra
        self._needs_reasoning = has_tools and quirks.needs_reasoning_replay
        self.dropped: list[str] = []

    def messages(self, messages: Iterable[Message]) -> list[Out]:
        written: list[Out] = []
        for message in messages:
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            written += [self._result(part) for part in results]
            rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
            if rest or not results:
                written.append(self._message(message, rest))
        return written

    def _message(self, message: Message, parts: tuple[Part, ...]) -> Out:
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self._quirks.has_developer_role:
            role = "system"
        fields: Out = {"role": role}
        if role == "assistant":
            self._assistant(fields, parts)
        else:
            fields["content"] = self._content(parts, "")
        if message.name is not None:
            fields["name"] = message.name
        return self._with_extra(fields, message.extra)

    def _assistant(self, fields: Out, parts: tuple[Part, ...]) -> None:
        thoughts = [part for part in parts if isinstance(part, Reasoning)]
        calls = [part for part in parts if isinstance(part, ToolCall)]
        refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
        said = tuple(part for part in parts if not isinstance(part, Reasoning | ToolCall | Refusal))
        if any(isinstance(part, Image | Audio | File) for part in said):
            raise _unsupported("images, sound and files in an assistant message")
        fields["content"] = self._content(said, None)
        if refusal:
            fields["refusal"] = refusal
        self._reasoning(fields, thoughts)
        if calls:
            fields["tool_calls"] = [call_fields(call, self._owns_extra) for call in calls]

    def _reasoning(self, fields: Out, thoughts: list[Reasoning]) -> None:
        text = "".join(part.text for part in thoughts)
        if any(part.signature is not None or part.encrypted is not None for part in thoughts):
            self.dropped.append("messages.reasoning.signature")  # only the provider that signed it can read it
        name = self._quirks.thinking_replay_field
        if name is None:
            if text:
                self.dropped.append("messages.reasoning")
        elif text:
            fields[name] = text
        elif self._needs_reasoning:
            fields[name] = " "

    def _result(self, result: ToolResult) -> Out:
        if result.is_error:
            self.dropped.append("messages.tool.is_error")
        fields: Out = {"role": "tool", "tool_call_id": result.call_id, "content": self._content(result.parts, "")}
        if result.name is not None:
            fields["name"] = result.name
        return self._with_extra(fields, result.extra)

    def _content(self, parts: tuple[Part, ...], empty: str | None) -> Any:
        """A string where it is one plain text, which every server takes; else a list of parts."""
        if not parts:
            return empty
        if len(parts) == 1 and isinstance(parts[0], Text) and not (self._owns_extra and parts[0].extra):
            self._note_extra(parts[0].extra)
            return parts[0].text
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            return self._with_extra({"type": "text", "text": part.text}, part.extra)
        if isinstance(part, Image):
            inner: Out = {"url": part.url} if part.detail is None else {"url": part.url, "detail": part.detail}
            return self._nested("image_url", inner, part.extra)
        if isinstance(part, Audio):
            return self._nested("input_audio", {"data": part.data, "format": part.format}, part.extra)
        if isinstance(part, File):
            return self._nested("file", _file_fields(part), part.extra)
        if isinstance(part, Opaque):
            if part.dialect == NAME:
                return part.raw
            raise _unsupported(f"a part of the kind `{part.kind}`")
        raise _unsupported(f"{type(part).__name__.lower()} in this place")

    def _nested(self, name: str, inner: Out, extra: Extra) -> Out:
        prefix = f"{name}."
        if self._owns_extra:
            inner = {**prefixed(extra, prefix), **inner}
        outer = {key: raw for key, raw in extra.items() if not key.startswith(prefix)}
        return self._with_extra({"type": name, name: inner}, outer)

    def _with_extra(self, fields: Out, extra: Extra) -> Out:
        if self._owns_extra:
            return {**extra, **fields} if extra else fields
        self._note_extra(extra)
        return fields

    def _note_extra(self, extra: Extra) -> None:
        if not self._owns_extra:
            self.dropped += [f"messages.{name}" for name in extra]


def _file_fields(part: File) -> Out:
    if part.url is not None:
        raise _unsupported("a file given by its address; send its content")
    fields: Out = {}
    if part.data is not None:
        is_bare = part.media_type is not None and not part.data.startswith(("data:", "http://", "https://"))
        fields["file_data"] = f"data:{part.media_type};base64,{part.data}" if is_bare else part.data
    if part.file_id is not None:
        fields["file_id"] = part.file_id
    if part.filename is not None:
        fields["filename"] = part.filename
    return fields


def _unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (chat completions) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="messages",
    )
