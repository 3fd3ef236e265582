"""The upstream side: HTTP/1.1 connections on httptools, kept alive in a pool for each origin.

Push, not pull: what arrives goes straight from `buffer_updated` through the parser into a `Sink`, so a streamed chunk reaches
the client without a task switch or a queue in between. Deadlines are checked by one sweep for all connections, so that a
request costs no timer. A library client costs about 230 us a request more (design/performance.md); hence our own.

Rules for editors: a `Sink` hears `on_end` or `on_failure` exactly once, and nothing after it; a connection goes back to the
pool only when its answer was read to the end and its request was written to the end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Protocol, cast

import httptools

from naru.errors import Overloaded, UpstreamBroken, UpstreamError, UpstreamTimeout
from naru.transport.connect import ENGINE_SCHEME, Connector, Origin
from naru.transport.deadlines import Deadlines
from naru.transport.liveness import watch_peer

#: One read never delivers more than this, so pausing a reader bounds what is held for a slow client.
READ_BYTES = 64 * 1024
#: Heads past this are an attack or a fault; llhttp itself has no limit.
MAX_HEAD_BYTES = 64 * 1024
SWEEP_S = 0.1
Headers = list[tuple[bytes, bytes]]


class Sink(Protocol):
    """Receives one answer. `connection` is set when the request is sent (again); `is_over`: nobody waits any more."""

    connection: Connection | None
    is_over: bool

    def on_head(self, status: int, headers: Headers) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, error: UpstreamError) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """One socket to one origin. Created by its pool; used by one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.parser = httptools.HttpResponseParser(self)
        self.sink: Sink | None = None
        self.deadlines: Deadlines | None = None
        self.request: tuple[bytes, ...] = ()
        self.headers: Headers = []
        self.head_bytes = 0
        self.requests = 0
        #: Which of these was sent before, on another connection; 0: none.
        self.resent = 0
        self.saw_bytes = False
        self.has_head = False
        self.ends_with_eof = False
        self.is_reusable = True
        self.is_paused = False
        self.paused_at = 0.0
        self.idle_since = 0.0
        self.is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "busy" if self.sink else "idle"
        return f"<Connection {self.pool.origin} {state}, request {self.requests}>"

    # --- Requests ---------------------------------------------------------------------------------------------

    def send(self, request: tuple[bytes, ...], sink: Sink, deadlines: Deadlines) -> None:
        """Writes a whole request (head and body pieces) and lets `sink` hear the answer."""
        sink.connection = self
        self.sink = sink
        self.deadlines = deadlines
        self.request = request
        self.headers = []
        self.head_bytes = 0
        self.saw_bytes = self.has_head = self.ends_with_eof = False
        self.is_reusable = True
        self.requests += 1
        self.pool.client.busy.add(self)
        self.transport.write(b"".join(request))

    # A sink outlives its use of the connection, and by then the connection may serve someone else. So each of these names
    # the sink it acts for, and does nothing for any but the present one.

    def abort(self, sink: Sink) -> None:
        """Drops the answer and the socket at once; the sink hears nothing more."""
        if self.sink is sink:
            self.sink = None
            self._leave()
            self._close(abort=True)

    def progress(self, sink: Sink) -> None:
        """A whole event came: the first-content deadline is met and the idle time starts anew."""
        deadlines = self.deadlines
        if deadlines is not None and self.sink is sink:
            deadlines.first_at = None
            deadlines.last_progress = self.pool.client.loop.time()

    def pause(self, sink: Sink) -> None:
        """Stops reading: the client is slower than the upstream."""
        if self.sink is sink and not self.is_paused and not self.is_closed:
            self.is_paused = True
            self.paused_at = self.pool.client.loop.time()
            self.transport.pause_reading()

    def resume(self, sink: Sink) -> None:
        if self.sink is sink and self.is_paused and not self.is_closed:
            self.is_paused = False
            self.progress(sink)
            self.transport.resume_reading()

    def fail(self, error: UpstreamError) -> None:
        """The answer cannot be completed."""
        sink, self.sink = self.sink, None
        self._leave()
        self._close(abort=True)
        if sink is not None:
            sink.on_failure(error)

    # --- asyncio ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        watch_peer(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        # One buffer for all: the loop reads and calls buffer_updated before it reads for anyone else.
        return self.pool.client.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.sink is None:
            # Bytes nobody asked for: the next answer on this socket could be anything.
            self._close(abort=True)
            return
        self.saw_bytes = True
        try:
            self.parser.feed_data(self.pool.client.view[:nbytes])
        except httptools.HttpParserUpgrade:
            self.fail(UpstreamBroken("The upstream tried to switch protocols."))
        except httptools.HttpParserError:
            if not self.is_closed:
                self.fail(UpstreamBroken("The upstream did not answer in valid HTTP."))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self.pool.forget(self)
        sink, self.sink = self.sink, None
        request, deadlines = self.request, self.deadlines
        self._leave()
        if sink is None or deadlines is None:
            return
        if self.has_head and self.ends_with_eof and exc is None:
            sink.on_end()
        elif not self.saw_bytes and self.requests != self.resent and (self.requests > 1 or self.pool.is_engine):
            # The upstream closed a kept-alive connection just as it was reused (A25): not a failure of the request. An engine
            # that was killed accepts connections until the system has closed its socket; there the next process answers.
            self.pool.resend(request, sink, deadlines)
        elif self.has_head:
            sink.on_failure(
                UpstreamBroken("The upstream closed the connection in mid-answer.", code="upstream_incomplete")
            )
        else:
            sink.on_failure(
                UpstreamBroken("The upstream closed the connection without an answer.", code="upstream_reset")
            )

    # --- httptools --------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > MAX_HEAD_BYTES:
            raise ValueError("head too large")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:
            return
        self.has_head = True
        self.is_reusable = self.parser.should_keep_alive()
        if not self.is_reusable:
            self.ends_with_eof = not any(n in (b"content-length", b"transfer-encoding") for n, _ in self.headers)
        if self.sink is not None:
            self.sink.on_head(status, self.headers)

    def on_body(self, body: bytes) -> None:
        if self.sink is not None:
            self.sink.on_data(body)

    def on_message_complete(self) -> None:
        if not self.has_head:  # 100 Continue and its like: the real head is still to come
            self.headers = []
            return
        sink, self.sink = self.sink, None
        if sink is None:
            return
        self._leave()
        # An answer that came before the request was written out (A26) leaves the socket in the middle of something.
        if self.is_reusable and not self.transport.get_write_buffer_size():
            self.pool.put_back(self)
        else:
            self._close()
        sink.on_end()

    # --- inside -----------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        self.pool.client.busy.discard(self)
        self.request = ()
        self.deadlines = None
        if self.is_paused and not self.is_closed:
            self.is_paused = False
            self.transport.resume_reading()

    def _close(self, abort: bool = False) -> None:
        if not self.is_closed:
            self.is_closed = True
            self.pool.forget(self)
            if abort:
                self.transport.abort()
            else:
                self.transport.close()


class Pool:
    """The connections to one origin. At most `max_connections`; a request waits for one no longer than its connect time."""

    def __init__(self, client: UpstreamClient, origin: Origin, max_connections: int = 1000, keep_alive_s: float = 50.0):
        self.client = client
        self.origin = origin
        self.max_connections = max_connections
        #: More open connections than this are closed as they come free.
        self.room = max_connections
        self.is_let_go = False
        self.is_engine = origin.scheme == ENGINE_SCHEME
        self.keep_alive_s = keep_alive_s
        self.idle: deque[Connection] = deque()
        self.waiters: deque[asyncio.Future[None]] = deque()
        self.open: set[Connection] = set()
        self.connecting = 0

    def __repr__(self) -> str:
        busy = len(self.open) - len(self.idle)
        return f"<Pool {self.origin} [busy: {busy}, idle: {len(self.idle)}, waiting: {len(self.waiters)}]>"

    def take(self) -> Connection | None:
        """An idle connection, the most recently used first, so that the rest can grow old and close."""
        oldest = self.client.loop.time() - self.keep_alive_s
        while self.idle:
            connection = self.idle.pop()
            if connection.idle_since >= oldest and not connection.transport.is_closing():
                return connection
            connection._close()
        return None

    async def acquire(self, timeout_s: float) -> Connection:
        """An idle or a new connection. Raises Overloaded when none is free in time, UpstreamUnreachable, UpstreamTimeout."""
        try:
            async with asyncio.timeout(timeout_s):
                while (connection := self.take()) is None:
                    if len(self.open) + self.connecting < self.max_connections:
                        return await self._connect()
                    await self._wait()
                return connection
        except TimeoutError:
            if len(self.open) >= self.max_connections:
                raise Overloaded(
                    f"All {self.max_connections} connections to {self.origin.host} are in use. Try again shortly, or raise "
                    "max_connections of the provider.",
                    code="upstream_pool_exhausted",
                    retry_after_s=1,
                ) from None
            late = UpstreamTimeout(f"No connection to {self.origin.host} within {timeout_s:g} s.")
            late.was_sent = False
            raise late from None

    async def _connect(self, is_suspect: bool = False) -> Connection:
        self.connecting += 1
        try:
            connection = await self.client.connector.connect(self.origin, lambda: Connection(self), is_suspect)
        finally:
            self.connecting -= 1
            self._wake()
        self.open.add(connection)
        return connection

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = self.client.loop.create_future()
        self.waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._wake()  # the turn was ours; hand it on
            raise
        finally:
            if waiter in self.waiters:
                self.waiters.remove(waiter)

    def _wake(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def put_back(self, connection: Connection) -> None:
        if len(self.open) > self.room:
            connection._close()
            return
        connection.idle_since = self.client.loop.time()
        self.idle.append(connection)
        if self.waiters:
            self._wake()

    def forget(self, connection: Connection) -> None:
        if connection in self.open:
            self.open.discard(connection)
            if connection.sink is None and connection in self.idle:
                self.idle.remove(connection)
            self._wake()

    def resend(self, request: tuple[bytes, ...], sink: Sink, deadlines: Deadlines) -> None:
        """Once more on a fresh connection, after one died unanswered."""
        self.client.spawn(self._resend(request, sink, deadlines))

    async def _resend(self, request: tuple[bytes, ...], sink: Sink, deadlines: Deadlines) -> None:
        try:
            async with asyncio.timeout_at(min(deadlines.first_at or deadlines.total_at, deadlines.total_at)):
                connection = await self._connect(is_suspect=True)
        except TimeoutError:
            sink.on_failure(UpstreamTimeout(f"No connection to {self.origin.host} in time."))
        except UpstreamError as error:
            error.was_sent = True  # the first sending may have arrived
            sink.on_failure(error)
        else:
            if sink.is_over:
                self.put_back(connection)
            else:
                connection.send(request, sink, deadlines)
                connection.resent = connection.requests

    def allow(self, max_connections: int) -> None:
        """A new limit, at once. What is under way beyond a lower one is left alone."""
        self.max_connections = max_connections
        self.is_let_go = False
        self._make_room(max_connections)
        for _ in range(len(self.waiters)):
            self._wake()

    def let_go(self) -> None:
        """Nobody new will come: connections are closed as they come free. Who still comes, late, gets one all the same."""
        self.is_let_go = True
        self._make_room(0)

    @property
    def is_gone(self) -> bool:
        """Whether it was let go and nothing is left of it."""
        return self.is_let_go and not (self.open or self.connecting or self.waiters)

    # Of an engine that is to be stopped. Requests under way go on; whoever comes next has to connect, and so waits for the next
    # process instead of being sent to one that is about to end.

    def rest(self) -> None:
        """Idle connections are closed at once, the others as they come free."""
        self._make_room(0)

    def resume(self) -> None:
        if not self.is_let_go:
            self._make_room(self.max_connections)

    @property
    def in_use(self) -> int:
        """Connections that a request has."""
        return len(self.open) - len(self.idle)

    @property
    def wanted(self) -> int:
        """Requests that wait for a connection."""
        return self.connecting + len(self.waiters)

    @property
    def last_used(self) -> float:
        """When the latest of the idle connections came free, on the loop's clock; 0: there is none."""
        return self.idle[-1].idle_since if self.idle else 0.0

    def _make_room(self, room: int) -> None:
        self.room = room
        while self.idle and len(self.open) > room:
            self.idle.popleft()._close()

    def close(self) -> None:
        for connection in list(self.open):
            if connection.sink is None:
                connection._close()
            else:
                connection.fail(UpstreamBroken("The gateway is closing its connections.", code="upstream_closed"))


class UpstreamClient:
    """All pools of one gateway, their shared read buffer and the sweep that enforces deadlines."""

    def __init__(self, connector: Connector, write_stall_s: float = 30.0):
        self.loop = asyncio.get_running_loop()
        self.connector = connector
        self.write_stall_s = write_stall_s
        self.buffer = bytearray(READ_BYTES)
        self.view = memoryview(self.buffer)
        self.busy: set[Connection] = set()
        self.pools: dict[Origin, Pool] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._next_idle_sweep = 0.0
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def pool(self, origin: Origin, max_connections: int = 1000) -> Pool:
        pool = self.pools.get(origin)
        if pool is None:
            pool = self.pools[origin] = Pool(self, origin, max_connections)
        return pool

    def keep(self, wanted: Mapping[Origin, int]) -> None:
        """From now on connections go to these origins, so many at most to each. Other pools end with their last request."""
        for origin, pool in self.pools.items():
            if origin in wanted:
                pool.allow(wanted[origin])
            else:
                pool.let_go()
        self._drop_gone()

    def _drop_gone(self) -> None:
        self.pools = {origin: pool for origin, pool in self.pools.items() if not pool.is_gone}

    def spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [c for c in self.busy if c.deadlines is not None]:
            self._check(connection, now)
        if now >= self._next_idle_sweep:
            self._next_idle_sweep = now + 5.0
            self._close_old(now)
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)

    def _check(self, connection: Connection, now: float) -> None:
        deadlines = connection.deadlines
        assert deadlines is not None
        if connection.is_paused:
            if now - connection.paused_at >= self.write_stall_s:
                connection.fail(UpstreamBroken("The client stopped reading.", code="client_stalled"))
            elif now >= deadlines.total_at:
                connection.fail(UpstreamTimeout("The answer took longer than total_s allows."))
            return
        overdue = deadlines.overdue(now)
        if overdue is not None:
            connection.fail(
                UpstreamTimeout(f"The upstream at {connection.pool.origin.host} was too slow ({overdue} time).")
            )

    def _close_old(self, now: float) -> None:
        for pool in self.pools.values():
            while pool.idle and now - pool.idle[0].idle_since > pool.keep_alive_s:
                pool.idle.popleft()._close()
        self._drop_gone()

    async def close(self) -> None:
        self._sweeper.cancel()
        for task in list(self.tasks):
            task.cancel()
        for pool in self.pools.values():
            pool.close()
        for connection in list(self.busy):  # of pools that are gone, for requests that began before
            connection.fail(UpstreamBroken("The gateway is closing its connections.", code="upstream_closed"))
        await asyncio.sleep(0)
