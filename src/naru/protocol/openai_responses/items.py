"""Output items to events. A streamed answer and a whole one are read by the same code, so that they add up to the same.

A stream tells an item three times: as it grows, as its texts and arguments end, and whole when it is done. What an earlier
telling left out (servers differ in which they send) is made good from a later one.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, UnsetType

from naru.protocol.messages import (
    Event,
    Extra,
    LogprobsDelta,
    Opaque,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    WholePart,
)
from naru.protocol.openai_responses.parts import (
    ENCRYPTED,
    PARAGRAPH,
    TEXT_KEYS,
    message_extra,
    read_call,
    reasoning_extra,
    reasoning_text,
    text_extra,
)
from naru.protocol.openai_responses.wire import NAME, items_of
from naru.protocol.wire import Fields, decode_fields, text_of, unreadable

_CALLS = frozenset({"function_call", "custom_tool_call"})
_PART_KEYS = TEXT_KEYS | {"logprobs"}
_NO_EXTRA: Extra = {}


class _Item:
    """One item as far as it was told. `sent` counts characters by content part; `told` are the parts that ended.

    `number` is the call's index or the reasoning's part, -1 before it began; `form` the field its text comes from.
    """

    __slots__ = ("extra", "form", "is_done", "last", "number", "sent", "told", "with_logprobs")

    def __init__(self, extra: Extra = _NO_EXTRA) -> None:
        self.extra = extra
        self.sent: dict[int, int] = {}
        self.told: set[int] = set()
        self.with_logprobs: set[int] = set()
        self.number = -1
        self.form = ""
        self.last = 0
        self.is_done = False


class ItemReader:
    """Appends to `events` what is new. Raises UpstreamBroken for items that are none, BAD_JSON for broken strings."""

    __slots__ = ("_calls", "_items", "_thoughts", "events")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._items: dict[int, _Item] = {}
        self._calls = 0
        self._thoughts = 0

    @property
    def has_calls(self) -> bool:
        return self._calls > 0

    def _item(self, index: int) -> _Item:
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item()
        return item

    # --- As it grows ------------------------------------------------------------------------------------------

    def opened(self, index: int, raw: Raw) -> None:
        fields = decode_fields(raw)
        kind = text_of(fields.get("type"))
        if kind == "message":
            self._item(index).extra = message_extra(fields)
        elif kind in _CALLS:
            self._start_call(self._item(index), fields)
        else:
            self._item(index)

    def text(self, index: int, part: int, text: str, logprobs: Raw | UnsetType = UNSET) -> None:
        item = self._items.get(index)
        if item is None:
            item = self._item(index)
        if text:
            self.events.append(TextDelta(text, 0, item.extra) if item.extra else TextDelta(text))
            item.extra = _NO_EXTRA
            item.sent[part] = item.sent.get(part, 0) + len(text)
        if logprobs is not UNSET and bytes(logprobs) not in (b"[]", b"null"):
            item.with_logprobs.add(part)
            self.events.append(LogprobsDelta(Raw(b'{"content":%b}' % bytes(logprobs))))

    def refusal(self, index: int, part: int, text: str) -> None:
        item = self._item(index)
        if text:
            self.events.append(RefusalDelta(text))
            item.sent[part] = item.sent.get(part, 0) + len(text)

    def reasoning(self, index: int, form: str, part: int, text: str) -> None:
        """`form` is summary or content: where an item has both, the one that came first is its text."""
        item = self._item(index)
        if not text or (item.form and item.form != form):
            return
        if item.form and part != item.last:
            text = PARAGRAPH + text
        item.form, item.last = form, part
        item.sent[0] = item.sent.get(0, 0) + len(text)
        self.events.append(ReasoningDelta(text, 0, self._thought(item)))

    def arguments(self, index: int, text: str) -> None:
        item = self._item(index)
        if text and item.number >= 0:
            self.events.append(ToolCallDelta(item.number, text))
            item.sent[0] = item.sent.get(0, 0) + len(text)

    def _thought(self, item: _Item) -> int:
        if item.number < 0:
            item.number = self._thoughts
            self._thoughts += 1
        return item.number

    def _start_call(self, item: _Item, fields: Fields) -> None:
        if item.number >= 0:
            return
        call = read_call(fields)
        item.number = self._calls
        self._calls += 1
        self.events.append(ToolCallStart(item.number, call.id, call.name, 0, call.kind, call.extra))

    # --- As it ends -------------------------------------------------------------------------------------------

    def text_ended(self, index: int, part: int, text: str) -> None:
        self.text(index, part, text[self._item(index).sent.get(part, 0) :])

    def refusal_ended(self, index: int, part: int, text: str) -> None:
        self.refusal(index, part, text[self._item(index).sent.get(part, 0) :])

    def arguments_ended(self, index: int, text: str) -> None:
        self.arguments(index, text[self._item(index).sent.get(0, 0) :])

    def part_ended(self, index: int, part: int, fields: Fields) -> None:
        item = self._item(index)
        if part in item.told:
            return
        kind = text_of(fields.get("type"))
        if kind == "refusal":
            self.refusal_ended(index, part, text_of(fields.get("refusal")) or "")
        elif kind == "output_text":
            self.text_ended(index, part, text_of(fields.get("text")) or "")
            if part not in item.with_logprobs:
                self.text(index, part, "", fields.get("logprobs", UNSET))
            if extra := item.extra | text_extra(fields, _PART_KEYS):
                item.extra = _NO_EXTRA
                self.events.append(TextDelta("", 0, extra))
        else:
            return
        item.told.add(part)

    def done(self, index: int, raw: Raw) -> None:
        """The whole item. Told again it changes nothing."""
        item = self._item(index)
        if item.is_done:
            return
        item.is_done = True
        fields = decode_fields(raw)
        kind = text_of(fields.get("type"))
        if kind == "message":
            item.extra = item.extra if item.sent or item.told else message_extra(fields)
            for place, part in enumerate(items_of(fields.get("content"))):
                self.part_ended(index, place, part)
        elif kind in _CALLS:
            self._start_call(item, fields)
            self.arguments_ended(index, read_call(fields).arguments)
        elif kind == "reasoning":
            self._reasoning_done(item, fields)
        elif kind:
            self.events.append(WholePart(Opaque(NAME, kind, raw)))
        else:
            raise unreadable("an output item without a type")

    def _reasoning_done(self, item: _Item, fields: Fields) -> None:
        """One without text that only its provider could look up by its id is of use to nobody else: left out."""
        text = reasoning_text(fields, item.form)
        rest = text[item.sent.get(0, 0) :]
        encrypted = text_of(fields.get(ENCRYPTED))
        if item.number < 0 and not rest and not encrypted:
            return
        extra = reasoning_extra(fields, text)
        if rest or encrypted or extra:
            self.events.append(ReasoningDelta(rest, 0, self._thought(item), None, encrypted, extra))

    def all_done(self, output: list[Raw]) -> None:
        """The output of the final response, for items that were begun and not ended, or if none was told at all."""
        is_silent = not self._items
        for index, raw in enumerate(output):
            item = self._items.get(index)
            if is_silent or (item is not None and not item.is_done):
                self.done(index, raw)
