"""A gateway on a thread of its own, for clients that block the one they are called on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from tests.harness import Gateway, running


class Address(NamedTuple):
    url: str
    key: str


#: Gives the naru.toml, and keeps running what stands behind the gateway.
Setting = Callable[[], AbstractAsyncContextManager[str]]


@contextlib.contextmanager
def serving_aside(folder: Path, setting: Setting) -> Iterator[Address]:
    started: list[tuple[Gateway, asyncio.Event, asyncio.AbstractEventLoop]] = []
    failure: list[BaseException] = []
    is_up = threading.Event()

    async def serve() -> None:
        async with setting() as config, running(folder, config) as gateway:
            is_over = asyncio.Event()
            started.append((gateway, is_over, asyncio.get_running_loop()))
            is_up.set()
            await is_over.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # told to the test, which waits on the other thread
            failure.append(error)
        finally:
            is_up.set()

    thread = threading.Thread(target=run, name="gateway")
    thread.start()
    is_up.wait()
    if not started:
        thread.join()
        raise failure[0]
    gateway, is_over, loop = started[0]
    try:
        yield Address(gateway.url, gateway.key)
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        if failure:
            raise failure[0]
