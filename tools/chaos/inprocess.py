"""A gateway in this process, for what cannot be done to one from outside: names that resolve as a row wants them to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn

from naru import log
from naru.app import HOT, App
from naru.config import load_settings
from naru.transport.connect import Resolver
from naru.transport.fast import fast_protocol
from naru.transport.server import Server, Waits
from tools.chaos.client import Client


@contextlib.asynccontextmanager
async def serving(folder: Path, config: str, resolver: Resolver) -> AsyncIterator[Client]:
    """A client of it. The same parts as under `naru serve`, but for the resolver, the log and the signals."""
    log.configure("error")
    file = folder / "naru.toml"
    file.write_text(config)
    app = App(load_settings(file, {"NARU_HOME": str(folder / "home"), "HOME": str(folder)}, {}))
    await app.start()
    app._client.connector.resolver = resolver
    listener = socket.create_server(("127.0.0.1", 0))
    protocol = fast_protocol(app.serve, frozenset(path.encode() for path in HOT), app.settings.server.max_body_bytes)
    options: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False, "ws": "none"}
    server = _Quiet(
        uvicorn.Config(app, http=protocol, **options), Waits(0, 0.5), app.drain, app.cut_streams, lambda: None
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        assert app.first_keys is not None
        yield Client(listener.getsockname()[1], app.first_keys.caller)
    finally:
        server.should_exit = True
        await serving
        await app.stop()


class _Quiet(Server):
    """Leaves this process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield
