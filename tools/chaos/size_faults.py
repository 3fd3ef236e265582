"""A12, A20: answers that are too large, and what they do to the gateway's memory. One row at a time."""

from __future__ import annotations

import functools
import gzip
import zlib

from naru.testing import Exchange, Script, scripted
from naru.testing.http import Handler, Headers
from naru.testing.script import JSON_HEADERS, STREAM_HEADERS
from tools.chaos import checks
from tools.chaos.checks import PLAIN, cut_off, exhausted, fails_over
from tools.chaos.rows import Check, Look, Prepare, Row, Stage, alone, beside_a_peer
from tools.chaos.upstreams import (
    BEGUN,
    BEGUN_TEXT,
    DONE,
    HEALTHY_COST,
    ROLE,
    SILENT,
    STOP,
    TOLD,
    either,
    healthy_plain,
    says,
    stream,
)

MB = 1_000_000
#: A plain answer may be 64 MiB, and is joined and decoded once: that and a copy or two is what one may cost.
PLAIN_GROWTH_MB = 300
STREAM_GROWTH_MB = 60
TINY_EVENTS = 1_000_000


def rows() -> list[Row]:
    slow = {"ttft_s": 20.0, "idle_s": 20.0, "total_s": 40.0}
    large = says("x" * 10 * MB)
    endless = "an event that never ends"
    return [
        Row("A12", "10 MB, before", "one event of 10 MB first", "over the cap of 4 MiB: failover, bounded memory",
            beside_a_peer(either(stream(ROLE, large), SILENT), **slow), bounded(fails_over((True,)), STREAM_GROWTH_MB),
            "memory"),
        Row("A12", "10 MB, after", "one event of 10 MB in mid-stream", "error event, bounded memory",
            beside_a_peer(either(stream(*BEGUN, large, STOP, DONE), SILENT), **slow),
            bounded(cut_off(None), STREAM_GROWTH_MB), "memory"),
        Row("A12", "never ended", f"{endless}, in mid-stream", "error event, upstream aborted, bounded memory",
            beside_a_peer(never_ending, **slow), bounded(cut_off(None, is_aborted=True), STREAM_GROWTH_MB), "memory"),
        Row("A12", "tiny events", f"{TINY_EVENTS:,} events of a comment in mid-stream", "passed, bounded memory",
            alone(tiny, **slow), bounded(all_of_it, STREAM_GROWTH_MB), "memory"),
        Row("A20", "1 GB", "a plain body of 1 GB", "502, upstream aborted, bounded memory",
            alone(endless_body(1000 * MB), **slow), bounded(too_large, PLAIN_GROWTH_MB), "memory"),
        Row("A20", "gzip bomb", "200 KB that unpack to 200 MB", "502: the cap is on unpacked bytes, bounded memory",
            alone(either(SILENT, bomb()), **slow), bounded(exhausted(502, None, PLAIN), PLAIN_GROWTH_MB), "memory"),
        Row("A20", "1 GB, after", "a stream of 1 GB, one event", "error event, upstream aborted, bounded memory",
            alone(never_ending, **slow), bounded(cut_off(None, is_aborted=True), STREAM_GROWTH_MB), "memory"),
        Row("A20", "encoding", "content-encoding: x-unknown; a stream in gzip", "502; nothing unreadable is passed on",
            alone(either(encoded_stream(), unknown_encoding())), exhausted(502, None)),
        Row("A20", "identity", "any streamed request", "the upstream is asked for identity",
            alone(either(stream(*BEGUN, STOP, TOLD, DONE), SILENT)), asks_for_identity),
        Row("A20", "length", "content-length 10 bytes short, and 500 bytes long", "502, nothing half-read is passed on",
            wrong_lengths(), exhausted(502, None, (False, False))),
    ]  # fmt: skip


def bounded(check: Check, growth_mb: float) -> Check:
    async def measured(stage: Stage, look: Look) -> None:
        before = stage.gateway.memory_mb()
        stage.gateway.forget_peak()
        await check(stage, look)
        grown = max(0.0, stage.gateway.peak_mb() - before)
        look.saw(f"memory +{grown:.0f} MB at the most", grown <= growth_mb)

    return measured


async def never_ending(exchange: Exchange) -> None:
    """After some words one event that never ends; given up at 1 GB."""
    exchange.start(200, STREAM_HEADERS)
    for piece in (*BEGUN, b"data: "):
        exchange.send(piece)
    await pour(exchange, 1000 * MB)


async def pour(exchange: Exchange, size: int) -> None:
    piece = b"x" * 256_000
    for _ in range(size // len(piece)):
        exchange.send(piece)
        await exchange.drained()
        await exchange.pause()  # without a turn of the loop nobody would hear that the peer has left
    exchange.end()


async def tiny(exchange: Exchange) -> None:
    exchange.start(200, STREAM_HEADERS)
    exchange.send(b"".join(BEGUN))
    for _ in range(100):
        exchange.send(b":\n\n" * (TINY_EVENTS // 100))
        await exchange.drained()
    exchange.send(STOP + TOLD + DONE)
    exchange.end()


async def all_of_it(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, True, timeout_s=30)
    is_right = answer.text == BEGUN_TEXT and answer.is_done and answer.is_whole
    look.saw(f"{answer.status}, whole, {answer.took_s:.1f} s" if is_right else checks.told(answer), is_right)
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


def endless_body(size: int) -> Handler:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, JSON_HEADERS)
        exchange.send(b'{"choices": "')
        await pour(exchange, size)

    return handler


async def too_large(stage: Stage, look: Look) -> None:
    await exhausted(502, None, PLAIN, within_s=20)(stage, look)
    await checks.saw_abort(stage, look)
    sent = stage.bad.received[0].sent_bytes
    look.saw(f"{sent // MB} MB were taken", sent < 200 * MB)


@functools.cache
def bomb() -> Script:
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(b'{"choices": "')
    for _ in range(200):
        packed += packer.compress(b"x" * MB)
    return Script(headers=encoding("gzip"), pieces=(packed + packer.flush(),))


def encoding(name: str, headers: Headers = JSON_HEADERS) -> Headers:
    return (*headers, ("content-encoding", name))


def unknown_encoding() -> Script:
    (body,) = healthy_plain().pieces
    return Script(headers=encoding("x-unknown"), pieces=(b"\x80" + body[::-1],))


def encoded_stream() -> Script:
    return stream(gzip.compress(b"".join((*BEGUN, STOP, DONE))), headers=encoding("gzip", STREAM_HEADERS))


async def asks_for_identity(stage: Stage, look: Look) -> None:
    await stage.client.chat(stage.name, True)
    said = stage.bad.received[0].header("accept-encoding")
    look.saw(f"accept-encoding: {said or 'missing'}", said == "identity")


def wrong_lengths() -> Prepare:
    (body,) = healthy_plain().pieces
    short = Script(pieces=(body,), stated_length=len(body) - 10)
    long = Script(pieces=(body,), stated_length=len(body) + 500, ending="fin")
    return alone(scripted(short, long))
