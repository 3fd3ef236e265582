"""Streams of the media endpoints: events passed on one by one with the usage watched, or sound as it comes."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, structs

from naru.errors import UpstreamError
from naru.protocol.dialect import Envelope, Pricer, Quirks
from naru.protocol.media.answers import heard_usage
from naru.protocol.media.read import MediaEnvelope
from naru.protocol.media.usage import read_usage, tokens_of
from naru.protocol.messages import Media, Usage
from naru.protocol.openai_chat.errors import error_inside
from naru.protocol.openai_chat.relay import cut_off
from naru.protocol.openai_chat.usage import naru_fields
from naru.protocol.sse import Frame, SseSplitter, write_event
from naru.protocol.wire import BAD_JSON, NULL, decode_fields, encode, is_null, is_object, raw_of, text_of, unreadable

EVENT_STREAM = b"text/event-stream"
SOUND_TYPES = (b"audio/", b"application/octet-stream")
#: An image of 3840 x 2160 in base64 is the largest event there is.
MAX_EVENT_BYTES = 48 * 1024 * 1024
#: transcript.text.done, speech.audio.done, image_generation.completed, image_edit.completed
_LAST = (".done", ".completed")


class _Delta(Struct, gc=False):
    content: str | None = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None


class _Event(Struct, gc=False):
    """OpenAI's events; vLLM's and SGLang's transcriptions stream in chunks like those of chat."""

    type: str = ""
    usage: Raw = NULL
    error: Raw = NULL
    delta: Raw = NULL
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Event).decode


class MediaStream:
    """See dialect.MediaRelay."""

    def __init__(self, name: str, envelope: Envelope, quirks: Quirks, price: Pricer) -> None:
        assert isinstance(envelope, MediaEnvelope)
        self._name = name
        self._envelope = envelope
        self._quirks = quirks
        self._price = price
        self._splitter = SseSplitter(MAX_EVENT_BYTES)
        self._images = 0
        self._output_bytes = 0
        self.is_events = True
        self.has_content = False
        self.is_finished = False
        self.usage: Usage | None = None
        self.error: UpstreamError | None = None

    @property
    def output_chars(self) -> int:
        return self._output_bytes

    def takes(self, content_type: bytes) -> bool:
        kind = content_type.lower()
        self.is_events = kind.startswith(EVENT_STREAM)
        return self.is_events or (self._name == "speech" and kind.startswith(SOUND_TYPES))

    def feed(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        if not self.is_events:
            self.has_content = self.has_content or bool(data)
            return data
        try:
            return self._passed(self._splitter.feed(data))
        except UpstreamError as error:
            self.error = error
            return b""

    def close(self) -> bytes:
        if self.error is not None:
            return b""
        if not self.is_events:
            self.is_finished = self.has_content
            self.error = None if self.has_content else unreadable("it is empty")
            return b""
        out = b""
        try:
            out = self._passed(self._splitter.close())
        except UpstreamError as error:
            self.error = error
        if self.error is None and not self.is_finished:
            self.error = cut_off()
        if self.usage is None and self._images:
            self.usage = self._counted()
        return out

    def _counted(self) -> Usage:
        """The images that came, and the estimate's tokens."""
        estimate = self._envelope.estimate
        assert estimate is not None
        assert estimate.media is not None
        return structs.replace(estimate, media=structs.replace(estimate.media, units=self._images, is_estimated=False))

    def _passed(self, frames: list[Frame]) -> bytes:
        """What to write for these events. An error ends it; what came before it is still written."""
        out: list[bytes] = []
        for frame in frames:
            try:
                out.append(frame.raw if frame.data is None else self._event(frame, frame.data))
            except UpstreamError as error:
                self.error = error
                break
        return b"".join(out)

    def _event(self, frame: Frame, data: bytes) -> bytes:
        if data.strip() == b"[DONE]":
            self.is_finished = True
            return frame.raw
        try:
            event = _decode(data)
        except BAD_JSON:
            raise unreadable("an event of its stream is not JSON") from None
        if frame.event == b"error" or event.type == "error" or not is_null(event.error):
            raise error_inside(data, self._quirks)
        self.has_content = True
        self._count(event)
        is_last = event.type.endswith(_LAST)
        self.is_finished = self.is_finished or is_last
        if is_last and self._name in ("images", "edits"):
            self._images += 1
        if not is_object(event.usage):
            return frame.raw
        usage = self._read(event.usage)
        return frame.raw if usage is None else self._with_cost(data, frame.event, usage)

    def _count(self, event: _Event) -> None:
        if self._name in ("transcription", "translation"):
            texts = [text_of(event.delta)] + [each.delta.content for each in event.choices or () if each.delta]
            self._output_bytes += sum(len(text.encode("utf-8", "replace")) for text in texts if text)

    def _read(self, raw: Raw) -> Usage | None:
        """The last one of a stream counts."""
        if self._name in ("transcription", "translation"):
            self.usage = heard_usage(raw, None, self._envelope, self._output_bytes)
        else:
            estimate = self._envelope.estimate
            assert estimate is not None
            assert estimate.media is not None
            units = self._images or estimate.media.units
            media = Media(estimate.media.unit, units, estimate.media.is_estimated and not self._images)
            self.usage = tokens_of(read_usage(raw), media) or self.usage
        return self.usage

    def _with_cost(self, data: bytes, name: bytes, usage: Usage) -> bytes:
        """The event, its usage with what it cost."""
        fields = decode_fields(data)
        told = decode_fields(fields["usage"])
        told["naru"] = raw_of(naru_fields(self._price(usage), usage.is_estimated))
        fields["usage"] = raw_of(told)
        return write_event(encode(fields), name)
