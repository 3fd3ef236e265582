"""Upstream answers on their way to a client.

A plain one is read whole (transport/whole.py). `StreamAnswer` is the sink for a stream: it holds back until the first content,
so that a failure before it can go to another deployment; from then on bytes go straight to the client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from naru.errors import NaruError, UpstreamBroken, UpstreamError
from naru.protocol.dialect import MediaRelay, StreamRelay, WholeAnswer
from naru.protocol.retry_after import retry_after
from naru.targets import Target
from naru.transport.exchange import Exchange, Listener
from naru.transport.upstream import Connection, Headers
from naru.transport.whole import MAX_ANSWER_BYTES, Plain, PlainAnswer

MAX_ERROR_BYTES = 1024 * 1024


def client_left() -> UpstreamError:
    """Ends an attempt whose client is gone; nobody sees it but the ledger."""
    return UpstreamBroken("The client left.", code="client_gone")


class Abandon:
    """Listener that drops a plain answer as soon as its client has left."""

    def __init__(self, answer: PlainAnswer) -> None:
        self.answer = answer

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        if not self.answer.is_over:
            self.answer.drop(client_left())


class Both:
    """Listener for two attempts beside each other, before either has shown anything."""

    def __init__(self, first: Listener | None) -> None:
        self._all = [] if first is None else [first]

    def join(self, other: Listener) -> None:
        self._all.append(other)

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        for each in self._all:
            each.on_gone()


class StreamAnswer:
    """Sink for a streamed answer. `await ready()` for the first content, `go_live`, then `await ended()`.

    An answer of another content type than `stream_type` is none, whatever its status."""

    __slots__ = (
        "_future", "_held", "_media", "_settle", "connection", "content_type", "error", "exchange", "headers", "is_ended",
        "is_gone", "is_over", "loop", "plain", "relay", "status", "stream_type",
    )  # fmt: skip

    def __init__(
        self,
        relay: StreamRelay,
        loop: asyncio.AbstractEventLoop,
        stream_type: bytes = b"text/event-stream",
        media: MediaRelay | None = None,
    ) -> None:
        """`media` is `relay` itself where it is one: then its stream need not be events."""
        self.relay = relay
        self.loop = loop
        self.stream_type = stream_type.partition(b";")[0]
        self._media = media
        self.content_type = b""
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.plain: PlainAnswer | None = None
        self.status = 0
        self.headers: Headers = []
        self.error: NaruError | None = None
        self.is_over = False
        self.is_ended = False
        self.is_gone = False
        self._held: list[bytes] = []
        self._settle: Callable[[], object] | None = None
        self._future: asyncio.Future[Plain | None] = loop.create_future()

    # --- Sink ---------------------------------------------------------------------------------------------------

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self.content_type = kind = next((value for name, value in headers if name == b"content-type"), b"")
        media = self._media
        if media is None:
            is_stream, limit = kind.lower().startswith(self.stream_type), MAX_ERROR_BYTES
        else:
            is_stream, limit = media.takes(kind), MAX_ANSWER_BYTES
        if status != 200 or not is_stream:
            self.plain = PlainAnswer(self._future, limit)  # type: ignore[arg-type]
            self.plain.on_head(status, headers)

    def on_data(self, data: bytes) -> None:
        if self.plain is not None:
            self.plain.on_data(data)
            if self.plain.is_over:
                self._stop(self.error)
            return
        if self.is_over:
            return
        relay, exchange = self.relay, self.exchange
        out = relay.feed(data)
        if exchange is not None and relay.error is None:  # live, and all is well: nearly always
            if relay.is_finished:
                self._finished()
            if out:
                exchange.write(out)
                self.connection.progress(self)  # type: ignore[union-attr]
            return
        if relay.error is not None:
            self._pass_on(out)
            self._stop(relay.error)
            return
        if out:
            self._pass_on(out)

    def on_end(self) -> None:
        if self.plain is not None:
            self.is_over = True
            self.plain.on_end()
        elif not self.is_over:
            tail = self.relay.close()
            self.is_ended = True
            if self.relay.error is None:
                if self.exchange is not None:
                    self._finished()
                self._pass_on(tail)
            self._over(self.relay.error)

    def on_failure(self, error: UpstreamError) -> None:
        if self.plain is not None:
            self.is_over = True
            self.plain.on_failure(error)
        elif self.relay.is_finished:
            # Everything was said; that the socket then broke changes nothing for the client (A7).
            self.is_ended = True
            self._over(None)
        elif not self.is_over:
            self._over(error)

    # --- Listener: how the client takes it ------------------------------------------------------------------------

    def on_pause(self) -> None:
        if self.connection is not None:
            self.connection.pause(self)

    def on_resume(self) -> None:
        if self.connection is not None:
            self.connection.resume(self)

    def on_gone(self) -> None:
        self.is_gone = True
        if not self.is_over:
            self._stop(None)

    # --- The gateway's side -----------------------------------------------------------------------------------------

    async def ready(self) -> Plain | None:
        """Waits for the first content (None) or for an answer that is no stream. Raises UpstreamError."""
        plain = await self._future
        if plain is None and not self.relay.has_content:
            if self.is_gone:
                raise client_left()
            if self.error is not None:
                raise self.error
        return plain

    def go_live(self, exchange: Exchange, settle: Callable[[], object]) -> None:
        """The head has been written: from now on bytes go straight through. `settle` is called once, before what tells the
        client that the answer is complete."""
        self.exchange = exchange
        self._settle = settle
        exchange.listener = self
        if self.relay.is_finished:
            self._finished()
        exchange.write(b"".join(self._held))
        self._held.clear()
        if exchange.is_gone:
            self.on_gone()

    async def ended(self) -> None:
        """Waits for the end, whichever it is: see `error`, `is_gone`, `relay`."""
        if not self.is_over:
            self._future = self.loop.create_future()
            await self._future

    @property
    def tells_errors(self) -> bool:
        """Whether an error can be told in the stream: an event can, in the middle of sound it would be noise."""
        return self._media is None or self._media.is_events

    @property
    def last_event_at(self) -> float:
        """On the loop's clock; 0 when nothing is under way."""
        deadlines = self.connection.deadlines if self.connection is not None else None
        return 0.0 if deadlines is None else deadlines.last_progress

    def cut(self, error: NaruError) -> None:
        """Ends the stream from our side (shutdown)."""
        if not self.is_over:
            self._stop(error)

    def _finished(self) -> None:
        """The answer is whole. Without a usage something may still come (a protocol whose end is the end of the stream)."""
        if self._settle is not None and (self.is_ended or self.relay.usage is not None):
            settle, self._settle = self._settle, None
            settle()

    def _pass_on(self, out: bytes) -> None:
        if self.exchange is not None:
            if out:
                self.exchange.write(out)
                if self.connection is not None:
                    self.connection.progress(self)
            return
        if out:
            self._held.append(out)
        if self.relay.has_content:
            if self.connection is not None:
                self.connection.progress(self)
            self._wake()

    def _stop(self, error: NaruError | None) -> None:
        if self.connection is not None:
            self.connection.abort(self)
        self._over(error)

    def _over(self, error: NaruError | None) -> None:
        self.error = error
        self.is_over = True
        self._wake()

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


def typed(whole: WholeAnswer, plain: Plain) -> WholeAnswer:
    """With the upstream's own content type where the dialect leaves that to it."""
    if not whole.content_type:
        whole.content_type = plain.header(b"content-type") or b"application/octet-stream"
    return whole


def refusal(plain: Plain, target: Target, now: float) -> UpstreamError:
    """The error that an answer other than 200 stands for."""
    if 300 <= plain.status < 400:
        return UpstreamBroken(
            f"The upstream redirected (status {plain.status}); Naru never follows that. Check base_url."
        )
    error = target.dialect.decode_error(plain.status, plain.inflated(), target.deployment.quirks)
    error.retry_after_s = retry_after(plain.headers, now) or error.retry_after_s
    return error
