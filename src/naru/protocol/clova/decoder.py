"""A stream of CLOVA Studio to events (providers.md A1.5).

`token` events hold what is new; the one `result` at the end repeats the whole message, so of it only the reason, the usage
and what no token has said are told. `signal` says nothing. There is no [DONE].
"""

from __future__ import annotations

from msgspec import Struct

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.clova.errors import error_inside, is_failure
from naru.protocol.clova.wire import (
    NAME,
    WireCall,
    WireMessage,
    WireResult,
    arguments_of,
    created_of,
    cut_off,
    decode_result,
    finish_of,
    is_given,
    mint_id,
    result_extra,
    usage_of,
)
from naru.protocol.dialect import Quirks
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
)
from naru.protocol.sse import Frame, SseSplitter
from naru.protocol.wire import BAD_JSON, unreadable


class _Call(Struct):
    id: str
    has_arguments: bool = False


class _Said:
    """A text as far as it has been told, to find what the final repetition adds."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0

    def add(self, text: str) -> str:
        self.pieces.append(text)
        self.size += len(text)
        return text

    def rest_of(self, whole: str | None) -> str:
        """What of the whole has not been told. A whole that says something else adds nothing: it is too late for it."""
        if not whole or len(whole) <= self.size or not whole.startswith("".join(self.pieces)):
            return ""
        return self.add(whole[self.size :])


class ClovaStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call."""

    __slots__ = ("_calls", "_id", "_is_done", "_is_started", "_splitter", "_text", "_thought", "error")

    def __init__(self, quirks: Quirks) -> None:
        self._splitter = SseSplitter()
        self._calls: list[_Call] = []
        self._text = _Said()
        self._thought = _Said()
        self._id = ""
        self._is_started = False
        self._is_done = False
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> list[Event]:
        self._raise_if_failed()
        events: list[Event] = []
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
        try:
            self._read(self._splitter.close(), events)
        except UpstreamBroken:
            raise cut_off() from None
        if not self._is_done:
            raise cut_off()
        return events

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error

    def _read(self, frames: list[Frame], events: list[Event]) -> None:
        for frame in frames:
            data = frame.data
            if data is None or frame.event == b"signal" or self._is_done:
                continue
            try:
                if not data.isascii():
                    data.decode()  # msgspec does not look into the strings that it skips
                result = decode_result(data)
                if frame.event == b"error" or is_failure(result.status):
                    raise _reported(result)
                self._begin(frame, data, result, events)
                if frame.event == b"result":
                    self._end(result, events)
                elif result.message is not None:
                    self._token(result.message, events)
            except BAD_JSON:
                raise unreadable("a stream event is not as the API describes it") from None

    def _begin(self, frame: Frame, data: bytes, result: WireResult, events: list[Event]) -> None:
        if self._is_started:
            return
        self._is_started = True
        self._id = mint_id("chatcmpl-", frame.id or data)
        events.append(Start(self._id, "", created_of(result), dialect=NAME))

    def _token(self, message: WireMessage, events: list[Event]) -> None:
        if message.thinkingContent:
            events.append(ReasoningDelta(self._thought.add(message.thinkingContent)))
        if message.content:
            events.append(TextDelta(self._text.add(message.content)))
        for call in message.toolCalls or ():
            self._fragment(call, events)

    def _fragment(self, call: WireCall, events: list[Event]) -> None:
        """An id that is new starts a call; what has none belongs to the latest."""
        function = call.function
        is_new = not self._calls or (call.id is not None and all(call.id != known.id for known in self._calls))
        if is_new:
            self._open(call.id, function.name or "", events)
        index = len(self._calls) - 1
        if function.partialJson:
            self._arguments(index, function.partialJson, events)
        elif is_given(function.arguments):
            self._arguments(index, arguments_of(function.arguments), events)

    def _open(self, given: str | None, name: str, events: list[Event]) -> None:
        index = len(self._calls)
        call_id = given or mint_id("call_", self._id, str(index), name)
        self._calls.append(_Call(call_id))
        events.append(ToolCallStart(index, call_id, name))

    def _arguments(self, index: int, text: str, events: list[Event]) -> None:
        self._calls[index].has_arguments = True
        events.append(ToolCallDelta(index, text))

    def _end(self, result: WireResult, events: list[Event]) -> None:
        self._is_done = True
        message = result.message or WireMessage()
        if thought := self._thought.rest_of(message.thinkingContent):
            events.append(ReasoningDelta(thought))
        if text := self._text.rest_of(message.content):
            events.append(TextDelta(text))
        for place, call in enumerate(message.toolCalls or ()):
            self._complete(place, call, events)
        for index, known in enumerate(self._calls):
            if not known.has_arguments:
                self._arguments(index, "{}", events)
        extra = result_extra(result)
        if extra:
            events.append(ExtraDelta(extra))
        usage = usage_of(result)
        if usage is not None:
            events.append(UsageReport(usage))
        events.append(Finish(finish_of(result, bool(self._calls)) or "stop"))

    def _complete(self, place: int, call: WireCall, events: list[Event]) -> None:
        """A call of the final repetition: told now if no token has told it."""
        index = next((n for n, known in enumerate(self._calls) if known.id == call.id), None)
        if index is None and (call.id is not None or place >= len(self._calls)):
            self._open(call.id, call.function.name or "", events)
            index = len(self._calls) - 1
        index = place if index is None else index
        if not self._calls[index].has_arguments:
            self._arguments(index, arguments_of(call.function.arguments), events)


def _reported(result: WireResult) -> UpstreamError:
    if result.status is None:
        return unreadable("the stream reports an error and does not say which")
    return error_inside(result.status)
