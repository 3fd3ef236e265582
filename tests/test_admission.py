"""Limits and budgets through a running gateway: exact counts, clear refusals, nothing left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from msgspec.structs import replace

from naru.storage.records import AccountRecord, BudgetRecord, LimitRecord
from tests.harness import MESSAGES, Gateway, running

SLOW = "sandbox/echo?ttft_ms=60000"
PRICED = """
[models.m]
deployments = [{ provider = "sandbox", model = "echo" }]
price = { input = 1, output = 1 }
"""


def limit(gateway: Gateway, **limits: int) -> None:
    """Limits of the gateway's first key."""
    auth = gateway.app.gateway.auth
    (record,) = [each for each in auth.records.values() if each.role == "caller"]
    auth.put(replace(record, limits=LimitRecord(**limits)))


async def give(gateway: Gateway, amount: int, mode: str = "strict", owner: str = "") -> BudgetRecord:
    auth = gateway.app.gateway.auth
    (record,) = [each for each in auth.records.values() if each.role == "caller"]
    budget = BudgetRecord(f"b{amount}", owner or record.owner, amount, "month", "Asia/Seoul", mode, 1.0)
    await asyncio.wrap_future(gateway.app.control.store.add_budget(budget))
    await gateway.app.gateway.ledger.treasury.load()
    return budget


async def test_requests_per_minute(tmp_path: Path) -> None:
    """A minute's worth at once, then 429 that says whose limit it is and when to come again."""
    async with running(tmp_path) as gateway:
        limit(gateway, rpm=5)
        for left in (4, 3, 2, 1, 0):
            status, headers, _ = await gateway.chat(model="sandbox/echo")
            assert (status, headers["x-ratelimit-remaining-requests"]) == (200, str(left))
            assert headers["x-ratelimit-limit-requests"] == "5"
        status, headers, body = await gateway.chat(model="sandbox/echo")
        assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "5 requests per minute" in body["error"]["message"]
        assert 1 <= int(headers["retry-after"]) <= 12
        assert len(await gateway.entries()) == 5


async def test_fifty_at_once_where_twenty_may_be(tmp_path: Path) -> None:
    """Exactly 20 pass, 30 are told so; when the 20 have left, all places are free again."""
    async with running(tmp_path) as gateway:
        limit(gateway, concurrency=20)
        tasks = [asyncio.create_task(gateway.chat(model=SLOW, stream=True)) for _ in range(50)]
        refused = []
        async with asyncio.timeout(20):
            for task in asyncio.as_completed(tasks):
                refused.append(await task)
                if len(refused) == 30:
                    break
        assert {(status, body["error"]["code"]) for status, _, body in refused} == {(429, "concurrency_limit_exceeded")}
        assert gateway.app.gateway.ledger.open_permits == 20
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await gateway.entries()
        assert [meter.in_flight for meter in gateway.app.gateway.allowances._meters.values()] == [0]
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200


async def test_tokens_per_minute_are_held_and_put_right(tmp_path: Path) -> None:
    """What may come is held while the answer is under way; what came is what counts. More than a minute's worth never can."""
    async with running(tmp_path) as gateway:
        limit(gateway, tpm=1_000)
        status, _, body = await gateway.chat(model="sandbox/echo", max_tokens=2_000)
        assert (status, body["error"]["code"]) == (400, "request_exceeds_tpm")
        for _ in range(4):  # 900 are held each time, and nearly all of them come back
            assert (await gateway.chat(model="sandbox/echo", max_tokens=900))[0] == 200
        held = asyncio.create_task(gateway.chat(model=SLOW, stream=True, max_tokens=700))
        async with asyncio.timeout(10):
            while not gateway.app.gateway.ledger.open_permits:
                await asyncio.sleep(0.005)
        status, headers, body = await gateway.chat(model="sandbox/echo", max_tokens=700)
        assert (status, "tokens per minute" in body["error"]["message"]) == (429, True)
        assert int(headers["x-ratelimit-remaining-tokens"]) < 700
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)


async def test_a_request_that_may_wait_gets_its_turn(tmp_path: Path) -> None:
    async with running(tmp_path, "[server]\nqueue_s = 20\n") as gateway:
        limit(gateway, concurrency=1)
        model = "sandbox/echo?ttft_ms=50"
        found = await asyncio.gather(*(gateway.chat(model=model) for _ in range(5)))
        assert [status for status, _, _ in found] == [200] * 5


async def test_a_client_that_leaves_the_queue_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, "[server]\nqueue_s = 60\n") as gateway:
        limit(gateway, concurrency=1)
        first = asyncio.create_task(gateway.chat(model=SLOW, stream=True))
        async with asyncio.timeout(10):
            while not gateway.app.gateway.ledger.open_permits:
                await asyncio.sleep(0.005)
        waiting = asyncio.create_task(gateway.chat(model="sandbox/echo"))
        async with asyncio.timeout(10):
            while not gateway.app.gateway.allowances.admission.queues:
                await asyncio.sleep(0.005)
        for task in (waiting, first):
            task.cancel()
        await asyncio.gather(first, waiting, return_exceptions=True)
        async with asyncio.timeout(10):
            while gateway.app.gateway.allowances.admission.queues or gateway.app.gateway.ledger.open_permits:
                await asyncio.sleep(0.005)
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200


async def test_limits_of_a_team_hold_for_all_its_keys(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        auth, store = gateway.app.gateway.auth, gateway.app.control.store
        team = AccountRecord("t", "team", "research", 1.0, limits=LimitRecord(rpm=2))
        await asyncio.wrap_future(store.add_account(team))
        await gateway.app.gateway.ledger.treasury.load()
        (record,) = [each for each in auth.records.values() if each.role == "caller"]
        auth.put(replace(record, account="t"))
        statuses = [(await gateway.chat(model="sandbox/echo"))[0] for _ in range(3)]
        status, _, body = await gateway.chat(model="sandbox/echo")
        assert (statuses, status) == ([200, 200, 429], 429)
        assert "team research" in body["error"]["message"]


async def test_a_limit_that_is_lifted_lets_those_in_who_wait(tmp_path: Path) -> None:
    """The next request tells the meter, and that its limits are gone counts as a change too."""
    async with running(tmp_path) as gateway:
        allowances, route = gateway.app.gateway.allowances, gateway.app.gateway.table.resolve("sandbox/echo")
        limit(gateway, concurrency=1)
        (record,) = [each for each in gateway.app.gateway.auth.records.values() if each.role == "caller"]
        (meter,) = allowances.path(record, route)
        assert meter.places == 1
        assert allowances.path(replace(record, limits=LimitRecord()), route) == ()
        assert not meter.is_limited


async def test_limits_of_a_model_and_of_a_deployment(tmp_path: Path) -> None:
    """A model's limit refuses; a deployment's sends the request to the next one."""
    config = """
    [models.m]
    deployments = [
      { provider = "sandbox", model = "echo", limits = { rpm = 1 } },
      { provider = "sandbox", model = "think", priority = 2 },
    ]
    limits = { rpm = 3 }
    """
    async with running(tmp_path, config) as gateway:
        found = [await gateway.chat(model="m") for _ in range(4)]
        assert [status for status, _, _ in found] == [200, 200, 200, 429]
        assert [headers["x-naru-deployment"] for _, headers, _ in found[:3]] == [
            "sandbox/echo", "sandbox/think", "sandbox/think",
        ]  # fmt: skip
        assert "model m" in found[3][2]["error"]["message"]
        entries = await gateway.entries()
        assert entries[0].tried[0].error == "rate_limit_exceeded"


@pytest.mark.parametrize("fault", ["status=500", "reset=1", "cut_after=0"])
async def test_what_fails_upstream_gives_its_tokens_back(tmp_path: Path, fault: str) -> None:
    async with running(tmp_path) as gateway:
        limit(gateway, tpm=1_000, concurrency=1)
        for _ in range(3):
            status, _, _ = await gateway.chat(model=f"sandbox/echo?{fault}", max_tokens=900, stream=True)
            assert status >= 500
        assert (await gateway.chat(model="sandbox/echo", max_tokens=900))[0] == 200


# --- Budgets ----------------------------------------------------------------------------------------------------------


async def test_a_strict_budget_refuses_before_anything_is_sent(tmp_path: Path) -> None:
    """402 with whose budget, what is left and when it starts anew; the official client does not try again by itself."""
    async with running(tmp_path, PRICED) as gateway:
        await give(gateway, 150_000)
        answer: Any = await gateway.openai.chat.completions.create(model="m", messages=MESSAGES, max_tokens=20)  # type: ignore[arg-type]
        assert answer.usage.completion_tokens
        retrying = gateway.openai.with_options(max_retries=5)
        with pytest.raises(openai.APIStatusError) as caught:
            await retrying.chat.completions.create(model="m", messages=MESSAGES, max_tokens=500)  # type: ignore[arg-type]
        assert (caught.value.status_code, caught.value.code) == (402, "budget_exceeded")
        message = str(caught.value)
        assert "0.00015 USD a month" in message
        assert "starts anew" in message
        entries = await gateway.entries()
        assert len(entries) == 1
        assert entries[0].scopes[0].startswith("b150000@")
        assert await asyncio.wrap_future(gateway.app.control.store.problems()) == []


async def test_a_strict_budget_is_never_exceeded_by_many_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, PRICED) as gateway:
        await give(gateway, 1_000_000)
        found = await asyncio.gather(*(gateway.chat(model="m", max_tokens=50) for _ in range(60)))
        statuses = {status for status, _, _ in found}
        assert statuses <= {200, 402}
        entries = await gateway.entries()
        assert len(entries) == sum(status == 200 for status, _, _ in found)
        (scope,) = await asyncio.wrap_future(gateway.app.control.store.scopes())
        assert scope.spent_nano == sum(entry.cost_nano for entry in entries) <= 1_000_000
        assert scope.overrun_nano == 0


async def test_streams_are_charged_before_their_end_is_told(tmp_path: Path) -> None:
    """Who has read [DONE] finds the charge in the ledger's memory already: a crash after it loses nothing."""
    async with running(tmp_path, PRICED) as gateway:
        await give(gateway, 10**9)
        stream = await gateway.openai.chat.completions.create(model="m", messages=MESSAGES, stream=True)  # type: ignore[call-overload]
        async for _ in stream:
            pass
        assert gateway.app.gateway.ledger.open_permits == 0
        (purse,) = gateway.app.gateway.ledger.treasury.purses.values()
        assert (purse.held, purse.spent > 0) == (0, True)
