"""The worker as a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.engines.fake import until


@pytest.mark.parametrize("kind", ["pipe", "socket"])
async def test_it_ends_when_the_gateway_is_gone_however_it_went(tmp_path: Path, kind: str) -> None:
    """Its standard input closes then: a pipe, or a socket where uvloop made it."""
    if kind == "pipe":
        theirs, ours = os.pipe()
    else:
        one, other = socket.socketpair()
        theirs, ours = one.detach(), other.detach()
    path = tmp_path / "s"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "naru", "engine", "serve", "naru-demo", "--socket", str(path), "--home", str(tmp_path),
        stdin=theirs, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    await until(path.exists)
    assert process.returncode is None
    os.close(ours)
    assert await asyncio.wait_for(process.wait(), 30) == 0
