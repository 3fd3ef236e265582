"""A TCP proxy with faults to order, for anything that listens: an upstream, Redis, PostgreSQL, the gateway itself.

    proxy = FaultProxy("127.0.0.1", upstream_port)
    host, port = await proxy.start()
    proxy.set(down=Faults(latency_s=0.2, slice_bytes=7))      # takes effect at once, on open connections too
    proxy.set(down=Faults(black_hole=True))
    await proxy.refuse()                                       # new connections: ECONNREFUSED
    await proxy.heal()
    await proxy.stop()

"up" is from the client to the upstream, "down" the way back. Bytes are never changed and never reordered.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Literal, cast

import msgspec

from naru.testing.http import Left, reset_transport
from naru.testing.watch import Watch

#: A direction stops reading its source while this much waits to be written: back pressure reaches through the proxy.
MAX_HELD_BYTES = 256 * 1024
#: Bytes leave in writes of at most this size, so that limits and changes take effect between them.
MAX_WRITE_BYTES = 64 * 1024
#: A limited bandwidth is spent in this many writes a second at least, so that it flows instead of jumping.
WRITES_PER_S = 20

Way = Literal["up", "down"]


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the bytes of one direction. The default is nothing.

    `latency_s`: seconds between a byte's arrival and its departure. `bytes_per_s`: bandwidth of each connection.
    `slice_bytes`: largest single write. `reset_after` / `close_after`: so many bytes of a connection's direction pass,
    then both its sockets are reset, or closed after what passed was delivered. `black_hole`: nothing passes, FIN and
    RST included, until it is lifted; then what was held passes.
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    reset_after: int | None = None
    close_after: int | None = None
    black_hole: bool = False

    @property
    def cut_after(self) -> int | None:
        """Bytes until the first of the two cuts, or None."""
        return min((limit for limit in (self.reset_after, self.close_after) if limit is not None), default=None)

    def room(self, passed: int) -> int:
        """The largest write allowed now, in bytes, when `passed` have gone through this connection already."""
        limits = [MAX_WRITE_BYTES]
        if self.slice_bytes is not None:
            limits.append(max(1, self.slice_bytes))
        if self.bytes_per_s is not None:
            limits.append(max(1, int(self.bytes_per_s / WRITES_PER_S)))
        if self.cut_after is not None:
            limits.append(max(0, self.cut_after - passed))
        return min(limits)


class Link(msgspec.Struct):
    """One proxied connection: bytes passed each way, and how each end left of its own accord ("", "fin", "reset")."""

    bytes_up: int = 0
    bytes_down: int = 0
    client_left: Left = ""
    upstream_left: Left = ""
    is_open: bool = True


class FaultProxy:
    """`links` keeps the last `kept` connections; `bytes_up`, `bytes_down`, `connections`, `open_connections` count all.

    `watch` wakes on every change of these: `await proxy.watch.until(lambda: proxy.links[0].client_left == "fin")`.
    """

    def __init__(self, upstream_host: str, upstream_port: int, *, kept: int = 1000) -> None:
        self.upstream = (upstream_host, upstream_port)
        self.faults: dict[Way, Faults] = {"up": Faults(), "down": Faults()}
        self.links: deque[Link] = deque(maxlen=kept)
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self.host = ""
        self.port = 0
        self.watch = Watch()
        self._holder: socket.socket | None = None
        self._listener: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], _Conversation] = {}

    @property
    def open_connections(self) -> int:
        return len(self._open)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Returns the address to connect to; port 0 takes a free one, which stays the same through `refuse`."""
        if self._holder is not None:
            raise RuntimeError("this proxy is already started")
        self._holder = _bound(host, port)
        self.host, self.port = self._holder.getsockname()[:2]
        await self.accept()
        return self.host, self.port

    async def stop(self) -> None:
        """Resets what is open and gives the port back."""
        await self.refuse()
        self.drop_connections()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def set(self, *, up: Faults | None = None, down: Faults | None = None) -> None:
        """Changes the faults of the directions given, for open connections too."""
        self.faults = {"up": up or self.faults["up"], "down": down or self.faults["down"]}
        for conversation in self._open.values():
            conversation.events.changed()

    async def heal(self) -> None:
        """No fault in either direction, and connections are accepted again."""
        self.set(up=Faults(), down=Faults())
        await self.accept()

    async def refuse(self) -> None:
        """New connections are refused; open ones live on. `_holder`, bound but not listening, keeps the port ours."""
        if self._server is not None:
            server, self._server = self._server, None
            if self._listener is not None:
                self._listener.shutdown(socket.SHUT_RDWR)  # at once: uvloop closes a listener an iteration later
            server.close()
            await asyncio.sleep(0)

    async def accept(self) -> None:
        """Undoes `refuse`."""
        if self._server is None and self._holder is not None:
            loop = asyncio.get_running_loop()
            self._listener = _bound(self.host, self.port)
            self._server = await loop.create_server(
                lambda: _End(Watch(), self._accepted), sock=self._listener, backlog=4096
            )

    def drop_connections(self) -> None:
        """RST to both ends of every open connection."""
        for conversation in self._open.values():
            conversation.reset()

    def _accepted(self, client: _End) -> None:
        conversation = _Conversation(self, client)
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._open[task] = conversation
        task.add_done_callback(self._closed)
        self.connections += 1
        self.links.append(conversation.link)
        self.watch.changed()

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task).link.is_open = False
        self.watch.changed()


class _Conversation:
    """One proxied connection. `events` wakes its two pumps on anything that may let them go on."""

    def __init__(self, proxy: FaultProxy, client: _End) -> None:
        self.link = Link()
        self.events = client.events
        self._proxy = proxy
        self._client = client
        self._upstream: _End | None = None
        client.on_left = self._client_left

    async def run(self) -> None:
        """From accept until both ends are closed."""
        loop = asyncio.get_running_loop()
        try:
            _, upstream = await loop.create_connection(lambda: _End(self.events), *self._proxy.upstream)
        except OSError:
            self.reset()  # the client had a connection, and there is nothing behind it
            return
        self._upstream = upstream
        upstream.on_left = self._upstream_left
        pumps = [
            asyncio.ensure_future(self._pump("up", self._client, upstream)),
            asyncio.ensure_future(self._pump("down", upstream, self._client)),
        ]
        try:
            for pump in asyncio.as_completed(pumps):
                if not await pump:
                    return
            self._client.transport.close()
            upstream.transport.close()
            await self.events.until(lambda: self._client.is_lost and upstream.is_lost, timeout_s=None)
        finally:
            self.reset()
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def reset(self) -> None:
        for end in (self._client, self._upstream):
            if end is not None:
                reset_transport(end.transport)

    def _client_left(self, how: Left) -> None:
        self.link.client_left = how
        self._proxy.watch.changed()

    def _upstream_left(self, how: Left) -> None:
        self.link.upstream_left = how
        self._proxy.watch.changed()

    async def _pump(self, way: Way, source: _End, sink: _End) -> bool:
        """Moves one direction. True: the source's FIN was passed on. False: the connection is over for both."""
        passed = 0
        while True:
            faults = self._proxy.faults[way]
            if faults.black_hole:
                await self._until(lambda: not self._proxy.faults[way].black_hole)
            elif source.is_lost or sink.is_lost:
                return False
            elif source.held:
                wait_s = source.held[0][0] + faults.latency_s - asyncio.get_running_loop().time()
                if wait_s > 0:
                    await self._pause(way, sink, wait_s)
                    continue
                passed += await self._pass(way, source, sink, passed)
                if faults.cut_after is not None and passed >= faults.cut_after:
                    return await self._cut(faults, source, sink)
            elif source.left:
                sink.finish()
                return True
            else:
                await self._until(lambda: bool(source.held or source.left or sink.is_lost))

    async def _pass(self, way: Way, source: _End, sink: _End, passed: int) -> int:
        """One write of what is due. Returns its size in bytes."""
        faults = self._proxy.faults[way]
        piece = source.take(faults.room(passed))
        if not piece:
            return 0
        sink.transport.write(piece)
        self._count(way, len(piece))
        await self._until(lambda: not sink.is_full or sink.is_lost)
        if faults.bytes_per_s is not None:
            await self._pause(way, sink, len(piece) / faults.bytes_per_s)
        elif faults.slice_bytes is not None:
            await asyncio.sleep(0)  # lets the peer read it by itself
        return len(piece)

    async def _cut(self, faults: Faults, source: _End, sink: _End) -> bool:
        if faults.reset_after is None or faults.reset_after != faults.cut_after:
            sink.transport.close()  # sends what is buffered, then FIN
            source.transport.close()
            await self._until(lambda: sink.is_lost and source.is_lost)
        return False

    async def _until(self, predicate: Callable[[], bool]) -> None:
        await self.events.until(predicate, timeout_s=None)

    async def _pause(self, way: Way, sink: _End, seconds: float) -> None:
        """Waits, unless the faults are changed or the sink goes away meanwhile."""
        faults = self._proxy.faults[way]
        try:
            await self.events.until(lambda: self._proxy.faults[way] is not faults or sink.is_lost, timeout_s=seconds)
        except TimeoutError:
            pass  # the whole time passed, which is what was wanted

    def _count(self, way: Way, size: int) -> None:
        if way == "up":
            self.link.bytes_up += size
            self._proxy.bytes_up += size
        else:
            self.link.bytes_down += size
            self._proxy.bytes_down += size
        self._proxy.watch.changed()


class _End(asyncio.Protocol):
    """One socket of a conversation: holds what came with its time of arrival, and remembers how the peer left."""

    transport: asyncio.Transport

    def __init__(self, events: Watch, on_made: Callable[[_End], None] | None = None) -> None:
        self.events = events
        self.held: deque[tuple[float, memoryview]] = deque()
        self.left: Left = ""
        self.is_lost = False
        self.is_full = False
        self.on_left: Callable[[Left], None] | None = None
        self._on_made = on_made
        self._held_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        if self._on_made is not None:
            self._on_made(self)

    def data_received(self, data: bytes) -> None:
        self.held.append((asyncio.get_running_loop().time(), memoryview(data)))
        self._held_bytes += len(data)
        if self._held_bytes > MAX_HELD_BYTES:
            self.transport.pause_reading()
        self.events.changed()

    def take(self, limit: int) -> bytes:
        """At most `limit` bytes of the oldest arrival."""
        if limit <= 0:
            return b""
        arrived_s, data = self.held.popleft()
        if len(data) > limit:
            self.held.appendleft((arrived_s, data[limit:]))
        piece = bytes(data[:limit])
        was_full = self._held_bytes > MAX_HELD_BYTES
        self._held_bytes -= len(piece)
        if was_full and self._held_bytes <= MAX_HELD_BYTES and not self.transport.is_closing():
            self.transport.resume_reading()
        return piece

    def finish(self) -> None:
        if not self.transport.is_closing():
            self.transport.write_eof()

    def eof_received(self) -> bool:
        self._leave("fin")
        return True  # the way back may have more to say

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if exc is not None:
            self._leave("reset")
        self.events.changed()

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        self.events.changed()

    def _leave(self, how: Left) -> None:
        if not self.left:
            self.left = how
            if self.on_left is not None:
                self.on_left(how)
        self.events.changed()


def _bound(host: str, port: int) -> socket.socket:
    """A bound TCP socket that does not listen. Two may share a port as long as only the later one listens."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
