"""The gateway as a process: first start, drain, exit codes, and clients that vanish."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from pathlib import Path

import msgspec
import pytest

from tests.process import Process, command, serving

MESSAGES = [{"role": "user", "content": "a b c d e f g h"}]


async def test_the_first_start_prints_keys_once(tmp_path: Path) -> None:
    """The first start shows two keys and a curl; the second none; the key goes on working."""
    async with serving(tmp_path) as first:
        assert "nka-" in first.banner
        assert "curl http://127.0.0.1" in first.banner
        assert b"a b c" in await first.whole(
            "POST", "/v1/chat/completions", {"model": "sandbox/echo", "messages": MESSAGES}
        )
        first.process.send_signal(signal.SIGINT)
        assert await first.process.wait() == 130
    async with serving(tmp_path) as second:
        assert "nk-" not in second.banner.replace("nk-…", "")
        second.key = first.key
        assert b"200 OK" in await second.whole("GET", "/v1/models")


async def test_sigterm_lets_streams_finish(tmp_path: Path) -> None:
    """readyz turns 503 at once, the open stream comes to its own end, the exit code is 0."""
    async with serving(tmp_path, "[server]\npre_stop_s = 5\n") as gateway:
        reader, writer = await gateway.ask(
            "POST", "/v1/chat/completions", {"model": "sandbox/echo?tps=20", "messages": MESSAGES, "stream": True}
        )
        await reader.readuntil(b'"content":"a')
        gateway.process.send_signal(signal.SIGTERM)
        answer = await gateway.whole("GET", "/readyz")
        assert b"503" in answer.split(b"\r\n")[0]
        assert b"draining" in answer
        rest = await asyncio.wait_for(reader.read(), 20)
        assert b"[DONE]" in rest
        writer.close()
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 10) == 0


async def test_streams_that_outlast_the_drain_get_an_error(tmp_path: Path) -> None:
    """After drain_s: an in-band error, a settled entry, exit code 0."""
    async with serving(tmp_path, "[server]\npre_stop_s = 0\ndrain_s = 0.3\n") as gateway:
        reader, writer = await gateway.ask(
            "POST", "/v1/chat/completions", {"model": "sandbox/echo?hang_after=3", "messages": MESSAGES, "stream": True}
        )
        await reader.readuntil(b'"content":"a')
        gateway.process.send_signal(signal.SIGTERM)
        rest = await asyncio.wait_for(reader.read(), 20)
        assert b"server_shutting_down" in rest
        assert b"[DONE]" not in rest
        writer.close()
        assert await asyncio.wait_for(gateway.process.wait(), 10) == 0
    _, out, _ = await command(gateway.home, "usage", "--by", "request", "--json")
    (entry,) = msgspec.json.decode(out)["data"]
    assert (entry["outcome"], entry["error_code"]) == ("partial", "server_shutting_down")
    assert entry["cost_nano"] > 0


async def test_a_second_gateway_on_the_same_home_is_refused(tmp_path: Path) -> None:
    """Exit 78, naming the process that runs."""
    async with serving(tmp_path) as gateway:
        code, _, err = await command(gateway.home, "serve", "--port", "0")
        assert code == 78
        assert str(gateway.process.pid) in err


async def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """No traceback; the way out is in the message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = await command(tmp_path / "home", "serve", "--port", str(taken.getsockname()[1]))
    assert code == 78
    assert "--port" in err
    assert "Traceback" not in err


def resident_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


def open_sockets(pid: int) -> int:
    return sum(
        1 for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink() and str(fd.readlink()).startswith("socket:")
    )


async def metric(gateway: Process, name: str) -> float:
    text = (await gateway.whole("GET", "/metrics")).decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def vanish(gateway: Process, reset: bool) -> None:
    reader, writer = await gateway.ask(
        "POST", "/v1/chat/completions", {"model": "sandbox/echo?hang_after=2", "messages": MESSAGES, "stream": True}
    )
    await reader.readuntil(b'"content":"a')
    if reset:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if reset else writer.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_500_vanished_clients_leave_nothing_behind(tmp_path: Path) -> None:
    """Half by FIN, half by RST, in mid-stream: no upstream connection, no open permit, no growth; each is billed once."""
    async with serving(tmp_path) as gateway:
        await asyncio.gather(*(vanish(gateway, reset=bool(n % 2)) for n in range(100)))
        await settled(gateway)
        before = resident_kib(gateway.process.pid)
        idle_sockets = open_sockets(gateway.process.pid)
        for _ in range(4):
            await asyncio.gather(*(vanish(gateway, reset=bool(n % 2)) for n in range(100)))
        await settled(gateway)
        assert open_sockets(gateway.process.pid) <= idle_sockets + 1
        assert resident_kib(gateway.process.pid) - before < 8 * 1024
        gateway.process.send_signal(signal.SIGINT)
        await gateway.process.wait()
    _, out, _ = await command(gateway.home, "usage", "--json")
    (row,) = msgspec.json.decode(out)["data"]
    assert (row["requests"], row["failed"]) == (500, 0)
    assert row["cost_nano"] > 0


async def settled(gateway: Process) -> None:
    """Waits, at most a second and a bit, until every stream is gone."""
    async with asyncio.timeout(5):
        while await metric(gateway, "naru_open_streams") or await metric(gateway, "naru_open_permits"):
            await asyncio.sleep(0.02)
