"""The private Unix socket (mode 0600) over which the command line of the same NARU_HOME reaches the running gateway."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from naru.control.api import LOCAL

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class ControlServer:
    def __init__(self, server: asyncio.Server, path: Path) -> None:
        self._server = server
        self._path = path

    def close(self) -> None:
        self._server.close()
        self._path.unlink(missing_ok=True)


async def serve_control(app: AsgiApp, path: Path) -> ControlServer:
    """Serves `app` on the socket, marking each request as local. The caller holds the home's lock, so a file left by a process
    that was killed is nobody's and is replaced."""

    async def local(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, LOCAL: True}, receive, send)

    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    settings = uvicorn.Config(local, lifespan="off", log_config=None, access_log=False, server_header=False, ws="none")
    settings.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(
        lambda: HttpToolsProtocol(config=settings, server_state=state, app_state={}), sock=listener
    )
    return ControlServer(server, path)
