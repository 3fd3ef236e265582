"""One admin request answered by an App in this process, without a socket: for commands run while no gateway does."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

from naru.app import App
from naru.config import Settings
from naru.control.api import LOCAL


async def answer_once(settings: Settings, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """(status, body)."""
    app = App(settings)
    await app.start(make_first_keys=False)
    try:
        return await _call(app, method, target, body)
    finally:
        await app.stop()


async def _call(app: App, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(target)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        LOCAL: True,
    }
    status = 500
    answer = bytearray()
    pieces = iter([body])

    async def receive() -> dict[str, Any]:
        for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": False}
        # Who streams an answer listens for a client that leaves; this one stays, and lets the answer come.
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)
        answer.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, bytes(answer)
