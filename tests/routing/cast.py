"""Upstreams to order, each a real socket, and a gateway with a model that they answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from naru.testing import Exchange, RawServer
from naru.testing.script import Script, play
from naru.transport.exchange import Listener
from tests.harness import Gateway, running

STREAM = (("content-type", "text/event-stream"),)


def chunk(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {"role": "assistant"} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % msgspec.json.encode({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


def usage(tokens: int = 3) -> bytes:
    counts = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
    return b"data: %b\n\n" % msgspec.json.encode({"id": "c", "choices": [], "usage": counts})


def streamed(*words: str, **more: Any) -> Script:
    """A whole stream of these words."""
    pieces = (chunk(), *map(chunk, words), chunk("", "stop"), usage(len(words)), b"data: [DONE]\n\n")
    return Script(headers=STREAM, framing="chunked", pieces=pieces, **more)


def whole(text: str) -> Script:
    message = {"role": "assistant", "content": text}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    counts = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return Script(pieces=(msgspec.json.encode({**body, "usage": counts}),))


def error(status: int, code: str = "x", message: str = "no", *headers: tuple[str, str]) -> Script:
    body = msgspec.json.encode({"error": {"message": message, "type": "t", "code": code}})
    return Script(status=status, headers=(("content-type", "application/json"), *headers), pieces=(body,))


class Actor:
    """One upstream; `script` is what it does, and may be changed at any time. A plain request gets its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: Script | None = None
        self.asked: list[dict[str, Any]] = []
        self.server = RawServer(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        body = msgspec.json.decode(exchange.received.body)
        self.asked.append(body)
        usual = streamed(self.name) if body.get("stream") else whole(self.name)
        await play(exchange, self.script or usual)


class Told:
    """An exchange whose answer nobody reads."""

    method, path, query, client = "POST", "/v1/chat/completions", "", "127.0.0.1"
    is_gone = False
    listener: Listener | None = None

    def __init__(self, key: str, payload: bytes) -> None:
        self.payload = payload
        self.headers = [(b"authorization", f"Bearer {key}".encode())]

    def reply(self, status: int, headers: object, body: bytes) -> None: ...

    def start(self, status: int, headers: object) -> None: ...

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None: ...


class Cast:
    def __init__(self, gateway: Gateway, actors: dict[str, Actor]) -> None:
        self.gateway = gateway
        self.actors = actors

    def __getitem__(self, name: str) -> Actor:
        return self.actors[name]

    async def ask(self, model: str = "m", **body: Any) -> tuple[int, dict[str, str], Any]:
        return await self.gateway.chat(model=model, **body)

    async def stream(
        self, model: str = "m", headers: dict[str, str] | None = None, **body: Any
    ) -> tuple[int, dict[str, str], str]:
        """(status, headers, everything that was said as it came)."""
        asked = msgspec.json.encode(
            {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}], **body}
        )
        status, told, answer = await self.gateway.post(asked, **(headers or {}))
        return status, told, answer.decode()


@contextlib.asynccontextmanager
async def cast(
    folder: Path,
    names: str,
    model: str = "",
    config: str = "",
    prepare: Callable[..., None] | None = None,
    providers: dict[str, str] | None = None,
    kind: str = "custom",
) -> AsyncIterator[Cast]:
    """`names` are words: a provider and an upstream for each, and a model `m` with a deployment at each of them, in this order of
    priority unless `model` has its own `deployments`. `providers` adds lines to a provider's table."""
    actors = {name: Actor(name) for name in names.split()}
    lines = [config]
    for name, actor in actors.items():
        base = await actor.server.start()
        lines.append(
            f'[providers.{name}]\nkind = "{kind}"\nbase_url = "{base}/v1"\nallow_private = true\n'
            f"price = {{ input = 2, output = 4 }}\n{(providers or {}).get(name, '')}"
        )
    places = ", ".join(
        f'{{ provider = "{name}", model = "x", priority = {place} }}' for place, name in enumerate(actors, 1)
    )
    usual = "" if "deployments" in model else f"deployments = [{places}]\n"
    lines.append(f"[models.m]\n{usual}{model}")
    try:
        async with running(folder, "\n".join(lines), prepare=prepare) as gateway:
            yield Cast(gateway, actors)
    finally:
        await asyncio.gather(*(actor.server.stop() for actor in actors.values()))


def text_of(stream: str) -> str:
    """The words of a chat stream."""
    found = ""
    for line in stream.splitlines():
        if line.startswith("data: {"):
            for choice in msgspec.json.decode(line[6:]).get("choices", []):
                found += choice["delta"].get("content") or ""
    return found
