"""More than the gateway takes: refused in no time, in an orderly queue, and everybody gets a place in the end. And streams that
are silent for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from naru.errors import Overloaded
from naru.limits.gate import Gate
from tests.harness import running
from tests.routing.cast import cast, error, streamed, text_of

BODY = msgspec.json.encode(
    {"model": "sandbox/echo?ttft_ms=150", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
)


async def test_beyond_the_bound_it_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    """In OpenAI's shape; nothing reaches the ledger; /livez and /metrics answer all the while."""
    async with running(tmp_path, "[server]\nmax_in_flight = 2\nmax_queue = 0\n") as gateway:
        answers = asyncio.gather(*(gateway.post(BODY) for _ in range(6)))
        found = await answers
        assert sorted(status for status, _, _ in found) == [200, 200, 503, 503, 503, 503]
        refused = next((headers, body) for status, headers, body in found if status == 503)
        assert refused[0]["retry-after"] == "1"
        assert msgspec.json.decode(refused[1])["error"]["code"] == "overloaded"
        assert b"max_in_flight" in refused[1]
        assert len(await gateway.entries()) == 2
        gate = gateway.app.gateway.gate
        assert (gate.in_flight, gate.waiting, gate.shed) == (0, 0, 4)


async def test_it_is_refused_before_anything_of_it_is_read(tmp_path: Path) -> None:
    """Even a body that is no JSON and a key that is none."""
    async with running(tmp_path, "[server]\nmax_in_flight = 1\nmax_queue = 0\n") as gateway:
        first = asyncio.create_task(gateway.post(BODY))
        async with asyncio.timeout(5):
            while not gateway.app.gateway.gate.in_flight:
                await asyncio.sleep(0.005)
        assert (await gateway.post(b"{{{", authorization="Bearer nonsense"))[0] == 503
        assert (await first)[0] == 200


async def test_who_waits_gets_the_place_that_becomes_free(tmp_path: Path) -> None:
    async with running(tmp_path, "[server]\nmax_in_flight = 1\nmax_queue = 3\n") as gateway:
        found = await asyncio.gather(*(gateway.post(BODY) for _ in range(4)))
        assert [status for status, _, _ in found] == [200] * 4


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_can_wait_go_behind_and_give_way() -> None:
    """Batch requests are served last, and are the first to go when the queue is full."""
    gate, served = Gate(1, 2, 60.0, Clock()), []
    batch = [(b"x-naru-priority", b"batch")]

    async def wait(name: str, headers: list[tuple[bytes, bytes]]) -> None:
        await gate.wait(headers)
        served.append(name)

    assert gate.enter()
    waiting = [asyncio.create_task(wait(f"batch{n}", batch)) for n in range(2)]
    await settle()
    waiting.append(asyncio.create_task(wait("person", [])))
    await settle()
    with pytest.raises(Overloaded):
        await waiting[1]
    for _ in range(2):
        gate.leave()
        await settle()
    assert served == ["person", "batch0"]
    gate.leave()
    assert (gate.in_flight, gate.waiting, gate.shed) == (0, 0, 1)


async def test_who_gives_up_waiting_leaves_no_trace() -> None:
    gate = Gate(1, 5, 60.0, Clock())
    assert gate.enter()
    waiting = asyncio.create_task(gate.wait([]))
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert gate.waiting == 0
    gate.leave()
    assert gate.enter()


async def test_new_bounds_hold_at_once() -> None:
    gate = Gate(1, 5, 60.0, Clock())
    assert gate.enter()
    waiting = asyncio.create_task(gate.wait([]))
    await settle()
    gate.change(2, 5, 60.0)
    await asyncio.wait_for(waiting, 1)
    assert gate.in_flight == 2


# --- Silence -------------------------------------------------------------------------------------------------------------

QUIET = "[server]\nhold_s = 0.1\nkeepalive_s = 0.1\n"


async def test_an_answer_that_is_long_in_coming_begins_all_the_same(tmp_path: Path) -> None:
    """The head after hold_s, comments until the content comes."""
    async with cast(tmp_path, "a", config=QUIET) as stage:
        stage["a"].script = streamed("late", delay_s=0.5)
        status, headers, told = await stage.stream()
        assert (status, text_of(told)) == (200, "late")
        assert headers["content-type"].startswith("text/event-stream")
        assert told.startswith(": keep-alive\n\n")
        assert told.count(": keep-alive") >= 2
        assert told.rstrip().endswith("[DONE]")


async def test_an_early_error_keeps_its_status(tmp_path: Path) -> None:
    """Within hold_s nothing has been said."""
    async with cast(tmp_path, "a", config=QUIET.replace("hold_s = 0.1", "hold_s = 5")) as stage:
        stage["a"].script = msgspec.structs.replace(error(404, "model_not_found", "gone"), delay_s=0.3)
        status, _, told = await stage.stream()
        assert status == 404
        assert "keep-alive" not in told


async def test_after_the_head_an_error_comes_inside_and_failover_still_works(tmp_path: Path) -> None:
    """Comments are no content: another deployment may still answer."""
    async with cast(tmp_path, "a b", config=QUIET) as stage:
        stage["a"].script = msgspec.structs.replace(error(500), delay_s=0.3)
        status, _, told = await stage.stream()
        assert (status, text_of(told)) == (200, "b")
        stage["b"].script = msgspec.structs.replace(error(500), delay_s=0.3)
        status, _, told = await stage.stream()
        assert status == 200
        assert '"error"' in told
        assert "[DONE]" not in told


async def test_silence_in_the_middle_is_filled(tmp_path: Path) -> None:
    """Between whole events, never inside one."""
    async with cast(tmp_path, "a", config=QUIET) as stage:
        stage["a"].script = streamed("one", "two", pause_s=0.3)
        _, _, told = await stage.stream()
        assert text_of(told) == "onetwo"
        events = told.split("\n\n")
        assert events.count(": keep-alive") >= 2
        assert all(not event or event.startswith((":", "data: ")) for event in events)


async def test_plain_answers_get_no_comments(tmp_path: Path) -> None:
    async with cast(tmp_path, "a", config=QUIET) as stage:
        stage["a"].script = error(404)
        assert (await stage.ask())[0] == 404
