"""A client that reads slowly, or not at all, must not fill the gateway's memory."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path

import pytest

from naru.testing.http import Exchange, RawServer
from naru.transport.asgi import AsgiExchange
from naru.transport.fast import FastProtocol
from tests.harness import running

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
BODY = b'{"model":"own/x","stream":true,"messages":[{"role":"user","content":"x"}]}'
MAX_HELD = 256 * 1024


async def flood(exchange: Exchange) -> None:
    """A stream without end, as fast as it is taken."""
    exchange.start(200, (("content-type", "text/event-stream"),))
    piece = CHUNK % (b"x" * 4000)
    while True:
        exchange.send(piece)
        await exchange.drained()


@pytest.mark.parametrize("way", ["fast", "asgi"])
async def test_a_client_that_does_not_read_pauses_the_upstream(tmp_path: Path, way: str) -> None:
    """At most 256 KiB are held for it, the upstream is paused, and reading on resumes it."""
    upstream = RawServer(flood)
    base = await upstream.start()
    config = f'[providers.own]\nkind="custom"\nbase_url="{base}/v1"\napi_key="x"\nallow_private=true\nprice="free"\n'
    async with running(tmp_path, config, way) as gateway:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", gateway.port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
        await loop.sock_sendall(client, head.encode() + BODY)
        busy = gateway.app._client.busy
        async with asyncio.timeout(10):
            while not any(connection.is_paused for connection in busy):
                await asyncio.sleep(0.01)
        (connection,) = busy
        assert held(way) <= MAX_HELD
        taken = upstream.received[0].sent_bytes
        async with asyncio.timeout(10):
            while upstream.received[0].sent_bytes == taken:
                await loop.sock_recv(client, 1 << 20)
        assert connection in busy
        client.close()
        async with asyncio.timeout(2):
            while busy:
                await asyncio.sleep(0.01)
    await upstream.stop()


def held(way: str) -> int:
    """Bytes written for clients and not yet taken by the kernel, over all open exchanges."""
    protocols = [o for o in gc.get_objects() if isinstance(o, FastProtocol) and o.parser is not None]
    total = sum(protocol.transport.get_write_buffer_size() for protocol in protocols)
    if way == "asgi":
        total += sum(o._held_bytes for o in gc.get_objects() if isinstance(o, AsgiExchange))
    return total
