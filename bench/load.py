"""The load generator: raw asyncio protocols that do little more than count, so that they are not what is measured."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from time import perf_counter
from typing import cast

from bench.upstream import MARKER

_TAIL = len(MARKER) - 1


def request_bytes(port: int, key: str, *, stream: bool, max_tokens: int = 20, model: str = "bench") -> bytes:
    """A whole chat completion request."""
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "서울의 날씨와 부산의 날씨를 비교해줘"},
        ],
        "max_tokens": max_tokens,
    }
    if stream:
        body["stream"] = True
    content = json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Tally:
    """What a run counted. `errors` says what was wrong with how many answers."""

    def __init__(self) -> None:
        self.answers = 0
        self.chunks = 0
        self.errors: Counter[str] = Counter()
        self.latencies_s: list[float] = []


def _status(answer: bytes) -> str:
    return "status " + answer[9:12].decode("latin-1") if answer[:5] == b"HTTP/" else "not HTTP"


class PlainClient(asyncio.Protocol):
    """A keep-alive connection that asks again whenever `on_free` calls `ask`."""

    transport: asyncio.Transport

    def __init__(self, request: bytes, tally: Tally, on_free: Callable[[PlainClient], None]) -> None:
        self._request = request
        self._tally = tally
        self._on_free = on_free
        self._held = b""
        self._is_waiting = False
        self._asked_s = 0.0
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry

    def ask(self, since_s: float) -> None:
        """`since_s`: when the request was due, on the loop's clock; its latency counts from there."""
        self._is_waiting = True
        self._asked_s = since_s
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        end = data.find(b"\r\n\r\n")
        at = data[:end].lower().find(b"\r\ncontent-length:") if end > 0 else -1
        if end > 0 and at < 0:
            self._done("no content-length")
            return
        if end < 0 or len(data) < end + 4 + int(data[at + 17 : data.find(b"\r\n", at + 17)]):
            self._held = data
            return
        self._held = b""
        self._done("" if data.startswith(b"HTTP/1.1 200") and MARKER in data else f"wrong answer, {_status(data)}")

    def _done(self, wrong: str) -> None:
        self._is_waiting = False
        if wrong:
            self._tally.errors[wrong] += 1
            self.transport.abort()
            return
        self._tally.answers += 1
        self._tally.latencies_s.append(perf_counter() - self._asked_s)
        self._on_free(self)

    def give_up(self) -> None:
        self._is_waiting = False
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if self._is_waiting:
            self._tally.errors["connection lost"] += 1


class StreamClient(asyncio.Protocol):
    """One stream on a connection of its own. Latency is the time to the first content. `on_end` hears of every end."""

    transport: asyncio.Transport

    def __init__(
        self, request: bytes, tally: Tally, expected: int | None, on_end: Callable[[StreamClient], None]
    ) -> None:
        self._request = request
        self._tally = tally
        self._expected = expected
        self._on_end = on_end
        self._asked_s = 0.0
        self._tail = b""
        self._has_head = False
        self.chunks = 0
        self.is_given_up = False
        self.is_done = False
        self.is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but ancestry
        self._asked_s = perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        joined = self._tail + data
        self._tail = joined[-_TAIL:]
        found = joined.count(MARKER)
        if not self.chunks and not self._is_first(data, found):
            return
        self.chunks += found
        self._tally.chunks += found
        if b"[DONE]" in joined:
            self.is_done = True
            if self._expected is not None and self.chunks != self._expected:
                self._wrong(f"{self.chunks} chunks instead of {self._expected}")
                return
            self._tally.answers += 1
            self.transport.close()

    def _is_first(self, data: bytes, found: int) -> bool:
        """Looks at what comes before any content: the status, then the first content itself."""
        if not self._has_head:
            self._has_head = True
            if not data.startswith(b"HTTP/1.1 200"):
                self._wrong(_status(data))
                return False
        if found:
            self._tally.latencies_s.append(perf_counter() - self._asked_s)
        return found > 0

    def give_up(self) -> None:
        self.is_given_up = True
        self.transport.abort()

    def _wrong(self, what: str) -> None:
        self._tally.errors[what] += 1
        self.give_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        if not self.is_done and not self.is_given_up:
            self._tally.errors["stream cut"] += 1
        self._on_end(self)


async def until(is_so: Callable[[], bool], within_s: float) -> None:
    """Looks every 10 ms; returns when it is so, or time is up."""
    for _ in range(int(within_s / 0.01)):
        if is_so():
            return
        await asyncio.sleep(0.01)


async def closed_loop(port: int, request: bytes, tally: Tally, connections: int) -> list[PlainClient]:
    """Starts `connections` clients that each ask again as soon as they are answered; `stop` them to end it."""
    loop = asyncio.get_running_loop()

    def again(client: PlainClient) -> None:
        client.ask(perf_counter())

    clients = [
        (await loop.create_connection(lambda: PlainClient(request, tally, again), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    for client in clients:
        again(client)
    return clients


def stop(clients: list[PlainClient]) -> None:
    for client in clients:
        client.give_up()


async def open_loop(port: int, request: bytes, tally: Tally, rate_per_s: float, seconds: float) -> None:
    """Asks at a fixed rate whatever the answers do. A request that finds no free connection waits, and its wait counts."""
    loop = asyncio.get_running_loop()
    free: list[PlainClient] = []
    waiting: list[float] = []

    def on_free(client: PlainClient) -> None:
        if waiting:
            client.ask(waiting.pop(0))
        else:
            free.append(client)

    clients = [
        (await loop.create_connection(lambda: PlainClient(request, tally, on_free), "127.0.0.1", port))[1]
        for _ in range(100)
    ]
    free.extend(clients)
    began_s, sent, total = perf_counter(), 0, int(rate_per_s * seconds)
    while sent < total:
        now_s = perf_counter()
        due = min(total, int((now_s - began_s) * rate_per_s)) - sent
        for _ in range(due):
            while free and free[-1].is_closed:
                free.pop()
            if free:
                free.pop().ask(now_s)
            else:
                waiting.append(now_s)
        sent += due
        await asyncio.sleep(0.001)
    await until(lambda: tally.answers + tally.errors.total() >= total, within_s=2)
    missing = total - tally.answers - tally.errors.total()
    if missing:
        tally.errors["no answer within 2 s"] += missing
    stop(clients)


async def open_streams(port: int, request: bytes, tally: Tally, count: int) -> list[StreamClient]:
    """Opens `count` streams, a few at a time, and waits (10 s at most) until each had its first content or failed."""
    loop = asyncio.get_running_loop()
    clients: list[StreamClient] = []
    for index in range(count):
        made = await loop.create_connection(
            lambda: StreamClient(request, tally, None, lambda client: None), "127.0.0.1", port
        )
        clients.append(made[1])
        if index % 20 == 19:
            await asyncio.sleep(0.01)
    await until(lambda: all(client.chunks or client.is_over for client in clients), within_s=10)
    silent = sum(not client.chunks and not client.is_over for client in clients)
    if silent:
        tally.errors["stream without content"] += silent
    return clients


async def churn_streams(port: int, request: bytes, tally: Tally, *, streams: int, chunks: int, seconds: float) -> None:
    """Keeps `streams` streams of `chunks` chunks open for `seconds`: each that ends is followed by a new one."""
    loop = asyncio.get_running_loop()
    is_over = False
    running: set[StreamClient] = set()
    starting: set[asyncio.Task[None]] = set()

    async def start() -> None:
        try:
            _, client = await loop.create_connection(
                lambda: StreamClient(request, tally, chunks, ended), "127.0.0.1", port
            )
        except OSError as error:
            tally.errors[f"cannot connect: {error.strerror}"] += 1
        else:
            running.add(client)

    def launch() -> None:
        task = loop.create_task(start())
        starting.add(task)
        task.add_done_callback(starting.discard)

    def ended(client: StreamClient) -> None:
        running.discard(client)
        if not is_over:
            launch()

    spread_s = chunks * 0.05
    for _ in range(streams):
        launch()
        await asyncio.sleep(spread_s / streams)
    tally.latencies_s.clear()  # only the ones started beside all the others count
    await asyncio.sleep(seconds)
    is_over = True
    await asyncio.gather(*starting)
    for client in list(running):
        client.give_up()
    await asyncio.sleep(0.1)


def percentile_s(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
