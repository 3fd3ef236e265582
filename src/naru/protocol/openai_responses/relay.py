"""Same dialect: answers passed on, whole or event by event, usage watched on the side.

An event that needs nothing goes out as the bytes that came. What is changed: the final event, whose usage gets its cost (and
an estimate, where the upstream reported none); and the error of a failed response, which becomes what a caller may see.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Envelope, Pricer, Quirks, WholeAnswer
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.openai_responses.decoder import ENDS, read_event
from naru.protocol.openai_responses.errors import failed_error
from naru.protocol.openai_responses.response import answer_fields
from naru.protocol.openai_responses.usage import priced_fields, usage_of_response
from naru.protocol.openai_responses.wire import StreamEvent, items_of, texts_of
from naru.protocol.sse import Frame, SseSplitter, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_object,
    raw_of,
    text_of,
    unreadable,
)

#: What begins without showing anything: until more comes, another deployment may still answer.
_SILENT_ITEMS = frozenset({"message", "reasoning"})


def relay_whole(body: bytes, quirks: Quirks) -> WholeAnswer:
    """Raises UpstreamError for garbage, and for an error reported with a status of 200."""
    if body[:1].isspace():  # DeepSeek keeps a waiting connection open with blank lines
        body = body.lstrip(b" \t\r\n")
    fields = answer_fields(body, quirks)
    usage = usage_of_response(fields)
    try:
        return WholeAnswer(body, usage, sum(map(_written, items_of(fields["output"]))))
    except BAD_JSON:
        raise unreadable("it holds a string that is no text") from None


def _written(item: Fields) -> int:
    """Characters the model wrote: text, refusals, reasoning, arguments."""
    texts = texts_of(item.get("content")) + texts_of(item.get("summary"))
    texts += [text_of(part.get("refusal")) or "" for part in items_of(item.get("content"))]
    texts += [text_of(item.get(name)) or "" for name in ("arguments", "input")]
    return sum(map(len, texts))


class ResponsesStreamRelay:
    """See dialect.StreamRelay. Reads to the end: events may follow the final one (providers.md A5.5)."""

    __slots__ = (
        "_envelope",
        "_output_bytes",
        "_price",
        "_quirks",
        "_splitter",
        "error",
        "has_content",
        "is_finished",
        "output_chars",
        "usage",
    )

    def __init__(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        self._envelope = envelope
        self._quirks = quirks
        self._price = price
        self._splitter = SseSplitter()
        self._output_bytes = 0
        self.error: UpstreamError | None = None
        self.has_content = False
        self.is_finished = False
        self.output_chars = 0
        self.usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        try:
            frames = self._splitter.feed(data)
        except UpstreamError as error:
            return self._failed(error, None)
        out = self._pass(frames)
        if out is None:
            return data if self._splitter.is_verbatim else b"".join([frame.raw for frame in frames])
        return out

    def close(self) -> bytes:
        if self._is_failed():
            return b""
        try:
            frames = self._splitter.close()
        except UpstreamError as error:
            return self._failed(error, None)
        out = b""
        if frames and frames[0].data is not None:  # an event whose blank line never came
            ended = write_event(frames[0].data, frames[0].event)
            changed = self._pass([Frame(frames[0].data, ended, 0, len(ended), frames[0].event)])
            out = ended if changed is None else changed
            self.error = cut_off() if isinstance(self.error, UpstreamBroken) else self.error
        if not self._is_over():
            self.error = cut_off()
        return out

    def _is_failed(self) -> bool:
        return self.error is not None

    def _is_over(self) -> bool:
        return self.error is not None or self.is_finished

    def _pass(self, frames: list[Frame]) -> bytes | None:
        """What to write for these events; None: exactly what they are. Stops at the first error."""
        changed: list[bytes] | None = None
        for place, frame in enumerate(frames):
            data = frame.data
            if data is None or self.is_finished or data.startswith(b"[DONE]"):
                if changed is not None:
                    changed.append(frame.raw)
                continue
            try:
                event = read_event(data, self._quirks)
                new = self._note(event, data)
            except UpstreamError as error:
                before = [each.raw for each in frames[:place]] if changed is None else changed
                return b"".join(before) + self._failed(error, frame)
            if new is None:
                if changed is not None:
                    changed.append(frame.raw)
                continue
            if changed is None:
                changed = [each.raw for each in frames[:place]]
            changed.append(write_event(new, frame.event, frame.id))
        return None if changed is None else b"".join(changed)

    def _note(self, event: StreamEvent, data: bytes) -> bytes | None:
        """Counts what the client is going to see. Returns the event's new JSON, if it needs any."""
        delta = event.delta
        if delta is not None:
            if delta:
                size = len(delta)
                self.has_content = True
                self.output_chars += size
                self._output_bytes += size if delta.isascii() else len(delta.encode("utf-8", "surrogatepass"))
            return None
        if event.type in ENDS:
            return self._end(event, data)
        if not self.has_content and event.type.startswith("response.output_item.") and event.item is not UNSET:
            try:
                item = decode_fields(event.item) if is_object(event.item) else {}
                self.has_content = text_of(item.get("type")) not in _SILENT_ITEMS or bool(_written(item))
            except BAD_JSON:
                raise unreadable("an output item that is no object") from None
        return None

    def _end(self, event: StreamEvent, data: bytes) -> bytes:
        response = event.response
        if response is UNSET or not is_object(response):
            raise unreadable("a final event without a response")
        fields = decode_fields(response)
        output = fields.get("output")
        if not self.output_chars and is_list(output):
            try:
                self.output_chars = sum(map(_written, items_of(output)))
            except BAD_JSON:
                raise unreadable("it holds a string that is no text") from None
            self._output_bytes = self.output_chars
        self.has_content = self.has_content or (is_list(output) and bool(decode_list(output)))
        self.is_finished = True
        told = fields.get("usage")
        self.usage = usage_of_response(fields)
        given = decode_fields(told) if self.usage is not None and is_object(told) else None
        usage = self.usage = self.usage or self._estimated()
        fields["usage"] = raw_of(priced_fields(usage, self._price(usage), given))
        return encode({**decode_fields(data), "response": fields})

    def _estimated(self) -> Usage:
        return Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._output_bytes),
            is_estimated=True,
        )

    def _failed(self, error: UpstreamError, frame: Frame | None) -> bytes:
        """After the first content a failed response is told as such, its error in the gateway's words: Codex reads its code
        there, and the identity of the response is the stream's own."""
        if self.is_finished:
            return b""  # the answer is whole; what follows it is nobody's business
        self.error = error
        if frame is None or frame.data is None:
            return b""
        try:
            event = decode_fields(frame.data)
            response = decode_fields(event["response"]) if is_object(event.get("response")) else {}
        except BAD_JSON:
            return b""
        usage = usage_of_response(response)
        self.usage = self.usage if usage is None else usage
        if not self.has_content or event.get("type") != _FAILED:
            return b""
        response["error"] = raw_of(failed_error(error))
        return write_event(encode({**event, "response": response}), frame.event, frame.id)


_FAILED = Raw(b'"response.failed"')
