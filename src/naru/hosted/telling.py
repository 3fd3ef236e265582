"""A run told as one answer, in the caller's dialect: streamed, or in one piece."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from naru.agent.events import Content, ReasoningText, RunEvent, ToolResult, UsageSoFar
from naru.agent.run import Run
from naru.hosted.asked import FIELD, opaque
from naru.ledger.display import cost_headers, shown
from naru.protocol.accumulate import Accumulator
from naru.protocol.dialect import Dialect, Envelope
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    FinishReason,
    Opaque,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageReport,
    WholePart,
)
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.response import CHOICE_PREFIX
from naru.transport.exchange import Exchange, HeaderList

STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_REASONS: dict[str, FinishReason] = {"length": "length", "content_filter": "content_filter"}


class Head(Struct, frozen=True):
    """`id` is the request's, `created` in Unix seconds; `fx` is the rate at which costs are shown in won, if they are."""

    id: str
    created: int
    fx: str = ""


class Teller:
    """`hear` each event of the run, then `end`."""

    def __init__(self, exchange: Exchange, dialect: Dialect, envelope: Envelope, head: Head) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._envelope = envelope
        self._head = head
        self._cost_nano = 0
        self._turns = 0
        self._is_new_turn = False
        self._has_text = False
        self._gathered = Accumulator()
        self._encoder = dialect.stream_encoder(envelope, lambda usage: shown(self._cost_nano, head.fx))
        self.is_started = False
        #: Headers of the turn under way.
        self.turn_headers: Callable[[], HeaderList] = list

    @property
    def is_streaming(self) -> bool:
        """Whether the caller has been told something, so that an error has to follow it."""
        return self.is_started and self._envelope.is_stream

    def hear(self, event: RunEvent) -> None:
        if isinstance(event, UsageSoFar):
            self._cost_nano = event.cost_nano or 0
            self._turns += 1
            self._is_new_turn = True
        elif isinstance(event, Content):
            # The texts of two turns are two paragraphs.
            text = f"\n\n{event.text}" if self._is_new_turn and self._has_text else event.text
            self._is_new_turn, self._has_text = False, True
            self._tell([TextDelta(text)])
        elif isinstance(event, ReasoningText):
            self._tell([ReasoningDelta(event.text, part=self._turns)])
        elif isinstance(event, ToolResult):
            self._tell(self._used(event))

    def end(self, run: Run) -> None:
        events = _handed_over(run) if run.ending == "handed_over" else []
        if run.ending not in ("done", "handed_over"):
            events.append(_noted({"ending": run.ending}))
        events += [Finish(_reason(run)), UsageReport(run.usage)]
        if not self._envelope.is_stream:
            self._add(events)
            body = self._dialect.encode_response(self._gathered.response(), self._envelope)
            headers = [*self._headers(b"application/json"), (b"x-naru-turns", b"%d" % run.turns)]
            self._exchange.reply(200, headers + cost_headers(self._cost_nano, self._head.fx), body)
            return
        self._tell(events)
        self._exchange.write(self._encoder.close())
        self._exchange.finish()

    def _tell(self, events: list[Event]) -> None:
        if not self._envelope.is_stream:
            self._add(events)
            return
        if not self.is_started:
            self.is_started = True
            self._exchange.start(200, self._headers(self._dialect.stream_type) + STREAM_HEADERS)
            events = [self._start(), *events]
        self._exchange.write(b"".join(map(self._encoder.event, events)))

    def _add(self, events: list[Event]) -> None:
        if not self.is_started:
            self.is_started = True
            self._gathered.add(self._start())
        for event in events:
            self._gathered.add(event)

    def _start(self) -> Start:
        return Start(f"chatcmpl-{self._head.id}", self._envelope.model, self._head.created, dialect=self._dialect.name)

    def _headers(self, content_type: bytes) -> HeaderList:
        return [(b"content-type", content_type), (b"x-request-id", self._head.id.encode()), *self.turn_headers()]

    def _used(self, event: ToolResult) -> list[Event]:
        """A call that the gateway made, for whoever shows it: Responses have an item for it, chat completions a field of
        ours."""
        if self._dialect is OPENAI_CHAT:
            told = {
                "id": event.id,
                "name": event.name,
                "arguments": event.arguments,
                "text": event.text,
                "is_error": event.is_error,
            }
            return [_noted({"tool_results": [told]})]
        item = {
            "id": f"mcp_{event.id}", "type": "mcp_call", "server_label": "naru", "name": event.name, "arguments": event.arguments,
            "output": None if event.is_error else event.text, "error": event.text if event.is_error else None,
        }  # fmt: skip
        return [WholePart(Opaque(self._dialect.name, "mcp_call", opaque(item)))]


def _noted(fields: dict[str, object]) -> ExtraDelta:
    """Of the choice, not of its message: clients send messages back, and no model wants to see this."""
    return ExtraDelta({CHOICE_PREFIX + FIELD: opaque(fields)}, choice=0)


def _handed_over(run: Run) -> list[Event]:
    events: list[Event] = []
    for index, use in enumerate(run.pending):
        events += [ToolCallStart(index, use.id, use.name), ToolCallDelta(index, use.raw)]
    return events


def _reason(run: Run) -> FinishReason:
    """A limit ends an answer before its time, as max_tokens does."""
    if run.ending == "handed_over":
        return "tool_calls"
    return _REASONS.get(run.finish_reason, "stop") if run.ending == "done" else "length"
