"""A gateway with its control plane, asked over HTTP as scripts do."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2

from naru.clock import Clock
from tests.harness import MESSAGES, Gateway, running

Answer = tuple[int, Any]


class Plane:
    """`owner` is the key that the first start made. Other keys are made by `key`."""

    def __init__(self, gateway: Gateway, client: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self.client = client
        assert gateway.app.first_keys is not None
        self.owner = gateway.app.first_keys.admin
        self.caller = gateway.app.first_keys.caller

    async def ask(
        self, method: str, path: str, body: object = None, key: str | None = None, query: dict[str, str] | None = None
    ) -> Answer:
        """(status, what the answer says), as the owner unless `key` says otherwise ("" for nobody)."""
        key = self.owner if key is None else key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        answer = await self.client.request(method, path, json=body, headers=headers, params=query)
        return answer.status_code, answer.json()

    async def ok(self, method: str, path: str, body: object = None, query: dict[str, str] | None = None) -> Any:
        status, answer = await self.ask(method, path, body, query=query)
        assert status == 200, answer
        return answer

    async def refused(
        self, method: str, path: str, body: object = None, key: str | None = None
    ) -> tuple[int, str, str]:
        """(status, code, message) of an error."""
        status, answer = await self.ask(method, path, body, key)
        assert status >= 400, answer
        return status, answer["error"]["code"], answer["error"]["message"]

    async def key(self, name: str = "k", **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.ok("POST", "/admin/keys", {"name": name, **fields})
        return made

    async def chat(self, key: str, **fields: Any) -> Answer:
        body = {"model": "sandbox/echo", "messages": MESSAGES, **fields}
        return await self.ask("POST", "/v1/chat/completions", body, key)

    async def audit(self) -> list[tuple[str, str]]:
        """(action, target), newest first."""
        return [(each["action"], each["target"]) for each in (await self.ok("GET", "/admin/audit"))["data"]]

    async def state(self) -> Any:
        """Everything that a change could change."""
        parts = ["keys", "accounts", "budgets", "credits", "codes", "audit"]
        return [await self.ok("GET", f"/admin/{part}") for part in parts]


@contextlib.asynccontextmanager
async def control_plane(folder: Path, config: str = "", clock: Clock | None = None) -> AsyncIterator[Plane]:
    async with running(folder, config, clock=clock) as gateway, httpx2.AsyncClient(base_url=gateway.url) as client:
        yield Plane(gateway, client)
