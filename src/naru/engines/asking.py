"""Asking an engine that is starting whether it is ready, on connections of its own: the pool of requests waits for the answer."""

from __future__ import annotations

import asyncio

from naru.engines.commands import Command
from naru.transport.connect import EngineAddress

#: Between two questions, from the first on; a model may take minutes to load.
FIRST_PAUSE_S = 0.02
MAX_PAUSE_S = 0.5
HEALTH_S = 5.0
READY = 200
MAX_ANSWER_BYTES = 1024 * 1024


async def until_ready(command: Command, address: EngineAddress) -> None:
    """Comes back when it is, and was asked a first question where it does not warm up itself. How long that may take is the
    caller's to say."""
    pause_s = FIRST_PAUSE_S
    while await _status(address, _get(command.ready_path), HEALTH_S) != READY:
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, MAX_PAUSE_S)
    if command.warm_up:
        # Whatever it says: a model for embeddings answers no chat, and is as ready as it will be.
        await _status(address, _post("/v1/chat/completions", command.warm_up), None)


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()


def _post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def _status(address: EngineAddress, request: bytes, timeout_s: float | None) -> int | None:
    """The status of the answer, read to its end; None where there is none."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(address, request)
    except (OSError, ValueError, TimeoutError):
        return None


async def _exchange(address: EngineAddress, request: bytes) -> int:
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address, limit=MAX_ANSWER_BYTES)
    else:
        reader, writer = await asyncio.open_connection(*address, limit=MAX_ANSWER_BYTES)
    try:
        writer.write(request)
        words = (await reader.readline()).split(maxsplit=2)
        while await reader.read(MAX_ANSWER_BYTES):
            pass
        return int(words[1]) if len(words) > 1 else 0
    finally:
        writer.close()
