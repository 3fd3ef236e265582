"""The loop's shell by itself: what becomes of tools that end badly, and of those under way when nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from naru.agent.drive import Ports, drive, outcome
from naru.agent.loop import CallTool, Failed, Loop, Said
from naru.agent.tool import Json, Tool, ToolError
from naru.protocol.messages import Event


def a_tool(call: Any, **fields: Any) -> Tool:
    return Tool(name="look", description="", parameters={"type": "object"}, call=call, **fields)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError("the database"), Failed(0, "look failed: TimeoutError: the database")),
        (ToolError("no such place"), Failed(0, "no such place")),
        (ToolError("busy", may_retry=True), Failed(0, "busy", may_retry=True)),
        (ZeroDivisionError("division by zero"), Failed(0, "look failed: ZeroDivisionError: division by zero")),
    ],
)
async def test_whatever_a_tool_raises_is_told_to_the_model(error: Exception, expected: Failed) -> None:
    async def raises(arguments: Mapping[str, Any]) -> object:
        raise error

    assert await outcome(a_tool(raises), CallTool(0, "c0", "look", {}, 1, 60.0)) == expected


async def test_a_tool_that_takes_too_long_may_be_asked_again() -> None:
    async def hangs(arguments: Mapping[str, Any]) -> object:
        return await asyncio.Event().wait()

    told = await outcome(a_tool(hangs), CallTool(0, "c0", "look", {}, 1, 0.01))
    assert told == Failed(0, "look gave no result within 0.01 s.", may_retry=True)


class Calls:
    """drive.Model: calls `look` once."""

    async def ask(self, messages: Sequence[Json], left_s: float | None) -> AsyncIterator[Event | Said]:
        call = {"id": "c0", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        yield Said({"role": "assistant", "content": None, "tool_calls": [call]})


async def test_who_stops_listening_waits_until_the_tools_have_cleared_up() -> None:
    said: list[str] = []
    begun = asyncio.Event()

    async def slow(arguments: Mapping[str, Any]) -> object:
        begun.set()
        try:
            return await asyncio.Event().wait()
        finally:
            for step in ("connection closed", "file removed"):
                await asyncio.sleep(0)
                said.append(step)

    loop = Loop({"look": a_tool(slow)})

    async def listen() -> None:
        async with aclosing(drive(loop, loop.begin([], 0.0), Ports(Calls(), lambda: 0.0))) as events:
            async for _ in events:
                pass

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(5):
        await begun.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert said == ["connection closed", "file removed"]
