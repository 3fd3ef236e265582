"""One function for each figure. Every one is bounded in time and returns plain numbers in the units of its name."""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter

import msgspec

from bench.load import (
    Tally,
    churn_streams,
    closed_loop,
    open_loop,
    open_streams,
    percentile_s,
    request_bytes,
    stop,
)
from bench.process import Child
from bench.targets import Target, Unavailable
from bench.upstream import MARKER, MockUpstream

ENDLESS = 1_000_000
CHURN_CHUNKS = 40


class Plan(msgspec.Struct, frozen=True):
    """How long and how much."""

    seconds: float
    warm_s: float
    cold_starts: int
    connections: int = 32
    streams: int = 200
    many_streams: int = 1000
    rate_per_s: int = 1000


FULL = Plan(seconds=6.0, warm_s=1.5, cold_starts=3)
QUICK = Plan(seconds=2.0, warm_s=0.5, cold_starts=1)

Figures = dict[str, float]


async def answers(target: Target, within_s: float = 20.0) -> float:
    """Seconds until the target gives a right answer. Raises Unavailable when it ends, or has none `within_s` seconds."""
    began_s = perf_counter()
    request = request_bytes(target.port, target.key, stream=False)
    last = b""
    while perf_counter() - began_s < within_s:
        if target.child is not None and not target.child.is_running:
            raise Unavailable(f"{target.name} ended:\n{target.child.said()}")
        last = await _once(target.port, request)
        if last.startswith(b"HTTP/1.1 200") and MARKER in last:
            return perf_counter() - began_s
        await asyncio.sleep(0.002)
    said = target.child.said() if target.child is not None else ""
    raise Unavailable(f"{target.name} gave no right answer within {within_s:.0f} s: {last[:300]!r}\n{said}")


async def _once(port: int, request: bytes) -> bytes:
    """One answer, as far as it comes; empty when there is nobody."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        async with asyncio.timeout(5):
            writer.write(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            return await reader.read()
    except (OSError, TimeoutError):
        return b""
    finally:
        writer.close()


async def cold_start(target: Target, plan: Plan) -> Figures:
    """From exec to the first right answer; the last start stays up. RSS after one answer is the idle one."""
    times: list[float] = []
    for _ in range(plan.cold_starts):
        target.stop()
        target.start()
        times.append(await answers(target))
    await asyncio.sleep(0.3)
    return {"cold_start_s": statistics.median(times), "rss_idle_mb": _child(target).rss_bytes() / 1e6}


async def plain(target: Target, plan: Plan) -> Figures:
    tally = Tally()
    request = request_bytes(target.port, target.key, stream=False)
    clients = await closed_loop(target.port, request, tally, plan.connections)
    await asyncio.sleep(plan.warm_s)
    child = _child(target)
    cpu_s, count, began_s = child.cpu_s(), tally.answers, perf_counter()
    await asyncio.sleep(plan.seconds)
    cpu_s, count, wall_s = child.cpu_s() - cpu_s, tally.answers - count, perf_counter() - began_s
    stop(clients)
    return {
        "cpu_us_per_request": cpu_s * 1e6 / count if count else float("nan"),
        "requests_per_s": count / wall_s,
        **_errors("plain", tally),
    }


async def chunks(target: Target, plan: Plan) -> Figures:
    """Same dialect on both sides."""
    return await _chunks(target, plan, "bench", "")


async def translated(target: Target, plan: Plan) -> Figures:
    """Anthropic's protocol upstream, OpenAI's towards the client."""
    return await _chunks(target, plan, "bench-translated", "translated_")


async def _chunks(target: Target, plan: Plan, model: str, prefix: str) -> Figures:
    tally = Tally()
    request = request_bytes(target.port, target.key, stream=True, max_tokens=ENDLESS, model=model)
    clients = await open_streams(target.port, request, tally, plan.streams)
    await asyncio.sleep(plan.warm_s)
    child = _child(target)
    cpu_s, count, began_s = child.cpu_s(), tally.chunks, perf_counter()
    await asyncio.sleep(plan.seconds)
    cpu_s, count, wall_s = child.cpu_s() - cpu_s, tally.chunks - count, perf_counter() - began_s
    for client in clients:
        client.give_up()
    await asyncio.sleep(0.2)
    return {
        f"{prefix}cpu_us_per_chunk": cpu_s * 1e6 / count if count else float("nan"),
        f"{prefix}chunks_per_s": count / wall_s,
        **_errors(f"{prefix}chunk", tally),
    }


async def latency(target: Target, plan: Plan) -> Figures:
    request = request_bytes(target.port, target.key, stream=False)
    await open_loop(target.port, request, Tally(), plan.rate_per_s, plan.warm_s)
    tally = Tally()
    await open_loop(target.port, request, tally, plan.rate_per_s, plan.seconds)
    return {
        "latency_p50_ms": percentile_s(tally.latencies_s, 0.5) * 1e3,
        "latency_p99_ms": percentile_s(tally.latencies_s, 0.99) * 1e3,
        **_errors("latency", tally),
    }


async def ttft(target: Target, plan: Plan) -> Figures:
    tally = Tally()
    request = request_bytes(target.port, target.key, stream=True, max_tokens=CHURN_CHUNKS)
    await churn_streams(target.port, request, tally, streams=plan.streams, chunks=CHURN_CHUNKS, seconds=plan.seconds)
    return {
        "ttft_p50_ms": percentile_s(tally.latencies_s, 0.5) * 1e3,
        "ttft_p99_ms": percentile_s(tally.latencies_s, 0.99) * 1e3,
        **_errors("ttft", tally),
    }


async def memory(target: Target, plan: Plan, upstream: MockUpstream) -> Figures:
    """RSS while many streams are open; they are slow ones, for the memory is wanted and not the work."""
    interval_s, upstream.interval_s = upstream.interval_s, 0.5
    tally = Tally()
    request = request_bytes(target.port, target.key, stream=True, max_tokens=ENDLESS)
    clients = await open_streams(target.port, request, tally, plan.many_streams)
    await asyncio.sleep(1.0)
    figures = {"rss_streams_mb": _child(target).rss_bytes() / 1e6, **_errors("memory", tally)}
    for client in clients:
        client.give_up()
    upstream.interval_s = interval_s
    await asyncio.sleep(0.5)
    return figures


def _errors(measure: str, tally: Tally) -> Figures:
    """One figure for each kind of wrong answer, so that the report can say what was wrong."""
    return {f"{measure} errors: {kind}": float(count) for kind, count in tally.errors.items()}


def _child(target: Target) -> Child:
    if target.child is None:
        raise Unavailable(f"{target.name} has no process of its own")
    return target.child
