"""A Gemini stream to events. What is in a piece is answers.py's; this is only the framing and the end."""

from __future__ import annotations

from naru.errors import UpstreamBroken, UpstreamError
from naru.protocol.dialect import Quirks
from naru.protocol.gemini.answers import AnswerReader
from naru.protocol.gemini.whole import cut_off
from naru.protocol.messages import Event
from naru.protocol.sse import Frame, SseSplitter


class GeminiStreamDecoder:
    """See dialect.StreamDecoder. Events that came before an error are returned; the error is raised by the next call.

    A stream ends with its connection (providers.md A6.4): whether it ended or was cut, the finish reasons tell.
    """

    __slots__ = ("_reader", "_splitter", "error")

    def __init__(self, quirks: Quirks) -> None:
        self._reader = AnswerReader(quirks)
        self._splitter = SseSplitter()
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
        if not self._reader.is_complete:
            raise cut_off()
        return events

    def _read(self, frames: list[Frame], events: list[Event]) -> None:
        for frame in frames:
            if frame.data is not None:
                events += self._reader.read(frame.data)

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            raise self.error
