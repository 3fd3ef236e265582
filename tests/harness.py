"""A whole gateway inside a test: real sockets, a real store in a temporary folder, a key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from openai import AsyncOpenAI
from tools.inprocess import HOT_PATHS, listening

from naru.app import App
from naru.clock import Clock
from naru.config import Settings, load_settings
from naru.control.service import NewKey
from naru.storage.records import LedgerEntry

MESSAGES = [{"role": "user", "content": "hello there"}]


class Gateway:
    """A running gateway and what a test wants of it."""

    def __init__(self, app: App, port: int, key: str) -> None:
        self.app = app
        self.port = port
        self.key = key
        self.url = f"http://127.0.0.1:{port}"
        self.openai = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key or "none", max_retries=0)

    async def raw(self, data: bytes) -> bytes:
        """Everything the gateway says to these bytes until it closes (send `connection: close` for that)."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def post(
        self, body: bytes, path: str = "/v1/chat/completions", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body) of one POST on a connection of its own."""
        asked = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"authorization": f"Bearer {self.key}", "content-type": "application/json", **asked}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        head = f"POST {path} HTTP/1.1\r\nhost: naru\r\nconnection: close\r\ncontent-length: {len(body)}\r\n{lines}\r\n"
        return parse_answer(await self.raw(head.encode("latin-1") + body))

    async def chat(self, **body: Any) -> tuple[int, dict[str, str], Any]:
        status, headers, answer = await self.post(msgspec.json.encode({"messages": MESSAGES, **body}))
        return status, headers, msgspec.json.decode(answer)

    async def entries(self) -> list[LedgerEntry]:
        """All ledger entries, newest first, once nothing is under way any more."""
        async with asyncio.timeout(5):
            while self.app.gateway.ledger.open_permits:
                await asyncio.sleep(0.005)
        await self.app.gateway.ledger.close()
        return await asyncio.wrap_future(self.app.control.store.entries(0, 1e12, 100_000))


def parse_answer(data: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body = unchunk(body)
    return int(lines[0].split()[1]), headers, body


def unchunk(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        whole, data = whole + data[:length], data[length + 2 :]
    return whole


@contextlib.asynccontextmanager
async def running(
    home: Path,
    config: str = "",
    way: str = "fast",
    prepare: Callable[[App], None] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway with this naru.toml. `way`: fast (our protocol inside uvicorn) or asgi (plain ASGI under uvicorn). A second one
    in the same folder has the first one's keys, and none that it could show."""
    file = home / "naru.toml"
    file.write_text(config)

    def load(path: Path | None) -> Settings:
        return load_settings(path, {"NARU_HOME": str(home / "home"), "HOME": str(home)}, {})

    app = App(load(file), clock, load)
    await app.start()
    if prepare is not None:
        prepare(app)
    async with listening(app, HOT_PATHS if way == "fast" else frozenset()) as port:
        gateway = Gateway(app, port, app.first_keys.caller if app.first_keys is not None else "")
        yield gateway
        await gateway.openai.close()


async def another_key(gateway: Gateway, **fields: Any) -> str:
    _, text = await gateway.app.control.create_key(NewKey(**{"name": "another", **fields}))
    return text
