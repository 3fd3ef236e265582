"""Events to a Gemini stream, for a caller who speaks Gemini to a model that does not.

The common event, a piece of text, is put together from bytes prepared once. A call goes out whole, as Gemini sends them, so
its pieces are kept until its choice ends; the last event has the finish reasons and the usage.
"""

from __future__ import annotations

from typing import Any

from naru.protocol.dialect import Envelope, Pricer
from naru.protocol.gemini.candidates import malformed_fields, part_fields, reason_of
from naru.protocol.gemini.logprobs import google_form
from naru.protocol.gemini.parts import Out, thought_fields
from naru.protocol.gemini.usage import naru_fields, usage_fields
from naru.protocol.gemini.wire import NAME, rfc3339
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    FinishReason,
    LogprobsDelta,
    Reasoning,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.sse import write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import decode_str, encode


class _ChoiceState:
    """`calls` are those not yet written, by their index."""

    __slots__ = ("calls", "finish", "has_parts", "head", "malformed", "texts")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.calls: dict[int, ToolCallStart] = {}
        self.texts: dict[int, list[str]] = {}
        self.malformed: list[ToolCall] = []
        self.finish: FinishReason | None = None
        self.has_parts = False


class GeminiStreamEncoder:
    """See dialect.StreamEncoder. `close` writes the last event; after an error, don't call it."""

    __slots__ = (
        "_choices",
        "_envelope",
        "_extra",
        "_head",
        "_output_bytes",
        "_owns_extra",
        "_price",
        "_tail",
        "_tier",
        "_usage",
    )

    def __init__(self, envelope: Envelope, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._choices: dict[int, _ChoiceState] = {}
        self._head: Out = {"modelVersion": envelope.model, "responseId": ""}
        self._extra: Out = {}  # of the answer, not yet written
        self._owns_extra = False
        self._tier: str | None = None
        self._usage: Usage | None = None
        self._output_bytes = 0
        self._tail = self._text_tail()

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            state = self._choices.get(event.choice) or self._begin(event.choice)
            if self._extra or (event.extra and self._owns_extra) or not event.text:
                return self._text(event, state)
            self._count(event.text)
            state.has_parts = True
            return b"%b%b%b" % (state.head, encode(event.text), self._tail)
        if isinstance(event, Start):
            return self._start(event)
        if isinstance(event, UsageReport):
            self._usage = event.usage
            return b""
        if isinstance(event, ExtraDelta) and event.choice is None:
            if self._owns_extra:
                tier = event.fields.get("service_tier")
                self._tier = self._tier if tier is None else decode_str(tier)
                self._extra |= {name: raw for name, raw in event.fields.items() if name != "service_tier"}
            return b""
        return self._other(event)

    def close(self) -> bytes:
        out = b"".join(self._flush_calls(index, state) for index, state in self._choices.items())
        usage = self._usage or Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._output_bytes),
            is_estimated=True,
        )
        wire = {**usage_fields(usage, self._tier), "naru": naru_fields(self._price(usage), usage.is_estimated)}
        last = [self._last(index, state) for index, state in self._choices.items()]
        is_blocked = "promptFeedback" in self._extra and not any(state.has_parts for state in self._choices.values())
        fields: Out = {"candidates": last} if last and not is_blocked else {}
        return out + self._written({**fields, "usageMetadata": wire})

    def _last(self, index: int, state: _ChoiceState) -> Out:
        # Google's last event holds an empty text where all has been said (A6.4).
        fields: Out = {"content": {"parts": [{"text": ""}], "role": "model"}, "index": index}
        if state.finish is not None:
            fields["finishReason"] = reason_of(state.finish)
        return {**fields, **malformed_fields(state.malformed)}

    def _start(self, event: Start) -> bytes:
        self._owns_extra = event.dialect == NAME
        self._tier = event.service_tier
        self._head = {"modelVersion": event.model or self._envelope.model, "responseId": event.id}
        made = rfc3339(event.created)
        if made is not None:
            self._head["createTime"] = made
        if self._owns_extra:
            self._extra = dict(event.extra)
            if "createTime" in self._extra:
                self._head["createTime"] = self._extra.pop("createTime")
        self._tail = self._text_tail()
        return b""

    def _text_tail(self) -> bytes:
        return b"}]}}],%b\n\n" % encode(self._head)[1:]

    def _begin(self, choice: int) -> _ChoiceState:
        head = b'data: {"candidates":[{"index":%d,"content":{"role":"model","parts":[{"text":' % choice
        state = self._choices[choice] = _ChoiceState(head)
        return state

    def _count(self, text: str) -> None:
        self._output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def _text(self, event: TextDelta, state: _ChoiceState) -> bytes:
        if not event.text and not (event.extra and self._owns_extra):
            return b""
        self._count(event.text)
        extra = event.extra if self._owns_extra else {}
        return self._part(event.choice, {**extra, "text": event.text}, state)

    def _part(self, choice: int, part: Any, state: _ChoiceState, **more: Any) -> bytes:
        state.has_parts = True
        return self._candidate(choice, {"content": {"parts": [part], "role": "model"}, **more})

    def _candidate(self, choice: int, fields: Out) -> bytes:
        return self._written({"candidates": [{**fields, "index": choice}]})

    def _written(self, fields: Out) -> bytes:
        extra, self._extra = self._extra, {}
        return write_event(encode({**fields, **extra, **self._head}))

    def _other(self, event: Event) -> bytes:
        choice = getattr(event, "choice", 0) or 0
        state = self._choices.get(choice) or self._begin(choice)
        if isinstance(event, ReasoningDelta):
            return self._reasoning(event, state)
        if isinstance(event, RefusalDelta):
            return self._text(TextDelta(event.text, choice), state)
        if isinstance(event, ToolCallStart):
            state.calls[event.index] = event
            state.texts[event.index] = []
        elif isinstance(event, ToolCallDelta):
            self._count(event.arguments)
            if event.index in state.texts:
                state.texts[event.index].append(event.arguments)
        elif isinstance(event, Finish):
            state.finish = event.reason
            return self._flush_calls(choice, state)
        elif isinstance(event, LogprobsDelta):
            logprobs = google_form(event.raw)
            return self._candidate(choice, {"logprobsResult": logprobs}) if logprobs and not self._owns_extra else b""
        elif isinstance(event, WholePart):
            part = part_fields(event.part, self._owns_extra)
            return b"" if part is None else self._part(choice, part, state)
        elif isinstance(event, ExtraDelta) and self._owns_extra:
            return self._candidate(choice, dict(event.fields))
        return b""

    def _reasoning(self, event: ReasoningDelta, state: _ChoiceState) -> bytes:
        if not event.text and event.signature is None and event.encrypted is None and not event.extra:
            return b""
        self._count(event.text)
        part = Reasoning(event.text, event.signature, event.encrypted, event.extra)
        return self._part(event.choice, thought_fields(part, self._owns_extra), state)

    def _flush_calls(self, choice: int, state: _ChoiceState) -> bytes:
        out: list[bytes] = []
        for index, start in sorted(state.calls.items()):
            call = ToolCall(start.id, start.name, "".join(state.texts[index]), start.kind, start.extra, start.signature)
            part = part_fields(call, self._owns_extra)
            if part is None:
                state.malformed.append(call)
            else:
                out.append(self._part(choice, part, state))
        state.calls.clear()
        state.texts.clear()
        return b"".join(out)
