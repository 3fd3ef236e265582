"""One run of an engine as a process: its words, its end, what it leaves behind, its memory."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from naru.engines.commands import Command
from naru.engines.process import MAX_LINE, TAIL_LINES, EngineLog, Process
from naru.engines.resident import resident_bytes
from tests.engines.fake import is_alive, until

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def python(code: str, guarded: bool = False) -> Command:
    return Command((sys.executable, "-S", "-c", code), {}, "/health", b"", ends_by_itself=not guarded)


async def started(folder: Path, command: Command) -> Process:
    return await Process.start(command, ENVIRONMENT, EngineLog(folder / "logs" / "engine-x.log"))


async def test_its_words_are_kept_and_its_code_is_told(tmp_path: Path) -> None:
    """Also the last line without a line end; the last error is the last line of standard error, not of standard output."""
    code = "import sys; print('one'); print('it is', 'broken', file=sys.stderr); print('two', end=''); sys.exit(78)"
    process = await started(tmp_path, python(code))
    assert await asyncio.wait_for(process.ended, 30) == 78
    assert sorted(process.log.lines) == sorted([f"[process {process.pid}]", "one", "it is broken", "two"])
    assert process.log.last_error == "it is broken"
    assert process.log.path.read_text().splitlines() == list(process.log.lines)
    assert process.log.path.stat().st_mode & 0o777 == 0o600


def test_the_log_is_bounded_and_holds_no_credential(tmp_path: Path) -> None:
    """Lines in memory by number, a line by length, the file by size; colours and progress bars are made readable."""
    log = EngineLog(tmp_path / "engine-x.log", max_bytes=20_000)
    log.feed(b"token Bearer abcdefghijklmnop\n", is_error=True)
    log.feed(b"10%\r50%\r100%\n\x1b[31mred\x1b[0m\n\n", is_error=False)
    log.feed("한".encode()[:1], is_error=False)
    log.feed("한".encode()[1:] + b"\n", is_error=False)
    assert list(log.lines) == ["token [redacted]", "100%", "red", "한"]
    log.feed(b"x" * 10 * MAX_LINE + b"\n", is_error=False)
    assert len(log.lines[-1]) == MAX_LINE
    for number in range(TAIL_LINES + 50):
        log.feed(b"line %d " % number + b"." * 100 + b"\n", is_error=False)
    log.end()
    assert len(log.lines) == TAIL_LINES
    assert log.path.stat().st_size <= 20_000 + MAX_LINE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine-x.log", "engine-x.log.1"]


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    process = await started(tmp_path, python("print('one')"))
    assert await asyncio.wait_for(process.ended, 30) == 0
    assert "one" in process.log.lines


async def test_a_program_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await started(tmp_path, Command(("/no/such/program",), {}, "/", b"", ends_by_itself=False))


async def test_it_is_asked_to_end_and_then_made_to(tmp_path: Path) -> None:
    """SIGTERM is enough for who heeds it; who does not is killed after the grace."""
    polite = await started(tmp_path, python("import time; print('up', flush=True); time.sleep(60)"))
    await until(lambda: "up" in polite.log.lines)
    await polite.stop(grace_s=30)
    assert polite.ended.result() == -15
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = await started(tmp_path, python(stubborn))
    await until(lambda: "deaf" in process.log.lines)
    await process.stop(grace_s=0.05)
    assert process.ended.result() == -9


CHILD = (
    "import subprocess, sys, os; child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
    "print('child', child.pid, flush=True);"
)


def child_of(process: Process) -> int:
    return next(int(line.split()[1]) for line in process.log.lines if line.startswith("child"))


async def test_what_it_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """A server's own workers would hold its memory and its pipes; the end is told at once all the same."""
    process = await started(tmp_path, python(CHILD + "os._exit(3)"))
    assert await asyncio.wait_for(process.ended, 30) == 3
    await until(lambda: not is_alive(child_of(process)))


@pytest.mark.parametrize("ignores", ["", "import signal; signal.signal(15, signal.SIG_IGN); "], ids=["heeds", "deaf"])
async def test_the_guard_ends_what_does_not_look_at_its_standard_input(tmp_path: Path, ignores: str) -> None:
    """It closes when the gateway is gone: server and watcher end, a server that is deaf to SIGTERM too, a little later."""
    server = python(ignores + "import time; print('up', flush=True); time.sleep(60)", guarded=True)
    hasty = tuple(word.replace("sleep 5", "sleep 0.05") for word in server.guarded)
    assert hasty != server.guarded
    process = await started(tmp_path, Command(hasty, {}, "/health", b"", ends_by_itself=True))
    await until(lambda: "up" in process.log.lines)
    pipe = process._transport.get_pipe_transport(0)
    assert pipe is not None
    pipe.close()
    assert await asyncio.wait_for(process.ended, 30) == (-9 if ignores else -15)


async def test_the_guard_leaves_signals_and_ids_to_the_server(tmp_path: Path) -> None:
    """The process id is the server's own, so that what is stopped is the server."""
    code = "import os, time; print('pid', os.getpid(), os.getsid(0), flush=True); time.sleep(60)"
    process = await started(tmp_path, python(code, guarded=True))
    await until(lambda: f"pid {process.pid} {process.pid}" in process.log.lines)
    await process.stop(grace_s=30)
    assert process.ended.result() == -15


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_memory_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    """A child's counts, in a session of its own too; nobody else's does."""
    ballast = "b = bytearray(b'x') * 50_000_000; print('held', flush=True); import time; time.sleep(60)"
    code = (
        "import subprocess, sys, time;"
        f"subprocess.Popen([sys.executable, '-S', '-c', {ballast!r}], start_new_session=True); time.sleep(60)"
    )
    process = await started(tmp_path, python(code))
    await until(lambda: "held" in process.log.lines)
    found = resident_bytes(process.pid)
    assert found is not None
    assert 50_000_000 < found < 150_000_000
    alone = await started(tmp_path, python("import time; print('up', flush=True); time.sleep(60)"))
    await until(lambda: "up" in alone.log.lines)
    assert (resident_bytes(alone.pid) or 0) < 40_000_000
    held = [int(e.name) for e in os.scandir("/proc") if e.name.isdigit() and parent_of(e.name) == process.pid]
    await process.stop(5)
    for pid in held:
        os.kill(pid, 9)  # it left the session, so the group's end was not its own
    await alone.stop(5)


def parent_of(pid: str) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])
