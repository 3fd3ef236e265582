"""The hot paths over plain ASGI, for any server: hypercorn, granian, uvicorn without our protocol, a test client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from naru.transport.exchange import HeaderList, Listener

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Serve = Callable[["AsgiExchange"], Awaitable[None]]

#: Bytes written but not yet taken by the server: past this the upstream is paused, below half of it resumed.
HIGH_BYTES = 64 * 1024


class AsgiExchange:
    """Collects what the gateway writes; `pump` sends it, one awaited message at a time, until the end or a cut."""

    def __init__(self, scope: Scope, body: bytes) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope["query_string"].decode("latin-1")
        self.headers: HeaderList = [(bytes(name), bytes(value)) for name, value in scope["headers"]]
        self.client: str = (scope.get("client") or ("",))[0]
        self.payload = body
        self.is_gone = False
        self.listener: Listener | None = None
        self._messages: list[Message] = []
        self._held_bytes = 0
        self._is_finished = False
        self._is_cut = False
        self._wakeup = asyncio.Event()

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        self._put(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*headers, (b"content-length", str(len(body)).encode())],
            }
        )
        self._put({"type": "http.response.body", "body": body, "more_body": False})
        self._is_finished = True

    def start(self, status: int, headers: HeaderList) -> None:
        self._put({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, data: bytes) -> None:
        if data and not self.is_gone:
            self._held_bytes += len(data)
            self._put({"type": "http.response.body", "body": data, "more_body": True})
            if self._held_bytes > HIGH_BYTES and self.listener is not None:
                self.listener.on_pause()

    def finish(self) -> None:
        if not self._is_finished:
            self._put({"type": "http.response.body", "body": b"", "more_body": False})
            self._is_finished = True

    def cut(self) -> None:
        # ASGI has no word for it: an application that returns in mid-answer has its connection closed.
        self._is_cut = True
        self._wakeup.set()

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._wakeup.set()

    async def pump(self, send: Send) -> None:
        """Sends until the answer is finished or the client is gone."""
        while not self.is_gone:
            messages, self._messages = self._messages, []
            for message in messages:
                await send(message)
                self._sent(len(message.get("body", b"")))
            if (self._is_finished or self._is_cut) and not self._messages:
                return
            if not self._messages:
                self._wakeup.clear()
                await self._wakeup.wait()

    def _sent(self, size: int) -> None:
        before = self._held_bytes
        self._held_bytes -= min(size, self._held_bytes)
        if before > HIGH_BYTES // 2 >= self._held_bytes and self.listener is not None:
            self.listener.on_resume()

    def gone(self) -> None:
        self.is_gone = True
        self._wakeup.set()
        if self.listener is not None:
            self.listener.on_gone()


async def serve_asgi(serve: Serve, scope: Scope, receive: Receive, send: Send, max_body_bytes: int) -> None:
    """One hot request: reads the body (one byte past the limit is enough to refuse it), serves, watches for a hang-up."""
    body = await _read_body(receive, max_body_bytes)
    if body is None:
        return
    exchange = AsgiExchange(scope, body)
    serving = asyncio.ensure_future(serve(exchange))
    watching = asyncio.ensure_future(_watch(receive, exchange))
    try:
        await exchange.pump(send)
        await serving
    finally:
        watching.cancel()
        if not serving.done():
            serving.cancel()


async def _read_body(receive: Receive, max_body_bytes: int) -> bytes | None:
    pieces = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces += message.get("body", b"")
        if not message.get("more_body", False) or len(pieces) > max_body_bytes:
            return bytes(pieces)


async def _watch(receive: Receive, exchange: AsgiExchange) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass  # more of a body that was refused
    exchange.gone()
