"""One small GET over a pool of the gateway's: for probes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from naru.transport.deadlines import Deadlines
from naru.transport.upstream import Pool
from naru.transport.whole import Plain, PlainAnswer

MAX_BYTES = 4 * 1024 * 1024


async def get(pool: Pool, path: str, headers: Mapping[str, str], timeout_s: float) -> Plain:
    """The whole answer, whatever its status. `headers` must hold `host`. Raises UpstreamError, Overloaded."""
    connection = await pool.acquire(timeout_s)
    answer = PlainAnswer(asyncio.get_running_loop().create_future(), MAX_BYTES)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"GET {path} HTTP/1.1\r\n{lines}user-agent: naru\r\naccept-encoding: identity\r\n\r\n"
    connection.send(
        (head.encode("latin-1"),), answer, Deadlines(pool.client.loop.time(), timeout_s, timeout_s, timeout_s)
    )
    try:
        return await answer.future
    finally:
        answer.abandon()
