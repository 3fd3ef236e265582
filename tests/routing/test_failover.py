"""Attempts against real upstreams that fail, throttle, lock and recover."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from naru.testing.script import Script
from tests.harness import another_key
from tests.routing.cast import STREAM, Told, cast, chunk, error, streamed, text_of

FAST = "timeouts = { connect_s = 1, ttft_s = 0.3, idle_s = 0.3, total_s = 5 }\n"
EQUAL = 'deployments = [{ provider = "a", model = "x" }, { provider = "b", model = "x" }]\n'


@pytest.mark.parametrize(
    "fault",
    [
        error(500),
        error(503),
        error(529),
        error(408),
        error(429),
        error(401),
        error(402),
        Script(is_silent=True, ending="reset"),
        Script(is_silent=True, ending="hang"),
        Script(pieces=(b"not json",)),
        Script(status=502, headers=(("content-type", "text/html"),), pieces=(b"<html>bad</html>",)),
    ],
    ids=lambda script: f"{script.status}-{script.ending}",
)
async def test_a_failure_before_the_first_content_goes_on_with_the_next(tmp_path: Path, fault: Script) -> None:
    """Plain and streamed: the client sees a normal answer, the record both attempts."""
    async with cast(tmp_path, "a b", FAST.replace("total_s = 5", "total_s = 5") + "") as stage:
        stage["a"].script = fault
        status, headers, told = await stage.stream()
        assert (status, text_of(told), headers["x-naru-deployment"]) == (200, "b", "b/x")
        assert headers["x-naru-attempts"] == "2"
        (entry,) = await stage.gateway.entries()
        assert [attempt.deployment for attempt in entry.tried] == ["a/x"]
        assert entry.cost_nano == 5 * 2_000 + 1 * 4_000


async def test_five_failures_in_a_row_and_nobody_asks_it_any_more(tmp_path: Path) -> None:
    """Then the record says who was left out, and why, as explain does."""
    async with cast(tmp_path, "a b") as stage:
        stage["a"].script = error(500)
        for _ in range(8):
            assert (await stage.ask())[0] == 200
        assert len(stage["a"].asked) == 5
        (latest, *_) = sorted(await stage.gateway.entries(), key=lambda entry: -entry.at)
        assert latest.attempts == 1
        plan = msgspec.json.decode(latest.plan)
        assert plan["attempts"] == ["b/x"]
        assert plan["refused"][0]["deployment"] == "a/x"
        assert "failed too often" in plan["refused"][0]["why"]
        body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        _, _, told = await stage.gateway.post(body, "/v1/explain")
        shown = msgspec.json.decode(told)["plan"]
        assert shown["attempts"] == plan["attempts"]
        assert [each["deployment"] for each in shown["refused"]] == ["a/x"]


async def test_it_comes_back_when_it_answers_again(tmp_path: Path) -> None:
    config = "[routing]\nbreaker_open_s = 0.05\n"
    async with cast(tmp_path, "a b", config=config) as stage:
        stage["a"].script = error(500)
        for _ in range(5):
            await stage.ask()
        stage["a"].script = None
        async with asyncio.timeout(5):
            while (await stage.ask())[1]["x-naru-deployment"] != "a/x":
                await asyncio.sleep(0.01)
        assert (await stage.ask())[1]["x-naru-deployment"] == "a/x"


async def test_a_pause_that_was_asked_for_is_kept(tmp_path: Path) -> None:
    """One 429, and everybody goes elsewhere at once."""
    async with cast(tmp_path, "a b") as stage:
        stage["a"].script = error(429, "rate_limit_exceeded", "slow down", ("retry-after", "60"))
        for _ in range(4):
            status, headers, _ = await stage.ask()
            assert (status, headers["x-naru-deployment"]) == (200, "b/x")
        assert len(stage["a"].asked) == 1


async def test_when_all_are_throttled_the_shortest_wait_is_told(tmp_path: Path) -> None:
    """Of those that were asked and of those that were not."""
    async with cast(tmp_path, "a b", EQUAL + 'strategy = "least_busy"\n') as stage:
        stage["a"].script = error(429, "rate_limit_exceeded", "slow", ("retry-after", "40"))
        stage["b"].script = error(429, "rate_limit_exceeded", "slow", ("retry-after", "20"))
        status, headers, told = await stage.ask()
        assert (status, headers["retry-after"], told["error"]["code"]) == (429, "20", "rate_limit_exceeded")
        status, headers, _ = await stage.ask()
        assert status == 429
        assert 1 <= int(headers["retry-after"]) <= 20


async def test_a_wrong_key_is_left_alone_and_never_shown(tmp_path: Path) -> None:
    """The client's own key is fine, so it is told 502 at most, and not the provider's words."""
    async with cast(tmp_path, "a b") as stage:
        stage["a"].script = error(401, "invalid_api_key", "Incorrect API key sk-live-1")
        for _ in range(3):
            assert (await stage.ask())[0] == 200
        assert len(stage["a"].asked) == 1
        stage["b"].script = error(401, "invalid_api_key", "Incorrect API key sk-live-2")
        status, _, told = await stage.ask()
        assert (status, told["error"]["code"]) == (502, "upstream_auth")
        assert "sk-live" not in told["error"]["message"]


async def test_what_the_request_did_wrong_counts_against_nobody(tmp_path: Path) -> None:
    """400 goes to the client as it is, as often as it comes, and the deployment stays in its place."""
    async with cast(tmp_path, "a b") as stage:
        stage["a"].script = error(400, "invalid_value", "temperature is too high")
        for _ in range(7):
            status, _, told = await stage.ask()
            assert (status, told["error"]["message"]) == (400, "temperature is too high")
        assert (len(stage["a"].asked), len(stage["b"].asked)) == (7, 0)


async def test_too_long_a_request_goes_to_those_who_take_it(tmp_path: Path) -> None:
    """And nobody else's fallback does: an ordinary fallback is not asked."""
    model = 'deployments = [{ provider = "a", model = "x" }]\ncontext_fallbacks = ["long"]\nfallbacks = ["other"]\n'
    more = '[models.long]\ndeployments = [{ provider = "b", model = "y" }]\n'
    more += '[models.other]\ndeployments = [{ provider = "c", model = "z" }]\n'
    async with cast(tmp_path, "a b c", model + more) as stage:
        stage["a"].script = error(400, "context_length_exceeded", "maximum context length is 8192 tokens")
        status, headers, told = await stage.ask()
        assert (status, headers["x-naru-deployment"]) == (200, "b/y")
        assert told["choices"][0]["message"]["content"] == "b"
        assert stage["c"].asked == []


async def test_what_the_rules_of_one_provider_refuse_goes_where_the_operator_says(tmp_path: Path) -> None:
    model = 'deployments = [{ provider = "a", model = "x" }]\npolicy_fallbacks = ["loose"]\n'
    more = '[models.loose]\ndeployments = [{ provider = "b", model = "y" }]\n'
    async with cast(tmp_path, "a b", model + more) as stage:
        stage["a"].script = error(400, "content_filter", "flagged")
        assert (await stage.ask())[1]["x-naru-deployment"] == "b/y"
        stage["a"].script = error(400, "invalid_value", "no such thing")
        assert (await stage.ask())[0] == 400


async def test_after_the_first_content_nobody_else_is_asked(tmp_path: Path) -> None:
    """An error inside the answer, no [DONE], and the failure counts against its deployment."""
    async with cast(tmp_path, "a b", FAST) as stage:
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=(chunk(), chunk("half")), ending="reset")
        status, _, told = await stage.stream()
        assert (status, text_of(told)) == (200, "half")
        assert "[DONE]" not in told
        assert '"error"' in told
        assert stage["b"].asked == []
        assert stage.gateway.app.gateway.failover.fleet.known()["a/x"].failures == 1


async def test_empty_beginnings_are_no_content(tmp_path: Path) -> None:
    """A role and a comment bind nobody (rule of reliability.md 1.3)."""
    async with cast(tmp_path, "a b", FAST) as stage:
        pieces = (b": ping\n\n", chunk(), chunk(""))
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=pieces, ending="fin")
        status, headers, told = await stage.stream()
        assert (status, text_of(told), headers["x-naru-deployment"]) == (200, "b", "b/x")


async def test_retries_are_bounded_when_everything_is_down(tmp_path: Path) -> None:
    """A hundred requests make at most a fifth more attempts, and what a quiet gateway has saved."""
    model = 'deployments = [{ provider = "a", model = "x" }, { provider = "b", model = "x" }, { provider = "c", model = "x" }]\n'
    async with cast(tmp_path, "a b c", model) as stage:
        for name in "abc":
            stage[name].script = error(503)
        for _ in range(100):
            assert (await stage.ask())[0] == 503
        attempts = sum(len(stage[name].asked) for name in "abc")
        assert attempts <= 100 * 1.2 + 15
        assert stage.gateway.app.gateway.metrics.retries_refused > 0


async def test_what_never_reached_a_provider_costs_no_retry(tmp_path: Path) -> None:
    """Connections that are refused go on with the next, without end: nobody's load is doubled by them."""
    config = "[routing]\nretry_ratio = 0.0\n"
    async with cast(tmp_path, "a b", EQUAL, config=config) as stage:
        await stage["a"].server.stop()
        for _ in range(40):
            assert (await stage.ask())[0] == 200


async def test_a_request_that_must_stay_somewhere_stays_there(tmp_path: Path) -> None:
    """By its own header; where nobody is, it is refused with words that help."""
    async with cast(
        tmp_path, "a b", EQUAL, providers={"a": 'region = "us"\n', "b": 'region = "kr"\ntags = ["gpu"]\n'}
    ) as stage:
        for _ in range(4):
            assert (await stage.stream(headers={"x_naru_region": "kr"}))[1]["x-naru-deployment"].startswith("b/x")
            assert (await stage.stream(headers={"x_naru_tags": "gpu"}))[1]["x-naru-deployment"].startswith("b/x")
        status, _, told = await stage.stream(headers={"x_naru_region": "eu"})
        assert status == 400
        assert "no_such_deployment" in told
        assert "/v1/explain" in told


async def test_conversations_stay_with_their_deployment(tmp_path: Path) -> None:
    """Turn after turn, and different ones spread."""
    async with cast(tmp_path, "a b", EQUAL + 'strategy = "weighted"\naffinity = "prefix"\n') as stage:
        homes = set()
        for number in range(12):
            turns = [{"role": "user", "content": f"question {number}"}]
            found = set()
            for turn in range(3):
                _, headers, _ = await stage.ask(messages=turns)
                found.add(headers["x-naru-deployment"])
                turns = [*turns, {"role": "assistant", "content": "a"}, {"role": "user", "content": str(turn)}]
            assert len(found) == 1
            homes |= found
        assert homes == {"a/x", "b/x"}


async def test_streams_count_as_under_way_until_they_end(tmp_path: Path) -> None:
    """The least busy is who has fewer open streams; at the end all counts are back at nothing."""
    async with cast(tmp_path, "a b", EQUAL + 'strategy = "least_busy"\n' + FAST) as stage:
        for name in "ab":
            stage[name].script = streamed(*("w" * 8), pause_s=0.05)
        answers = await asyncio.gather(*(stage.stream() for _ in range(8)))
        assert all(text_of(told) == "w" * 8 for _, _, told in answers)
        assert (len(stage["a"].asked), len(stage["b"].asked)) == (4, 4)
        known = stage.gateway.app.gateway.failover.fleet.known()
        assert [vitals.in_flight for vitals in known.values()] == [0, 0]


async def test_who_has_fallen_ill_since_the_plan_goes_behind(tmp_path: Path) -> None:
    """A request that waited for one that hangs does not wait for another that everybody else has given up meanwhile."""
    async with cast(tmp_path, "a b c") as stage:
        stage["a"].script = msgspec.structs.replace(error(500), delay_s=0.2)
        asking = asyncio.create_task(stage.ask())
        async with asyncio.timeout(5):
            while not stage["a"].asked:
                await asyncio.sleep(0.005)
        gateway = stage.gateway.app.gateway
        ill = gateway.failover.fleet.of(gateway.table.resolve("m").deployments[1])
        for _ in range(5):
            ill.breaker.failed(gateway.loop.time(), gateway.random)
        status, headers, _ = await asking
        assert (status, headers["x-naru-deployment"]) == (200, "c/x")
        assert stage["b"].asked == []


async def test_a_plain_call_does_not_spend_all_its_time_on_a_silent_one(tmp_path: Path) -> None:
    """Half of it, or what such an answer usually takes; the last one has all that is left."""
    timing = "timeouts = { connect_s = 1, ttft_s = 0.2, idle_s = 1, total_s = 1.2 }\n"
    async with cast(tmp_path, "a b", timing) as stage:
        stage["a"].script = Script(is_silent=True, ending="hang")
        status, headers, _ = await stage.ask()
        assert (status, headers["x-naru-deployment"]) == (200, "b/x")
        stage["b"].script = Script(is_silent=True, ending="hang")
        assert (await stage.ask())[0] == 504


async def test_a_cancelled_race_leaves_nothing_in_hand(tmp_path: Path) -> None:
    """Whatever its two attempts have come to at that moment."""
    hedged = "hedge = { after = 'p95', budget = 1.0 }\n" + FAST
    async with cast(tmp_path, "a b", hedged) as stage:
        gateway = stage.gateway.app.gateway
        deployment = gateway.table.resolve("m").deployments[1]
        for _ in range(30):
            gateway.failover.fleet.of(deployment).first_content(0.01, gateway.loop.time())
        for name in "ab":
            stage[name].script = streamed("w", delay_s=0.03)
        body = msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        for turn in range(60):
            exchange = Told(stage.gateway.key, body)
            task = asyncio.create_task(gateway.serve(exchange))
            await asyncio.sleep(turn / 1000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            while any(vitals.in_flight for vitals in gateway.failover.fleet.known().values()):
                await asyncio.sleep(0.01)
        assert gateway.gate.in_flight == 0
        assert gateway.ledger.open_permits == 0
        assert not stage.gateway.app._client.busy


async def test_explain_says_what_limits_have_left(tmp_path: Path) -> None:
    """The caller's, the model's and the deployments'; and it refuses a model that the key may not use, as the request would be."""
    model = """limits = { rpm = 10 }
deployments = [{ provider = "a", model = "x", limits = { concurrency = 3 } }]
"""
    async with cast(tmp_path, "a", model) as stage:
        for _ in range(4):
            await stage.ask()
        body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        _, _, told = await stage.gateway.post(body, "/v1/explain")
        assert msgspec.json.decode(told)["limits"] == [
            {"scope": "model m", "requests": {"per_minute": 10, "left": 6}},
            {"scope": "deployment a/x", "concurrency": {"limit": 3, "in_flight": 0}},
        ]
        other = await another_key(stage.gateway, models=["sandbox/echo"])
        status, _, told = await stage.gateway.post(body, "/v1/explain", authorization=f"Bearer {other}")
        assert (status, msgspec.json.decode(told)["error"]["code"]) == (403, "model_not_allowed")
