"""Two attempts beside each other: who wins, what the loser costs, and that nobody is asked twice too often."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from naru.errors import UpstreamBroken
from naru.testing.script import Script
from tests.routing.cast import STREAM, Cast, cast, chunk, error, streamed, text_of

HEDGED = "timeouts = { connect_s = 1, ttft_s = 3, idle_s = 1, total_s = 5 }\nhedge = { after = 'p95', budget = 1.0 }\n"
SLOW = Script(headers=STREAM, framing="chunked", pieces=(chunk(), chunk("late")), pause_s=1.0)


def seen(stage: Cast, seconds: float = 0.02, times: int = 30) -> None:
    """So many calls of `b` showed their first content after so many seconds."""
    gateway = stage.gateway.app.gateway
    deployment = next(d for d in gateway.table.resolve("m").deployments if d.provider == "b")
    for _ in range(times):
        gateway.failover.fleet.of(deployment).first_content(seconds, gateway.loop.time())


async def test_the_first_content_wins_and_the_loser_is_dropped_at_once(tmp_path: Path) -> None:
    """The caller pays the winner alone; what the loser's provider is owed stands in the record; it counts as neither well nor
    failing, and its connection is closed."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        stage["a"].script = SLOW
        status, headers, told = await stage.stream()
        assert (status, text_of(told), headers["x-naru-deployment"], headers["x-naru-attempts"]) == (
            200,
            "b",
            "b/x",
            "2",
        )
        async with asyncio.timeout(0.5):
            while not stage["a"].server.received[0].left:
                await asyncio.sleep(0.01)
        (entry,) = await stage.gateway.entries()
        (lost,) = entry.tried
        assert (entry.deployment, lost.deployment, lost.error) == ("b/x", "a/x", "hedge_lost")
        assert entry.cost_nano == 5 * 2_000 + 1 * 4_000
        assert lost.cost_nano > 0
        assert entry.provider_cost_nano == entry.cost_nano + lost.cost_nano
        known = stage.gateway.app.gateway.failover.fleet.known()
        assert (known["a/x"].failures, known["a/x"].breaker.in_a_row, known["a/x"].in_flight) == (0, 0, 0)
        metrics = stage.gateway.app.gateway.metrics
        assert (metrics.hedges, metrics.hedges_won) == (1, 1)


async def test_a_first_one_that_comes_after_all_may_win(tmp_path: Path) -> None:
    """The second was asked, and is the one that is dropped."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        stage["a"].script = streamed("a", delay_s=0.1)
        stage["b"].script = SLOW
        _, headers, told = await stage.stream()
        assert (text_of(told), headers["x-naru-deployment"]) == ("a", "a/x")
        (entry,) = await stage.gateway.entries()
        assert [(each.deployment, each.error) for each in entry.tried] == [("b/x", "hedge_lost")]
        assert stage.gateway.app.gateway.metrics.hedges_won == 0


async def test_a_quick_answer_is_not_hedged(tmp_path: Path) -> None:
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage, seconds=1.0)
        for _ in range(3):
            assert (await stage.stream())[1]["x-naru-deployment"] == "a/x"
        assert stage["b"].asked == []


async def test_while_too_little_is_known_nothing_is_hedged(tmp_path: Path) -> None:
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage, times=5)
        stage["a"].script = streamed("a", delay_s=0.2)
        assert text_of((await stage.stream())[2]) == "a"
        assert stage["b"].asked == []


async def test_a_plain_answer_is_not_hedged(tmp_path: Path) -> None:
    """It takes as long as it is long, and asking twice doubles its price."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        assert (await stage.ask())[1]["x-naru-attempts"] == "1"


async def test_hedges_have_a_budget(tmp_path: Path) -> None:
    """Of forty slow requests two and the one that is saved up."""
    async with cast(tmp_path, "a b", HEDGED.replace("1.0 }", "0.05 }")) as stage:
        seen(stage)
        stage["a"].script = streamed("a", delay_s=0.06)
        await asyncio.gather(*(stage.stream() for _ in range(40)))
        assert 1 <= len(stage["b"].asked) <= 3


async def test_a_failure_in_the_race_leaves_the_other_running(tmp_path: Path) -> None:
    """Whichever fails, and both failures stand in the record when both do."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        stage["a"].script = streamed("a", delay_s=0.15)
        stage["b"].script = error(500)
        assert text_of((await stage.stream())[2]) == "a"
        stage["a"].script = Script(is_silent=True, delay_s=0.15, ending="reset")
        stage["b"].script = streamed("b", delay_s=0.3)
        assert text_of((await stage.stream())[2]) == "b"
        stage["b"].script = error(503)
        status, _, _ = await stage.stream()
        assert status in (502, 503)
        (latest, *_) = sorted(await stage.gateway.entries(), key=lambda entry: -entry.at)
        assert sorted(each.deployment for each in latest.tried) == ["a/x", "b/x"]
        assert latest.cost_nano == 0


async def test_a_client_that_leaves_ends_both(tmp_path: Path) -> None:
    """Neither goes on for nobody."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        for name in "ab":
            stage[name].script = Script(is_silent=True, ending="hang")
        body = msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stage.gateway.key}\r\n"
        _, writer = await asyncio.open_connection("127.0.0.1", stage.gateway.port)
        writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(5):
            while not (stage["a"].asked and stage["b"].asked):
                await asyncio.sleep(0.01)
            writer.close()
            while not (stage["a"].server.received[0].left and stage["b"].server.received[0].left):
                await asyncio.sleep(0.01)
        (entry,) = await stage.gateway.entries()
        assert entry.outcome == "cancelled"
        known = stage.gateway.app.gateway.failover.fleet.known()
        assert [vitals.in_flight for vitals in known.values()] == [0, 0]
        assert all(vitals.failures == 0 for vitals in known.values())


async def test_both_in_one_moment_are_one_answer(tmp_path: Path) -> None:
    """The other is dropped though it has its content, and is owed for what it wrote."""
    async with cast(tmp_path, "a b", HEDGED) as stage:
        seen(stage)
        for name in "ab":
            stage[name].script = streamed(name, delay_s=0.1 if name == "a" else 0.08)
        for _ in range(20):
            _, headers, told = await stage.stream()
            assert text_of(told) == headers["x-naru-deployment"][0]
        entries = await stage.gateway.entries()
        assert all(entry.outcome == "completed" for entry in entries)
        assert [vitals.in_flight for vitals in stage.gateway.app.gateway.failover.fleet.known().values()] == [0, 0]
        assert UpstreamBroken
