"""A small HTTP/1.1 server that gives its handler the bytes: right answers, wrong ones, half of one, or none.

    server = RawServer(handler)          # handler(exchange): a plain function, or a coroutine function
    base = await server.start()          # "http://127.0.0.1:PORT"
    ...
    await server.stop()

Tests use it as an upstream that misbehaves to order, the sandbox and the transcript replay serve through it, and the
benchmark's mock upstream is one of its plain functions. It keeps what it received, and how each peer left.
"""

from __future__ import annotations

import asyncio
import http
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal, cast

import httptools
import msgspec

from naru.testing.watch import Watch

Headers = tuple[tuple[str, str], ...]
Left = Literal["", "fin", "reset"]

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_PIPELINED = 64
_LINGER_OFF = struct.pack("ii", 1, 0)
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}


def reset_transport(transport: asyncio.BaseTransport) -> None:
    """Closes with RST instead of FIN: a zero linger time throws away what was not sent (socket(7), SO_LINGER)."""
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    cast(asyncio.WriteTransport, transport).abort()


class Received(msgspec.Struct):
    """One request as it came. `headers` keep order and repeats, with lower-case names.

    `left` says how the peer closed before its answer was whole: "" not at all, "fin", or "reset". `sent_bytes` counts
    what was written back, head included.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    left: Left = ""
    sent_bytes: int = 0

    def header(self, name: str) -> str | None:
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


class Exchange:
    """One request and the way back. `end`, `answer`, `close` or `reset` finishes it; a handler that forgets closes."""

    __slots__ = ("_connection", "_is_chunked", "is_finished", "is_started", "keeps_alive", "received")

    def __init__(self, connection: _Connection, received: Received) -> None:
        self._connection = connection
        self.received = received
        self._is_chunked = False
        self.is_started = False
        self.is_finished = False
        self.keeps_alive = True

    @property
    def is_open(self) -> bool:
        """Whether writing still makes sense: not finished, and the peer has not left."""
        return not self.is_finished and not self._connection.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Any bytes, right or wrong, straight to the socket."""
        self.is_started = True
        self.received.sent_bytes += len(data)
        self._connection.transport.write(data)

    async def drained(self) -> None:
        """Waits until the kernel has everything written so far (so a reset after it takes nothing back)."""
        await self._connection.drained()

    async def pause(self, seconds: float = 0.0) -> None:
        """Lets others run; 0 is one turn of the event loop, enough for a peer in it to read what was written."""
        await asyncio.sleep(seconds)

    def start(self, status: int = 200, headers: Headers = (), length: int | None = None) -> None:
        """Writes the head. `length` is stated as given, true or not; None means chunks."""
        self._is_chunked = length is None
        framing = ("transfer-encoding", "chunked") if length is None else ("content-length", str(length))
        self.write(head(status, (*headers, framing)))

    def send(self, data: bytes) -> None:
        """A piece of the body; one chunk, when it is chunked. An empty piece is nothing: it would end the body."""
        if data:
            self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self) -> None:
        """The body is whole; the connection stays if the peer wants it."""
        if self._is_chunked:
            self.write(b"0\r\n\r\n")
        self._finish(keeps_alive=self.keeps_alive)

    def answer(self, status: int, body: bytes, headers: Headers = (("content-type", "application/json"),)) -> None:
        """A whole answer in one write."""
        self.write(head(status, (*headers, ("content-length", str(len(body))))) + body)
        self._finish(keeps_alive=self.keeps_alive)

    def close(self) -> None:
        """FIN, wherever the answer stands."""
        self._finish(keeps_alive=False)

    def reset(self) -> None:
        """RST, wherever the answer stands."""
        if not self.is_finished:
            reset_transport(self._connection.transport)
        self._finish(keeps_alive=False)

    async def hang(self) -> None:
        """Nothing more, ever. The handler is cancelled when the peer leaves or the server stops."""
        await asyncio.get_running_loop().create_future()

    def _finish(self, *, keeps_alive: bool) -> None:
        if not self.is_finished:
            self.is_finished = True
            self._connection.finished(keeps_alive)


Handler = Callable[[Exchange], Awaitable[None] | None]


def head(status: int, headers: Headers) -> bytes:
    """A response head, the empty line included."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class RawServer:
    """Listens on loopback, hands every request to `handler`, keeps the last `kept` requests in `received`.

    A handler's exception closes its connection with RST and is raised again by `stop`. `requests`, `connections`,
    `open_connections` and `aborted` (peers that left before their answer was whole) only count.
    """

    def __init__(self, handler: Handler, *, kept: int = 1000, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.received: deque[Received] = deque(maxlen=kept)
        self.requests = 0
        self.connections = 0
        self.aborted = 0
        self.host = ""
        self.port = 0
        self.watch = Watch()
        self._failures: list[Exception] = []
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Returns the origin, such as http://127.0.0.1:40123. Port 0 takes a free one."""
        if self._server is not None:
            raise RuntimeError("this server is already started")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=4096)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def stop(self) -> None:
        """Drops every connection. Raises what handlers raised, as one group."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._open):
            connection.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.watch.until(lambda: not self._open)
        await server.wait_closed()
        failures, self._failures = self._failures, []
        if failures:
            raise ExceptionGroup("a handler failed", failures)

    def drop_connections(self) -> None:
        """RST on every open connection, busy or idle: an upstream that died."""
        for connection in list(self._open):
            reset_transport(connection.transport)

    def opened(self, connection: _Connection) -> None:
        self.connections += 1
        self._open.add(connection)
        self.watch.changed()

    def closed(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self.watch.changed()

    def handle(self, exchange: Exchange) -> asyncio.Future[None] | None:
        """Runs the handler; returns its task when it is a coroutine."""
        self.requests += 1
        self.received.append(exchange.received)
        self.watch.changed()
        try:
            pending = self.handler(exchange)
        except Exception as error:  # any handler, any mistake: kept for stop()
            self._failures.append(error)
            exchange.reset()
            return None
        if pending is None:
            return None
        task = asyncio.ensure_future(pending)
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(exchange, task))
        return task

    def _ended(self, exchange: Exchange, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self._failures.append(error)
            exchange.reset()
        elif not exchange.is_finished:
            exchange.close()  # forgotten, or the peer left: `left` says which


class _Connection(asyncio.Protocol):
    """One peer: parses requests, answers them one after the other, notices how the peer leaves."""

    transport: asyncio.Transport

    def __init__(self, server: RawServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._task: asyncio.Future[None] | None = None
        self._head_bytes = 0
        self._is_in_head = False
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._received: Received | None = None
        self._resumed: asyncio.Future[None] | None = None
        self._is_lost = False

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self.transport.set_write_buffer_limits(high=0)  # "drained" then means: the kernel has it
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            self._refuse(400)
            return
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)

    def eof_received(self) -> bool:
        self._left("fin")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if exc is not None:
            self._left("reset")
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_exception(ConnectionResetError("the peer left"))
            self._resumed.exception()  # a handler that was cancelled never fetches it
        if self._task is not None:
            self._task.cancel()
        self._queue.clear()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._resumed = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)
        self._resumed = None

    async def drained(self) -> None:
        if self._is_lost:
            raise ConnectionResetError("the peer left")
        if self._resumed is not None:
            await self._resumed

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._received = Received(method="", target="", headers=[])
        self._is_in_head = True
        self._body, self._body_bytes = [], 0

    def on_url(self, url: bytes) -> None:
        assert self._received is not None
        self._received.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._received is not None
        self._received.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        assert self._received is not None
        self._is_in_head = False
        self._received.method = self._parser.get_method().decode("latin-1")
        if self._current is None and (self._received.header("expect") or "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._server.max_body_bytes:
            self._refuse(413)
        else:
            self._body.append(data)

    def on_message_complete(self) -> None:
        received, self._received, self._head_bytes = self._received, None, 0
        if received is None or self.transport.is_closing():
            return
        received.body = b"".join(self._body)
        exchange = Exchange(self, received)
        exchange.keeps_alive = self._parser.should_keep_alive()
        self._queue.append(exchange)
        if len(self._queue) > MAX_PIPELINED:
            self._refuse(400)
        elif self._current is None:
            self._next()

    # --- one exchange after the other ---

    def _next(self) -> None:
        while self._current is None and self._queue and not self.transport.is_closing():
            exchange = self._current = self._queue.popleft()
            task = self._server.handle(exchange)
            if not exchange.is_finished:
                self._task = task

    def finished(self, keeps_alive: bool) -> None:
        self._current = self._task = None
        self._server.watch.changed()
        if not keeps_alive:
            self.transport.close()
        elif self._queue:
            asyncio.get_running_loop().call_soon(self._next)

    def _left(self, how: Left) -> None:
        exchange = self._current
        if exchange is not None and not exchange.received.left and not exchange.is_finished:
            exchange.received.left = how
            self._server.aborted += 1
            self._server.watch.changed()

    def _refuse(self, status: int) -> None:
        if self.transport.is_closing():
            return
        if self._current is None:
            self.transport.write(head(status, (("content-length", "0"), ("connection", "close"))))
        self.transport.close()
