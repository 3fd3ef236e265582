"""Upstreams that speak each dialect: the sandbox's behaviour behind another protocol's wire.

The server's half uses the product's own codecs, so a cell of the matrix proves that both halves of a dialect and the gateway
between them agree; that they agree with the vendor is proven by the SDKs on the client's side and by recorded traffic.
"""

from __future__ import annotations

import asyncio
from http.client import HTTPConnection, IncompleteRead
from urllib.parse import urlsplit

import msgspec

from naru.protocol.bridge import Translation, Upstream
from naru.protocol.dialect import Dialect, Quirks
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.http import Exchange, RawServer
from naru.testing.sandbox import Sandbox

PLAIN = Quirks(has_developer_role=True, thinking_replay_field="reasoning_content")


class EmulatedUpstream:
    """`await start()` gives the origin. Paths are what the dialect's provider would have."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.translation = Translation(dialect, OPENAI_CHAT)
        self.sandbox = Sandbox()
        self.server = RawServer(self._handle)
        self.sandbox_url = ""

    async def start(self) -> str:
        self.sandbox_url = await self.sandbox.start()
        return await self.server.start()

    async def stop(self) -> None:
        await self.server.stop()
        await self.sandbox.stop()

    async def _handle(self, exchange: Exchange) -> None:
        received = exchange.received
        try:
            envelope = self.dialect.read(received.body, received.target)
        except Exception as error:  # what the gateway sent is not even a request of this dialect
            exchange.answer(400, msgspec.json.encode({"error": {"message": f"emulated upstream: {error}"}}))
            return
        upstream = Upstream(envelope.model, PLAIN)
        body = self.translation.request(envelope, upstream, envelope.is_stream).body
        status, answer, is_whole = await asyncio.to_thread(self._ask_sandbox, body)
        if status != 200:
            refused = OPENAI_CHAT.decode_error(status, answer, PLAIN)
            status, answer = self.dialect.encode_error(refused)
            exchange.answer(status, answer)
        elif envelope.is_stream:
            relay = self.translation.stream(envelope, PLAIN, lambda usage: 0)
            exchange.start(200, (("content-type", self.dialect.stream_type.decode()),))
            for event in answer.split(b"\n\n"):
                exchange.send(relay.feed(event + b"\n\n"))
                await exchange.pause()
            if is_whole:
                exchange.send(relay.close())
                exchange.end()
            else:
                exchange.close()
        else:
            exchange.answer(200, self.translation.whole(answer, envelope, PLAIN).body)

    def _ask_sandbox(self, body: bytes) -> tuple[int, bytes, bool]:
        """(status, body, whether it was whole)."""
        parts = urlsplit(self.sandbox_url)
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=20)
        try:
            connection.request("POST", f"{parts.path}/chat/completions", body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read(), True
        except IncompleteRead as cut:
            return 200, cut.partial, False
        finally:
            connection.close()
