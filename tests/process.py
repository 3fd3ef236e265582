"""`naru serve` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec


class Process:
    def __init__(self, process: asyncio.subprocess.Process, home: Path, banner: str) -> None:
        self.process = process
        self.home = home
        self.banner = banner
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", banner)[1])  # type: ignore[index]
        key = re.search(r"\bnk-\S+", banner)
        self.key = key[0] if key else ""

    async def ask(
        self, method: str, path: str, body: object = None, close: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Sends one request; the answer is to be read."""
        data = b"" if body is None else msgspec.json.encode(body)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        ending = "connection: close\r\n" if close else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\n{ending}content-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        return reader, writer

    async def whole(self, method: str, path: str, body: object = None) -> bytes:
        reader, writer = await self.ask(method, path, body)
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "PYTHONPATH", "LANG", "HOME", "TMPDIR", "COVERAGE_PROCESS_START")
    }
    return {**kept, "NARU_HOME": str(home)}


async def command(home: Path, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of one `naru` command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "naru", *arguments, env=environment(home), cwd=home.parent,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def serving(folder: Path, config: str = "") -> AsyncIterator[Process]:
    """A gateway process on a free port; ended by its id if the test did not end it."""
    home = folder / "home"
    file = folder / "naru.toml"
    file.write_text(config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "naru", "serve", "--port", "0", "--config", str(file), env=environment(home), cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    banner = ""
    async with asyncio.timeout(20):
        while "OpenAI clients" not in banner:
            line = await process.stdout.readline()
            assert line, f"the gateway ended early:\n{banner}"
            banner += line.decode()
    try:
        yield Process(process, home, banner)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.stdout.read()
        process._transport.close()  # type: ignore[attr-defined]
