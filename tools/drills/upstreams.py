"""Providers to be killed: each answers what it was asked word by word, behind a proxy that can die, hang or vanish."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import msgspec

from naru.testing import Exchange, FaultProxy, Faults, RawServer
from tools.drills.questions import asked_of, said_before, word

STREAM_HEADERS = (("content-type", "text/event-stream"),)
_HOLE = Faults(black_hole=True)


class Arrival(msgspec.Struct):
    """One call as the upstream saw it. Times are on the loop's clock; 0: it did not come to that. `left_at` is when the gateway
    closed the connection before the answer was whole."""

    nonce: str
    at: float
    first_at: float = 0.0
    ended_at: float = 0.0
    left_at: float = 0.0


class Upstream:
    """`delay` gives the seconds to the first content of a call, `pace_s` stands between two words."""

    def __init__(self, name: str, delay: Callable[[], float], pace_s: float = 0.0) -> None:
        self.name = name
        self.delay = delay
        self.pace_s = pace_s
        self.arrivals: list[Arrival] = []
        #: Told the nonce as soon as the first content is written.
        self.on_first: Callable[[str], None] | None = None
        self.server = RawServer(self._answer, kept=1)
        self.proxy: FaultProxy | None = None
        self.port = 0
        self._plugs: list[socket.socket] = []

    async def start(self, is_mortal: bool = True) -> None:
        """Without a proxy in front it cannot die, and costs less."""
        await self.server.start()
        self.port = self.server.port
        if is_mortal:
            self.proxy = FaultProxy(self.server.host, self.server.port, kept=1)
            _, self.port = await self.proxy.start()

    async def stop(self) -> None:
        self._unplug()
        if self.proxy is not None:
            await self.proxy.stop()
        await self.server.stop()

    # --- Dying ------------------------------------------------------------------------------------------------------

    async def die(self) -> None:
        """As a killed process: what is open is reset, what is new is refused."""
        assert self.proxy is not None
        await self.proxy.refuse()
        self.proxy.drop_connections()

    def hang(self) -> None:
        """As a stopped process: connections are taken, and nothing comes back."""
        assert self.proxy is not None
        self.proxy.set(up=_HOLE, down=_HOLE)

    async def vanish(self) -> None:
        """As a network that is gone: what is open stays silent, and a new connection is never made. A listener whose queue is
        full ignores who knocks, which looks the same from outside."""
        assert self.proxy is not None
        self.hang()
        await self.proxy.refuse()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.proxy.host, self.proxy.port))
        listener.listen(0)
        self._plugs = [listener]
        for _ in range(2):  # one for the queue, and one to be sure
            knocking = socket.socket()
            knocking.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                knocking.connect((self.proxy.host, self.proxy.port))
            self._plugs.append(knocking)
        await asyncio.sleep(0)

    async def revive(self) -> None:
        """What was open is gone, as the process is another one."""
        assert self.proxy is not None
        self._unplug()
        self.proxy.drop_connections()
        await self.proxy.heal()

    def _unplug(self) -> None:
        for plug in self._plugs:
            plug.close()
        self._plugs.clear()

    # --- Answering --------------------------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> None:
        body = exchange.received.body
        nonce, words = asked_of(body)
        loop = asyncio.get_running_loop()
        arrival = Arrival(nonce, loop.time())
        self.arrivals.append(arrival)
        usage = {"prompt_tokens": len(body) // 4, "completion_tokens": words, "total_tokens": len(body) // 4 + words}
        try:
            await exchange.pause(self.delay())
            arrival.first_at = loop.time()
            if self.on_first is not None:
                self.on_first(nonce)
            if b'"stream":true' in body:
                await self._stream(exchange, nonce, range(said_before(body), words), usage)
            else:
                exchange.answer(200, _plain(nonce, words, usage))
            arrival.ended_at = loop.time()
        except asyncio.CancelledError:
            arrival.left_at = loop.time()
            raise

    async def _stream(self, exchange: Exchange, nonce: str, words: range, usage: dict[str, int]) -> None:
        exchange.start(200, STREAM_HEADERS)
        exchange.send(_event(nonce, {"role": "assistant", "content": ""}))
        for number in words:
            if number != words.start:
                await exchange.pause(self.pace_s)
            exchange.send(_event(nonce, {"content": word(nonce, number)}))
        last = b"data: %b\n\ndata: [DONE]\n\n" % msgspec.json.encode({"id": "c", "choices": [], "usage": usage})
        exchange.send(_event(nonce, {}, "stop") + last)
        exchange.end()


def _event(nonce: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}
    return b"data: %b\n\n" % msgspec.json.encode(body)


def _plain(nonce: str, words: int, usage: dict[str, int]) -> bytes:
    text = "".join(word(nonce, number) for number in range(words))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return msgspec.json.encode(
        {"id": "c", "object": "chat.completion", "created": 1, "choices": [choice], "usage": usage}
    )


@contextlib.asynccontextmanager
async def standing(*upstreams: Upstream, is_mortal: bool = True):  # type: ignore[no-untyped-def]
    """Started together, stopped together."""
    for each in upstreams:
        await each.start(is_mortal)
    try:
        yield
    finally:
        await asyncio.gather(*(each.stop() for each in upstreams))
