"""Answers told again, from the client's side: what is a hit, what it costs, who shares it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from naru.testing.script import Script
from tests.harness import another_key
from tests.routing.cast import STREAM, Cast, cast, chunk, error, streamed, text_of

CACHED = "[cache]\nenabled = true\n"


def body(text: str = "hi", **more: object) -> bytes:
    return msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": text}], **more})


async def test_the_same_question_is_answered_from_memory(tmp_path: Path) -> None:
    """Once made, once told again: under its own request id, for nothing, with an entry of its own that says so."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        first = await stage.gateway.post(body())
        again = await stage.gateway.post(
            b' {"messages": [{"content":"hi", "role":"user"}], "user": "kim", "model":"m"}'
        )
        assert (first[1]["x-naru-cache"], again[1]["x-naru-cache"]) == ("miss", "hit")
        assert first[2] == again[2]
        assert len(stage["a"].asked) == 1
        assert first[1]["x-request-id"] != again[1]["x-request-id"]
        assert float(again[1]["x-naru-cost-usd"]) == 0.0
        assert again[1]["age"].isdigit()
        hit, miss = sorted(await stage.gateway.entries(), key=lambda entry: -entry.at)
        assert (hit.outcome, hit.cost_nano, hit.provider_cost_nano, hit.input, hit.attempts) == ("cached", 0, 0, 0, 0)
        assert (miss.outcome, miss.cost_nano) == ("completed", 5 * 2_000 + 3 * 4_000)
        figures = stage.gateway.app.gateway.cached.cache.figures  # type: ignore[union-attr]
        assert (figures.hits, figures.misses, figures.saved_nano) == (1, 1, miss.cost_nano)


async def test_a_stream_is_told_again_as_a_stream(tmp_path: Path) -> None:
    """Byte for byte but for its cost, which is nothing now."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        asked = {"stream_options": {"include_usage": True}}
        stage["a"].script = streamed("one ", "two")
        _, first, told = await stage.stream(**asked)
        _, again, retold = await stage.stream(**asked)
        assert (first["x-naru-cache"], again["x-naru-cache"]) == ("miss", "hit")
        assert again["content-type"] == first["content-type"]
        assert again["transfer-encoding"] == "chunked"
        assert text_of(retold) == text_of(told) == "one two"
        assert retold.rstrip().endswith("[DONE]")
        assert '"cost_usd":0.000018' in told
        assert '"cost_usd":0}' in retold
        assert len(stage["a"].asked) == 1


async def test_a_plain_answer_is_no_stream_and_the_other_way(tmp_path: Path) -> None:
    async with cast(tmp_path, "a", config=CACHED) as stage:
        await stage.stream()
        assert (await stage.ask(messages=[{"role": "user", "content": "hi"}]))[1]["x-naru-cache"] == "miss"


async def test_nobody_sees_anothers_answer(tmp_path: Path) -> None:
    """Two keys of their own; two keys of one team share."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        gateway = stage.gateway
        await gateway.post(body())
        other = await another_key(gateway, name="other")
        assert (await gateway.post(body(), authorization=f"Bearer {other}"))[1]["x-naru-cache"] == "miss"
        assert len(stage["a"].asked) == 2


@pytest.mark.parametrize(
    ("headers", "states", "calls"),
    [
        ({"cache_control": "no-store"}, ["off", "off"], 2),
        ({"x_naru_cache": "off"}, ["off", "off"], 2),
        ({"cache_control": "no-cache"}, ["miss", "miss"], 2),
        ({"cache_control": "max-age=60"}, ["miss", "hit"], 1),
        ({"cache_control": "nonsense, =,"}, ["miss", "hit"], 1),
    ],
)
async def test_a_request_says_itself_what_it_wants(
    tmp_path: Path, headers: dict[str, str], states: list[str], calls: int
) -> None:
    async with cast(tmp_path, "a", config=CACHED) as stage:
        found = [(await stage.gateway.post(body(), **headers))[1]["x-naru-cache"] for _ in range(2)]
        assert found == states
        assert len(stage["a"].asked) == calls


async def test_a_bad_wish_is_told_what_to_do(tmp_path: Path) -> None:
    async with cast(tmp_path, "a", config=CACHED) as stage:
        status, _, told = await stage.gateway.post(body(), x_naru_cache_ttl="soon")
        assert status == 400
        assert b"x-naru-cache-ttl" in told


async def test_what_calls_tools_is_made_anew_each_time(tmp_path: Path) -> None:
    async with cast(tmp_path, "a", config=CACHED) as stage:
        tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
        for _ in range(2):
            assert (await stage.gateway.post(body(tools=[tool])))[1]["x-naru-cache"] == "off"
        assert len(stage["a"].asked) == 2


async def test_errors_and_halves_are_not_kept(tmp_path: Path) -> None:
    """Neither before nor after the first content."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        stage["a"].script = error(500)
        assert (await stage.stream())[0] == 500
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=(chunk("half"),), ending="reset")
        _, headers, told = await stage.stream()
        assert '"error"' in told
        stage["a"].script = None
        _, headers, told = await stage.stream()
        assert (headers["x-naru-cache"], text_of(told)) == ("miss", "a")
        assert (await stage.stream())[1]["x-naru-cache"] == "hit"


async def test_the_same_question_at_once_is_asked_once(tmp_path: Path) -> None:
    """The others are told along, piece by piece, and pay nothing."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        stage["a"].script = streamed("one ", "two ", "three", pause_s=0.05)
        answers = await asyncio.gather(*(stage.stream() for _ in range(8)))
        assert {text_of(told) for _, _, told in answers} == {"one two three"}
        assert sorted(headers["x-naru-cache"] for _, headers, _ in answers) == ["hit"] * 7 + ["miss"]
        assert len(stage["a"].asked) == 1
        entries = await stage.gateway.entries()
        assert sorted(entry.outcome for entry in entries) == ["cached"] * 7 + ["completed"]
        assert sum(entry.cost_nano for entry in entries) == 5 * 2_000 + 3 * 4_000
        assert stage.gateway.app.gateway.cached.cache.under_way == 0  # type: ignore[union-attr]


async def test_who_follows_an_answer_that_is_cut_is_told_so_and_pays_nothing(tmp_path: Path) -> None:
    """The same error inside the answer; it is nobody's whole answer, and is not kept."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        pieces = (chunk(), chunk("one "), chunk("two "))
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=pieces, pause_s=0.1, ending="reset")
        answers = await asyncio.gather(*(stage.stream() for _ in range(3)))
        assert len(stage["a"].asked) == 1
        assert all('"error"' in told and "[DONE]" not in told for _, _, told in answers)
        entries = await stage.gateway.entries()
        assert [entry.outcome for entry in entries] == ["partial"] * 3
        assert sorted(entry.cost_nano > 0 for entry in entries) == [False, False, True]
        stage["a"].script = None
        assert (await stage.stream())[1]["x-naru-cache"] == "miss"


async def test_who_asked_first_may_leave_without_spoiling_it_for_the_others(tmp_path: Path) -> None:
    """The upstream goes on, and the one who left is billed for what was made."""
    async with cast(tmp_path, "a", config=CACHED) as stage:
        stage["a"].script = streamed("one ", "two ", "three", pause_s=0.1)
        asked = body(stream=True)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.gateway.key}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.gateway.port)
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(asked) + asked)
        await reader.readuntil(b"one ")
        following = asyncio.create_task(stage.stream())
        async with asyncio.timeout(5):
            while not stage.gateway.app.gateway.cached.cache.figures.followers:  # type: ignore[union-attr]
                await asyncio.sleep(0.005)
        writer.close()
        _, headers, told = await following
        assert (text_of(told), headers["x-naru-cache"]) == ("one two three", "hit")
        outcomes = sorted(entry.outcome for entry in await stage.gateway.entries())
        assert outcomes == ["cached", "completed"]


async def test_limits_hold_for_what_is_told_again(tmp_path: Path) -> None:
    """A hit is a request like any other."""
    async with cast(tmp_path, "a", "limits = { rpm = 2 }\n", config=CACHED) as stage:
        assert [(await stage.gateway.post(body()))[0] for _ in range(3)] == [200, 200, 429]


async def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    async with cast(tmp_path, "a") as stage:
        for _ in range(2):
            assert (await stage.gateway.post(body(), cache_control="max-age=9"))[1]["x-naru-cache"] == "off"
        assert len(stage["a"].asked) == 2


# --- Redis ---------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[str]:
    """A private server on a socket in `folder`."""
    binary = shutil.which("redis-server")
    if binary is None:
        if os.environ.get("NARU_REQUIRE_SERVICES"):
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    place = folder / "redis.sock"
    process = await asyncio.create_subprocess_exec(
        binary, "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(folder),
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not place.exists():
                await asyncio.sleep(0.01)
        yield f"unix://{place}"
    finally:
        process.terminate()
        await process.wait()


async def ask_twice(stage: Cast) -> list[str]:
    return [(await stage.gateway.post(body()))[1]["x-naru-cache"] for _ in range(2)]


async def test_what_is_in_redis_outlives_the_gateway_and_redis_may_go(tmp_path: Path) -> None:
    """A second gateway of the same home has it at once; when Redis dies, everything goes on without it."""
    (tmp_path / "r").mkdir()
    async with redis(tmp_path / "r") as url:
        config = f'{CACHED}[store]\nredis = "{url}"\n'
        async with cast(tmp_path, "a", config=config) as stage:
            assert await ask_twice(stage) == ["miss", "hit"]
            key = stage.gateway.key
        async with cast(tmp_path, "a", config=config) as stage:
            stage.gateway.key = key
            assert await ask_twice(stage) == ["hit", "hit"]
    async with cast(tmp_path, "a", config=config) as stage:
        stage.gateway.key = key
        assert await ask_twice(stage) == ["miss", "miss"]
        assert len(stage["a"].asked) == 2
