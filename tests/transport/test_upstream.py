"""The upstream client against real sockets: framing, reuse, deadlines, limits, faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trustme

from naru.errors import (
    NaruError,
    Overloaded,
    UpstreamBroken,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from naru.testing.http import Exchange, RawServer
from naru.transport.connect import Connector, Origin, Proxies
from naru.transport.deadlines import Deadlines
from naru.transport.upstream import Connection, Headers, Pool, UpstreamClient

REQUEST = (b"POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: ", b"2\r\n\r\n", b"{}")


class Collect:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.is_over = False
        self.status = 0
        self.headers: Headers = []
        self.body = b""
        self.pieces = 0
        self.ends = 0
        self.error: UpstreamError | None = None
        self.done = asyncio.get_running_loop().create_future()
        self.first = asyncio.Event()

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: bytes) -> None:
        self.body += data
        self.pieces += 1
        self.first.set()
        if self.connection is not None:
            self.connection.progress(self)

    def on_end(self) -> None:
        self.ends += 1
        self.is_over = True
        self.done.set_result(None)

    def on_failure(self, error: UpstreamError) -> None:
        self.ends += 1
        self.error = error
        self.is_over = True
        self.done.set_result(None)


class Upstream:
    """A client and a raw server it talks to."""

    def __init__(self, client: UpstreamClient, server: RawServer, origin: Origin) -> None:
        self.client, self.server, self.origin = client, server, origin

    def pool(self, max_connections: int = 10) -> Pool:
        return self.client.pool(self.origin, max_connections)

    async def ask(self, first_s: float = 5, idle_s: float = 5, total_s: float = 5) -> Collect:
        sink = Collect()
        connection = await self.pool().acquire(2.0)
        connection.send(REQUEST, sink, Deadlines(self.client.loop.time(), first_s, idle_s, total_s))
        await sink.done
        return sink


Make = Callable[[Callable[[Exchange], object]], Awaitable[Upstream]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Starts a raw server with a handler and gives a client for it."""
    made: list[Upstream] = []

    async def build(handler: Callable[[Exchange], object]) -> Upstream:
        server = RawServer(handler)  # type: ignore[arg-type]
        origin = Origin.of(await server.start(), allow_private=True)
        made.append(Upstream(UpstreamClient(Connector(), write_stall_s=0.3), server, origin))
        return made[-1]

    yield build
    for upstream in made:
        await upstream.client.close()
        await upstream.server.stop()


async def test_an_answer_with_a_length(make: Make) -> None:
    """Status, headers and body arrive; the connection is kept and used again."""
    up = await make(lambda e: e.answer(200, b'{"a":1}'))
    first, second = await up.ask(), await up.ask()
    assert (first.status, first.body, second.body) == (200, b'{"a":1}', b'{"a":1}')
    assert (b"content-type", b"application/json") in first.headers
    assert (up.server.connections, up.server.requests) == (1, 2)
    assert repr(up.pool()).endswith("[busy: 0, idle: 1, waiting: 0]>")


async def test_the_request_arrives_whole(make: Make) -> None:
    """Head and body pieces are one request on the wire."""
    up = await make(lambda e: e.answer(200, b"{}"))
    await up.ask()
    received = up.server.received[0]
    assert (received.path, bytes(received.body)) == ("/x", b"{}")


async def test_chunks_arrive_as_they_are_sent(make: Make) -> None:
    """A chunked answer is pushed piece by piece, not at its end."""

    async def stream(exchange: Exchange) -> None:
        exchange.start(200)
        for piece in (b"one", b"two"):
            exchange.send(piece)
            await exchange.pause(0.01)
        exchange.end()

    sink = await (await make(stream)).ask()
    assert (sink.body, sink.pieces, sink.ends) == (b"onetwo", 2, 1)


async def test_an_answer_that_ends_with_the_connection(make: Make) -> None:
    """No length, no chunks: the FIN is the end, and the socket is not reused."""

    def answer(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall of it")
        exchange.close()

    up = await make(answer)
    sink = await up.ask()
    assert (sink.error, sink.body) == (None, b"all of it")
    assert not up.pool().idle


async def test_continue_is_not_the_answer(make: Make) -> None:
    """100 Continue and 103 Early Hints are skipped."""

    def answer(exchange: Exchange) -> None:
        exchange.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        exchange.answer(200, b"{}")

    sink = await (await make(answer)).ask()
    assert (sink.status, sink.body) == (200, b"{}")
    assert all(name != b"link" for name, _ in sink.headers)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "upstream_reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "upstream_incomplete"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "upstream_incomplete"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "upstream_invalid_response"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "upstream_invalid_response"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", "upstream_invalid_response"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
            "upstream_invalid_response",
        ),
    ],
    ids=["nothing", "short length", "no last chunk", "not http", "bad chunk", "huge head", "upgrade"],
)
async def test_a_broken_answer_is_one_error(make: Make, raw: bytes, code: str) -> None:
    """Whatever the upstream breaks, the sink hears exactly one failure and the socket is dropped."""

    def answer(exchange: Exchange) -> None:
        exchange.write(raw)
        exchange.close()

    up = await make(answer)
    sink = await up.ask()
    assert isinstance(sink.error, UpstreamBroken)
    assert (sink.error.code, sink.ends) == (code, 1)
    assert not up.pool().open


async def test_a_kept_connection_that_died_is_replaced_unseen(make: Make) -> None:
    """The upstream closes just as the connection is reused (A25): one retry on a fresh one, the caller never knows."""
    answers = iter([True, False, True])

    def answer(exchange: Exchange) -> None:
        if next(answers):
            exchange.answer(200, b"{}")
        else:
            exchange.close()

    up = await make(answer)
    await up.ask()
    sink = await up.ask()
    assert (sink.error, sink.status) == (None, 200)
    assert (up.server.connections, up.server.requests) == (2, 3)


async def test_a_fresh_connection_that_dies_is_not_retried(make: Make) -> None:
    """Only a reused connection gets the second chance; else a failing upstream would be asked twice as often."""
    up = await make(lambda e: e.close())
    sink = await up.ask()
    assert sink.error is not None
    assert up.server.requests == 1


@pytest.mark.parametrize(
    ("times", "name"),
    [({"first_s": 0.15}, "first byte"), ({"total_s": 0.15}, "total")],
)
async def test_a_silent_upstream_is_given_up(make: Make, times: dict[str, float], name: str) -> None:
    """No content in time, or the total time is up: one UpstreamTimeout, and the upstream sees the hang-up."""
    up = await make(lambda e: e.hang())
    sink = await up.ask(**times)
    assert isinstance(sink.error, UpstreamTimeout)
    assert name in sink.error.message
    await up.server.watch.until(lambda: up.server.received[0].left != "")


async def test_idle_time_counts_from_the_last_event(make: Make) -> None:
    """Silence after the first bytes ends the answer after idle_s."""

    async def stall(exchange: Exchange) -> None:
        exchange.start(200)
        exchange.send(b"one")
        await exchange.hang()

    sink = await (await make(stall)).ask(idle_s=0.15)
    assert isinstance(sink.error, UpstreamTimeout)
    assert (sink.body, "idle" in sink.error.message) == (b"one", True)


async def test_a_paused_reader_bounds_what_is_held(make: Make) -> None:
    """After `pause` at most one read arrives, however much the upstream sends; after the stall time it is given up."""

    async def flood(exchange: Exchange) -> None:
        exchange.start(200)
        while True:
            exchange.send(b"x" * 65_536)
            await exchange.drained()

    up = await make(flood)
    sink = Collect()
    connection = await up.pool().acquire(2.0)
    connection.send(REQUEST, sink, Deadlines(up.client.loop.time(), 5, 5, 5))
    await sink.first.wait()
    connection.pause(sink)
    held = len(sink.body)
    await sink.done
    assert len(sink.body) - held <= 65_536
    assert sink.error is not None
    assert sink.error.code == "client_stalled"


async def test_abort_closes_the_upstream_at_once(make: Make) -> None:
    """The sink hears nothing more; the upstream sees the connection go."""
    up = await make(lambda e: e.hang())
    sink = Collect()
    connection = await up.pool().acquire(2.0)
    connection.send(REQUEST, sink, Deadlines(up.client.loop.time(), 5, 5, 5))
    await up.server.watch.until(lambda: up.server.requests == 1)
    connection.abort(sink)
    await up.server.watch.until(lambda: up.server.received[0].left != "")
    assert sink.ends == 0
    assert not up.pool().open


async def test_a_former_sink_cannot_touch_the_connection(make: Make) -> None:
    """Once an answer is over, its sink's abort and pause do nothing to whoever uses the connection now."""
    gate = asyncio.Event()
    answers = 0

    async def second_waits(exchange: Exchange) -> None:
        nonlocal answers
        answers += 1
        if answers == 2:
            await gate.wait()
        exchange.answer(200, b"{}")

    up = await make(second_waits)
    former = await up.ask()
    assert former.connection is not None
    asking = asyncio.create_task(up.ask())
    await up.server.watch.until(lambda: up.server.requests == 2)
    former.connection.abort(former)
    former.connection.pause(former)
    gate.set()
    assert (await asking).status == 200


async def test_the_pool_is_bounded_and_waits_are_too(make: Make) -> None:
    """With every connection busy a request waits for its connect time, then gets 503 with a wait; none is leaked."""
    up = await make(lambda e: e.hang())
    pool = up.pool(max_connections=1)
    busy = await pool.acquire(1.0)
    busy.send(REQUEST, Collect(), Deadlines(up.client.loop.time(), 9, 9, 9))
    with pytest.raises(Overloaded) as caught:
        await pool.acquire(0.1)
    assert (caught.value.code, caught.value.retry_after_s) == ("upstream_pool_exhausted", 1)
    assert (len(pool.waiters), pool.connecting) == (0, 0)


async def test_waiting_requests_get_freed_connections_in_turn(make: Make) -> None:
    """50 requests over 3 connections: all answered, never more than 3 sockets, nothing left behind."""

    async def answer(exchange: Exchange) -> None:
        await exchange.pause(0.001)
        exchange.answer(200, b"{}")

    up = await make(answer)
    up.pool(max_connections=3)
    sinks = await asyncio.gather(*(up.ask() for _ in range(50)))
    assert {sink.status for sink in sinks} == {200}
    assert up.server.connections <= 3
    assert (len(up.pool().waiters), len(up.client.busy)) == (0, 0)


async def test_cancelled_waiters_hand_their_turn_on(make: Make) -> None:
    """A request cancelled while it waits neither holds a place nor swallows the wake-up."""
    release = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        await release.wait()
        exchange.answer(200, b"{}")

    up = await make(hold)
    up.pool(max_connections=1)
    tasks = [asyncio.create_task(up.ask()) for _ in range(5)]
    await up.server.watch.until(lambda: up.server.requests == 1)
    for task in tasks[1:4]:
        task.cancel()
    release.set()
    assert (await tasks[4]).status == 200
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_another_limit_of_connections_holds_at_once(make: Make) -> None:
    """A higher one lets in who waits; of a lower one idle connections are closed now, busy ones when they come free."""
    up = await make(lambda e: e.answer(200, b"{}"))
    pool = up.pool(max_connections=1)
    held = [await pool.acquire(1)]
    waiting = [asyncio.create_task(pool.acquire(5)) for _ in range(2)]
    while len(pool.waiters) < 2:
        await asyncio.sleep(0)
    up.client.keep({up.origin: 4})
    held += await asyncio.gather(*waiting)
    held.append(await pool.acquire(1))
    assert (pool.max_connections, len(pool.open)) == (4, 4)
    pool.put_back(held.pop())
    up.client.keep({up.origin: 2})
    assert (len(pool.open), len(pool.idle)) == (3, 0)
    for connection in held:
        pool.put_back(connection)
    assert (len(pool.open), len(pool.idle)) == (2, 2)
    assert up.pool() is pool


async def test_a_pool_that_is_not_wanted_ends_with_its_last_request(make: Make) -> None:
    """Idle connections close at once; who comes late is served and leaves nothing; it may be wanted again."""
    release = asyncio.Event()

    async def later(exchange: Exchange) -> None:
        await release.wait()
        exchange.answer(200, b"{}")

    up = await make(later)
    pool, idle = up.pool(), await up.pool().acquire(1)
    asked = asyncio.create_task(up.ask())
    await up.server.watch.until(lambda: up.server.requests == 1)
    pool.put_back(idle)
    up.client.keep({})
    assert (len(pool.open), up.client.pools) == (1, {up.origin: pool})
    up.client.keep({up.origin: 10})
    up.client.keep({})
    release.set()
    assert (await asked).status == 200
    await up.server.watch.until(lambda: up.server.open_connections == 0)
    up.client.keep({})
    assert up.client.pools == {}
    late, sink = await pool.acquire(1), Collect()
    late.send(REQUEST, sink, Deadlines(up.client.loop.time(), 5, 5, 5))
    await sink.done
    assert (sink.status, len(pool.open)) == (200, 0)
    assert up.pool() is not pool


async def test_closing_also_ends_requests_of_pools_that_are_gone(make: Make) -> None:
    up = await make(lambda e: e.hang())
    pool, sink = up.pool(), Collect()
    up.client.keep({})
    (await pool.acquire(1)).send(REQUEST, sink, Deadlines(up.client.loop.time(), 5, 5, 5))
    await up.client.close()
    assert sink.error is not None
    assert (sink.error.code, sink.ends) == ("upstream_closed", 1)


async def test_a_refused_connection_names_the_origin(make: Make) -> None:
    """Nothing listens there: UpstreamUnreachable, nothing was sent, another deployment may help."""
    up = await make(lambda e: e.answer(200, b"{}"))
    await up.server.stop()
    with pytest.raises(UpstreamUnreachable, match=r"Could not connect to http://127.0.0.1:\d+") as caught:
        await up.pool().acquire(1.0)
    assert (caught.value.was_sent, caught.value.is_retryable) == (False, True)


# --- Names, addresses, proxies, TLS -----------------------------------------------------------------------------------


async def lying(answers: dict[str, list[str]]) -> Callable[[str, int], Awaitable[list[str]]]:
    async def resolve(host: str, port: int) -> list[str]:
        if host not in answers:
            raise OSError(-2, "Name or service not known")
        return answers[host]

    return resolve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "fd00::1",
        "0.0.0.0",
        "fe80::1",
    ],
)
async def test_private_addresses_need_permission(address: str) -> None:
    """A public-looking name that resolves to a private address is not connected to, unless the operator allowed it."""
    connector = Connector(await lying({"api.example": [address]}))
    with pytest.raises(UpstreamUnreachable, match="allow_private") as caught:
        await connector.connect(Origin("https", "api.example", 443), asyncio.Protocol)
    assert caught.value.code == "upstream_private_address"


async def test_the_next_address_is_tried(make: Make) -> None:
    """A name with a dead and a living address answers."""
    up = await make(lambda e: e.answer(200, b"{}"))
    connector = Connector(await lying({"two.example": ["127.0.0.2", "127.0.0.1"]}))
    origin = Origin("http", "two.example", up.origin.port, allow_private=True)
    protocol = await connector.connect(origin, asyncio.Protocol)
    assert protocol is not None
    await up.server.watch.until(lambda: up.server.connections == 1)
    up.server.drop_connections()


async def test_an_unknown_name_says_so() -> None:
    """DNS failure is an UpstreamUnreachable with the name in it."""
    with pytest.raises(UpstreamUnreachable, match=r"nowhere\.example could not be resolved"):
        await Connector(await lying({})).connect(Origin("https", "nowhere.example", 443), asyncio.Protocol)


@pytest.mark.parametrize(
    ("host", "proxied"),
    [
        ("api.openai.com", True),
        ("internal.corp", False),
        ("a.internal.corp", False),
        ("notinternal.corp", True),
        ("localhost", False),
    ],
)
def test_no_proxy_names_hosts_and_their_subdomains(host: str, proxied: bool) -> None:
    """NO_PROXY matches a host and what lies below it; loopback is never proxied."""
    proxies = Proxies({"https": "http://proxy:3128"}, (".internal.corp",))
    assert (proxies.for_origin(Origin("https", host, 443)) is not None) is proxied
    assert Proxies({"https": "http://proxy:3128"}, ("*",)).for_origin(Origin("https", host, 443)) is None


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[bytes], port: int) -> None:
    """A CONNECT proxy that always connects to `port` on loopback."""
    seen.append(await reader.readuntil(b"\r\n\r\n"))
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
        except ConnectionError:
            pass  # the other side went away; so does this one
        finally:
            sink.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


async def test_connect_through_a_proxy(make: Make) -> None:
    """CONNECT host:port with credentials, then the request through the tunnel."""
    up = await make(lambda e: e.answer(200, b"{}"))
    seen: list[bytes] = []
    proxy = await asyncio.start_server(lambda r, w: tunnel(r, w, seen, up.origin.port), "127.0.0.1", 0)
    url = f"http://me:s%3Acret@127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    client = UpstreamClient(Connector(proxies=Proxies({"http": url})))
    sink = Collect()
    connection = await client.pool(Origin("http", "api.example", 8080)).acquire(2.0)
    connection.send(REQUEST, sink, Deadlines(client.loop.time(), 5, 5, 5))
    await sink.done
    assert sink.status == 200
    assert seen[0].startswith(b"CONNECT api.example:8080 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6czpjcmV0\r\n" in seen[0]
    await client.close()
    proxy.close()
    await proxy.wait_closed()


async def test_a_proxy_that_refuses_is_named() -> None:
    """The proxy's own status is in the message."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    connector = Connector(proxies=Proxies({"https": url}))
    with pytest.raises(UpstreamUnreachable, match="407"):
        await connector.connect(Origin("https", "api.example", 443), asyncio.Protocol)
    proxy.close()
    await proxy.wait_closed()


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[tuple[int, Path]]:
    """A TLS server for `localhost`, its port and the file of the authority that signed it."""
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], ca_file
    server.close()
    await server.wait_closed()


async def test_tls_with_a_known_authority(tls_server: tuple[int, Path]) -> None:
    """ca_file makes a private authority good."""
    port, ca_file = tls_server
    client = UpstreamClient(Connector(await lying({"localhost": ["127.0.0.1"]})))
    sink = Collect()
    origin = Origin("https", "localhost", port, allow_private=True, ca_file=str(ca_file))
    connection = await client.pool(origin).acquire(2.0)
    connection.send(REQUEST, sink, Deadlines(client.loop.time(), 5, 5, 5))
    await sink.done
    assert (sink.error, sink.body) == (None, b"{}")
    await client.close()


@pytest.mark.parametrize(
    ("host", "with_ca"), [("localhost", False), ("other.example", True)], ids=["unknown CA", "wrong name"]
)
async def test_tls_is_always_verified(tls_server: tuple[int, Path], host: str, with_ca: bool) -> None:
    """An unknown authority or a certificate for another name: unreachable, and the message says that it is the certificate."""
    port, ca_file = tls_server
    connector = Connector(await lying({host: ["127.0.0.1"]}))
    origin = Origin("https", host, port, allow_private=True, ca_file=str(ca_file) if with_ca else "")
    with pytest.raises(UpstreamUnreachable, match="certificate"):
        await connector.connect(origin, asyncio.Protocol)


def test_origins_must_be_http() -> None:
    """Anything but http(s) is refused when the address is read."""
    with pytest.raises(NaruError, match="is not an http"):
        Origin.of("ftp://example.com")
