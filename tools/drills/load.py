"""Asks questions at their times, whatever the answers do, and keeps what was said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import cast

import msgspec

from tools.drills.questions import Answer, Question, read

#: A caller's own patience.
PATIENCE_S = 20.0


class _Caller(asyncio.Protocol):
    """One question on a connection of its own."""

    def __init__(self, question: Question, key: str) -> None:
        loop = asyncio.get_running_loop()
        self._question = question
        self._request = question.request(key)
        self._mark = f"{question.nonce}.".encode()
        self._loop = loop
        self._said: list[bytes] = []
        self._tail = b""
        self.ttft_at = 0.0
        self.over: asyncio.Future[bytes] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._said.append(data)
        if not self.ttft_at:
            seen = self._tail + data
            if self._mark in seen:
                self.ttft_at = self._loop.time()
            self._tail = seen[-len(self._mark) :]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(b"".join(self._said))


async def ask(port: int, key: str, question: Question, patience_s: float = PATIENCE_S) -> Answer:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        _, caller = await loop.create_connection(lambda: _Caller(question, key), "127.0.0.1", port)
    except OSError as error:
        return Answer(question, "broken", began, why=f"cannot connect: {error.strerror}")
    try:
        async with asyncio.timeout(patience_s):
            said = await caller.over
        answer = read(question, said)
    except TimeoutError:
        caller.transport.abort()
        answer = Answer(question, "broken", why=f"no end within {patience_s:g} s")
    return msgspec.structs.replace(
        answer,
        began=began,
        took_s=loop.time() - began,
        ttft_s=caller.ttft_at - began if caller.ttft_at else None,
    )


async def ask_all(port: int, key: str, questions: Iterable[Question]) -> list[Answer]:
    """In the order of their times; returns when all have ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    asked = []
    for question in sorted(questions, key=lambda each: each.at):
        wait_s = began + question.at - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        asked.append(loop.create_task(ask(port, key, question)))
    return list(await asyncio.gather(*asked))
