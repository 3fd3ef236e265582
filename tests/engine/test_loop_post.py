"""How an engine's thread hands over to the event loop, and lets it come to its turn."""

from __future__ import annotations

import asyncio
import time

from naru.engine.answers import GIVE_WAY_S, LoopPost


async def test_the_engine_goes_on_when_the_loop_has_run_it_and_looked_at_its_sockets() -> None:
    loop = asyncio.get_running_loop()
    post, order = LoopPost(loop), []

    def ran() -> None:
        time.sleep(GIVE_WAY_S / 5)  # time enough for an engine that does not wait
        order.append("ran")
        loop.call_soon(lambda: loop.call_soon(order.append, "two turns later"))

    await asyncio.to_thread(lambda: (post(ran), order.append("went on")))
    assert order == ["ran", "two turns later", "went on"]


async def test_a_loop_that_is_busy_does_not_hold_up_the_engine() -> None:
    loop = asyncio.get_running_loop()
    post, ran = LoopPost(loop), []
    thread = loop.run_in_executor(None, lambda: (post(lambda: ran.append(1)), list(ran))[1])
    time.sleep(GIVE_WAY_S * 2)  # noqa: ASYNC251  the loop is busy, which is the matter here
    assert await thread == []
    await asyncio.sleep(0)
    assert ran == [1]


async def test_within_the_loop_nothing_waits() -> None:
    post, ran = LoopPost(asyncio.get_running_loop()), []
    post(lambda: ran.append(1))
    assert ran == []
    await asyncio.sleep(0)
    assert ran == [1]


async def test_what_fails_there_does_not_stop_the_engine() -> None:
    loop = asyncio.get_running_loop()
    heard: list[str] = []
    loop.set_exception_handler(lambda _, context: heard.append(str(context["exception"])))
    await asyncio.to_thread(LoopPost(loop), lambda: 1 / 0)
    assert heard == ["division by zero"]
