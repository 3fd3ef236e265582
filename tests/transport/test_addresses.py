"""A name with several addresses: whoever answers first, and nobody waits long for a silent one."""

from __future__ import annotations

import asyncio

import pytest

from naru.errors import UpstreamUnreachable
from naru.testing import RawServer
from naru.transport.connect import Connector, Origin, first_of


class Door(asyncio.Protocol):
    """A connection of a test; `is_closed` once it is."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True


async def left(door: Door) -> None:
    """Closes it, and waits until it is."""
    assert door.transport is not None
    door.transport.close()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while not door.is_closed:
            await asyncio.sleep(0.005)


async def after(seconds: float, value: object) -> object:
    await asyncio.sleep(seconds)
    if isinstance(value, Exception):
        raise value
    return value


async def test_a_silent_address_holds_the_next_one_up_for_a_moment_only() -> None:
    door = Door()
    assert await asyncio.wait_for(first_of([after(60, Door()), after(0, door)], 0.01), 5) is door  # type: ignore[type-var]


async def test_a_refused_address_holds_nobody_up() -> None:
    door = Door()
    refused = after(0, ConnectionRefusedError("no"))
    assert await asyncio.wait_for(first_of([refused, after(0, door)], 60), 5) is door  # type: ignore[type-var]


async def test_when_all_refuse_the_last_word_is_told() -> None:
    with pytest.raises(OSError, match="two"):
        await first_of([after(0, OSError("one")), after(0.02, OSError("two"))], 0.01)  # type: ignore[type-var]


async def test_who_comes_too_late_is_closed() -> None:
    """Two that connect in one moment leave one connection open."""
    server = RawServer(lambda exchange: exchange.answer(200, b"{}"))
    await server.start()
    loop = asyncio.get_running_loop()
    made: list[Door] = []

    def door() -> Door:
        made.append(Door())
        return made[-1]

    async def connect() -> Door:
        return (await loop.create_connection(door, server.host, server.port))[1]

    winner = await first_of([connect(), connect(), connect()], 0.0)
    async with asyncio.timeout(5):
        while sum(not each.is_closed for each in made) > 1 or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.005)
    assert not winner.is_closed
    await left(winner)
    await server.stop()


async def test_a_dead_address_beside_a_living_one() -> None:
    """Through the connector, with a name that has both."""
    server = RawServer(lambda exchange: exchange.answer(200, b"{}"))
    await server.start()

    async def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]  # nothing listens on the first

    connector = Connector(resolver=resolver)
    door = await connector.connect(Origin("http", "two.example", server.port, allow_private=True), Door)
    await left(door)
    await server.stop()
    with pytest.raises(UpstreamUnreachable, match=r"two\.example"):
        await connector.connect(Origin("http", "two.example", server.port, allow_private=True), Door)
