"""Same dialect: a stream passed on event by event, usage watched on the side.

An event that needs nothing goes out as the bytes that came. What is added: the cost, in the usage of message_delta; the
`event:` line, where a compatible server has none and the official client would see nothing; a missing message_stop.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw
from msgspec.structs import replace

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.anthropic_messages.errors import error_inside
from naru.protocol.anthropic_messages.response import answer_fields, message_head
from naru.protocol.anthropic_messages.usage import (
    UsageCounter,
    priced_fields,
    read_usage,
    usage_fields,
    usage_of,
)
from naru.protocol.anthropic_messages.wire import StreamEvent, decode_event
from naru.protocol.dialect import Envelope, Pricer, Quirks, WholeAnswer
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.openai_chat.usage import naru_fields
from naru.protocol.sse import Frame, SseSplitter, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
    unreadable,
)

_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
#: Strings of a content block that the model wrote; a tool's `input` is counted as its JSON.
_WRITTEN = ("text", "thinking")


def relay_whole(body: bytes, quirks: Quirks) -> WholeAnswer:
    """Raises UpstreamError for garbage, and for an error reported with a status of 200."""
    fields = answer_fields(body, quirks)
    try:
        usage = read_usage(fields.get("usage"))
        chars = sum(_chars(raw) for raw in decode_list(fields["content"]))
    except BAD_JSON:
        raise unreadable("it holds a string that is no text") from None
    return WholeAnswer(body.lstrip(b" \t\r\n"), None if usage is None else usage_of(usage), chars)


def _chars(raw: Raw) -> int:
    if not is_object(raw):
        raise unreadable("a content block that is not an object")
    fields = decode_fields(raw)
    written = sum(len(text_of(fields.get(name)) or "") for name in _WRITTEN)
    return written + (len(fields["input"]) if "input" in fields else 0)


class MessagesStreamRelay:
    """See dialect.StreamRelay. Until message_delta has told the output, `usage` estimates it (`is_estimated`)."""

    __slots__ = (
        "_counter",
        "_envelope",
        "_has_finish",
        "_has_start",
        "_output_bytes",
        "_price",
        "_quirks",
        "_splitter",
        "error",
        "has_content",
        "is_finished",
        "output_chars",
    )

    def __init__(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        self._envelope = envelope
        self._quirks = quirks
        self._price = price
        self._splitter = SseSplitter()
        self._counter = UsageCounter()
        self._has_start = False
        self._has_finish = False
        self._output_bytes = 0
        self.error: UpstreamError | None = None
        self.has_content = False
        self.is_finished = False
        self.output_chars = 0

    @property
    def usage(self) -> Usage | None:
        told = self._counter.usage
        if told is None or self._counter.has_output:
            return told
        return replace(told, output=max(told.output, estimate_tokens_bytes(self._output_bytes)), is_estimated=True)

    def _is_over(self) -> bool:
        return self.error is not None or self.is_finished

    def feed(self, data: bytes) -> bytes:
        if self._is_over():
            return b""
        try:
            frames = self._splitter.feed(data)
        except UpstreamError as error:
            self.error = error
            return b""
        out = self._pass(frames)
        if out is None:
            return data if self._splitter.is_verbatim else b"".join([frame.raw for frame in frames])
        return out

    def close(self) -> bytes:
        if self._is_over():
            return b""
        try:
            frames = self._splitter.close()
        except UpstreamError as error:
            self.error = error
            return b""
        out = self._last_words(frames) if frames else b""
        if self._is_over():
            return out
        if not self._has_finish:
            self.error = cut_off()
            return out
        self.is_finished = True
        return out + _STOP

    def _last_words(self, frames: list[Frame]) -> bytes:
        """An event whose blank line never came. If it cannot be read the stream was cut inside it."""
        data, event = frames[0].data, frames[0].event
        if data is None:
            return b""
        ended = write_event(data, event)
        changed = self._pass([Frame(data, ended, 0, len(ended), event)])
        if isinstance(self.error, UpstreamBroken):
            self.error = cut_off()
        return ended if changed is None else changed

    def _pass(self, frames: list[Frame]) -> bytes | None:
        """What to write for these events; None: exactly what they are. Stops at the first error and after the end."""
        out: list[bytes] = []
        is_changed = False
        for place, frame in enumerate(frames):
            try:
                passed = frame.raw if frame.data is None else self._frame(frame, frame.data)
            except UpstreamError as error:
                self.error = error
                return b"".join(out)
            is_changed = is_changed or passed is not None
            out.append(frame.raw if passed is None else passed)
            if self.is_finished:
                is_changed = is_changed or place < len(frames) - 1  # what follows is not the caller's business
                break
        return b"".join(out) if is_changed else None

    def _frame(self, frame: Frame, data: bytes) -> bytes | None:
        """What to write for an event; None: the bytes that came."""
        if frame.event == b"error":
            raise error_inside(data, self._quirks)
        try:
            if not data.isascii():
                data.decode()  # msgspec does not look into the strings that it skips
            event = decode_event(data)
            changed = self._event(event, data)
        except BAD_JSON:
            if data.strip() == b"[DONE]":
                return self._done()
            raise unreadable("a stream event is not as the Messages API describes it") from None
        if changed is None and frame.event:
            return None
        return write_event(data if changed is None else changed, event.type.encode(), frame.id)

    def _done(self) -> bytes:
        if not self._has_finish:
            raise cut_off()
        self.is_finished = True
        return _STOP

    def _event(self, event: StreamEvent, data: bytes) -> bytes | None:
        """Counts; returns the event's JSON where it had to change."""
        kind = event.type
        if kind == "content_block_delta":
            self._count(event)
        elif kind == "content_block_start":
            self._block(event)
        elif kind == "message_start":
            return self._start(event, data)
        elif kind == "message_delta":
            return self._message_delta(event, data)
        elif kind == "message_stop":
            if not self._has_start and not self._has_finish:
                raise unreadable("a stream that ends before it has begun")
            self.is_finished = True
        elif kind == "error" or event.error is not UNSET:
            raise error_inside(data, self._quirks)
        return None

    def _count(self, event: StreamEvent) -> None:
        delta = event.delta
        if delta is None:
            raise unreadable("a stream event without its delta")
        text = delta.text or delta.partial_json or delta.thinking
        if text:
            self.has_content = True
            self.output_chars += len(text)
            self._output_bytes += len(text) if text.isascii() else len(text.encode())

    def _block(self, event: StreamEvent) -> None:
        raw = event.content_block
        if raw is UNSET or not is_object(raw):
            raise unreadable("a content block that is not an object")
        fields = decode_fields(raw)
        if text_of(fields.get("type")) not in ("text", "thinking") or text_of(fields.get("text")):
            self.has_content = True  # a call, a server's tool, redacted thinking: the client sees it at once

    def _start(self, event: StreamEvent, data: bytes) -> bytes | None:
        raw = event.message
        if raw is UNSET or not is_object(raw):
            raise unreadable("a stream that starts without a message")
        self._has_start = True
        message = decode_fields(raw)
        wire = read_usage(message.get("usage"))
        self._counter.start(wire)
        if wire is not None and wire.output_tokens is not None and is_list(message.get("content")):
            return None
        # The official clients read the usage and the content list of the start unasked.
        usage = self._counter.usage or Usage(input=estimate_tokens_bytes(self._envelope.input_bytes), is_estimated=True)
        head: dict[str, Any] = message_head("", self._envelope.model)
        start: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        known = {name: value for name, value in message.items() if not is_null(value)}
        fields: dict[str, Any] = {**decode_fields(data)}
        fields["message"] = {**head, **start, **known, "usage": usage_fields(usage)}
        return encode(fields)

    def _message_delta(self, event: StreamEvent, data: bytes) -> bytes:
        """With what it cost, and with the usage that a server kept to itself."""
        if event.delta is not None and event.delta.stop_reason is not None:
            self._has_finish = True
        raw = None if event.usage is UNSET else event.usage
        self._counter.update(read_usage(raw))
        usage = self.usage
        fields: dict[str, Any] = {**decode_fields(data)}
        if usage is None:
            usage = Usage(
                input=estimate_tokens_bytes(self._envelope.input_bytes),
                output=estimate_tokens_bytes(self._output_bytes),
                is_estimated=True,
            )
        if self._counter.has_output and is_object(raw):
            own = naru_fields(self._price(usage), usage.is_estimated)
            fields["usage"] = {**decode_fields(raw), "naru": raw_of({**_theirs(raw), **own})}
        else:
            fields["usage"] = priced_fields(usage, self._price(usage))
        return encode(fields)


def _theirs(usage: Raw) -> Fields:
    """What another Naru upstream said; its price is not the caller's."""
    naru = decode_fields(usage).get("naru")
    return decode_fields(naru) if is_object(naru) else {}
