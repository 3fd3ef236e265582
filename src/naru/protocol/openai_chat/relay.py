"""Same dialect: a stream passed on event by event, usage watched on the side. The hottest code of the gateway.

An event that needs nothing goes out as the bytes that came; a piece in which no event needs anything goes out as the very
object that came in. What is added or taken away: the usage chunk (for who asked, with its cost; not for who did not), a
missing [DONE], and the repairs of chunks.py.
"""

from __future__ import annotations

from msgspec import Raw

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Envelope, Pricer, Quirks
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.chunks import ChunkReader
from naru.protocol.openai_chat.errors import error_inside
from naru.protocol.openai_chat.usage import naru_fields, usage_fields
from naru.protocol.openai_chat.wire import object_head
from naru.protocol.sse import DONE, Frame, SseSplitter, write_event
from naru.protocol.tokens import estimate_tokens_bytes
from naru.protocol.wire import Fields, decode_fields, encode, is_object, raw_of


class ChatStreamRelay:
    """See dialect.StreamRelay. `usage` is an estimate (`is_estimated`) only where the caller had to be told one."""

    __slots__ = (
        "_envelope",
        "_is_usage_sent",
        "_last_chunk",
        "_price",
        "_quirks",
        "_reader",
        "_splitter",
        "error",
        "is_finished",
        "usage",
    )

    def __init__(self, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        self._envelope = envelope
        self._quirks = quirks
        self._price = price
        self._reader = ChunkReader(quirks)
        self._splitter = SseSplitter()
        self._is_usage_sent = False
        self._last_chunk = b""
        self.error: UpstreamError | None = None
        self.is_finished = False
        self.usage: Usage | None = None

    @property
    def has_content(self) -> bool:
        return self._reader.has_content

    @property
    def output_chars(self) -> int:
        return self._reader.output_chars

    def _is_over(self) -> bool:
        return self.error is not None or self.is_finished

    def feed(self, data: bytes) -> bytes:
        if self.error is not None or self.is_finished:
            return b""
        # The common piece, one whole event of plain text: nothing has to change, so nothing is built.
        if self._splitter.is_idle and data.startswith(b"data: ") and data.find(b"\n") == len(data) - 2:
            text = data[6:-2]
            if data.endswith(b"\n") and b"\r" not in data and self._reader.takes_text(text):
                self._last_chunk = text
                return data
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
        if not self._reader.is_complete:
            self.error = cut_off()
            return out
        self.is_finished = True
        return out + self._owed() + DONE

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
        """What to write for these events; None: exactly what they are. Stops at the first error and after [DONE]."""
        reader = self._reader
        changed: list[bytes] | None = None
        for place, frame in enumerate(frames):
            data = frame.data
            if data is None:
                if changed is not None:
                    changed.append(frame.raw)
                continue
            try:
                if data[0] == 0x5B and data.strip() == b"[DONE]":
                    return self._finish(frames, place, changed)
                if frame.event == b"error":
                    raise error_inside(data, self._quirks)
                passed = reader.read(data)
            except UpstreamError as error:
                self.error = error
                return b"".join(_raws(frames, place) if changed is None else changed)
            self._last_chunk = data
            if reader.chunk.usage is not None or (passed is not data and not reader.chunk.choices):
                passed = self._with_usage(passed)
            if changed is not None:
                changed.append(frame.raw if passed is data else _written(passed, frame))
            elif passed is not data:
                changed = [*_raws(frames, place), _written(passed, frame)]
        return None if changed is None else b"".join(changed)

    def _finish(self, frames: list[Frame], place: int, changed: list[bytes] | None) -> bytes | None:
        """[DONE] came. What follows it is not the caller's business."""
        self.is_finished = True
        owed = self._owed()
        if changed is None and not owed and place == len(frames) - 1:
            return None
        raws = _raws(frames, place) if changed is None else changed
        return b"".join([*raws, owed, frames[place].raw])

    def _with_usage(self, data: bytes) -> bytes:
        """A chunk that carries usage: hidden from who did not ask, else with what it cost. Empty: nothing to send."""
        reader = self._reader
        if reader.usage is None or reader.chunk.usage is None:
            return b"" if b'"usage"' in data else data  # a usage chunk whose figures could not be believed
        self.usage = reader.usage
        if not self._envelope.wants_usage:
            return data if reader.chunk.choices else b""
        fields = decode_fields(data)
        fields["usage"] = self._priced(decode_fields(fields["usage"]), reader.usage)
        self._is_usage_sent = True
        return encode(fields)

    def _priced(self, wire: Fields, usage: Usage) -> Raw:
        own = naru_fields(self._price(usage), usage.is_estimated)
        # Another Naru upstream has its own price; only ours is the caller's.
        return raw_of({**wire, "naru": {**(decode_fields(wire["naru"]) if is_object(wire.get("naru")) else {}), **own}})

    def _owed(self) -> bytes:
        """Chunks that the caller is still to get: text held back by the tag splitter, and usage nobody reported."""
        owed = b"".join(
            self._extra_chunk([{"index": index, "delta": _delta(reasoning, content), "finish_reason": None}], None)
            for index, reasoning, content in self._reader.held_back()
        )
        if self._envelope.wants_usage and not self._is_usage_sent:
            self._is_usage_sent = True
            usage = self._estimated()
            self.usage = usage
            wire = {**usage_fields(usage), "naru": naru_fields(self._price(usage), True)}
            owed += self._extra_chunk([], wire)
        return owed

    def _estimated(self) -> Usage:
        return Usage(
            input=estimate_tokens_bytes(self._envelope.input_bytes),
            output=estimate_tokens_bytes(self._reader.output_bytes),
            is_estimated=True,
        )

    def _extra_chunk(self, choices: list[dict[str, object]], usage: dict[str, object] | None) -> bytes:
        """A chunk of our own, with the id, model and time of the stream's."""
        fields: dict[str, object] = {**object_head(self._last_chunk), "choices": choices}
        if usage is not None:
            fields["usage"] = usage
        return write_event(encode(fields))


def _raws(frames: list[Frame], count: int) -> list[bytes]:
    return [frame.raw for frame in frames[:count]]


def _written(data: bytes, frame: Frame) -> bytes:
    return write_event(data, frame.event, frame.id) if data else b""


def _delta(reasoning: str, content: str) -> dict[str, str]:
    delta = {"reasoning_content": reasoning} if reasoning else {}
    if content:
        delta["content"] = content
    return delta


def cut_off() -> UpstreamBroken:
    return UpstreamBroken(
        "The provider's stream ended before the answer did. What was received is incomplete; try again.",
        code="upstream_incomplete",
    )
