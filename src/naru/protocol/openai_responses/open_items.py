"""The items of a stream on their way out: what each says as it begins, grows and ends. Pure bookkeeping; encoder.py numbers
and writes the events."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Raw

from naru.protocol.messages import Extra, Reasoning, ReasoningDelta, ToolCall, ToolCallStart
from naru.protocol.openai_responses.parts import (
    CONTENT,
    ITEM,
    Out,
    call_item,
    message_item,
    reasoning_item,
    refusal_part,
    text_part,
)
from naru.protocol.openai_responses.response import ItemWriter, logprobs_of, without_id
from naru.protocol.openai_responses.tools import unwrap_input

#: (type, fields) of an event, without its number.
Said = tuple[str, Out]


class OpenItem(Protocol):
    @property
    def index(self) -> int: ...

    def begun(self) -> Out:
        """The item as it is added."""
        ...

    def ended(self) -> list[Said]:
        """What is still to be said before the item is done."""
        ...

    def whole(self, status: str, dialect: str) -> Out: ...


class OpenMessage:
    """`kind` is that of the open part; empty before the first. `pieces` are its text."""

    __slots__ = ("_parts", "content_index", "extra", "index", "item_id", "kind", "logprobs", "pieces")

    def __init__(self, index: int, item_id: str, extra: Extra) -> None:
        self.index = index
        self.item_id = item_id
        self.extra = extra
        self.kind = ""
        self.content_index = -1
        self.pieces: list[str] = []
        self.logprobs: list[Raw] = []
        self._parts: list[Out] = []

    @property
    def place(self) -> Out:
        return {"item_id": self.item_id, "output_index": self.index, "content_index": self.content_index}

    def begun(self) -> Out:
        return {**message_item(self.item_id, [], without_id(self.extra)), "status": "in_progress"}

    def begin(self, kind: str) -> list[Said]:
        said = self.ended()
        self.kind = kind
        self.content_index += 1
        part = text_part("", {}) if kind == "output_text" else refusal_part("")
        return [*said, ("response.content_part.added", {**self.place, "part": part})]

    def add_logprobs(self, raw: Raw) -> None:
        if self.kind == "output_text":
            self.logprobs += logprobs_of(raw)

    def ended(self) -> list[Said]:
        """The open part, if there is one."""
        if not self.kind:
            return []
        text = "".join(self.pieces)
        if self.kind == "output_text":
            own = {name: raw for name, raw in self.extra.items() if not name.startswith(ITEM)}
            part = text_part(text, own, self.logprobs)
            fields: Out = {**self.place, "text": text, "logprobs": self.logprobs}
            self.extra = {name: raw for name, raw in self.extra.items() if name.startswith(ITEM)}
        else:
            part, fields = refusal_part(text), {**self.place, "refusal": text}
        name = f"response.{'output_text' if self.kind == 'output_text' else 'refusal'}.done"
        said: list[Said] = [(name, fields), ("response.content_part.done", {**self.place, "part": part})]
        self._parts.append(part)
        self.kind, self.pieces, self.logprobs = "", [], []
        return said

    def whole(self, status: str, dialect: str) -> Out:
        return message_item(self.item_id, self._parts, without_id(self.extra), status)


class OpenThought:
    """Reasoning in the form of a summary, which is what clients show and send back (providers.md B2.4); reasoning whose own
    form was text stays that."""

    __slots__ = ("_encrypted", "_extra", "_form", "_has_text", "_signature", "_texts", "index", "item_id", "part")

    def __init__(self, index: int, item_id: str, part: int, extra: Extra) -> None:
        self.index = index
        self.item_id = item_id
        self.part = part
        self._form = "content" if CONTENT in extra else "summary"
        self._texts: list[str] = []
        self._has_text = False
        self._signature: str | None = None
        self._encrypted: str | None = None
        self._extra: Extra = {}

    def note(self, event: ReasoningDelta) -> None:
        """A signature may come with any piece, or alone."""
        self._signature = event.signature if event.signature is not None else self._signature
        self._encrypted = event.encrypted if event.encrypted is not None else self._encrypted
        self._extra = {**self._extra, **event.extra}

    def begun(self) -> Out:
        return {"id": self.item_id, "type": "reasoning", "summary": []}

    @property
    def _place(self) -> Out:
        return {"item_id": self.item_id, "output_index": self.index, f"{self._form}_index": 0}

    @property
    def _names(self) -> tuple[str, str, str]:
        """(events of the part, events of its text, type of the part)"""
        if self._form == "summary":
            return "response.reasoning_summary_part", "response.reasoning_summary_text", "summary_text"
        return "response.content_part", "response.reasoning_text", "reasoning_text"

    def delta(self, text: str) -> list[Said]:
        part_event, text_event, kind = self._names
        said: list[Said] = []
        if not self._has_text:
            self._has_text = True
            said.append((f"{part_event}.added", {**self._place, "part": {"type": kind, "text": ""}}))
        self._texts.append(text)
        said.append((f"{text_event}.delta", {**self._place, "delta": text}))
        return said

    def ended(self) -> list[Said]:
        if not self._has_text:
            return []
        part_event, text_event, kind = self._names
        text = "".join(self._texts)
        return [
            (f"{text_event}.done", {**self._place, "text": text}),
            (f"{part_event}.done", {**self._place, "part": {"type": kind, "text": text}}),
        ]

    def whole(self, status: str, dialect: str) -> Out:
        reasoning = Reasoning("".join(self._texts), self._signature, self._encrypted, self._extra)
        return {**reasoning_item(self.item_id, reasoning, dialect), "id": self.item_id}


class OpenCall:
    """A call under the name the caller knows. A custom tool that was a function upstream shows its text when it is whole."""

    __slots__ = ("_call", "_is_wrapped", "_texts", "index", "item_id")

    def __init__(self, index: int, start: ToolCallStart, writer: ItemWriter) -> None:
        given = ToolCall(start.id, start.name, "", start.kind, start.extra)
        self._call = writer.called(given)
        self._is_wrapped = self._call.kind == "custom" and start.kind != "custom"
        self._texts: list[str] = []
        self.index = index
        prefix = "ctc" if self._call.kind == "custom" else "fc"
        self.item_id = writer.item_id(prefix, index, self._call.extra.get("id"))

    @property
    def _place(self) -> Out:
        return {"item_id": self.item_id, "output_index": self.index}

    @property
    def _event(self) -> str:
        is_custom = self._call.kind == "custom"
        return "response.custom_tool_call_input" if is_custom else "response.function_call_arguments"

    def begun(self) -> Out:
        return self._item("", "in_progress")

    def _item(self, text: str, status: str) -> Out:
        call = self._call
        return call_item(self.item_id, ToolCall(call.id, call.name, text, call.kind, call.extra), True, status)

    def delta(self, text: str) -> list[Said]:
        self._texts.append(text)
        return [] if self._is_wrapped else [(f"{self._event}.delta", {**self._place, "delta": text})]

    def _text(self) -> str:
        text = "".join(self._texts)
        return unwrap_input(text) if self._is_wrapped else text

    def ended(self) -> list[Said]:
        text = self._text()
        said: list[Said] = []
        if self._is_wrapped and text:
            said.append((f"{self._event}.delta", {**self._place, "delta": text}))
        if self._call.kind == "custom":
            return [*said, (f"{self._event}.done", {**self._place, "input": text})]
        fields: dict[str, Any] = {**self._place, "name": self._call.name, "arguments": text}
        return [(f"{self._event}.done", fields)]

    def whole(self, status: str, dialect: str) -> Out:
        return self._item(self._text(), status)
