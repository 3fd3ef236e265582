"""The benchmark's own parts: right answers are counted, wrong ones too, and clients that vanish do vanish."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bench import measures, report
from bench.load import (
    Tally,
    churn_streams,
    closed_loop,
    open_loop,
    open_streams,
    percentile_s,
    request_bytes,
    stop,
    until,
)
from bench.measures import Plan
from bench.process import Child
from bench.targets import Direct, Nginx, Unavailable
from bench.upstream import MARKER, PLAIN, PLAIN_BYTES, MockUpstream
from bench.vanish import How, vanish
from rich.console import Console

from naru.testing import RawServer, Sandbox, Script, scripted
from naru.testing.sandbox import Behaviour

PLAN = Plan(seconds=0.2, warm_s=0.05, cold_starts=1, connections=4, streams=5, many_streams=10, rate_per_s=200)


@pytest.fixture
async def upstream() -> AsyncIterator[MockUpstream]:
    made = MockUpstream(interval_s=0.005)
    await made.start()
    yield made
    await made.stop()


def test_the_plain_answer_is_of_the_size_it_says() -> None:
    head, _, body = PLAIN.partition(b"\r\n\r\n")
    assert (len(body), body.count(MARKER)) == (PLAIN_BYTES, 1)
    assert b"content-length: 400" in head


async def test_right_plain_answers_are_counted(upstream: MockUpstream) -> None:
    tally = Tally()
    request = request_bytes(upstream.port, "k", stream=False)
    clients = await closed_loop(upstream.port, request, tally, 3)
    await until(lambda: tally.answers >= 100, within_s=5)
    stop(clients)
    assert tally.answers >= 100
    assert tally.errors.total() == 0
    assert len(tally.latencies_s) == tally.answers


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(status=500, pieces=(MARKER,)), "wrong answer, status 500"),
        (Script(pieces=(b"something else",)), "wrong answer, status 200"),
        (Script(pieces=(MARKER,), framing="chunked"), "no content-length"),
        (Script(pieces=(b"half",), stated_length=100, ending="fin"), "connection lost"),
    ],
)
async def test_wrong_plain_answers_are_counted_as_errors(script: Script, error: str) -> None:
    server = RawServer(scripted(script))
    await server.start()
    tally = Tally()
    await closed_loop(server.port, request_bytes(server.port, "k", stream=False), tally, 1)
    await until(lambda: tally.errors.total() > 0, within_s=5)
    await server.stop()
    assert dict(tally.errors) == {error: 1}
    assert tally.answers == 0


async def test_the_open_loop_asks_as_often_as_told(upstream: MockUpstream) -> None:
    tally = Tally()
    await open_loop(upstream.port, request_bytes(upstream.port, "k", stream=False), tally, 500, 0.2)
    assert (tally.answers, tally.errors.total()) == (100, 0)


async def test_streams_are_counted_by_the_chunk(upstream: MockUpstream) -> None:
    tally = Tally()
    request = request_bytes(upstream.port, "k", stream=True, max_tokens=10)
    await churn_streams(upstream.port, request, tally, streams=3, chunks=10, seconds=0.3)
    assert tally.answers >= 3
    assert tally.errors.total() == 0
    assert tally.chunks >= tally.answers * 10
    tally = Tally()
    await churn_streams(upstream.port, request, tally, streams=1, chunks=11, seconds=0.3)
    assert set(tally.errors) == {"10 chunks instead of 11"}


async def test_streams_stay_open_until_given_up(upstream: MockUpstream) -> None:
    tally = Tally()
    clients = await open_streams(
        upstream.port, request_bytes(upstream.port, "k", stream=True, max_tokens=10**6), tally, 7
    )
    assert upstream.open_streams == 7
    for client in clients:
        client.give_up()
    await until(lambda: upstream.open_streams == 0, within_s=5)
    assert upstream.open_streams == 0
    assert tally.errors.total() == 0


async def test_a_cut_stream_is_an_error() -> None:
    script = Script(pieces=(MARKER,), framing="chunked", ending="fin")
    server = RawServer(scripted(script))
    await server.start()
    tally = Tally()
    await open_streams(server.port, request_bytes(server.port, "k", stream=True), tally, 1)
    await until(lambda: tally.errors.total() > 0, within_s=5)
    await server.stop()
    assert dict(tally.errors) == {"stream cut": 1}


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_direct_target_is_measured(upstream: MockUpstream) -> None:
    target = Direct(upstream.port)
    figures = {**await measures.latency(target, PLAN), **await measures.ttft(target, PLAN)}
    assert report.errors({"direct": figures}) == {}
    assert 0 < figures["latency_p50_ms"] <= figures["latency_p99_ms"]


@pytest.mark.services
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_nginx_is_measured(upstream: MockUpstream, tmp_path: Path) -> None:
    try:
        target = Nginx(tmp_path / "nginx", upstream.port, os.sched_getaffinity(0))
    except Unavailable as reason:
        if os.environ.get("NARU_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(str(reason))
    try:
        figures = await measures.cold_start(target, PLAN)
        for measure in (measures.plain, measures.chunks, measures.latency):
            figures.update(await measure(target, PLAN))
        figures.update(await measures.memory(target, PLAN, upstream))
    finally:
        target.stop()
    assert report.errors({"nginx": figures}) == {}
    assert figures["cpu_us_per_request"] > 0
    assert figures["rss_idle_mb"] > 1


async def test_a_target_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    target = Direct(1)
    command = [sys.executable, "-c", "print('no such port'); raise SystemExit(3)"]
    target.child = Child(command, log=tmp_path / "log", core=os.sched_getaffinity(0), environment={})
    with pytest.raises(Unavailable, match="no such port"):
        await measures.answers(target)


def test_percentiles() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile_s(values, 0.5), percentile_s(values, 0.99), percentile_s([], 0.5) >= 0) == (51.0, 100.0, False)


def test_the_table_subtracts_the_direct_figures_and_judges_goals() -> None:
    rows = {row.figure: row for row in report.ROWS}
    measured = {
        "direct": {"latency_p50_ms": 0.2},
        "nginx": {"latency_p50_ms": 0.3, "cpu_us_per_request": 20.0},
        "naru": {"latency_p50_ms": 0.6, "cpu_us_per_request": 60.0, "plain errors: status 500": 2.0},
    }
    assert report.value(rows["latency_p50_ms"], "naru", measured) == pytest.approx(0.4)
    assert report.verdict(rows["latency_p50_ms"], measured) == ("met", None)
    assert report.verdict(rows["cpu_us_per_request"], measured) == ("missed", 3.0)  # under 110 us, but 3x nginx
    assert report.verdict(rows["rss_idle_mb"], measured) == ("", None)
    assert report.errors(measured) == {"naru, plain errors: status 500": 2}
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    report.show(measured, console)
    shown = console.export_text()
    assert "3.00x" in shown
    assert "naru, plain errors: status 500: 2" in shown
    console.file.close()


@pytest.mark.parametrize("how", ["fin", "reset", "mixed"])
async def test_vanishing_clients_are_seen_by_the_upstream(how: How) -> None:
    sandbox = Sandbox(kept=20)
    url = await sandbox.start()
    told = await vanish(url, key="k", model="echo?tokens=1000&tps=200", clients=12, how=how)
    await sandbox.watch.until(lambda: sandbox.aborted == 12 and sandbox.open_streams == 0)
    # A close with answers still unread is a reset to the kernel, so "fin" may come as either; a reset never as a FIN.
    ways = {request.left for request in sandbox.received}
    assert ways == {"reset"} if how == "reset" else ways <= {"fin", "reset"}
    await sandbox.stop()
    assert (told.clients, told.vanished, told.failed, told.ended_first, told.statuses) == (12, 12, 0, 0, {})
    assert told.events == 36


async def test_what_does_not_vanish_is_told_apart() -> None:
    sandbox = Sandbox()
    url = await sandbox.start()
    ended = await vanish(url, key="k", model="echo", clients=2, after_events=100)
    refused = await vanish(url, key="k", model="echo?status=429", clients=3)
    cut = await vanish(url, key="k", model="echo?cut_after=0", clients=4, after_events=100)
    await sandbox.stop()
    assert (ended.ended_first, ended.vanished) == (2, 0)
    assert (refused.statuses, refused.vanished) == ({429: 3}, 0)
    assert cut.failed == 4


def test_importing_the_testing_package_needs_no_yaml() -> None:
    code = "import sys, naru.testing; sys.exit('yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=20).returncode == 0


def test_every_query_key_is_documented_in_order() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "sandbox.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert tuple(documented) == Behaviour.__struct_fields__
