"""Stream events to the whole answer, and back. Law: what a decoded stream adds up to is what decoding the whole gives.

Parts keep the order in which they began; text that goes on after another part begins a new one (two texts side by side are
one). Knows no dialect.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Raw

from naru.protocol.messages import (
    Choice,
    Event,
    Extra,
    ExtraDelta,
    Finish,
    FinishReason,
    LogprobsDelta,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)

_encode = msgspec.json.Encoder().encode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode
_decode_str = msgspec.json.Decoder(str).decode

#: The strings inside an object that come in pieces: generated sound and what is said in it.
_PIECES = frozenset({"data", "transcript"})


def accumulate(events: Iterable[Event]) -> Response:
    """The answer that a stream's events add up to."""
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response()


class Accumulator:
    """Takes events one by one, for who passes a stream on and needs the whole at its end."""

    def __init__(self) -> None:
        self._start = Start("", "", 0)
        self._extra: Extra = {}
        self._usage: Usage | None = None
        self._choices: dict[int, _ChoiceBuilder] = {}

    def add(self, event: Event) -> None:
        if isinstance(event, Start):
            self._start = event
            self._extra = merged(self._extra, event.extra)
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, ExtraDelta) and event.choice is None:
            self._extra = merged(self._extra, event.fields)
        elif event.choice is not None:
            builder = self._choices.get(event.choice)
            if builder is None:
                builder = self._choices[event.choice] = _ChoiceBuilder(event.choice)
            builder.add(event)

    def response(self) -> Response:
        start, extra = self._start, dict(self._extra)
        tier = extra.pop("service_tier", None)
        return Response(
            id=start.id,
            model=start.model,
            created=start.created,
            choices=tuple(self._choices[index].choice() for index in sorted(self._choices)),
            usage=self._usage,
            service_tier=start.service_tier if tier is None else _decode_str(tier),
            extra=extra,
            dialect=start.dialect,
        )


class _PartBuilder:
    """One part as it grows. `kind` is the class of its deltas."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.texts: list[str] = []
        self.extra: Extra = {}
        self.signature: str | None = None
        self.encrypted: str | None = None
        self.start: ToolCallStart | None = None
        self.whole: Part | None = None

    def part(self) -> Part:
        text = "".join(self.texts)
        if self.whole is not None:
            return self.whole
        if self.start is not None:
            start = self.start
            return ToolCall(start.id, start.name, text, start.kind, start.extra, start.signature)
        if self.kind is ReasoningDelta:
            return Reasoning(text, self.signature, self.encrypted, self.extra)
        return Refusal(text) if self.kind is RefusalDelta else Text(text, self.extra)


class _ChoiceBuilder:
    def __init__(self, index: int) -> None:
        self._index = index
        self._parts: list[_PartBuilder] = []
        self._calls: dict[int, _PartBuilder] = {}
        self._thoughts: dict[int, _PartBuilder] = {}
        self._logprobs: Raw | None = None
        self._finish: FinishReason | None = None
        self._stop_sequence: str | None = None
        self._extra: Extra = {}

    def add(self, event: Event) -> None:
        if isinstance(event, TextDelta | RefusalDelta):
            builder = self._current(type(event))
            builder.texts.append(event.text)
            if isinstance(event, TextDelta) and event.extra:
                builder.extra = merged(builder.extra, event.extra)
        elif isinstance(event, ReasoningDelta):
            self._add_reasoning(event)
        elif isinstance(event, ToolCallStart):
            builder = self._calls[event.index] = self._new(ToolCallStart)
            builder.start = event
        elif isinstance(event, ToolCallDelta):
            if (call := self._calls.get(event.index)) is not None:
                call.texts.append(event.arguments)
        elif isinstance(event, WholePart):
            self._new(WholePart).whole = event.part
        elif isinstance(event, LogprobsDelta):
            self._logprobs = event.raw if self._logprobs is None else _joined(self._logprobs, event.raw)
        elif isinstance(event, Finish):
            self._finish = event.reason
            self._stop_sequence = event.stop_sequence or self._stop_sequence
        elif isinstance(event, ExtraDelta):
            self._extra = merged(self._extra, event.fields)

    def choice(self) -> Choice:
        return Choice(
            index=self._index,
            parts=tuple(builder.part() for builder in self._parts),
            finish_reason=self._finish,
            logprobs=self._logprobs,
            stop_sequence=self._stop_sequence,
            extra=self._extra,
        )

    def _new(self, kind: type) -> _PartBuilder:
        builder = _PartBuilder(kind)
        self._parts.append(builder)
        return builder

    def _current(self, kind: type) -> _PartBuilder:
        return self._parts[-1] if self._parts and self._parts[-1].kind is kind else self._new(kind)

    def _add_reasoning(self, event: ReasoningDelta) -> None:
        builder = self._thoughts.get(event.part)
        if builder is None:
            builder = self._thoughts[event.part] = self._new(ReasoningDelta)
        builder.texts.append(event.text)
        if event.signature is not None:
            builder.signature = event.signature
        if event.encrypted is not None:
            builder.encrypted = event.encrypted
        if event.extra:
            builder.extra = merged(builder.extra, event.extra)


def merged(old: Extra, new: Extra) -> Extra:
    """See messages.ExtraDelta: lists are joined, objects merged, anything else is replaced."""
    result = dict(old)
    for name, raw in new.items():
        before = result.get(name)
        result[name] = raw if before is None else _joined(before, raw)
    return result


def _joined(old: Raw, new: Raw) -> Raw:
    opening = bytes(memoryview(old)[:1]) + bytes(memoryview(new)[:1])
    if opening == b"[[":
        return Raw(_encode(_decode_list(old) + _decode_list(new)))
    if opening != b"{{":
        return new
    fields = _decode_fields(old)
    for name, raw in _decode_fields(new).items():
        before = fields.get(name)
        if before is None:
            fields[name] = raw
        elif name in _PIECES and bytes(memoryview(before)[:1]) == bytes(memoryview(raw)[:1]) == b'"':
            fields[name] = Raw(_encode(_decode_str(before) + _decode_str(raw)))
        else:
            fields[name] = _joined(before, raw)
    return Raw(_encode(fields))


# --- Back ---------------------------------------------------------------------------------------------------------


def response_events(response: Response) -> list[Event]:
    """The events of a whole answer, one per part: a stored answer for who asked for a stream."""
    events: list[Event] = [
        Start(response.id, response.model, response.created, response.extra, response.service_tier, response.dialect)
    ]
    for choice in response.choices:
        index = choice.index
        calls = thoughts = 0
        for part in choice.parts:
            events += _part_events(part, index, calls, thoughts)
            calls += isinstance(part, ToolCall)
            thoughts += isinstance(part, Reasoning)
        if choice.logprobs is not None:
            events.append(LogprobsDelta(choice.logprobs, index))
        if choice.extra:
            events.append(ExtraDelta(choice.extra, index))
        if choice.finish_reason is not None:
            events.append(Finish(choice.finish_reason, index, choice.stop_sequence))
    if response.usage is not None:
        events.append(UsageReport(response.usage))
    return events


def _part_events(part: Part, choice: int, call: int, thought: int) -> list[Event]:
    if isinstance(part, Text):
        return [TextDelta(part.text, choice, part.extra)]
    if isinstance(part, Refusal):
        return [RefusalDelta(part.text, choice)]
    if isinstance(part, Reasoning):
        return [ReasoningDelta(part.text, choice, thought, part.signature, part.encrypted, part.extra)]
    if isinstance(part, ToolCall):
        start = ToolCallStart(call, part.id, part.name, choice, part.kind, part.extra, part.signature)
        return [start, ToolCallDelta(call, part.arguments, choice)] if part.arguments else [start]
    return [WholePart(part, choice)]
