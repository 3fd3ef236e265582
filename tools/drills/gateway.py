"""The gateway under the drill: a process of its own, or, for small rehearsals, in this one. Asked over HTTP in both cases."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from naru.app import App
from naru.config import load_settings
from naru.storage.records import LedgerEntry
from naru.storage.sqlite import SqliteStore
from tools.inprocess import listening

#: What has to be 0 when nobody asks any more.
GAUGES = ("naru_in_flight_requests", "naru_waiting_requests", "naru_open_streams", "naru_open_permits")
#: The same, of each deployment.
IN_HAND = "naru_deployment_in_flight"

CONFIG = """
log_level = "error"
[server]
drain_s = 1
pre_stop_s = 0
{more}
"""
PROVIDER = """
[providers.{name}]
kind = "{kind}"
base_url = "http://127.0.0.1:{port}/v1"
allow_private = true
price = {{ input = 2, output = 4 }}
{more}
"""


class Gateway:
    """`folder` is where its home is; the ledger can be read there once it has ended."""

    def __init__(self, folder: Path, port: int, key: str, admin: str) -> None:
        self.folder = folder
        self.port = port
        self.key = key
        self.admin = admin

    async def get(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = (
                f"GET {path} HTTP/1.1\r\nhost: drill\r\nauthorization: Bearer {self.admin}\r\nconnection: close\r\n\r\n"
            )
            writer.write(head.encode())
            async with asyncio.timeout(20):
                answer = await reader.read()
        finally:
            writer.close()
        return answer.partition(b"\r\n\r\n")[2]

    async def metrics(self) -> dict[str, float]:
        """By name, labels included."""
        lines = (await self.get("/metrics")).decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("naru_"))
        return {name: float(value) for name, _, value in pairs}

    async def gauges(self) -> dict[str, float]:
        """What must be 0, once it is or after two seconds."""
        for _ in range(20):
            found = {
                name: value
                for name, value in (await self.metrics()).items()
                if name in GAUGES or name.startswith(IN_HAND)
            }
            if not any(found.values()):
                break
            await asyncio.sleep(0.1)
        return found

    async def contradictions(self) -> list[str]:
        """The ledger's own findings about itself."""
        return list(msgspec.json.decode(await self.get("/admin/ledger/verify"))["findings"])

    def entries(self) -> list[LedgerEntry]:
        """Of a gateway that has ended."""
        store = SqliteStore(self.folder / "home" / "naru.db")
        try:
            return store.entries(0, 1e12, 10_000_000).result()
        finally:
            store.close()


@contextlib.asynccontextmanager
async def serving(folder: Path, config: str, is_inside: bool = False) -> AsyncIterator[Gateway]:
    (folder / "naru.toml").write_text(config)
    if is_inside:
        async with inside(folder) as (_, gateway):
            yield gateway
        return
    async with _apart(folder) as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def _apart(folder: Path) -> AsyncIterator[Gateway]:
    environment = {**os.environ, "NARU_HOME": str(folder / "home")}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "naru", "serve", "--port", "0", "--config", str(folder / "naru.toml"),
            env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        banner = ""
        async with asyncio.timeout(30):
            while "OpenAI clients" not in banner:
                line = await process.stdout.readline()
                assert line, f"the gateway ended early:\n{banner}{(folder / 'log').read_text()[-3000:]}"
                banner += line.decode()
        port = re.search(r"127\.0\.0\.1:(\d+)", banner)
        admin, key = re.search(r"admin key\s+(\S+)", banner), re.search(r"your key\s+(\S+)", banner)
        assert port is not None
        assert admin is not None
        assert key is not None
        yield Gateway(folder, int(port[1]), key[1], admin[1])
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 15)
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.stdout.read()
        process._transport.close()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def inside(folder: Path) -> AsyncIterator[tuple[App, Gateway]]:
    """In this process, from `folder`/naru.toml, with its real server on a real socket."""
    environ = {"NARU_HOME": str(folder / "home"), "HOME": str(folder)}
    app = App(load_settings(folder / "naru.toml", environ, {}))
    await app.start()
    async with listening(app) as port:
        keys = app.first_keys
        caller, admin = (keys.caller, keys.admin) if keys is not None else ("", "")
        yield app, Gateway(folder, port, caller, admin)


def providers(named: dict[str, int], more: str = "", kind: str = "custom") -> str:
    """A provider for each name at its port. `more` are further lines of each, with {name} in place of its name."""
    return "".join(
        PROVIDER.format(name=name, kind=kind, port=port, more=more.format(name=name)) for name, port in named.items()
    )
