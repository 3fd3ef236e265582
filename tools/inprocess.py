"""A gateway's own server in this process, for tools and tests that reach into the gateway they drive."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from naru.app import App
from naru.endpoints import HOT
from naru.transport.fast import fast_protocol
from naru.transport.server import Server, Waits

HOT_PATHS = frozenset(path.encode() for path in HOT)


@contextlib.asynccontextmanager
async def listening(app: App, hot: frozenset[bytes] = HOT_PATHS) -> AsyncIterator[int]:
    """The port of an app that was started; it is stopped afterwards. The same parts as under `naru serve`, but for the log and
    the signals. `hot` are the paths that our own protocol answers; the rest goes through plain ASGI."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # Without it asyncio leaves Nagle on (its sockets have no protocol number), and what is not hot takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(
        app,
        http=fast_protocol(app.serve, hot, app.settings.server.max_body_bytes),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
    )
    server = _Quiet(config, Waits(0, 0.5), app.drain, app.cut_streams, lambda: None)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        await app.stop()


class _Quiet(Server):
    """Leaves this process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
