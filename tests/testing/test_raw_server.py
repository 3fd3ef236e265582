"""The raw server and its scripts: every byte under control, every departure noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from naru.testing import Exchange, RawServer, Script, scripted
from naru.testing.http import Handler, reset_transport

GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\nX-One: 1\r\nx-one: 2\r\n\r\n"

Serve = Callable[[Handler], Awaitable[RawServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[RawServer] = []

    async def start(handler: Handler) -> RawServer:
        servers.append(RawServer(handler, max_body_bytes=1000))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


async def talk(server: RawServer, sent: bytes, *, ends: bool = False) -> bytes:
    """Everything the server says until it closes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)
    if ends:
        writer.write_eof()
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


def plain(exchange: Exchange) -> None:
    exchange.answer(200, b"ok", (("content-type", "text/plain"),))


async def test_a_request_is_kept_as_it_came(serve: Serve) -> None:
    server = await serve(plain)
    sent = (
        b"POST /a?b=c HTTP/1.1\r\nhost: x\r\nX-One: 1\r\nx-one: 2\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"
    )
    answer = await talk(server, sent)
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
    received = server.received[0]
    assert (received.method, received.target, received.path, received.body) == ("POST", "/a?b=c", "/a", b"abc")
    assert [value for name, value in received.headers if name == "x-one"] == ["1", "2"]
    assert received.header("X-One") == "1"
    assert received.sent_bytes == len(answer)
    assert received.left == ""


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    async def slow_first(exchange: Exchange) -> None:
        if exchange.received.target == "/1":
            await exchange.pause(0.01)
        exchange.answer(200, exchange.received.target.encode(), ())

    server = await serve(slow_first)
    sent = b"".join(
        b"GET /%d HTTP/1.1\r\nhost: x\r\n%b\r\n" % (n, b"connection: close\r\n" * (n == 3)) for n in (1, 2, 3)
    )
    answer = await talk(server, sent)
    assert [part[-2:] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"/1", b"/2", b"/3"]
    assert server.connections == 1


async def test_chunked_pieces_arrive_as_chunks(serve: Serve) -> None:
    server = await serve(scripted(Script(pieces=(b"ab", b"", b"cde"), framing="chunked", headers=())))
    answer = await talk(server, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")


async def test_a_stated_length_may_be_a_lie(serve: Serve) -> None:
    server = await serve(scripted(Script(pieces=(b"abc",), stated_length=10, ending="fin")))
    answer = await talk(server, GET)
    assert b"content-length: 10\r\n" in answer
    assert answer.endswith(b"\r\n\r\nabc")


async def test_no_framing_ends_with_the_connection(serve: Serve) -> None:
    server = await serve(scripted(Script(pieces=(b"abc",), framing="close")))
    answer = await talk(server, GET)
    assert b"content-length" not in answer
    assert answer.endswith(b"\r\n\r\nabc")


async def test_reset_after_a_piece_delivers_the_piece_first(serve: Serve) -> None:
    server = await serve(scripted(Script(pieces=(b"abc",), framing="chunked", ending="reset", headers=())))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(GET)
    assert (await reader.readuntil(b"abc")).endswith(b"3\r\nabc")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_silence_then_reset_sends_no_byte(serve: Serve) -> None:
    server = await serve(scripted(Script(is_silent=True, ending="reset")))
    with pytest.raises(ConnectionResetError):
        await talk(server, GET)
    assert server.received[0].sent_bytes == 0


@pytest.mark.parametrize("how", ["fin", "reset"])
async def test_a_peer_that_leaves_early_is_noticed(serve: Serve, how: str) -> None:
    server = await serve(scripted(Script(pieces=(b"abc",), framing="chunked", ending="hang")))
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(GET)
    await reader.readuntil(b"abc")
    if how == "fin":
        writer.close()
    else:
        reset_transport(writer.transport)
    await server.watch.until(lambda: server.aborted == 1)
    assert server.received[0].left == how
    await server.watch.until(lambda: server.open_connections == 0)


async def test_a_peer_that_leaves_after_its_answer_is_no_abort(serve: Serve) -> None:
    server = await serve(plain)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(GET)
    await reader.readuntil(b"ok")
    writer.close()
    await server.watch.until(lambda: server.open_connections == 0)
    assert server.aborted == 0


async def test_scripts_play_in_order_and_the_last_repeats(serve: Serve) -> None:
    server = await serve(scripted(Script(status=503), Script(pieces=(b"ok",))))
    answers = [await talk(server, b"GET / HTTP/1.0\r\n\r\n") for _ in range(3)]
    assert [answer[9:12] for answer in answers] == [b"503", b"200", b"200"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000, b"431"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n" + b"y" * 2000, b"413"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", b"400"),
    ],
)
async def test_what_cannot_be_taken_is_refused(serve: Serve, sent: bytes, status: bytes) -> None:
    server = await serve(plain)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n"))[9:12] == status
    writer.close()
    assert server.requests == 0


async def test_expect_continue_is_answered(serve: Serve) -> None:
    server = await serve(plain)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"a")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_failing_handler_is_raised_by_stop() -> None:
    def broken(exchange: Exchange) -> None:
        raise LookupError("mine")

    async def broken_later(exchange: Exchange) -> None:
        raise LookupError("mine too")

    for handler in (broken, broken_later):
        server = RawServer(handler)
        await server.start()
        with pytest.raises(ConnectionResetError):
            await talk(server, GET)
        with pytest.raises(ExceptionGroup) as caught:
            await server.stop()
        assert isinstance(caught.value.exceptions[0], LookupError)


async def test_stop_ends_what_hangs_and_frees_the_port() -> None:
    server = RawServer(scripted(Script(ending="hang", is_silent=True)))
    await server.start()
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(GET)
    await server.watch.until(lambda: server.requests == 1)
    await server.stop()
    assert server.open_connections == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(server.host, server.port)
    assert await reader.read() == b""
    writer.close()


async def test_drop_connections_resets_idle_ones_too(serve: Serve) -> None:
    server = await serve(plain)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    await server.watch.until(lambda: server.open_connections == 1)
    server.drop_connections()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await server.watch.until(lambda: server.open_connections == 0)


async def test_only_the_last_requests_are_kept() -> None:
    server = RawServer(plain, kept=2)
    await server.start()
    for _ in range(3):
        await talk(server, b"GET / HTTP/1.0\r\n\r\n")
    assert (len(server.received), server.requests) == (2, 3)
    await server.stop()
