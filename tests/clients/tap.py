"""What stands between a client and a gateway, or between a client and the world, and remembers what passed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httptools
import msgspec


class Sent:
    """One request of a client. `body` is its JSON, None where there is none."""

    def __init__(self, method: str, target: str, headers: dict[str, str], data: bytes) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.body: Any = msgspec.json.decode(data) if data else None


class _Reader:
    """httptools' callbacks, for requests and answers alike."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, dict[str, str], bytes]] = []
        self._target, self._data = b"", b""
        self._headers: dict[str, str] = {}

    def on_message_begin(self) -> None:
        self._target, self._data, self._headers = b"", b"", {}

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._data += data

    def on_message_complete(self) -> None:
        self.messages.append((self._target, self._headers, self._data))


class Tap:
    """A relay on a port of its own: `sent` are the requests that passed, `answers` the headers of what came back."""

    def __init__(self) -> None:
        self.port = 0
        self.sent: list[Sent] = []
        self.answers: list[dict[str, str]] = []

    @property
    def paths(self) -> set[str]:
        return {f"{sent.method} {sent.target}" for sent in self.sent}

    def dropped(self) -> set[str]:
        """What any answer's x-naru-dropped names."""
        named = (answer.get("x-naru-dropped", "") for answer in self.answers)
        return {name for names in named for name in names.split(", ") if name}

    async def relay(self, to: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", to)
        seen, told = _Reader(), _Reader()
        asked, answered = httptools.HttpRequestParser(seen), httptools.HttpResponseParser(told)

        async def up() -> None:
            await _pump(reader, upstream_writer, asked)

        async def down() -> None:
            await _pump(upstream_reader, writer, answered)

        await asyncio.gather(up(), down())
        method = asked.get_method().decode() if seen.messages else ""
        self.sent += [Sent(method, target.decode(), headers, data) for target, headers, data in seen.messages]
        self.answers += [headers for _, headers, _ in told.messages]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, parser: Any) -> None:
    try:
        while data := await reader.read(65_536):
            parser.feed_data(data)
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client was ended; what it had sent is kept
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def tapping(port: int) -> AsyncIterator[Tap]:
    """A Tap in front of the gateway at this port. Read it after the block, when all connections have ended."""
    tap = Tap()
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        await tap.relay(port, reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    tap.port = server.sockets[0].getsockname()[1]
    try:
        yield tap
        async with asyncio.timeout(10):
            await asyncio.gather(*running)
    finally:
        server.close()


class Outside:
    """Stands for the rest of the world, as an HTTP proxy that refuses: `asked` is what a client wanted of it."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readline()).decode())
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[Outside]:
    made = Outside()
    server = await asyncio.start_server(made.refuse, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
