"""`naru chat` in a real pseudo-terminal: keys go in, and what is on the screen comes out."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.chat.emulator import Emulator

ENTER, ALT_ENTER, CTRL_C, CTRL_D = "\r", "\x1b\r", "\x03", "\x04"


class Terminal:
    def __init__(self, process: asyncio.subprocess.Process, master: int, rows: int, columns: int) -> None:
        self.process = process
        self.raw = b""
        self._master = master
        self._more = asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._emulator = Emulator(rows, columns, self.type)
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def text(self) -> str:
        """What a person sees, who may scroll back."""
        return self._emulator.text

    async def until(self, pattern: str) -> str:
        """Waits until the screen and what has scrolled away match, and returns that."""
        async with asyncio.timeout(30):
            while not re.search(pattern, self.text):
                self._more.clear()
                await self._more.wait()
        return self.text

    async def prompted(self, after: str) -> str:
        """Waits for a prompt that is empty, below this."""
        return await self.until(f"(?s){after}.*›[^\\n]*$")

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._master)
            data = b""
        self.raw += data
        self._emulator.feed(self._decoder.decode(data))
        self._more.set()


@contextlib.asynccontextmanager
async def chatting(
    folder: Path, variables: Mapping[str, str], *arguments: str, rows: int = 30, columns: int = 80
) -> AsyncIterator[Terminal]:
    """A chat with a terminal of its own; ended by its id if the test did not end it."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "naru", "chat", *arguments, stdin=slave, stdout=slave, stderr=slave, cwd=folder,
        env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **variables}, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(process, master, rows, columns)
    try:
        yield terminal
    except TimeoutError:
        raise AssertionError(f"not seen; the terminal has:\n{terminal.text}") from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        terminal.close()
