"""`naru serve` as a process: no engine outlives it, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.engines.fake import is_alive, program, starts, table, until
from tests.process import serving

BODY = {"model": "small", "messages": [{"role": "user", "content": "x"}]}


def config(folder: Path, kind: str) -> str:
    """Naru's own worker, which looks at its standard input, or another server, which does not and is guarded."""
    if kind == "own":
        return table(folder)
    worker = program(folder, "--ignore-stdin")
    return f'[engines.box]\nengine = "vllm"\nmodel = "small"\ncommand = "{worker}"\n'


@pytest.mark.parametrize("kind", ["own", "other"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
async def test_no_engine_outlives_the_gateway(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    try:
        await ends_with_it(tmp_path, kind, number)
    finally:
        for pid in filter(is_alive, starts(tmp_path)):
            os.kill(pid, signal.SIGKILL)


async def ends_with_it(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    async with serving(tmp_path, "[server]\npre_stop_s = 0\n" + config(tmp_path, kind)) as gateway:
        assert b"200 OK" in await gateway.whole("POST", "/v1/chat/completions", BODY)
        (pid,) = starts(tmp_path)
        assert is_alive(pid)
        gateway.process.send_signal(number)
        assert await asyncio.wait_for(gateway.process.wait(), 20) == (0 if number is signal.SIGTERM else -9)
        if number is signal.SIGTERM:
            assert not is_alive(pid)
        await until(lambda: not is_alive(pid))
