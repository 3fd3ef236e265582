"""Engines that come, go and change while the gateway runs."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.engines.states import State
from naru.reload import Outcome
from tests.engines.fake import is_alive, starts, supervisor, table, until, until_state
from tests.engines.test_gateway import LONG, is_sound
from tests.harness import Gateway, running


async def save(gateway: Gateway, text: str) -> Outcome:
    source = gateway.app.settings.source
    assert source is not None
    source.write_text(text)
    outcome: Outcome = await gateway.app._reloader.reload("api")
    assert outcome.result == "applied", outcome.error
    return outcome


async def test_one_is_added_and_taken_out(tmp_path: Path) -> None:
    """What starts with the gateway starts with the reload; what is out is stopped, and unknown to requests."""
    async with running(tmp_path) as gateway:
        gateway.app.run_engines()
        await save(gateway, table(tmp_path, more='start = "gateway"'))
        await until_state(gateway, "ready")
        assert (await gateway.chat(model="small"))[0] == 200
        await save(gateway, "")
        assert (await gateway.chat(model="small"))[0] == 404
        await until(lambda: not is_alive(starts(tmp_path)[0]))
        assert "box" not in [engine["name"] for engine in gateway.app.engines.shown(with_log=False)]
        await until(lambda: not any(o.scheme == "engine" and o.host == "box" for o in gateway.app._client.pools))


async def test_one_that_did_not_change_goes_on(tmp_path: Path) -> None:
    """Neither other tables of the file nor its price or patience need another process; the new figures hold for the old one."""
    async with running(tmp_path, table(tmp_path)) as gateway:
        assert (await gateway.chat(model="small"))[0] == 200
        await save(
            gateway,
            table(tmp_path, more="price = { input = 1000 }\nidle_s = 900") + table(tmp_path, name="other", model="o"),
        )
        status, headers, _ = await gateway.chat(model="small")
        assert (status, float(headers["x-naru-cost-usd"]) > 0) == (200, True)
        assert len(starts(tmp_path)) == 1
        assert supervisor(gateway).settings.idle_s == 900
        assert set(gateway.app.engines.supervisors) == {"box", "other"}


async def begun(gateway: Gateway) -> Any:
    """A stream that stands still after three words."""
    stream = await gateway.openai.chat.completions.create(model="small", messages=LONG, stream=True)
    async for chunk in stream:
        if "w2" in (chunk.choices[0].delta.content or ""):
            break
    return stream


async def test_one_that_changed_gives_way_to_another(tmp_path: Path) -> None:
    """Requests under way at the old process have drain_s; the new one starts when the old one is gone, so that both never hold
    their memory at once."""
    head = "[server]\ndrain_s = 0.3\n"
    async with running(tmp_path, head + table(tmp_path, "--hang-after", 3)) as gateway:
        stream = await begun(gateway)
        await save(gateway, head + table(tmp_path, more="context = 4096"))
        after = asyncio.create_task(gateway.chat(model="small"))
        await until(lambda: len(starts(tmp_path)) == 2)
        first, second = starts(tmp_path)
        assert not is_alive(first)
        with pytest.raises(openai.APIError):
            await anext(stream)
        assert (await after)[0] == 200
        assert is_alive(second)
        assert [end[:2] for end in await is_sound(gateway, 2)] == [("partial", 200), ("completed", 200)]


async def test_a_request_under_way_may_finish_at_the_old_one(tmp_path: Path) -> None:
    """Then the old one is stopped at once, not after drain_s."""
    flag = tmp_path / "ready"
    async with running(tmp_path, table(tmp_path, "--ready-file", flag)) as gateway:
        waiting = asyncio.create_task(gateway.chat(model="small"))
        await until(lambda: starts(tmp_path))
        await save(gateway, table(tmp_path, "--ready-file", flag, more="context = 4096"))
        after = asyncio.create_task(gateway.chat(model="small"))
        flag.touch()
        assert [(await each)[0] for each in (waiting, after)] == [200, 200]
        assert len(starts(tmp_path)) == 2
        await until(lambda: not is_alive(starts(tmp_path)[0]))


async def test_one_that_is_taken_out_and_put_back_goes_on(tmp_path: Path) -> None:
    """While it still has a request in hand, it is the same process that comes back."""
    config = table(tmp_path, "--hang-after", 3)
    async with running(tmp_path, config) as gateway:
        stream = await begun(gateway)
        await save(gateway, "")
        await save(gateway, config)
        assert supervisor(gateway).state is State.READY
        await stream.close()
        assert (await gateway.chat(model="small"))[0] == 200
        assert len(starts(tmp_path)) == 1


async def test_a_correction_is_tried_at_once(tmp_path: Path) -> None:
    """What failed for good starts with the settings that were corrected, and its deployment is asked again."""
    async with running(tmp_path, table(tmp_path, "--never", "No.")) as gateway:
        for _ in range(7):
            assert (await gateway.chat(model="small"))[0] == 503
        shutil.copy(tmp_path / "worker-box", tmp_path / "former")
        await save(gateway, table(tmp_path, more='args = ["--context-is", "right"]'))
        assert (await gateway.chat(model="small"))[0] == 200
