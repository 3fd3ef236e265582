"""Streams of text completions. A chunk of them is a chat chunk whose delta is a text, so what watches chat streams for
content, usage, errors and the end watches these too; only reading and naming differ."""

from __future__ import annotations

from typing import Any

import msgspec

from naru.protocol.dialect import Envelope, Pricer, Quirks
from naru.protocol.messages import (
    Event,
    ExtraDelta,
    Finish,
    LogprobsDelta,
    ReasoningDelta,
    RefusalDelta,
    Start,
    TextDelta,
    Usage,
    UsageReport,
)
from naru.protocol.openai_chat.chunks import ChunkReader
from naru.protocol.openai_chat.decoder import ChatStreamDecoder
from naru.protocol.openai_chat.relay import ChatStreamRelay
from naru.protocol.openai_chat.response import finish_of
from naru.protocol.openai_chat.usage import naru_fields, usage_fields
from naru.protocol.openai_chat.wire import Chunk, ChunkChoice, Delta
from naru.protocol.openai_completions.logprobs import listed_form, shared_form
from naru.protocol.openai_completions.response import CHOICE_KEYS, choice_fields
from naru.protocol.openai_completions.wire import NAME, OBJECT, read_answer
from naru.protocol.sse import DONE, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import decode_fields, decode_objects, encode, is_null, rest_of, text_of


class TextReader(ChunkReader):
    """See ChunkReader: `chunk` shows each chunk as if chat had sent it."""

    __slots__ = ()

    def read(self, data: bytes) -> bytes:
        data, answer = read_answer(data, self._quirks)
        choices = [ChunkChoice(Delta(each.text), each.index, each.finish_reason or None) for each in answer.choices]
        chunk = Chunk(choices, answer.usage)
        self._note(chunk)
        self._note_tier(chunk, data)
        return data


class TextStreamRelay(ChatStreamRelay):
    """See dialect.StreamRelay."""

    __slots__ = ()

    def __init__(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        super().__init__(envelope, quirks, price)
        self._reader = TextReader(quirks)


class TextStreamDecoder(ChatStreamDecoder):
    """See dialect.StreamDecoder."""

    __slots__ = ()

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(quirks)
        self._reader = TextReader(quirks)

    def _chunk(self, data: bytes, events: list[Event]) -> None:
        fields = decode_fields(data)
        at = len(events)
        self._start(fields, events)
        events[at:] = [_ours(event) for event in events[at:]]
        chunk = self._reader.chunk
        for choice, raw in zip(chunk.choices, decode_objects(fields["choices"]), strict=True):
            index = choice.index
            if thinking := text_of(raw.get("reasoning_content")):
                events.append(ReasoningDelta(thinking, index))
            if choice.delta.content:
                events.append(TextDelta(choice.delta.content, index))
            if extra := rest_of(raw, CHOICE_KEYS):
                events.append(ExtraDelta(extra, index))
            logprobs = raw.get("logprobs")
            if logprobs is not None and not is_null(logprobs) and (shared := shared_form(logprobs)) is not None:
                events.append(LogprobsDelta(shared, index))
            if choice.finish_reason is not None:
                events.append(Finish(finish_of(choice.finish_reason), index))
        if chunk.usage is not None and self._reader.usage is not None:
            events.append(UsageReport(self._reader.usage))


def _ours(event: Event) -> Event:
    return msgspec.structs.replace(event, dialect=NAME) if isinstance(event, Start) else event


class TextStreamEncoder:
    """See dialect.StreamEncoder. `close` writes the usage chunk, if asked for, and [DONE]; after an error, don't call it.

    What is no text (tool calls, media) was never asked for and has no place here.
    """

    __slots__ = ("_envelope", "_head", "_offsets", "_output_bytes", "_owns_extra", "_price", "_tail", "_usage")

    def __init__(self, envelope: Envelope, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._head: dict[str, Any] = {"id": "", "object": OBJECT, "created": 0, "model": envelope.model}
        self._owns_extra = False
        #: Characters of text sent, by choice.
        self._offsets: dict[int, int] = {}
        self._output_bytes = 0
        self._usage: Usage | None = None
        self._tail = {"usage": None} if envelope.wants_usage else {}

    def event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta | RefusalDelta):
            return self._text(event.text, event.choice)
        if isinstance(event, ReasoningDelta):
            self._count(event.text)
            thinking = {"reasoning_content": event.text}
            return self._chunk({**choice_fields(event.choice, "", None), **thinking}) if event.text else b""
        if isinstance(event, Finish):
            return self._chunk(choice_fields(event.choice, "", event.reason))
        if isinstance(event, Start):
            self._start(event)
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, LogprobsDelta):
            return self._logprobs(event)
        elif isinstance(event, ExtraDelta) and self._owns_extra:
            return self._extra(event)
        return b""

    def close(self) -> bytes:
        if not self._envelope.wants_usage:
            return DONE
        usage = self._usage or Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._output_bytes),
            is_estimated=True,
        )
        wire = {**usage_fields(usage), "naru": naru_fields(self._price(usage), usage.is_estimated)}
        return write_event(encode({**self._head, "choices": [], "usage": wire})) + DONE

    def _start(self, event: Start) -> None:
        self._owns_extra = event.dialect == NAME
        extra = event.extra if self._owns_extra else {}
        told = {"id": event.id, "created": event.created, "model": event.model or self._envelope.model}
        self._head = {**extra, **self._head, **told}

    def _text(self, text: str, choice: int) -> bytes:
        if not text:
            return b""
        self._count(text)
        self._offsets[choice] = self._offsets.get(choice, 0) + len(text)
        return self._chunk(choice_fields(choice, text, None))

    def _logprobs(self, event: LogprobsDelta) -> bytes:
        """They come after their text."""
        listed = listed_form(event.raw)
        if listed is None:
            return b""
        start = self._offsets.get(event.choice, 0) - sum(map(len, listed["tokens"]))
        return self._chunk({**choice_fields(event.choice, "", None), "logprobs": listed_form(event.raw, max(start, 0))})

    def _extra(self, event: ExtraDelta) -> bytes:
        if event.choice is not None:
            return self._chunk({**event.fields, **choice_fields(event.choice, "", None)})
        self._head = {**event.fields, **{k: v for k, v in self._head.items() if k not in event.fields}}
        return b""

    def _count(self, text: str) -> None:
        self._output_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return write_event(encode({**self._head, "choices": [choice], **self._tail}))
