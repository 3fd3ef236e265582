"""One run of an engine: a child process in a session of its own, its words kept, its end noticed.

Standard input is a pipe that is never written to: it closes when this process ends, however it does, and with it the engine.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, cast

from naru.engines.commands import Command
from naru.log import CONTROL, SECRET

TAIL_LINES = 200
MAX_LINE = 2_000
#: The file is put aside at this size, over the one that was put aside before.
MAX_FILE_BYTES = 4 * 1024 * 1024
#: How long pipes are read after the end, where something that the engine started still holds them.
LAST_WORDS_S = 1.0
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class EngineLog:
    """What an engine says, over all its runs: the last lines in memory, more of them in a file. No credential is kept."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.lines: deque[str] = deque(maxlen=TAIL_LINES)
        #: The last line that this run wrote to standard error.
        self.last_error = ""
        self._rest = {False: b"", True: b""}
        self._file: IO[bytes] | None = None

    def begin(self, pid: int) -> None:
        self.last_error = ""
        self._keep(f"[process {pid}]")

    def feed(self, data: bytes, is_error: bool) -> None:
        *lines, rest = (self._rest[is_error] + data).split(b"\n")
        self._rest[is_error] = rest[-MAX_LINE:]
        for line in lines:
            self._line(line, is_error)

    def end(self) -> None:
        """Of a run: what has no line end is a line too."""
        for is_error, rest in self._rest.items():
            self._rest[is_error] = b""
            self._line(rest, is_error)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _line(self, data: bytes, is_error: bool) -> None:
        # A progress bar is one line, of which the end counts.
        text = COLOURS.sub("", data.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"))
        text = SECRET.sub("[redacted]", CONTROL.sub("", text)).strip()[:MAX_LINE]
        if text:
            self.last_error = text if is_error else self.last_error
            self._keep(text)

    def _keep(self, text: str) -> None:
        self.lines.append(text)
        try:
            self._write(text.encode() + b"\n")
        except OSError:
            # A full disk is no reason to lose the engine; the last lines are in memory all the same.
            self._file = None

    def _write(self, line: bytes) -> None:
        file = self._file or self._open()
        if file.tell() > self.max_bytes:
            file.close()
            self.path.replace(self.path.with_suffix(".log.1"))
            file = self._open()
        file.write(line)
        file.flush()

    def _open(self) -> IO[bytes]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab")
        return self._file


class Process(asyncio.SubprocessProtocol):
    """`ended` resolves to the exit code (-N: by signal N) when nothing of it is left and everything that it said was read."""

    def __init__(self, log: EngineLog) -> None:
        self.log = log
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self.loop.create_future()
        self.pid = 0
        self._transport: asyncio.SubprocessTransport = cast(asyncio.SubprocessTransport, None)
        self._pipes = {1, 2}
        self._code: int | None = None

    @classmethod
    async def start(cls, command: Command, environment: Mapping[str, str], log: EngineLog) -> Process:
        """Raises OSError, FileNotFoundError where the program is not there."""
        env = {**environment, **command.env}
        if shutil.which(command.argv[0], path=env.get("PATH")) is None:
            raise FileNotFoundError(f"{command.argv[0]} was not found")
        loop = asyncio.get_running_loop()
        _, process = await loop.subprocess_exec(
            lambda: cls(log), *command.guarded, env=env, start_new_session=True,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return process

    async def stop(self, grace_s: float) -> None:
        """Asks it to end, and after `grace_s` no longer asks. Comes back when it has ended."""
        self.signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=grace_s)
        if not self.ended.done():
            self.signal(signal.SIGKILL)
            await asyncio.wait({self.ended})

    def signal(self, number: int) -> None:
        """To it and to all that it started."""
        if self.ended.done():
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # all of them have ended; macOS has the other word for it

    # --- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid()
        self.log.begin(self.pid)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.log.feed(data, is_error=fd == 2)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._pipes.discard(fd)
        self._look_whether_over()

    def process_exited(self) -> None:
        self._code = self._transport.get_returncode()
        self.signal(signal.SIGKILL)  # what it left behind would hold its memory, its port and its pipes
        self._look_whether_over()
        self.loop.call_later(LAST_WORDS_S, self._finish)

    def _look_whether_over(self) -> None:
        if self._code is not None and not self._pipes:
            self._finish()

    def _finish(self) -> None:
        if not self.ended.done():
            self._transport.close()
            self.log.end()
            self.ended.set_result(self._code or 0)
