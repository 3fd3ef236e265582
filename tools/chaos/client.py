"""A client that sees everything: status, headers, how the body ended, and what the events of a stream say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import struct
import time
from typing import Any

import msgspec

MESSAGES = [{"role": "user", "content": "one two three"}]
#: Everything that an upstream of the catalogue says and that no client may ever see has this in it.
LEAK = "PROVIDER-SECRET"
_LINGER_OFF = struct.pack("ii", 1, 0)
_LINE_END = re.compile(rb"\r\n|\n|\r")


class Answer(msgspec.Struct):
    """One answer. `status` 0: there was none. `is_whole`: the body came to the end that its framing promised."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""
    is_whole: bool = False
    took_s: float = 0.0

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")

    @property
    def attempts(self) -> int:
        return int(self.headers.get("x-naru-attempts", "0"))

    @property
    def deployment(self) -> str:
        return self.headers.get("x-naru-deployment", "")

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a plain answer; empty where there is none."""
        found = self.json
        error = found.get("error") if isinstance(found, dict) else None
        return error if isinstance(error, dict) else {}

    @property
    def has_shape(self) -> bool:
        """Whether it is an error in OpenAI's shape."""
        error = self.error
        return {"message", "type", "param", "code"} <= set(error) and isinstance(error["message"], str)

    @property
    def events(self) -> list[str]:
        """The data of each event, by the WHATWG rules."""
        return events_of(self.body)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [json.loads(data) for data in self.events if data.startswith("{")]

    @property
    def text(self) -> str:
        """What the model said, streamed or not, as far as it came."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            choices = (self.json or {}).get("choices") or [{}]
            return (choices[0].get("message") or {}).get("content") or ""
        deltas = [choice.get("delta") or {} for chunk in self.chunks for choice in chunk.get("choices") or []]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def stream_error(self) -> dict[str, Any]:
        """The error event of a stream; empty where there is none."""
        return next((chunk["error"] for chunk in self.chunks if chunk.get("error")), {})

    @property
    def is_done(self) -> bool:
        return "[DONE]" in self.events


def events_of(body: bytes) -> list[str]:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, the parts that matter here."""
    found: list[str] = []
    data: list[str] = []
    for raw in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf")):
        line = raw.decode("utf-8", "replace")
        if not line:
            if data:
                found.append("\n".join(data))
            data = []
        elif line == "data" or line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    return found


class Client:
    """Speaks HTTP/1.1 to one gateway, a connection for each request."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key

    def head(self, method: str, path: str, headers: dict[str, str] | None = None) -> bytes:
        """With our key unless `headers` say otherwise; an empty value leaves a header out. Without the blank line."""
        given = {"host": "naru", "authorization": f"Bearer {self.key}", **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        return f"{method} {path} HTTP/1.1\r\n{lines}".encode("latin-1")

    def request(self, body: bytes, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None) -> bytes:
        given = {"content-type": "application/json", "connection": "close", **(headers or {})}
        return self.head("POST", path, given) + b"content-length: %d\r\n\r\n" % len(body) + body

    async def raw(self, data: bytes, timeout_s: float = 15.0) -> Answer:
        """Sends these bytes and reads until the gateway closes, or the body is whole."""
        started = time.monotonic()
        async with self.connection() as (reader, writer):
            with contextlib.suppress(OSError):
                writer.write(data)
            return await read_answer(reader, started, timeout_s)

    async def post(self, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.raw(self.request(body, path, named))

    async def chat(self, model: str, is_stream: bool = False, timeout_s: float = 15.0, **fields: Any) -> Answer:
        return await self.raw(self.request(chat_body(model, is_stream, **fields)), timeout_s)

    async def get(self, path: str, key: str | None = None) -> Answer:
        headers = {"connection": "close"} if key is None else {"connection": "close", "authorization": f"Bearer {key}"}
        return await self.raw(self.head("GET", path, headers) + b"\r\n")

    @contextlib.asynccontextmanager
    async def connection(self) -> Any:
        """(reader, writer), closed in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def chat_body(model: str, is_stream: bool = False, **fields: Any) -> bytes:
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}
    return msgspec.json.encode({"model": model, "messages": MESSAGES, **streamed, **fields})


async def read_answer(reader: asyncio.StreamReader, started: float, timeout_s: float) -> Answer:
    """One answer. What came before a reset or the time's end is kept, `is_whole` then says that it is not all."""
    answer = Answer()
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(timeout_s):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            answer.status = int(lines[0].split()[1])
            pairs = [line.partition(":") for line in lines[1:] if line]
            answer.headers = {name.lower(): value.strip() for name, _, value in pairs}
            await _read_body(reader, answer, pieces)
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        pass  # what there is of it is what was seen
    answer.body = b"".join(pieces)
    answer.took_s = time.monotonic() - started
    return answer


async def _read_body(reader: asyncio.StreamReader, answer: Answer, pieces: list[bytes]) -> None:
    """Into `pieces`, so that what had come is there when the rest does not."""
    if answer.headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        answer.is_whole = (await reader.readexactly(2)) == b"\r\n"
    elif "content-length" in answer.headers:
        pieces.append(await reader.readexactly(int(answer.headers["content-length"])))
        answer.is_whole = True
    else:
        pieces.append(await reader.read())
        answer.is_whole = True


def reset(writer: asyncio.StreamWriter) -> None:
    """Leaves with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    writer.transport.abort()
