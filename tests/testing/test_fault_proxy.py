"""The fault proxy, each fault at a time, in front of a server that echoes bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from naru.testing import FaultProxy, Faults, Watch
from naru.testing.http import reset_transport

BIG = bytes(range(256)) * 4096  # 1 MiB


class Upstream:
    """Echoes; remembers how many connections it saw and how they ended."""

    def __init__(self) -> None:
        self.port = 0
        self.ends: list[str] = []
        self.sizes: list[int] = []
        self.watch = Watch()

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.sizes.append(len(data))
                writer.write(data)
                await writer.drain()
            self.ends.append("fin")
        except ConnectionError:
            self.ends.append("reset")
        finally:
            writer.close()
            self.watch.changed()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await made.start()
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
async def proxy(upstream: Upstream) -> AsyncIterator[FaultProxy]:
    made = FaultProxy("127.0.0.1", upstream.port)
    await made.start()
    yield made
    await made.stop()
    assert made.open_connections == 0


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def peer(proxy: FaultProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    yield reader, writer
    writer.close()


async def test_without_faults_every_byte_passes_and_is_counted(proxy: FaultProxy, peer: Streams) -> None:
    reader, writer = peer
    writer.write(BIG)
    async with asyncio.timeout(10):
        assert await reader.readexactly(len(BIG)) == BIG
    assert (proxy.bytes_up, proxy.bytes_down, proxy.connections, proxy.open_connections) == (len(BIG), len(BIG), 1, 1)
    assert (proxy.links[0].bytes_up, proxy.links[0].bytes_down) == (len(BIG), len(BIG))


async def test_a_half_close_passes_and_the_answer_still_comes(
    proxy: FaultProxy, peer: Streams, upstream: Upstream
) -> None:
    reader, writer = peer
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"hello"
    await proxy.watch.until(lambda: not proxy.links[0].is_open)
    assert (proxy.links[0].client_left, proxy.links[0].upstream_left, upstream.ends) == ("fin", "fin", ["fin"])


async def test_a_clients_reset_is_seen_and_passed_on(proxy: FaultProxy, peer: Streams, upstream: Upstream) -> None:
    reader, writer = peer
    writer.write(b"hello")
    await reader.readexactly(5)
    reset_transport(writer.transport)
    await proxy.watch.until(lambda: not proxy.links[0].is_open)
    assert proxy.links[0].client_left == "reset"
    await upstream.watch.until(lambda: upstream.ends == ["reset"])


async def test_latency_delays_and_keeps_the_order(proxy: FaultProxy, peer: Streams) -> None:
    reader, writer = peer
    proxy.set(down=Faults(latency_s=0.05))
    began = asyncio.get_running_loop().time()
    for index in range(10):
        writer.write(b"%d" % index)
        await asyncio.sleep(0)
    assert await reader.readexactly(10) == b"0123456789"
    # Lower bound only; uvloop's clock ticks in whole milliseconds, and a timer may ring one early.
    assert asyncio.get_running_loop().time() - began >= 0.04


async def test_lifting_a_latency_frees_what_waits(proxy: FaultProxy, peer: Streams) -> None:
    reader, writer = peer
    proxy.set(down=Faults(latency_s=3600))
    writer.write(b"hello")
    await proxy.watch.until(lambda: proxy.bytes_up == 5)
    await proxy.heal()
    async with asyncio.timeout(5):
        assert await reader.readexactly(5) == b"hello"


async def test_bandwidth_limits_the_flow(proxy: FaultProxy, peer: Streams) -> None:
    reader, writer = peer
    proxy.set(down=Faults(bytes_per_s=100_000))
    began = asyncio.get_running_loop().time()
    writer.write(b"x" * 20_000)
    await reader.readexactly(20_000)
    assert asyncio.get_running_loop().time() - began >= 0.12  # the last write's share is waited for after it


async def test_slices_are_no_larger_than_asked(proxy: FaultProxy, peer: Streams, upstream: Upstream) -> None:
    """A peer may still read two slices at once, never a part of more than was written: so count the reads."""
    reader, writer = peer
    proxy.set(up=Faults(slice_bytes=3))
    writer.write(b"x" * 300)
    assert await reader.readexactly(300) == b"x" * 300
    assert len(upstream.sizes) >= 50


@pytest.mark.parametrize("after", [0, 1, 7])
async def test_reset_after_so_many_bytes(proxy: FaultProxy, peer: Streams, after: int) -> None:
    reader, writer = peer
    proxy.set(down=Faults(reset_after=after))
    writer.write(b"0123456789")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert proxy.links[0].bytes_down == after


@pytest.mark.parametrize("after", [0, 1, 7])
async def test_close_after_so_many_bytes(proxy: FaultProxy, peer: Streams, after: int) -> None:
    reader, writer = peer
    proxy.set(down=Faults(close_after=after))
    writer.write(b"0123456789")
    assert await reader.read() == b"0123456789"[:after]
    await proxy.watch.until(lambda: not proxy.links[0].is_open)


async def test_a_black_hole_holds_everything_and_gives_it_back(
    proxy: FaultProxy, peer: Streams, upstream: Upstream
) -> None:
    reader, writer = peer
    proxy.set(up=Faults(black_hole=True))
    writer.write(b"hello")
    writer.write_eof()
    await proxy.watch.until(lambda: proxy.links[0].client_left == "fin")
    assert (proxy.bytes_up, upstream.sizes, upstream.ends) == (0, [], [])
    proxy.set(up=Faults())
    async with asyncio.timeout(5):
        assert await reader.read() == b"hello"
    assert upstream.ends == ["fin"]


async def test_refuse_refuses_new_ones_and_leaves_open_ones(proxy: FaultProxy, peer: Streams) -> None:
    reader, writer = peer
    writer.write(b"a")
    await reader.readexactly(1)
    for _ in range(3):
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        await proxy.accept()
        _, again = await asyncio.open_connection(proxy.host, proxy.port)
        again.close()


async def test_an_upstream_that_is_not_there_resets_the_client(upstream: Upstream) -> None:
    gone = FaultProxy("127.0.0.1", upstream.port)
    await gone.start()
    dead = FaultProxy("127.0.0.1", gone.port)
    await dead.start()
    await gone.refuse()
    reader, writer = await asyncio.open_connection(dead.host, dead.port)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await dead.stop()
    await gone.stop()


async def test_drop_connections_resets_both_ends(proxy: FaultProxy, peer: Streams, upstream: Upstream) -> None:
    reader, writer = peer
    writer.write(b"a")
    await reader.readexactly(1)
    proxy.drop_connections()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    await proxy.watch.until(lambda: not proxy.links[0].is_open)


async def test_a_slow_reader_is_held_back_to_the_source(proxy: FaultProxy, peer: Streams) -> None:
    """Memory stays bounded: with its answers held, the proxy stops reading long before 16 MiB."""
    _, writer = peer
    proxy.set(up=Faults(black_hole=True))
    writer.write(b"x" * (16 * 1024 * 1024))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await writer.drain()
    reset_transport(writer.transport)
