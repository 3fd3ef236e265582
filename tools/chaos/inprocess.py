"""A gateway in this process, for what cannot be done to one from outside: names that resolve as a row wants them to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from naru import log
from naru.app import App
from naru.config import load_settings
from naru.transport.connect import Resolver
from tools.chaos.client import Client
from tools.inprocess import listening


@contextlib.asynccontextmanager
async def serving(folder: Path, config: str, resolver: Resolver) -> AsyncIterator[Client]:
    """A client of it. The same parts as under `naru serve`, but for the resolver, the log and the signals."""
    log.configure("error")
    file = folder / "naru.toml"
    file.write_text(config)
    app = App(load_settings(file, {"NARU_HOME": str(folder / "home"), "HOME": str(folder)}, {}))
    await app.start()
    app._client.connector.resolver = resolver
    async with listening(app) as port:
        assert app.first_keys is not None
        yield Client(port, app.first_keys.caller)
