"""One turn of a run inside the gateway: a request through the gateway's own front door, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from msgspec import Struct

from naru.agent.loop import Said
from naru.agent.reading import AnswerReader
from naru.agent.tool import Json
from naru.errors import NaruError, UpstreamBroken, UpstreamRefused, UpstreamTimeout
from naru.hosted.asked import turn_body
from naru.protocol.messages import Event
from naru.transport.exchange import Exchange, HeaderList, Listener

PATH = "/v1/chat/completions"
#: What is about the caller's own body and connection, or about the one answer that it gets.
_OWN = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"expect", b"accept-encoding", b"content-encoding"}
)

Serve = Callable[[Exchange], Awaitable[None]]


class _Whole(Struct):
    status: int
    headers: HeaderList
    body: bytes


class InnerExchange:
    """transport.exchange.Exchange, told to whoever reads `pieces`."""

    method = "POST"
    path = PATH
    query = ""

    def __init__(self, outer: Exchange, payload: bytes) -> None:
        self.headers = [pair for pair in outer.headers if pair[0] not in _OWN]
        self.client = outer.client
        self.listener: Listener | None = None
        self.payload = payload
        self.is_gone = False
        self.told: HeaderList = []
        self._said: asyncio.Queue[bytes | _Whole | NaruError | None] = asyncio.Queue()

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        self._said.put_nowait(_Whole(status, headers, body))

    def start(self, status: int, headers: HeaderList) -> None:
        self.told = headers

    def write(self, data: bytes) -> None:
        self._said.put_nowait(data)

    def finish(self) -> None:
        self._said.put_nowait(None)

    def cut(self) -> None:
        self._said.put_nowait(UpstreamBroken("The answer was cut off."))

    def leave(self) -> None:
        """Nobody reads any more."""
        self.is_gone = True
        if self.listener is not None:
            self.listener.on_gone()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises NaruError for an answer that is an error."""
        while (said := await self._said.get()) is not None:
            if isinstance(said, NaruError):
                raise said
            if isinstance(said, _Whole):
                raise refused(said.status, said.headers, said.body)
            yield said


class GatewayModel:
    """drive.Model: the gateway itself."""

    def __init__(self, serve: Serve, outer: Exchange, fields: Json, tools: Sequence[Json]) -> None:
        self._serve = serve
        self._outer = outer
        self._fields = fields
        self._tools = tools
        #: Of the turn under way: who answers it, and where its limits stand.
        self.headers: HeaderList = []

    async def ask(self, messages: Sequence[Json], left_s: float | None) -> AsyncIterator[Event | Said]:
        inner = InnerExchange(self._outer, turn_body(self._fields, messages, self._tools))
        served = asyncio.ensure_future(self._serve(inner))
        reader = AnswerReader()
        try:
            async with asyncio.timeout(left_s):
                async for data in inner.pieces():
                    self.headers = [pair for pair in inner.told if pair[0].startswith((b"x-naru-", b"x-ratelimit-"))]
                    for event in reader.feed(data):
                        yield event
            for event in reader.close():
                yield event
            yield reader.said()
        except TimeoutError:
            raise UpstreamTimeout("The run's time was used up in the middle of an answer.") from None
        finally:
            inner.leave()
            await served


class _Error(Struct):
    message: str = ""
    type: str = "server_error"
    code: str | None = None
    param: str | None = None


class _Body(Struct):
    error: _Error


def refused(status: int, headers: HeaderList, body: bytes) -> NaruError:
    """The gateway's own refusal, to be told again in the caller's dialect."""
    error = msgspec.json.decode(body, type=_Body).error
    wait = next((value for name, value in headers if name == b"retry-after"), b"")
    return UpstreamRefused(
        error.message,
        status=status,
        type=error.type,
        code=error.code,
        param=error.param,
        retry_after_s=float(wait) if wait else None,
    )
