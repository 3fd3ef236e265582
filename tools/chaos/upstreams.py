"""What the catalogue's upstreams say: events, whole answers, handlers that choose between them, and servers below HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import httptools

from naru.testing import Exchange, Script
from naru.testing.http import Handler, Headers, head, reset_transport
from naru.testing.script import JSON_HEADERS, STREAM_HEADERS, play
from tools.chaos.client import LEAK

TEXT = "안녕 from the healthy one"
INPUT, OUTPUT = 10, 5
#: USD per million tokens of every provider here, and so nano-USD a token times 1000.
PRICE_INPUT, PRICE_OUTPUT = 3.0, 7.0
HEALTHY_COST = int(INPUT * PRICE_INPUT * 1000 + OUTPUT * PRICE_OUTPUT * 1000)
USAGE = {"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT}
DONE = b"data: [DONE]\n\n"
HTML = f"<html><body><h1>502 Bad Gateway</h1><p>{LEAK} nginx/1.2.3 at 10.1.2.3</p></body></html>".encode()
HTML_HEADERS: Headers = (("content-type", "text/html"),)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, usage: Any = None) -> dict[str, Any]:
    """One chunk; without a delta one that has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    made: dict[str, Any] = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
    }
    return made if usage is None else {**made, "usage": usage}


def event(data: dict[str, Any] | bytes) -> bytes:
    text = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
    return b"data: %b\n\n" % text


def says(text: str) -> bytes:
    return event(chunk({"content": text}))


ROLE = event(chunk({"role": "assistant", "content": ""}))
#: As far as a stream goes before it breaks: the role alone is not content, the words are.
BEGUN = (ROLE, says("some words "), says("were said "))
BEGUN_TEXT = "some words were said "
STOP = event(chunk({}, "stop"))
TOLD = event(chunk(None, usage=USAGE))
WHOLE = (ROLE, *(says(word) for word in ("안녕", " from", " the", " healthy", " one")), STOP, TOLD, DONE)


def healthy_stream(text: str = TEXT) -> Script:
    words = [says(word if place == 0 else f" {word}") for place, word in enumerate(text.split(" "))]
    return stream(ROLE, *words, STOP, TOLD, DONE)


def healthy_plain(text: str = TEXT, usage: Any = USAGE) -> Script:
    message = {"role": "assistant", "content": text}
    answer = {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip
    return Script(pieces=(json.dumps(answer, ensure_ascii=False).encode(),))


def stream(*pieces: bytes, **script: Any) -> Script:
    return Script(**{"headers": STREAM_HEADERS, "framing": "chunked", "pieces": pieces, **script})


def error_body(message: str, code: str | None = None, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


def is_streamed(exchange: Exchange) -> bool:
    return bool(json.loads(exchange.received.body).get("stream"))


def either(streamed: Script, plain: Script) -> Handler:
    """The script for the kind of answer that was asked for."""
    return lambda exchange: play(exchange, streamed if is_streamed(exchange) else plain)


def healthy() -> Handler:
    return either(healthy_stream(), healthy_plain())


def answering(status: int, body: bytes, headers: Headers = JSON_HEADERS) -> Handler:
    return lambda exchange: exchange.answer(status, body, headers)


def in_turn(*handlers: Handler) -> Handler:
    """The handlers in the order the requests come; the last one repeats."""
    left = list(handlers)
    return lambda exchange: (left.pop(0) if len(left) > 1 else left[0])(exchange)


SILENT = Script(is_silent=True, ending="hang")
RESET = Script(is_silent=True, ending="reset")


class Held:
    """A handler that answers in full, but only once `release` was called. `most` is how many it ever held at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.gate = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.gate.wait()
        finally:
            self.inside -= 1
        await play(exchange, healthy_stream() if is_streamed(exchange) else healthy_plain())

    def release(self) -> None:
        self.gate.set()


# --- Below HTTP -------------------------------------------------------------------------------------------------------


class RudeServer:
    """Answers as soon as the head has come, and never reads the body: an early 413 (A26). `taken` counts what it read."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.taken = 0
        self.closed = 0
        self._server: asyncio.Server

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.taken += len(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await asyncio.sleep(0.3)
            # Only now is looked at what still came after the answer.
            while piece := await reader.read(65536):
                self.taken += len(piece)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer dropped the connection, which is what it should do
        finally:
            self.closed += 1
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()


class TlsServer:
    """HTTP over TLS, with any certificate or context. Plain answers only. `requests` that came through the handshake."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        """Without a context: resets every connection at the first byte of the handshake."""
        self.context = context
        self.requests = 0
        self.port = 0
        self._server: asyncio.Server

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        # Quiet about handshakes that fail: they are what is wanted.
        self._server = await loop.create_server(lambda: _TlsPeer(self), "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self.port

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()


class _TlsPeer(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, server: TlsServer) -> None:
        self.server = server
        self.parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.server.context is None:
            reset_transport(self.transport)
        else:
            self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.server.requests += 1
        (body,) = healthy_plain().pieces
        self.transport.write(head(200, (*JSON_HEADERS, ("content-length", str(len(body))))) + body)


class BlackHole:
    """A port on which a connection is never made, and never refused: the queue of its listener is full (SYNs are dropped)."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._fillers: list[socket.socket] = []
        self.port = 0

    def start(self, address: str = "127.0.0.1", port: int = 0) -> int:
        self._listener.bind((address, port))
        self._listener.listen(0)
        self.port = self._listener.getsockname()[1]
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((address, self.port))
            self._fillers.append(filler)
        return self.port

    def stop(self) -> None:
        for each in (*self._fillers, self._listener):
            each.close()


Factory = Callable[[], Handler]
