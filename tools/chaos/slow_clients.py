"""B3, B4, B5, B14: clients that are slow, silent, endless or many. The waits are the gateway's own, so they take a while."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator

from naru.testing import Exchange
from naru.testing.script import STREAM_HEADERS
from tools.chaos import checks
from tools.chaos.client import Answer, Client, chat_body, read_answer
from tools.chaos.rows import Look, Row, Stage, alone, until
from tools.chaos.upstreams import ROLE, healthy, says

#: docs/operations.md: fixed. The gateway looks once a second.
HEAD_S, WRITE_STALL_S, KEEP_ALIVE_S = 10.0, 30.0, 75.0
LOOKS_S = 4.0
SLOW_CLIENTS = 200
#: The catalogue has 10,000 connections; both ends of each would be on this machine.
IDLE_CONNECTIONS = 1000
MAX_BODY = 32 * 1024 * 1024
READ_GROWTH_MB = 8.0
#: The limit is 32 MiB; what collects it may hold a copy while it grows, and the allocator the last one.
BODY_GROWTH_MB = 160.0
#: A request that no other client disturbs takes a few ms; rows of other gateways run on the same two cores.
P99_S = 0.15


def rows() -> list[Row]:
    patient = {"ttft_s": 60.0, "idle_s": 100.0, "total_s": 110.0}
    return [
        Row("B3", "back pressure", "a client that reads 1 KB/s of an endless stream",
            "the upstream is not read on, memory flat", alone(flood, **patient), reads_slowly, "memory"),
        Row("B3", "stall", "a client that stops reading", "after 30 s aborted, what arrived is billed",
            alone(flood, **patient), stops_reading, "waits"),
        Row("B4", "slowloris", f"{SLOW_CLIENTS} clients with a byte every 5 s, half in the head, half in the body",
            "408 after 10 s; p99 of others unaffected", alone(healthy()), slowloris, "waits"),
        Row("B5", "100 MB", "100 MB with a content-length; 100 MB in chunks", "413 before all is read, bounded memory",
            alone(healthy()), large_bodies, "memory"),
        Row("B5", "length lies", "content-length too short, negative, garbage, twice",
            "400, nothing is asked upstream", alone(healthy()), wrong_lengths),
        Row("B5", "never whole", "content-length too long; chunks without an end", "408 once 10 s are over",
            alone(healthy()), never_whole, "waits"),
        Row("B14", "idle", f"{IDLE_CONNECTIONS:,} idle keep-alive connections (of the catalogue's 10,000)",
            "others unaffected; closed by the idle time-out of 75 s", alone(healthy()), idle, "waits"),
    ]  # fmt: skip


# --- B3 ---------------------------------------------------------------------------------------------------------------


async def flood(exchange: Exchange) -> None:
    """A stream without an end, as fast as it is taken."""
    exchange.start(200, STREAM_HEADERS)
    exchange.send(ROLE)
    piece = says("x" * 4000)
    while exchange.is_open:
        exchange.send(piece)
        await exchange.drained()
        await exchange.pause()


@contextlib.asynccontextmanager
async def small_reader(stage: Stage) -> AsyncIterator[socket.socket]:
    """The socket of a client that has asked for a stream, with as small a buffer as the kernel gives."""
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", stage.gateway.port))
        await loop.sock_sendall(client, stage.client.request(chat_body(stage.name, True)))
        yield client


async def reads_slowly(stage: Stage, look: Look) -> None:
    before = stage.gateway.memory_mb()
    stage.gateway.forget_peak()
    loop = asyncio.get_running_loop()
    async with small_reader(stage) as client:
        taken = []
        for _ in range(24):
            await asyncio.wait_for(loop.sock_recv(client, 256), 5)
            await asyncio.sleep(0.25)
            taken.append(stage.bad.received[0].sent_bytes)
    more = taken[-1] - taken[8]
    look.saw(f"the upstream sent {taken[-1] / 1e6:.1f} MB, {more / 1e3:.0f} KB of it in the last 4 s", more < 1_000_000)
    grown = stage.gateway.peak_mb() - before
    look.saw(f"memory +{max(0.0, grown):.1f} MB at the most", grown <= READ_GROWTH_MB)
    await checks.saw_abort(stage, look)
    await checks.saw_entries(stage, look, 1, "cancelled", None)


async def stops_reading(stage: Stage, look: Look) -> None:
    started = time.monotonic()
    async with small_reader(stage):
        is_aborted = await until(lambda: stage.bad.aborted > 0, WRITE_STALL_S + LOOKS_S)
        took_s = time.monotonic() - started
        words = f"upstream aborted after {took_s:.0f} s" if is_aborted else f"not aborted in {took_s:.0f} s"
        look.saw(words, is_aborted and took_s >= WRITE_STALL_S - 1)
    entries = await stage.gateway.entries(stage.name)
    look.saw(f"billed {checks.shown(entries[0] if entries else {})}",
             len(entries) == 1 and entries[0]["outcome"] in ("partial", "cancelled") and entries[0]["cost_nano"] > 0)  # fmt: skip


# --- B4 ---------------------------------------------------------------------------------------------------------------


async def slowloris(stage: Stage, look: Look) -> None:
    before = await latencies(stage, 3.0)
    halves = (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: ",
              stage.client.head("POST", "/v1/chat/completions", {"content-length": "5000"}) + b"\r\n{")  # fmt: skip
    slow = [asyncio.ensure_future(drip(stage.client, halves[place % 2])) for place in range(SLOW_CLIENTS)]
    await asyncio.sleep(1.0)
    during = await latencies(stage, HEAD_S - 3)
    ended = await asyncio.gather(*slow)
    right = [answer for answer in ended if answer.status == 408 and answer.took_s <= HEAD_S + LOOKS_S]
    look.saw(f"{len(right)} of {SLOW_CLIENTS} got 408 within {max(a.took_s for a in ended):.0f} s",
             len(right) == SLOW_CLIENTS)  # fmt: skip
    look.saw(f"p99 of others {before * 1000:.0f} ms before, {during * 1000:.0f} ms meanwhile",
             during <= max(P99_S, 3 * before))  # fmt: skip


async def latencies(stage: Stage, seconds: float) -> float:
    """p99, in seconds, of a light load."""
    until_s = time.monotonic() + seconds
    found: list[float] = []
    while time.monotonic() < until_s:
        answer = await stage.client.chat(stage.name)
        found.append(answer.took_s if answer.status == 200 else 60.0)
        await asyncio.sleep(0.02)
    return sorted(found)[int(len(found) * 0.99)]


async def drip(client: Client, beginning: bytes) -> Answer:
    """A byte every 5 s, until the gateway has had enough."""
    started = time.monotonic()
    async with client.connection() as (reader, writer):
        writer.write(beginning)
        reading = asyncio.ensure_future(read_answer(reader, started, HEAD_S + 2 * LOOKS_S))
        while not reading.done():
            await asyncio.wait([reading], timeout=5)
            with contextlib.suppress(OSError):
                writer.write(b"x")
        return reading.result()


# --- B5 ---------------------------------------------------------------------------------------------------------------


async def large_bodies(stage: Stage, look: Look) -> None:
    before = stage.gateway.memory_mb()
    stage.gateway.forget_peak()
    piece = b" " * 256_000
    for what, framing, sent in (
        ("length", {"content-length": "100000000"}, piece),
        ("chunks", {"transfer-encoding": "chunked"}, b"%x\r\n%b\r\n" % (len(piece), piece)),
    ):
        answer, size = await upload(stage.client, framing, sent)
        checks.saw_error(look, answer, 413, "request_too_large", what)
        look.saw(f"{size / 1e6:.0f} MB sent", size < 60_000_000)
    grown = stage.gateway.peak_mb() - before
    look.saw(f"memory +{max(0.0, grown):.0f} MB at the most", grown <= BODY_GROWTH_MB)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def upload(client: Client, framing: dict[str, str], piece: bytes) -> tuple[Answer, int]:
    """Sends a body of 100 MB until there is an answer. (answer, bytes sent)"""
    size = 0
    async with client.connection() as (reader, writer):
        reading = asyncio.ensure_future(read_answer(reader, time.monotonic(), 20))
        writer.write(client.head("POST", "/v1/chat/completions", framing) + b"\r\n")
        with contextlib.suppress(OSError):
            while size < 100_000_000 and not reading.done():
                writer.write(piece)
                size += len(piece)
                await asyncio.wait_for(writer.drain(), 10)
                await asyncio.sleep(0)
        return await reading, size


async def wrong_lengths(stage: Stage, look: Look) -> None:
    body = chat_body(stage.name)
    for what, lines in (
        ("too short", f"content-length: {len(body) - 10}\r\n"),
        ("negative", "content-length: -5\r\n"),
        ("garbage", "content-length: many\r\n"),
        ("twice", f"content-length: {len(body)}\r\ncontent-length: {len(body) - 1}\r\n"),
    ):
        head = stage.client.head("POST", "/v1/chat/completions", {"connection": "close"})
        answer = await stage.client.raw(head + lines.encode() + b"\r\n" + body, 5)
        look.saw(f"{what} {answer.status}", answer.status == 400)
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


async def never_whole(stage: Stage, look: Look) -> None:
    body = chat_body(stage.name)
    long = stage.client.head("POST", "/v1/chat/completions", {"content-length": str(len(body) + 50)})
    chunks = stage.client.head("POST", "/v1/chat/completions", {"transfer-encoding": "chunked"})
    sent = (long + b"\r\n" + body, chunks + b"\r\n%x\r\n%b\r\n" % (len(body), body))
    answers = await asyncio.gather(*(stage.client.raw(each, HEAD_S + 2 * LOOKS_S) for each in sent))
    for what, answer in zip(("length", "chunks"), answers, strict=True):
        look.saw(f"{what} {answer.status} after {answer.took_s:.0f} s",
                 answer.status == 408 and answer.took_s <= HEAD_S + LOOKS_S)  # fmt: skip
    look.saw(f"{stage.bad.requests} upstream requests", not stage.bad.requests)


# --- B14 --------------------------------------------------------------------------------------------------------------


async def idle(stage: Stage, look: Look) -> None:
    """Half of them have been served once, half have never said a word."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(IDLE_CONNECTIONS, soft // 4)
    started = time.monotonic()
    ask = stage.client.head("GET", "/livez") + b"\r\n"
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for place in range(count):
            reader, writer = await stack.enter_async_context(stage.client.connection())
            if place % 2:
                writer.write(ask)
                await read_answer(reader, 0.0, 5)
            readers.append(reader)
        p99 = await latencies(stage, 3.0)
        look.saw(f"{count:,} open (descriptors: {soft:,}), p99 of others {p99 * 1000:.0f} ms", p99 <= P99_S)
        left_s = KEEP_ALIVE_S + LOOKS_S - (time.monotonic() - started)
        ends = [asyncio.ensure_future(reader.read()) for reader in readers]
        done, rest = await asyncio.wait(ends, timeout=left_s + 2)
        look.saw(f"{len(done):,} closed within {time.monotonic() - started:.0f} s", len(done) == count)
        for task in rest:
            task.cancel()
