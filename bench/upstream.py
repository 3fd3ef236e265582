"""The mock upstream: a fixed plain answer of 0.4 KB, and streams that it paces itself, one chunk every `interval_s`.

At …/messages it speaks Anthropic's protocol, streams only: what the gateway translates for OpenAI's client.
"""

from __future__ import annotations

import asyncio

import msgspec

from naru.testing.http import Exchange, RawServer, head

#: In every plain answer once, in every streamed chunk once: how the load generator knows an answer for a right one.
MARKER = b"naru-bench"
PLAIN_BYTES = 400
#: Streams are spread over so many moments of the interval, so that chunks do not come all at once.
PHASES = 50

_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1767225600,"model":"mock",'
    b'"choices":[{"index":0,"delta":%b,"finish_reason":%b}]%b}\n\n'
)
_USAGE = b'"usage":{"prompt_tokens":12,"completion_tokens":%d,"total_tokens":%d}'


def _plain_answer() -> bytes:
    body = (
        b'{"id":"chatcmpl-bench","object":"chat.completion","created":1767225600,"model":"mock","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"%b%b"},"finish_reason":"stop"}],' + _USAGE % (20, 32) + b"}"
    )
    filler = b"." * (PLAIN_BYTES - len(body % (MARKER, b"")))
    body = body % (MARKER, filler)
    return head(200, (("content-type", "application/json"), ("content-length", str(len(body))))) + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PLAIN = _plain_answer()
#: nginx switches its buffering off for an answer that says so; others ignore the header.
STREAM_HEAD = head(
    200,
    (("content-type", "text/event-stream"), ("x-accel-buffering", "no"), ("transfer-encoding", "chunked")),
)
CHUNK = _chunk(_EVENT % (b'{"role":"assistant","content":" %b"}' % MARKER, b"null", b""))
FINISH = _chunk(_EVENT % (b"{}", b'"stop"', b""))
DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _event(name: bytes, data: bytes) -> bytes:
    return _chunk(b'event: %b\ndata: {"type":"%b",%b}\n\n' % (name, name, data))


class Wire(msgspec.Struct, frozen=True):
    """One protocol's stream: what stands before the chunks, each of them, and the end."""

    start: bytes
    chunk: bytes
    end: bytes


CHAT = Wire(b"", CHUNK, FINISH + DONE)
MESSAGES = Wire(
    _event(
        b"message_start",
        b'"message":{"id":"msg_bench","type":"message","role":"assistant","model":"mock","content":[],"stop_reason":null,'
        b'"stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":1}}',
    )
    + _event(b"content_block_start", b'"index":0,"content_block":{"type":"text","text":""}'),
    _event(b"content_block_delta", b'"index":0,"delta":{"type":"text_delta","text":" %b"}' % MARKER),
    _event(b"content_block_stop", b'"index":0')
    + _event(b"message_delta", b'"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":20}')
    + _event(b"message_stop", b'"x":0')
    + b"0\r\n\r\n",
)


class _Asked(msgspec.Struct):
    stream: bool = False
    max_tokens: int = 1
    stream_options: dict[str, bool] | None = None


class _Stream:
    """A stream under way. `left` counts the chunks still owed."""

    __slots__ = ("asked", "exchange", "left", "wire")

    def __init__(self, exchange: Exchange, asked: _Asked, wire: Wire) -> None:
        self.exchange = exchange
        self.asked = asked
        self.wire = wire
        self.left = asked.max_tokens - 1

    def step(self) -> bool:
        """Sends one chunk, or the end. False: nothing more is owed."""
        if not self.exchange.is_open:
            return False
        if self.left > 0:
            self.left -= 1
            self.exchange.write(self.wire.chunk)
            return True
        end = self.wire.end
        if self.wire is CHAT and self.asked.stream_options:
            count = self.asked.max_tokens
            usage = _chunk(b'data: {"id":"chatcmpl-bench","choices":[],' + _USAGE % (count, count + 12) + b"}\n\n")
            end = FINISH + usage + DONE
        self.exchange.write(end)
        self.exchange.end()
        return False


class MockUpstream:
    """`interval_s` may be changed while streams run."""

    def __init__(self, interval_s: float = 0.05) -> None:
        self.interval_s = interval_s
        self.port = 0
        self._server = RawServer(self._handle, kept=0)
        self._decoder = msgspec.json.Decoder(_Asked)
        self._phases: list[set[_Stream]] = [set() for _ in range(PHASES)]
        self._started = 0
        self._ticker: asyncio.TimerHandle | None = None

    @property
    def open_streams(self) -> int:
        return sum(map(len, self._phases))

    async def start(self) -> None:
        await self._server.start()
        self.port = self._server.port
        self._tick(0, asyncio.get_running_loop().time())

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        await self._server.stop()

    def _handle(self, exchange: Exchange) -> None:
        asked = self._decoder.decode(exchange.received.body)
        if not asked.stream:
            exchange.write(PLAIN)
            exchange.end()
            return
        wire = MESSAGES if exchange.received.path.endswith("/messages") else CHAT
        exchange.write(STREAM_HEAD + wire.start + wire.chunk)
        self._phases[self._started % PHASES].add(_Stream(exchange, asked, wire))
        self._started += 1

    def _tick(self, phase: int, due_s: float) -> None:
        """One phase's streams get their chunk; late ticks are made up for, so the pace holds on average."""
        streams = self._phases[phase]
        ended = [stream for stream in streams if not stream.step()]
        streams.difference_update(ended)
        next_s = due_s + self.interval_s / PHASES
        self._ticker = asyncio.get_running_loop().call_at(next_s, self._tick, (phase + 1) % PHASES, next_s)
