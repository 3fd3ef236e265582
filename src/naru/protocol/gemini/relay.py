"""Same dialect: a stream passed on event by event, usage watched on the side.

Events go out as the bytes that came. What is added: the cost in the usage of the last event, and a usage record where the
upstream sent none.
"""

from __future__ import annotations

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Envelope, Pricer, Quirks
from naru.protocol.gemini.answers import AnswerReader
from naru.protocol.gemini.usage import naru_fields, usage_fields
from naru.protocol.gemini.whole import cut_off
from naru.protocol.messages import Usage
from naru.protocol.sse import Frame, SseSplitter, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import decode_fields, encode, is_object, raw_of


class GeminiStreamRelay:
    """See dialect.StreamRelay. `usage` is an estimate (`is_estimated`) only where the caller had to be told one."""

    __slots__ = ("_envelope", "_is_closed", "_is_usage_sent", "_price", "_reader", "_splitter", "error", "usage")

    def __init__(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        self._envelope = envelope
        self._price = price
        self._reader = AnswerReader(quirks)
        self._splitter = SseSplitter()
        self._is_usage_sent = False
        self._is_closed = False
        self.error: UpstreamError | None = None
        self.usage: Usage | None = None

    @property
    def has_content(self) -> bool:
        return self._reader.has_content

    @property
    def output_chars(self) -> int:
        return self._reader.output_chars

    @property
    def is_finished(self) -> bool:
        """Everything has been said: a connection that breaks afterwards takes nothing away."""
        return self.error is None and (self._is_closed or self._reader.is_complete)

    def feed(self, data: bytes) -> bytes:
        if self.error is not None or self._is_closed:
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
        if self.error is not None or self._is_closed:
            return b""
        out = b""
        try:
            frames = self._splitter.close()
            if frames and frames[0].data is not None:  # its blank line never came
                ended = write_event(frames[0].data, frames[0].event)
                changed = self._pass([Frame(frames[0].data, ended, 0, len(ended), frames[0].event)])
                out = ended if changed is None else changed
        except UpstreamError as error:
            self.error = error
        if isinstance(self.error, UpstreamBroken) or (self.error is None and not self._reader.is_complete):
            self.error = cut_off()
        if self.error is not None:
            return out
        self._is_closed = True
        return out + self._owed()

    def _pass(self, frames: list[Frame]) -> bytes | None:
        """What to write for these events; None: exactly what they are. Stops at the first error."""
        reader = self._reader
        changed: list[bytes] | None = None
        for place, frame in enumerate(frames):
            data = frame.data
            passed = data
            if data is not None:
                try:
                    reader.read(data)
                except UpstreamError as error:
                    self.error = error
                    return b"".join([each.raw for each in frames[:place]] if changed is None else changed)
                self.usage = reader.usage
                if self.usage is not None and reader.is_complete:
                    passed = self._with_cost(data, self.usage)
            if passed is not data and passed is not None:
                if changed is None:
                    changed = [each.raw for each in frames[:place]]
                changed.append(write_event(passed, frame.event, frame.id))
            elif changed is not None:
                changed.append(frame.raw)
        return None if changed is None else b"".join(changed)

    def _with_cost(self, data: bytes, usage: Usage) -> bytes:
        fields = decode_fields(data)
        raw = fields.get("usageMetadata")
        if not is_object(raw):
            return data
        self._is_usage_sent = True
        naru = naru_fields(self._price(usage), usage.is_estimated)
        fields["usageMetadata"] = raw_of({**decode_fields(raw), "naru": naru})
        return encode(fields)

    def _owed(self) -> bytes:
        """A usage record for who got none with its cost: the upstream's, or an estimate."""
        if self._is_usage_sent:
            return b""
        if self.usage is None:
            self.usage = Usage(
                input=estimate_tokens_bytes(self._envelope.input_bytes),
                output=estimate_tokens_bytes(self._reader.output_bytes),
                is_estimated=True,
            )
        wire = {**usage_fields(self.usage), "naru": naru_fields(self._price(self.usage), self.usage.is_estimated)}
        head = {"modelVersion": self._reader.model or self._envelope.model, "responseId": self._reader.answer_id}
        return write_event(encode({"usageMetadata": wire, **head}))
