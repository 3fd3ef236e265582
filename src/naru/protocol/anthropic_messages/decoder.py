"""A Messages stream to events. Shared with the relay only in what it reads (wire.StreamEvent)."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Raw, UnsetType
from msgspec.structs import replace

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.anthropic_messages.blocks import REDACTED_KEYS, TEXT_KEYS, THINKING_KEYS, TOOL_USE_KEYS
from naru.protocol.anthropic_messages.errors import error_inside
from naru.protocol.anthropic_messages.names import original_name
from naru.protocol.anthropic_messages.response import RESPONSE_KEYS, finish_of
from naru.protocol.anthropic_messages.usage import UsageCounter, read_usage, usage_extra
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL, NAME, StreamEvent, arguments_of, decode_event, is_input
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    Opaque,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.sse import Frame, SseSplitter
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_object,
    raw_of,
    rest_of,
    text_of,
    unreadable,
)

_DELTA_KEYS = frozenset({"type", "text", "stop_reason", "stop_sequence"})


class _Block:
    """An open content block. `number` counts the calls, or the blocks of thinking, of the answer."""

    __slots__ = ("fields", "has_delta", "kind", "number", "pieces", "rest")

    def __init__(self, kind: str, number: int, fields: Fields) -> None:
        self.kind = kind
        self.number = number
        self.fields = fields
        self.has_delta = False
        self.pieces: list[str] = []  # of an input that only its end makes whole
        self.rest: dict[str, Any] = {}


class MessagesStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call.

    The UsageReport at the start has the input alone and says so (`is_estimated`): where a stream is cut, what was
    generated is still to be counted.
    """

    __slots__ = (
        "_blocks",
        "_calls",
        "_counter",
        "_has_finish",
        "_is_done",
        "_is_started",
        "_output_chars",
        "_quirks",
        "_splitter",
        "_thoughts",
        "error",
    )

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._splitter = SseSplitter()
        self._blocks: dict[int, _Block] = {}
        self._counter = UsageCounter()
        self._calls = 0
        self._thoughts = 0
        self._output_chars = 0
        self._is_started = False
        self._has_finish = False
        self._is_done = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        self._raise_if_failed()
        events: list[Event] = []
        if not self._is_done:
            try:
                self._read(self._splitter.feed(data), events)
            except UpstreamError as error:
                self.error = error
        if not events:
            self._raise_if_failed()
        return events

    def close(self) -> list[Event]:
        """Raises UpstreamBroken (`upstream_incomplete`) where the stream was cut."""
        self._raise_if_failed()
        events: list[Event] = []
        if self._is_done:
            return events
        try:
            self._read(self._splitter.close(), events)
        except UpstreamBroken:
            raise cut_off() from None
        if not self._is_done and not self._has_finish:
            raise cut_off()
        self._end(events)
        return events

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error

    def _read(self, frames: list[Frame], events: list[Event]) -> None:
        for frame in frames:
            data = frame.data
            if data is None or self._is_done:
                continue
            if frame.event == b"error":
                raise error_inside(data, self._quirks)
            try:
                if not data.isascii():
                    data.decode()  # msgspec does not look into the strings that it skips
                self._event(decode_event(data), data, events)
            except BAD_JSON:
                if data.strip() != b"[DONE]":  # some compatible servers end as OpenAI does
                    raise unreadable("a stream event is not as the Messages API describes it") from None
                self._end(events)

    def _event(self, event: StreamEvent, data: bytes, events: list[Event]) -> None:
        kind = event.type
        if kind == "content_block_delta":
            self._delta(event, data, events)
        elif kind == "content_block_start":
            self._open(event, events)
        elif kind == "content_block_stop":
            self._close_block(event.index, events)
        elif kind == "message_start":
            self._start(event.message, events)
        elif kind == "message_delta":
            self._message_delta(event, data, events)
        elif kind == "message_stop":
            self._end(events)
        elif kind == "error" or event.error is not UNSET:
            raise error_inside(data, self._quirks)
        # ping, and whatever Anthropic adds: new kinds of events are to be expected by its own rules.

    def _start(self, raw: Raw | UnsetType, events: list[Event]) -> None:
        if raw is UNSET or not is_object(raw):
            raise unreadable("a stream that starts without a message")
        if self._is_started:
            return
        self._is_started = True
        fields = decode_fields(raw)
        wire = read_usage(fields.get("usage"))
        extra = rest_of(fields, RESPONSE_KEYS) | usage_extra(fields.get("usage"))
        tier = None if wire is None else wire.service_tier
        answer_id, model = text_of(fields.get("id")) or "", text_of(fields.get("model")) or ""
        events.append(Start(answer_id, model, 0, extra, tier, NAME))
        self._counter.start(wire)
        if self._counter.usage is not None:
            events.append(UsageReport(self._counter.usage))

    def _ensure_started(self, events: list[Event]) -> None:
        if not self._is_started:
            self._is_started = True
            events.append(Start("", "", 0, {}, None, NAME))

    # --- Blocks -----------------------------------------------------------------------------------------------------

    def _open(self, event: StreamEvent, events: list[Event]) -> None:
        raw = event.content_block
        if raw is UNSET or not is_object(raw):
            raise unreadable("a content block that is not an object")
        self._ensure_started(events)
        self._close_block(event.index, events)  # a server that ends none of its blocks
        fields = decode_fields(raw)
        kind = text_of(fields.get("type")) or ""
        block = self._blocks[event.index] = _Block(kind, 0, fields)
        if kind == "text":
            self._open_text(fields, events)
        elif kind == "tool_use":
            self._open_call(block, events)
        elif kind in ("thinking", "redacted_thinking"):
            block.number = self._thoughts
            self._thoughts += 1
            known = THINKING_KEYS if kind == "thinking" else REDACTED_KEYS
            delta = ReasoningDelta(
                text_of(fields.get("thinking")) or "",
                0,
                block.number,
                text_of(fields.get("signature")) or None,
                text_of(fields.get("data")) if kind == "redacted_thinking" else None,
                rest_of(fields, known),
            )
            if delta.text or delta.signature or delta.encrypted is not None or delta.extra:
                events.append(delta)

    def _open_text(self, fields: Fields, events: list[Event]) -> None:
        extra = rest_of(fields, TEXT_KEYS)
        if is_list(citations := extra.get("citations")):
            extra["citations"] = raw_of(decode_list(citations))
            if not decode_list(citations):
                del extra["citations"]
        text = text_of(fields.get("text")) or ""
        if text or extra:
            events.append(TextDelta(text, 0, extra))

    def _open_call(self, block: _Block, events: list[Event]) -> None:
        name = text_of(block.fields.get("name")) or ""
        if name == ANSWER_TOOL:
            block.kind = ANSWER_TOOL
            return
        block.number = self._calls
        self._calls += 1
        call_id = text_of(block.fields.get("id")) or ""
        extra = rest_of(block.fields, TOOL_USE_KEYS)
        events.append(ToolCallStart(block.number, call_id, original_name(name), extra=extra))

    def _delta(self, event: StreamEvent, data: bytes, events: list[Event]) -> None:
        delta = event.delta
        if delta is None:
            raise unreadable("a stream event without its delta")
        kind = delta.type
        block = self._blocks.get(event.index)
        if block is None:
            if kind != "text_delta":
                raise unreadable("a delta of a content block that was not begun")
            self._ensure_started(events)
            block = self._blocks[event.index] = _Block("text", 0, {})
        if block.kind == "text" and kind == "text_delta":
            if delta.text:
                self._output_chars += len(delta.text)
                events.append(TextDelta(delta.text))
        elif block.kind == "tool_use" and kind == "input_json_delta":
            if delta.partial_json:
                block.has_delta = True
                self._output_chars += len(delta.partial_json)
                events.append(ToolCallDelta(block.number, delta.partial_json))
        elif block.kind == "thinking" and kind == "thinking_delta":
            if delta.thinking:
                self._output_chars += len(delta.thinking)
                events.append(ReasoningDelta(delta.thinking, 0, block.number))
        elif block.kind == "thinking" and kind == "signature_delta":
            events.append(ReasoningDelta("", 0, block.number, signature=delta.signature))
        else:
            self._rare_delta(block, kind, data, events)

    def _rare_delta(self, block: _Block, kind: str, data: bytes, events: list[Event]) -> None:
        fields = decode_fields(decode_fields(data)["delta"])
        if block.kind == "text":
            citation = fields.get("citation")
            if kind == "citations_delta" and citation is not None:
                events.append(TextDelta("", 0, {"citations": raw_of([citation])}))
            return
        if kind == "input_json_delta":
            piece = text_of(fields.get("partial_json")) or ""
            block.has_delta = block.has_delta or bool(piece)
            block.pieces.append(piece)
            if block.kind == ANSWER_TOOL and piece:
                events.append(TextDelta(piece))
            return
        for name, raw in rest_of(fields, frozenset({"type"})).items():
            text, before = text_of(raw), block.rest.get(name)
            block.rest[name] = raw if text is None else (before if isinstance(before, str) else "") + text

    def _close_block(self, index: int, events: list[Event]) -> None:
        block = self._blocks.pop(index, None)
        if block is None or block.kind in ("text", "thinking", "redacted_thinking"):
            return
        if block.kind in ("tool_use", ANSWER_TOOL):
            if not block.has_delta:  # no input, or all of it at the start
                text = arguments_of(block.fields.get("input"))
                events.append(TextDelta(text) if block.kind == ANSWER_TOOL else ToolCallDelta(block.number, text))
            return
        fields: dict[str, Any] = {**block.fields, **block.rest}
        text = "".join(block.pieces)
        if text:
            fields["input"] = Raw(text.encode()) if is_input(text) else text
        events.append(WholePart(Opaque(NAME, block.kind, raw_of(fields))))

    # --- The end ----------------------------------------------------------------------------------------------------

    def _message_delta(self, event: StreamEvent, data: bytes, events: list[Event]) -> None:
        self._ensure_started(events)
        top = decode_fields(data)
        fields = decode_fields(top["delta"]) if is_object(top.get("delta")) else {}
        usage = None if event.usage is UNSET else event.usage
        extra = rest_of(fields, _DELTA_KEYS) | rest_of(top, frozenset({"type", "delta", "usage"})) | usage_extra(usage)
        if extra:
            events.append(ExtraDelta(extra))
        stop_reason = text_of(fields.get("stop_reason"))
        if stop_reason is not None and not self._has_finish:
            for index in list(self._blocks):
                self._close_block(index, events)
            reason, choice_extra = finish_of(stop_reason, self._calls > 0)
            if choice_extra:
                events.append(ExtraDelta(choice_extra, 0))
            if reason is not None:
                self._has_finish = True
                events.append(Finish(reason, 0, text_of(fields.get("stop_sequence"))))
        wire = read_usage(usage)
        if wire is not None:
            self._counter.update(wire)
            if self._counter.usage is not None:
                events.append(UsageReport(self._counter.usage))

    def _end(self, events: list[Event]) -> None:
        if not self._has_finish and not self._is_started:
            raise unreadable("a stream that ends before it has begun")
        for index in list(self._blocks):
            self._close_block(index, events)
        self._is_done = True
        told = self._counter.usage
        if told is not None and not self._counter.has_output:
            output = max(told.output, estimate_tokens_bytes(self._output_chars))
            events.append(UsageReport(replace(told, output=output)))
