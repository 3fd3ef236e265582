"""The hot paths answered inside uvicorn's own HTTP protocol: no ASGI scope, no queues, one task and one write a request.

Everything else falls through to the plain ASGI application. These are uvicorn's internals: pyproject.toml pins its minor
version, and the contract suite runs every case through this way in and through plain ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from naru.transport.exchange import HeaderList, Listener

MAX_HEAD_BYTES = 64 * 1024
HEAD_S = 10.0
BODY_BYTES_PER_S = 1024
#: Unsent bytes past this pause the upstream.
WRITE_HIGH_BYTES = 64 * 1024

Serve = Callable[["FastExchange"], Awaitable[None]]


class _NoEvent:
    """uvicorn sets an event on every cycle when the client leaves; ours hears of it through the listener."""

    def set(self) -> None: ...


NO_EVENT = _NoEvent()


class FastExchange:
    """Stands where uvicorn keeps its cycle, so it also has the names uvicorn reads: body, more_body, response_complete …"""

    __slots__ = (
        "body", "client", "headers", "is_chunked", "is_gone", "is_refused", "keep_alive", "listener", "method", "more_body",
        "path", "protocol", "response_complete",
    )  # fmt: skip
    message_event = NO_EVENT
    #: Hot paths are matched with their query, so they have none; a request with one goes through ASGI.
    query = ""

    def __init__(self, protocol: FastProtocol, method: str, path: str, keep_alive: bool) -> None:
        self.protocol = protocol
        self.method = method
        self.path = path
        self.headers: HeaderList = protocol.headers
        self.client = protocol.client[0] if protocol.client else ""
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.response_complete = False
        self.is_gone = False
        self.is_refused = False
        self.is_chunked = False
        self.listener: Listener | None = None

    @property
    def payload(self) -> bytes:
        return bytes(self.body)

    @property
    def disconnected(self) -> bool:
        return self.is_gone

    @disconnected.setter
    def disconnected(self, value: bool) -> None:
        self.is_gone = value

    def _head(self, status: int, headers: HeaderList, framing: bytes) -> list[bytes]:
        parts = [STATUS_LINE[status]]
        for name, value in self.protocol.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(framing)
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        return parts

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        if self.is_gone or self.response_complete:
            return
        parts = self._head(status, headers, b"content-length: %d\r\n" % len(body))
        parts.append(body)
        self.protocol.transport.write(b"".join(parts))
        self._complete()

    def start(self, status: int, headers: HeaderList) -> None:
        if self.is_gone or self.response_complete:
            return
        # HTTP/1.0 has no chunks: the answer ends with the connection.
        self.is_chunked = self.protocol.parser.get_http_version() != "1.0"
        self.keep_alive = self.keep_alive and self.is_chunked
        framing = b"transfer-encoding: chunked\r\n" if self.is_chunked else b""
        self.protocol.transport.write(b"".join(self._head(status, headers, framing)))

    def write(self, data: bytes) -> None:
        if self.is_gone or not data:
            return
        self.protocol.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.is_chunked else data)

    def finish(self) -> None:
        if self.is_gone or self.response_complete:
            return
        if self.is_chunked:
            self.protocol.transport.write(b"0\r\n\r\n")
        self._complete()

    def cut(self) -> None:
        if self.is_gone or self.response_complete:
            return
        self.keep_alive = False
        if not self.is_chunked:
            self.protocol.transport.abort()  # nothing but a reset tells this from the end
        self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.listener = None
        if not self.keep_alive:
            self.protocol.transport.close()
        self.protocol.on_response_complete()


class FastProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with POSTs to `hot` answered by `serve`."""

    def __init__(self, serve: Serve, hot: frozenset[bytes], max_body_bytes: int, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self.serve_hot = serve
        self.hot = hot
        self.max_body_bytes = max_body_bytes
        self.head_bytes = 0
        #: The exchange being answered. Not `self.cycle`: a pipelined request takes that place while this one goes on.
        self.exchange: FastExchange | None = None
        #: Since when a request is being received, on the loop's clock; 0 between requests. See `is_too_slow`.
        self.receiving_since = self.loop.time()
        self.received_bytes = 0
        self.idle_since = 0.0

    def is_too_slow(self, now: float) -> bool:
        """A head after HEAD_S, or a body slower than BODY_BYTES_PER_S after that: slowloris (reliability.md B4)."""
        spent = now - self.receiving_since - HEAD_S
        return self.receiving_since > 0 and spent > 0 and self.received_bytes < spent * BODY_BYTES_PER_S

    def refuse_slow(self) -> None:
        body = b"The request took too long to arrive.\n"
        head = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)
        self.transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        super().connection_lost(exc)
        if exchange is not None and not exchange.response_complete:
            exchange.is_gone = True
            if exchange.listener is not None:
                exchange.listener.on_gone()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client will send no more. Who asked plainly may still be reading (`nc` closes its side so, reliability.md B2), and
        is answered; a stream's client that leaves looks just the same, and its upstream is to be dropped at once."""
        exchange = self.exchange
        if exchange is None or exchange.response_complete or exchange.listener is not None:
            return False
        exchange.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        # Not the parent's: the ASGI scope that it makes is made in _fall_through, for the requests that need one.
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.head_bytes = self.received_bytes = 0
        self.receiving_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        self.headers.append((name, value))
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > MAX_HEAD_BYTES:
            self._grow(0)

    def _grow(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > MAX_HEAD_BYTES:
            raise ValueError("request head too large")  # httptools turns it into an HttpParserError: 400 and close

    def _fall_through(self) -> None:
        """Hands the request to uvicorn as if this class had not been there."""
        kept = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = kept
        self.scope["headers"] = self.headers
        super().on_headers_complete()

    def on_headers_complete(self) -> None:
        parser = self.parser
        is_pipelined = self.cycle is not None and not self.cycle.response_complete
        if is_pipelined or self.url not in self.hot or parser.get_method() != b"POST" or parser.should_upgrade():
            self._fall_through()
            return
        self.exchange = FastExchange(self, "POST", self.url.decode("ascii"), parser.should_keep_alive())
        self.cycle = self.exchange  # type: ignore[assignment]
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self.received_bytes += len(body)
        exchange = self._receiving()
        if exchange is None:
            super().on_body(body)
        elif not exchange.is_refused:
            exchange.body += body
            if len(exchange.body) > self.max_body_bytes:
                # Answered before the rest is read; the connection cannot be used again.
                exchange.is_refused = True
                exchange.keep_alive = False
                self._start(exchange)

    def on_message_complete(self) -> None:
        self.receiving_since = 0.0
        exchange = self._receiving()
        if exchange is None:
            super().on_message_complete()
        elif not exchange.is_refused:
            exchange.more_body = False
            self._start(exchange)

    def _receiving(self) -> FastExchange | None:
        """The hot exchange whose body is coming in; None when the request goes to ASGI."""
        cycle: object = self.cycle
        return self.exchange if cycle is self.exchange else None

    def _start(self, exchange: FastExchange) -> None:
        task: asyncio.Task[None] = self.loop.create_task(self.serve_hot(exchange))  # type: ignore[arg-type]
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        # As the parent does, but a kept-alive connection costs no timer: the server's sweep closes the idle ones.
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self.idle_since = self.loop.time()

    def is_idle_too_long(self, now: float) -> bool:
        is_idle = self.receiving_since == 0.0 and (self.cycle is None or self.cycle.response_complete)
        return is_idle and now - self.idle_since > self.timeout_keep_alive

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.exchange is not None and self.exchange.listener is not None:
            self.exchange.listener.on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exchange is not None and self.exchange.listener is not None:
            self.exchange.listener.on_resume()


def fast_protocol(serve: Serve, hot: frozenset[bytes], max_body_bytes: int) -> Any:
    """What uvicorn's `http=` takes: a protocol factory bound to one gateway."""
    return partial(FastProtocol, serve, hot, max_body_bytes)
