"""A Responses stream to events: which event does what is a table, what items are made of is items.py's."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Quirks
from naru.protocol.messages import Event
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.openai_responses.errors import event_error, failure
from naru.protocol.openai_responses.items import ItemReader
from naru.protocol.openai_responses.parts import CONTENT, SUMMARY
from naru.protocol.openai_responses.response import end_of, start_of
from naru.protocol.openai_responses.wire import StreamEvent, decode_event
from naru.protocol.sse import Frame, SseSplitter
from naru.protocol.wire import BAD_JSON, decode_fields, decode_list, is_list, is_object, text_of, unreadable

#: After these nothing is missing; other events may still follow (providers.md A5.5).
ENDS = frozenset({"response.completed", "response.incomplete"})
FAILURES = frozenset({"response.failed", "response.cancelled", "error"})


def read_event(data: bytes, quirks: Quirks) -> StreamEvent:
    """The event as far as it matters. Raises UpstreamError for garbage; an event of an unknown kind may hold anything."""
    try:
        if not data.isascii():
            data.decode()  # msgspec does not look into the strings that it skips
        event = decode_event(data)
    except msgspec.ValidationError:
        return _odd_event(data, quirks)
    except BAD_JSON:
        raise unreadable("a stream event is not JSON") from None
    if event.type in FAILURES or (event.error is not UNSET and bytes(event.error) not in (b"null", b"false", b'""')):
        raise _failed(event, data, quirks)
    return event


def _odd_event(data: bytes, quirks: Quirks) -> StreamEvent:
    try:
        fields = decode_fields(data)
        kind = text_of(fields.get("type")) or ""
    except BAD_JSON:
        raise unreadable("a stream event is not a JSON object") from None
    if kind in FAILURES or (not kind and "error" in fields):
        raise event_error(fields, quirks)
    if kind in HANDLERS or kind in ENDS:
        raise unreadable("a stream event has fields of types that Responses does not know")
    return StreamEvent(kind)


def _failed(event: StreamEvent, data: bytes, quirks: Quirks) -> UpstreamError:
    try:
        if event.type == "response.cancelled":
            return UpstreamBroken("The provider cancelled the answer. Try again.")
        if event.type == "response.failed":
            response = event.response
            fields = decode_fields(response) if response is not UNSET and is_object(response) else {}
            return failure(fields.get("error"), quirks)
        return event_error(decode_fields(data), quirks)
    except BAD_JSON:
        return unreadable("an error event that is no text")


def _item_opened(reader: ItemReader, event: StreamEvent) -> None:
    if event.item is not UNSET and is_object(event.item):
        reader.opened(event.output_index, event.item)


def _item_done(reader: ItemReader, event: StreamEvent) -> None:
    if event.item is not UNSET and is_object(event.item):
        reader.done(event.output_index, event.item)


def _part_done(reader: ItemReader, event: StreamEvent) -> None:
    if event.part is not UNSET and is_object(event.part):
        reader.part_ended(event.output_index, event.content_index, decode_fields(event.part))


def _text(reader: ItemReader, event: StreamEvent) -> None:
    reader.text(event.output_index, event.content_index, event.delta or "", event.logprobs)


def _text_done(reader: ItemReader, event: StreamEvent) -> None:
    reader.text_ended(event.output_index, event.content_index, event.text or "")


def _refusal(reader: ItemReader, event: StreamEvent) -> None:
    reader.refusal(event.output_index, event.content_index, event.delta or "")


def _refusal_done(reader: ItemReader, event: StreamEvent) -> None:
    reader.refusal_ended(event.output_index, event.content_index, event.refusal or "")


def _summary(reader: ItemReader, event: StreamEvent) -> None:
    reader.reasoning(event.output_index, SUMMARY, event.summary_index, event.delta or "")


def _reasoning(reader: ItemReader, event: StreamEvent) -> None:
    reader.reasoning(event.output_index, CONTENT, event.content_index, event.delta or "")


def _arguments(reader: ItemReader, event: StreamEvent) -> None:
    reader.arguments(event.output_index, event.delta or "")


def _arguments_done(reader: ItemReader, event: StreamEvent) -> None:
    reader.arguments_ended(event.output_index, event.arguments or event.input or "")


#: providers.md B2.3. What is not here is not needed: everything it says is said again by one of these.
HANDLERS: dict[str, Callable[[ItemReader, StreamEvent], None]] = {
    "response.output_text.delta": _text,
    "response.output_text.done": _text_done,
    "response.reasoning_summary_text.delta": _summary,
    "response.reasoning_text.delta": _reasoning,
    "response.function_call_arguments.delta": _arguments,
    "response.function_call_arguments.done": _arguments_done,
    "response.custom_tool_call_input.delta": _arguments,
    "response.custom_tool_call_input.done": _arguments_done,
    "response.refusal.delta": _refusal,
    "response.refusal.done": _refusal_done,
    "response.content_part.done": _part_done,
    "response.output_item.added": _item_opened,
    "response.output_item.done": _item_done,
}


class ResponsesStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call.

    `error` shows it at once, to whoever wants to stop reading early.
    """

    __slots__ = ("_has_start", "_is_done", "_quirks", "_reader", "_splitter", "error")

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._splitter = SseSplitter()
        self._reader = ItemReader()
        self._has_start = False
        self._is_done = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        self._raise_if_failed()
        try:
            self._read(self._splitter.feed(data))
        except UpstreamError as error:
            self.error = None if self._is_done else error  # what follows the answer's end is nobody's business
        events = self._taken()
        if not events:
            self._raise_if_failed()
        return events

    def close(self) -> list[Event]:
        """Raises UpstreamBroken (`upstream_incomplete`) where the stream was cut."""
        self._raise_if_failed()
        if self._is_done:
            return []
        try:
            self._read(self._splitter.close())
        except UpstreamBroken:
            raise cut_off() from None
        if not self._has_ended():
            raise cut_off()
        return self._taken()

    def _has_ended(self) -> bool:
        return self._is_done

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error

    def _taken(self) -> list[Event]:
        events, self._reader.events = self._reader.events, []
        return events

    def _read(self, frames: list[Frame]) -> None:
        for frame in frames:
            data = frame.data
            if data is None or self._is_done or data.startswith(b"[DONE]"):
                continue
            event = read_event(data, self._quirks)
            try:
                handler = HANDLERS.get(event.type)
                if handler is not None and self._has_start:
                    handler(self._reader, event)
                else:
                    self._other(event, handler)
            except BAD_JSON:
                raise unreadable("a stream event has fields of types that Responses does not know") from None

    def _other(self, event: StreamEvent, handler: Callable[[ItemReader, StreamEvent], None] | None) -> None:
        """The response's own events, and whatever comes first."""
        response = event.response
        fields = decode_fields(response) if response is not UNSET and is_object(response) else {}
        if not self._has_start and (fields or handler is not None):
            self._has_start = True
            self._reader.events.append(start_of(fields))
        if handler is not None:
            handler(self._reader, event)
        elif event.type in ENDS:
            self._end(fields)

    def _end(self, fields: dict[str, msgspec.Raw]) -> None:
        output = fields.get("output")
        self._reader.all_done(decode_list(output) if is_list(output) else [])
        self._reader.events += end_of(fields, self._reader.has_calls)
        self._is_done = True
