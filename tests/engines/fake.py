"""The engine without a model (naru.testing.engine) under the names and switches that a test wants."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from naru.engines.supervisor import Supervisor
from naru.testing import engine
from tests.harness import Gateway


def program(folder: Path, *switches: object, name: str = "worker") -> Path:
    """A program that takes the command line of an engine, `switches` added. It notes its process ids in `folder`/starts."""
    path = folder / name
    words = [sys.executable, "-P", engine.__file__]  # as a file: nothing of ours is imported, so it starts at once
    more = ["--note", folder / "starts", "--asked", folder / "asked", *switches]
    quoted = [" ".join(shlex.quote(str(word)) for word in part) for part in (words, more)]
    path.write_text(f'#!/bin/sh\nexec {quoted[0]} "$@" {quoted[1]}\n')
    path.chmod(0o755)
    return path


def table(folder: Path, *switches: object, name: str = "box", model: str = "small", more: str = "") -> str:
    """An [engines.…] table for it."""
    worker = program(folder, *switches, name=f"worker-{name}")
    return f'[engines.{name}]\nmodel = "{model}"\ncommand = "{worker}"\n{more}\n'


def starts(folder: Path) -> list[int]:
    """The ids of the processes that were started, oldest first."""
    file = folder / "starts"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def asked(folder: Path) -> list[str]:
    """The paths that it was asked for, health left out."""
    file = folder / "asked"
    lines = file.read_text().split() if file.exists() else []
    return [line for line in lines if line != "/health"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that has ended, and that nobody has asked about, is there for the system and for nobody else.
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


async def until(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Another process has no event to wait for."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def supervisor(gateway: Gateway, name: str = "box") -> Supervisor:
    return gateway.app.engines.named(name)


async def until_state(gateway: Gateway, state: str, name: str = "box") -> None:
    await until(lambda: supervisor(gateway, name).state.value == state)
