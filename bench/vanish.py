"""Clients that vanish: N streams are opened, each is listened to for a while, then its socket goes, by FIN or by RST.

    python -m bench.vanish http://127.0.0.1:8000/v1 --key nk-… --model sandbox/echo?tokens=1000&tps=50 --clients 50

Afterwards the gateway must have closed every upstream stream and settled every request: that is for the caller to check.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from naru.testing.http import reset_transport

How = Literal["fin", "reset", "mixed"]


class Report(msgspec.Struct):
    """What became of the clients. `statuses` counts answers other than 200; `events` what was heard in all."""

    clients: int
    vanished: int = 0
    ended_first: int = 0
    failed: int = 0
    events: int = 0
    statuses: dict[int, int] = {}


async def vanish(
    base_url: str,
    *,
    key: str,
    model: str,
    clients: int,
    how: How = "mixed",
    after_events: int = 3,
    within_s: float = 20.0,
) -> Report:
    """Runs all clients at once. Each vanishes after `after_events` events; after 0, as soon as its request is written.

    `ended_first` are streams that were whole before that; `failed` could not connect, were cut, or took `within_s`.
    """
    report = Report(clients=clients)
    parts = urlsplit(base_url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = _request(f"{parts.path}/chat/completions", f"{host}:{port}", key, model)

    async def one(number: int) -> None:
        by_reset = how == "reset" or (how == "mixed" and number % 2 == 1)
        try:
            async with asyncio.timeout(within_s):
                await _one(report, (host, port), request, after_events, by_reset)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            report.failed += 1

    await asyncio.gather(*(one(number) for number in range(clients)))
    return report


def _request(path: str, host: str, key: str, model: str) -> bytes:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "안녕, 나는 곧 사라질 거야"}]}
    content = json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _one(report: Report, address: tuple[str, int], request: bytes, after_events: int, by_reset: bool) -> None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        await writer.drain()
        heard = 0
        if after_events:
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            if status != 200:
                report.statuses[status] = report.statuses.get(status, 0) + 1
                return
        while heard < after_events:
            line = await reader.readuntil(b"\n")
            if line.startswith(b"data: [DONE]"):
                report.ended_first += 1
                return
            heard += line.startswith(b"data: ")
        report.events += heard
        report.vanished += 1
        if by_reset:
            reset_transport(writer.transport)
    finally:
        writer.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.vanish", description=__doc__.partition("\n")[0])
    parser.add_argument("base_url", help="ends in /v1")
    parser.add_argument("--key", required=True)
    parser.add_argument("--model", default="sandbox/echo?tokens=1000&tps=50")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--how", choices=["fin", "reset", "mixed"], default="mixed")
    parser.add_argument("--after-events", type=int, default=3)
    given = parser.parse_args()
    report = asyncio.run(
        vanish(
            given.base_url,
            key=given.key,
            model=given.model,
            clients=given.clients,
            how=given.how,
            after_events=given.after_events,
        )
    )
    print(msgspec.json.encode(report).decode())
    return 1 if report.failed or report.statuses else 0


if __name__ == "__main__":
    sys.exit(main())
