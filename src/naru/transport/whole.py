"""An answer that is read whole before anybody looks at it."""

from __future__ import annotations

import asyncio

import msgspec

from naru.errors import UpstreamBroken, UpstreamError
from naru.transport.encoding import inflate
from naru.transport.upstream import Connection, Headers

MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Plain(msgspec.Struct, frozen=True):
    """A whole answer: status, headers with lower-case names, body as it came (still compressed, if it was)."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key == name), b"")

    def inflated(self) -> bytes:
        return inflate(self.body, self.header(b"content-encoding"), MAX_ANSWER_BYTES)


class PlainAnswer:
    """Sink for an answer that is read whole; `await future` for it."""

    __slots__ = ("connection", "future", "headers", "is_over", "limit", "pieces", "size", "status")

    def __init__(self, future: asyncio.Future[Plain], limit: int = MAX_ANSWER_BYTES) -> None:
        self.future = future
        self.limit = limit
        self.connection: Connection | None = None
        self.is_over = False
        self.status = 0
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self.size = 0

    def on_head(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def on_data(self, data: bytes) -> None:
        self.size += len(data)
        if self.size > self.limit:
            self.drop(UpstreamBroken(f"The upstream's answer is larger than {self.limit} bytes."))
            return
        self.pieces.append(data)
        if self.connection is not None:
            self.connection.progress(self)

    def on_end(self) -> None:
        self.is_over = True
        if not self.future.done():
            body = self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)
            self.future.set_result(Plain(self.status, self.headers, body))

    def on_failure(self, error: UpstreamError) -> None:
        self.is_over = True
        if not self.future.done():
            self.future.set_exception(error)

    def drop(self, error: UpstreamError) -> None:
        """Gives up on the answer and closes its connection."""
        if not self.is_over and self.connection is not None:
            self.connection.abort(self)
        self.on_failure(error)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if not self.is_over:
            self.is_over = True
            if self.connection is not None:
                self.connection.abort(self)
