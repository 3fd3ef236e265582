"""Waiting for a state instead of sleeping: what a test needs so that no pause decides its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watch:
    """Whoever owns the state calls `changed`; whoever waits gives a predicate over it."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def changed(self) -> None:
        if not self._waiters:
            return
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, predicate: Callable[[], bool], timeout_s: float | None = 5.0) -> None:
        """Returns once `predicate()` is true. Raises TimeoutError after `timeout_s` seconds; None waits for ever."""
        async with asyncio.timeout(timeout_s):
            while not predicate():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiters.add(waiter)
                await waiter
