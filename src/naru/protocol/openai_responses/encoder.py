"""Events to a Responses stream, for a caller who speaks Responses to a model that does not. The sequence is providers.md B2.3.

The common event, a piece of text, is put together from bytes prepared once per text. Messages and reasoning end when something
else begins; calls stay open to the end, since upstreams may go on with any of them.
"""

from __future__ import annotations

from typing import Any

from naru.protocol.accumulate import merged
from naru.protocol.dialect import Envelope, Pricer
from naru.protocol.messages import (
    Event,
    Extra,
    ExtraDelta,
    Finish,
    FinishReason,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_responses.open_items import OpenCall, OpenItem, OpenMessage, OpenThought
from naru.protocol.openai_responses.parts import ITEM
from naru.protocol.openai_responses.response import ItemWriter, ended, response_head
from naru.protocol.openai_responses.usage import priced_fields
from naru.protocol.openai_responses.wire import NAME
from naru.protocol.sse import write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import encode, text_of

_TEXT_HEAD = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d'
_LENGTHS: frozenset[FinishReason] = frozenset({"length", "content_filter"})


class ResponsesStreamEncoder:
    """See dialect.StreamEncoder. `close` ends open items and writes the final event; after an error, don't call it."""

    __slots__ = (
        "_calls",
        "_current",
        "_done",
        "_envelope",
        "_extra",
        "_head",
        "_items",
        "_output_bytes",
        "_price",
        "_reason",
        "_sequence",
        "_text_tail",
        "_usage",
        "_writer",
    )

    def __init__(self, envelope: Envelope, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._head: dict[str, Any] = {}
        self._writer = ItemWriter("", envelope, "")
        self._sequence = 0
        #: The one message or reasoning item that is open, and the bytes after the number of its text's deltas.
        self._current: OpenItem | None = None
        self._text_tail = b""
        self._calls: dict[int, OpenCall] = {}
        self._items = 0
        self._done: dict[int, Any] = {}
        self._extra: Extra = {}
        self._usage: Usage | None = None
        self._reason: FinishReason | None = None
        self._output_bytes = 0

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            if self._text_tail and not event.extra:
                return self._text_delta(event.text)
            return self._text(event)
        if isinstance(event, Start):
            return self._start(event)
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return b""
        out = b"" if self._head else self._start(Start("", "", 0))
        if isinstance(event, ReasoningDelta):
            return out + self._reasoning(event)
        if isinstance(event, ToolCallStart):
            return out + self._call_start(event)
        if isinstance(event, ToolCallDelta):
            return out + self._call_delta(event)
        if isinstance(event, RefusalDelta):
            return out + self._refusal(event)
        if isinstance(event, WholePart):
            return out + self._whole(event)
        if isinstance(event, Finish):
            self._reason = event.reason
            return out + self._end_items()
        self._note(event)
        return out

    def close(self) -> bytes:
        out = b"" if self._head else self._start(Start("", "", 0))
        out += self._end_items()
        usage = self._usage or Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._output_bytes),
            is_estimated=True,
        )
        items = [self._done[index] for index in sorted(self._done)]
        response = ended(self._head, items, self._reason, priced_fields(usage, self._price(usage)), self._extra)
        return out + self._write(f"response.{response['status']}", response=response)

    # --- Pieces -----------------------------------------------------------------------------------------------

    def _write(self, kind: str, **fields: Any) -> bytes:
        data = encode({"type": kind, "sequence_number": self._sequence, **fields})
        self._sequence += 1
        return write_event(data, kind.encode())

    def _write_all(self, events: list[tuple[str, dict[str, Any]]]) -> bytes:
        return b"".join([self._write(kind, **fields) for kind, fields in events])

    def _count(self, text: str) -> None:
        self._output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def _start(self, event: Start) -> bytes:
        self._head = response_head(self._envelope, event)
        if event.service_tier is not None:
            self._head["service_tier"] = event.service_tier
        self._writer = ItemWriter(self._head["id"], self._envelope, event.dialect)
        if event.dialect == NAME:
            self._extra = event.extra
        created = self._write("response.created", response=self._head)
        return created + self._write("response.in_progress", response=self._head)

    def _note(self, event: Event) -> None:
        """What is told only when its item or the response ends."""
        if isinstance(event, LogprobsDelta):
            if isinstance(self._current, OpenMessage):
                self._current.add_logprobs(event.raw)
        elif isinstance(event, ExtraDelta) and event.choice is None:
            fields = dict(event.fields)
            if (tier := fields.pop("service_tier", None)) is not None:
                self._head["service_tier"] = text_of(tier)
            if self._writer.owns_extra:
                self._extra = merged(self._extra, fields)

    # --- Messages ---------------------------------------------------------------------------------------------

    def _text_delta(self, text: str) -> bytes:
        message = self._current
        if not text or not isinstance(message, OpenMessage):
            return b""
        message.pieces.append(text)
        self._count(text)
        sequence = self._sequence
        self._sequence = sequence + 1
        return b'%b%b%b,"logprobs":[]}\n\n' % (_TEXT_HEAD % sequence, self._text_tail, encode(text))

    def _text(self, event: TextDelta) -> bytes:
        out = b"" if self._head else self._start(Start("", "", 0))
        extra = event.extra if self._writer.owns_extra else {}
        if not event.text and not extra:
            return out
        begun, message = self._message(extra)
        out += begun
        if extra and not begun:
            message.extra = merged(message.extra, extra)
        if message.kind != "output_text":
            out += self._write_all(message.begin("output_text"))
            place = b',"item_id":%b,"output_index":%d,"content_index":%d,"delta":'
            self._text_tail = place % (encode(message.item_id), message.index, message.content_index)
        return out + self._text_delta(event.text)

    def _refusal(self, event: RefusalDelta) -> bytes:
        out, message = self._message({})
        self._text_tail = b""
        if message.kind != "refusal":
            out += self._write_all(message.begin("refusal"))
        message.pieces.append(event.text)
        self._count(event.text)
        return out + self._write("response.refusal.delta", **message.place, delta=event.text)

    def _message(self, extra: Extra) -> tuple[bytes, OpenMessage]:
        if isinstance(self._current, OpenMessage):
            return b"", self._current
        out = self._end_current()
        index = self._next_index()
        message = OpenMessage(index, self._writer.item_id("msg", index, extra.get(f"{ITEM}id")), extra)
        self._current = message
        return out + self._added(message), message

    def _next_index(self) -> int:
        self._items += 1
        return self._items - 1

    def _added(self, item: OpenItem) -> bytes:
        return self._write("response.output_item.added", output_index=item.index, item=item.begun())

    # --- Reasoning and calls ----------------------------------------------------------------------------------

    def _reasoning(self, event: ReasoningDelta) -> bytes:
        out = b""
        thought = self._current
        if not isinstance(thought, OpenThought) or thought.part != event.part:
            out = self._end_current()
            index = self._next_index()
            extra = event.extra if self._writer.owns_extra else {}
            item_id = self._writer.item_id("rs", index, extra.get("id"))
            thought = self._current = OpenThought(index, item_id, event.part, extra)
            out += self._added(thought)
        thought.note(event)
        if event.text:
            self._count(event.text)
            out += self._write_all(thought.delta(event.text))
        return out

    def _call_start(self, event: ToolCallStart) -> bytes:
        out = self._end_current()
        call = OpenCall(self._next_index(), event, self._writer)
        if event.index in self._calls:  # never told twice by a decoder of ours
            out += self._end(self._calls.pop(event.index))
        self._calls[event.index] = call
        return out + self._added(call)

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        call = self._calls.get(event.index)
        if call is None or not event.arguments:
            return b""
        self._count(event.arguments)
        return self._write_all(call.delta(event.arguments))

    def _whole(self, event: WholePart) -> bytes:
        out = self._end_current()
        item = self._writer.whole(self._items, event.part)
        if item is None:
            return out
        index = self._next_index()
        self._done[index] = item
        added = self._write("response.output_item.added", output_index=index, item=item)
        return out + added + self._write("response.output_item.done", output_index=index, item=item)

    # --- Ends -------------------------------------------------------------------------------------------------

    def _end_current(self) -> bytes:
        item, self._current, self._text_tail = self._current, None, b""
        return b"" if item is None else self._end(item)

    def _end_items(self) -> bytes:
        """Everything that is open, in the order of the output. An answer that was cut short leaves its items incomplete."""
        calls, self._calls = list(self._calls.values()), {}
        return b"".join(map(self._end, calls)) + self._end_current()

    def _end(self, item: OpenItem) -> bytes:
        status = "incomplete" if self._reason in _LENGTHS else "completed"
        out = self._write_all(item.ended())
        whole = self._done[item.index] = item.whole(status, self._writer.dialect)
        return out + self._write("response.output_item.done", output_index=item.index, item=whole)
