"""A stream of ConverseStream to events.

messageStart, then for each content block contentBlockStart (of calls alone), contentBlockDelta … and contentBlockStop, then
messageStop with the reason, then metadata with the usage. A frame of an exception ends it.
"""

from __future__ import annotations

from msgspec import UNSET, Raw, Struct, UnsetType

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.anthropic_messages.names import original_name
from naru.protocol.anthropic_messages.wire import ANSWER_TOOL
from naru.protocol.bedrock.errors import stream_error
from naru.protocol.bedrock.response import SERVER_TOOL
from naru.protocol.bedrock.wire import (
    BAD_JSON,
    FAILED_REASONS,
    NAME,
    Block,
    ReasoningBlock,
    StreamEvent,
    ToolUse,
    cut_off,
    decode_event,
    decode_str,
    encode,
    finish_of,
    image_url,
    mint_id,
    stop_sequence_of,
    usage_of,
)
from naru.protocol.dialect import Quirks
from naru.protocol.eventstream import EventStreamSplitter, Message
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    Image,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat.errors import failed_reason
from naru.protocol.wire import unreadable


class _Open(Struct):
    """A call that was begun. `index` counts the caller's calls; None: the tool that stands for the answer."""

    index: int | None
    has_input: bool = False


class ConverseStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call."""

    __slots__ = (
        "_calls",
        "_has_finish",
        "_head",
        "_is_done",
        "_is_started",
        "_open",
        "_quirks",
        "_server_blocks",
        "_splitter",
        "_thoughts",
        "error",
    )

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._splitter = EventStreamSplitter()
        self._open: dict[int, _Open] = {}
        self._server_blocks: set[int] = set()
        self._thoughts: dict[int, int] = {}
        self._calls = 0
        self._head = b""
        self._is_started = False
        self._has_finish = False
        self._is_done = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        self._raise_if_failed()
        events: list[Event] = []
        if self._is_done:
            return events
        try:
            for message in self._splitter.feed(data):
                self._message(message, events)
        except UpstreamError as error:
            self.error = error
        if not events:
            self._raise_if_failed()
        return events

    def close(self) -> list[Event]:
        """Raises UpstreamBroken (`upstream_incomplete`) where the stream was cut."""
        self._raise_if_failed()
        if self._is_done:
            return []
        try:
            self._splitter.close()
        except UpstreamBroken:
            raise cut_off() from None
        if not self._has_finish:
            raise cut_off()
        return []

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error

    def _message(self, message: Message, events: list[Event]) -> None:
        kind = message.headers.get(":message-type", "event")
        if self._is_done:
            return
        if kind == "exception":
            raise stream_error(message.headers.get(":exception-type", ""), message.payload, self._quirks)
        if kind == "error":
            said = encode({"message": message.headers.get(":error-message", "")})
            raise stream_error(message.headers.get(":error-code", ""), said, self._quirks)
        try:
            if not message.payload.isascii():
                message.payload.decode()  # msgspec does not look into the strings that it skips
            self._event(message.headers.get(":event-type", ""), message.payload, events)
        except BAD_JSON:
            raise unreadable("a stream event is not as the API describes it") from None

    def _event(self, kind: str, payload: bytes, events: list[Event]) -> None:
        event = decode_event(payload)
        if kind == "messageStart":
            self._head = payload
            return
        if not self._is_started:
            self._is_started = True
            events.append(Start(mint_id(self._head, payload), "", 0, dialect=NAME))
        if kind == "contentBlockDelta" and event.delta is not None:
            self._delta(event.contentBlockIndex, event.delta, events)
        elif kind == "contentBlockStart" and event.start is not None:
            if event.start.toolUse is not None:
                self._begin(event.contentBlockIndex, event.start.toolUse, events)
        elif kind == "contentBlockStop":
            self._end_block(event.contentBlockIndex, events)
        elif kind == "messageStop":
            self._stop(event, events)
        elif kind == "metadata":
            self._metadata(event, events)
        # Whatever else AWS adds says nothing to our callers.

    # --- Blocks -----------------------------------------------------------------------------------------------------

    def _begin(self, index: int, use: ToolUse, events: list[Event]) -> None:
        if use.type == SERVER_TOOL:
            self._server_blocks.add(index)
        elif use.name == ANSWER_TOOL:
            self._open[index] = _Open(None)
        else:
            self._open[index] = _Open(self._calls)
            events.append(ToolCallStart(self._calls, use.toolUseId, original_name(use.name)))
            self._calls += 1

    def _delta(self, index: int, delta: Block, events: list[Event]) -> None:
        if delta.text:
            events.append(TextDelta(delta.text))
        elif delta.toolUse is not None:
            self._input(index, _text_of(delta.toolUse.input), events)
        elif delta.reasoningContent is not None:
            self._think(index, delta.reasoningContent, events)
        elif delta.image is not None and delta.image.source is not None:
            events.append(WholePart(Image(image_url(delta.image))))

    def _input(self, index: int, text: str, events: list[Event]) -> None:
        call = self._open.get(index)
        if call is None and index not in self._server_blocks:
            raise unreadable("a piece of a call that was not begun")
        if call is None or not text:
            return
        call.has_input = True
        events.append(TextDelta(text) if call.index is None else ToolCallDelta(call.index, text))

    def _think(self, index: int, block: ReasoningBlock, events: list[Event]) -> None:
        part = self._thoughts.setdefault(index, len(self._thoughts))
        if block.text or block.signature or block.redactedContent is not None:
            events.append(ReasoningDelta(block.text or "", 0, part, block.signature or None, block.redactedContent))

    def _end_block(self, index: int, events: list[Event]) -> None:
        call = self._open.pop(index, None)
        if call is not None and not call.has_input:
            events.append(TextDelta("{}") if call.index is None else ToolCallDelta(call.index, "{}"))

    # --- The end ----------------------------------------------------------------------------------------------------

    def _stop(self, event: StreamEvent, events: list[Event]) -> None:
        for index in list(self._open):
            self._end_block(index, events)
        if event.stopReason in FAILED_REASONS:
            raise failed_reason(event.stopReason or "")
        self._has_finish = True
        stop_sequence = stop_sequence_of(event.additionalModelResponseFields, event.stopReason)
        reason = finish_of(event.stopReason, self._calls > 0) or "stop"
        events.append(Finish(reason, 0, stop_sequence))

    def _metadata(self, event: StreamEvent, events: list[Event]) -> None:
        """It comes last; a stream that ends without it is billed by an estimate."""
        if event.serviceTier is not None:
            events.append(ExtraDelta({"service_tier": Raw(encode(event.serviceTier.type))}))
        usage = usage_of(event.usage, event.serviceTier, self._quirks.stream_input_has_cache)
        if usage is not None:
            events.append(UsageReport(usage))
        self._is_done = self._has_finish


def _text_of(raw: Raw | UnsetType) -> str:
    return "" if raw is UNSET else decode_str(raw)
