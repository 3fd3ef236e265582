"""Typed messages to input items: a message becomes an item, an assistant's turn one or several."""

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
from naru.protocol.openai_responses.parts import (
    ENCRYPTED,
    ITEM,
    call_item,
    reasoning_item,
    said_parts,
)
from naru.protocol.openai_responses.tools import unwrap_input
from naru.protocol.openai_responses.wire import NAME, unprefixed
from naru.protocol.wire import is_object, raw_of, text_of

Out = dict[str, Any]

_CUSTOM_TYPES = (raw_of("custom_tool_call"), raw_of("custom_tool_call_output"))
#: OpenAI's encrypted reasoning is a Fernet token, which starts so (recorded); anybody else's blob it answers with 400.
_OPENAI_BLOB = "gAAAA"


class InputWriter:
    """Writes items under one upstream's quirks; `dropped` collects the names of what had to be left out."""

    def __init__(self, quirks: Quirks, owns_extra: bool) -> None:
        self._quirks = quirks
        self._owns_extra = owns_extra
        self._custom_calls: set[str] = set()
        self._thoughts = 0
        self.dropped: list[str] = []

    def items(self, messages: Iterable[Message]) -> list[Any]:
        written: list[Any] = []
        for message in messages:
            if message.name is not None:
                self.dropped.append("messages.name")
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            written += [self._result(part) for part in results]
            rest = tuple(part for part in message.parts if not isinstance(part, ToolResult))
            if message.role == "assistant":
                self._note(message.extra)
                written += self._turn(rest)
            elif rest or not results:
                written.append(self._message(message, rest))
        return written

    def _message(self, message: Message, parts: tuple[Part, ...]) -> Out:
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self._quirks.has_developer_role:
            role = "system"
        fields: Out = {"type": "message", "role": role, "content": self._content(parts)}
        return self._with_extra(fields, message.extra)

    # --- The assistant's turn ---------------------------------------------------------------------------------

    def _turn(self, parts: tuple[Part, ...]) -> list[Any]:
        """Texts and refusals side by side are one message item, unless a text brings fields of an item of its own."""
        items: list[Any] = []
        said: list[Text | Refusal] = []
        for part in parts:
            if isinstance(part, Text | Refusal):
                if said and isinstance(part, Text) and self._owns_extra and unprefixed(part.extra, ITEM):
                    items += self._said(said)
                    said = []
                said.append(part)
                continue
            items += self._said(said)
            said = []
            items += self._other(part)
        return items + self._said(said)

    def _said(self, parts: list[Text | Refusal]) -> list[Out]:
        if not parts:
            return []
        first = parts[0]
        own = first.extra if isinstance(first, Text) and self._owns_extra else {}
        head: Out = {**unprefixed(own, ITEM), "type": "message", "role": "assistant"}
        for part in parts:
            if isinstance(part, Text):
                self._note(part.extra)
        if len(parts) == 1 and isinstance(first, Text) and not own:
            return [{**head, "content": first.text}]
        content = said_parts(parts, self._owns_extra)
        for part_fields in content:
            if part_fields.get("logprobs") == []:
                del part_fields["logprobs"]  # not among the input's fields
        return [{**head, "content": content}]

    def _other(self, part: Part) -> list[Any]:
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, ToolCall):
            return [self._call(part)]
        if isinstance(part, Opaque):
            return [self._opaque(part)]
        raise _unsupported("images, sound and files in an assistant message")

    def _reasoning(self, part: Reasoning) -> list[Out]:
        if self._owns_extra:
            fields = reasoning_item("", part, NAME)
            return [{name: value for name, value in fields.items() if (name, value) != ("id", "")}]
        return self._foreign_reasoning(part)

    def _foreign_reasoning(self, part: Reasoning) -> list[Out]:
        """Of another dialect's caller: what this upstream wrote itself goes back, the text only to who wants it."""
        summary = [{"type": "summary_text", "text": part.text}] if part.text else []
        if part.encrypted is not None and part.signature is None and part.encrypted.startswith(_OPENAI_BLOB):
            return [{"type": "reasoning", "summary": summary, ENCRYPTED: part.encrypted}]
        if part.signature is not None or part.encrypted is not None:
            self.dropped.append("messages.reasoning.signature")  # only the provider that signed it can read it
        if not part.text:
            return []
        if self._quirks.thinking_replay_field is None:
            self.dropped.append("messages.reasoning")
            return []
        self._thoughts += 1
        content = [{"type": "reasoning_text", "text": part.text}]
        return [{"type": "reasoning", "id": f"rs_{self._thoughts}", "summary": [], "content": content}]

    def _call(self, call: ToolCall) -> Out:
        if self._owns_extra and call.extra.get("type") in _CUSTOM_TYPES:
            call = ToolCall(call.id, call.name, unwrap_input(call.arguments), "custom", call.extra)
        if call.kind == "custom":
            self._custom_calls.add(call.id)
        fields = call_item("", call, self._owns_extra, "completed")
        fields = {name: value for name, value in fields.items() if name != "status" and (name, value) != ("id", "")}
        self._note(call.extra)
        if self._owns_extra and (namespace := text_of(call.extra.get("namespace"))):
            fields["name"] = call.name.removeprefix(f"{namespace}__")
        return fields

    # --- Results and parts ------------------------------------------------------------------------------------

    def _result(self, result: ToolResult) -> Out:
        for name, is_set in (("is_error", result.is_error), ("name", result.name is not None)):
            if is_set:
                self.dropped.append(f"messages.tool.{name}")
        is_custom = result.call_id in self._custom_calls
        kind = "custom_tool_call_output" if is_custom else "function_call_output"
        fields: Out = {"type": kind, "call_id": result.call_id, "output": self._content(result.parts)}
        if self._owns_extra and result.extra.get("type") in _CUSTOM_TYPES:
            fields["type"] = "custom_tool_call_output"
        return self._with_extra(fields, result.extra)

    def _content(self, parts: tuple[Part, ...]) -> Any:
        """A string where it is one plain text, which every server takes; else a list of parts."""
        if len(parts) == 1 and isinstance(parts[0], Text) and not (self._owns_extra and parts[0].extra):
            self._note(parts[0].extra)
            return parts[0].text
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> Any:
        if isinstance(part, Text):
            return self._with_extra({"type": "input_text", "text": part.text}, part.extra)
        if isinstance(part, Image):  # the type requires `detail`, and strict servers ask for it (SDK 3.52)
            fields: Out = {"type": "input_image", "image_url": part.url, "detail": part.detail or "auto"}
            return self._with_extra(fields, part.extra)
        if isinstance(part, Audio):
            fields = {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
            return self._with_extra(fields, part.extra)
        if isinstance(part, File):
            return self._with_extra(_file_fields(part), part.extra)
        if isinstance(part, Refusal) and self._owns_extra:
            return {"type": "refusal", "refusal": part.text}
        if isinstance(part, Opaque):
            return self._opaque(part)
        raise _unsupported(f"{type(part).__name__.lower()} in this place")

    def _opaque(self, part: Opaque) -> Any:
        if part.dialect == NAME and is_object(part.raw):
            return part.raw
        raise _unsupported(f"a part of the kind `{part.kind}`")

    def _with_extra(self, fields: Out, extra: Extra) -> Out:
        self._note(extra)
        return {**extra, **fields} if self._owns_extra and extra else fields

    def _note(self, extra: Extra) -> None:
        if not self._owns_extra:
            self.dropped += [f"messages.{name}" for name in extra]


def _file_fields(part: File) -> Out:
    fields: Out = {"type": "input_file"}
    if part.data is not None:
        is_bare = part.media_type is not None and not part.data.startswith("data:")
        fields["file_data"] = f"data:{part.media_type};base64,{part.data}" if is_bare else part.data
    for name, value in (("file_url", part.url), ("file_id", part.file_id), ("filename", part.filename)):
        if value is not None:
            fields[name] = value
    return fields


def _unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (Responses) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="messages",
    )
