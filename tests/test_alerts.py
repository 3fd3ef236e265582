"""Budget alerts: signed, tried again, once for each mark of a window, and never in a request's way."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.clock import SystemClock
from naru.ledger.alerts import Alert
from naru.storage.records import BudgetRecord
from naru.testing.clock import NEW_YEAR_2026_S, FakeClock
from naru.testing.http import Exchange, RawServer
from naru.transport.connect import Connector
from naru.transport.upstream import UpstreamClient
from naru.webhook import Hook, Webhook, alert_id
from tests.harness import Gateway, running

SECRET = "a-long-random-text"
ALERT = Alert("b1@0", "k1", "b1", "the budget of 팀", 800, 1000, 801, 0.0, 100.0, 50.0)
NO_WAITS = (0.0001,) * 3


def verified(exchange: Any, secret: str = SECRET) -> dict[str, Any]:
    """What a receiver does: the documented recipe, not our own function."""
    header = exchange.header("naru-signature")
    assert header is not None
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", header)
    assert found is not None
    expected = hmac.new(secret.encode(), found[1].encode() + b"." + exchange.body, "sha256").hexdigest()
    assert hmac.compare_digest(expected, found[2])
    return dict(msgspec.json.decode(exchange.body))


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient(Connector())
    yield made
    await made.close()


async def test_an_alert_is_signed_and_says_all(client: UpstreamClient) -> None:
    """The signature verifies over the very bytes; a changed body or another secret does not."""
    receiver = RawServer(lambda e: e.answer(204, b""))
    base = await receiver.start()
    webhook = Webhook(client, FakeClock(), Hook(f"{base}/hooks/naru?team=1", SECRET, allow_private=True), NO_WAITS)
    webhook.tell(ALERT)
    await receiver.watch.until(lambda: receiver.requests == 1)
    (got,) = receiver.received
    assert (got.method, got.target, got.header("content-type")) == ("POST", "/hooks/naru?team=1", "application/json")
    assert got.header("host") == base.removeprefix("http://")
    said = verified(got)
    assert (said["id"], said["type"]) == ("b1@0:800", "budget.alert")
    assert {name: said[name] for name in ALERT.__struct_fields__} == msgspec.structs.asdict(ALERT)
    assert f"t={int(NEW_YEAR_2026_S)}," in (got.header("naru-signature") or "")
    with pytest.raises(AssertionError):
        verified(got, "another secret")
    got.body = got.body.replace(b"801", b"802")
    with pytest.raises(AssertionError):
        verified(got)
    await webhook.stop()
    assert (webhook.delivered, webhook.given_up) == (1, 0)
    await receiver.stop()


@pytest.mark.parametrize("first", [500, 429, "reset"])
async def test_it_is_tried_again(client: UpstreamClient, first: int | str) -> None:
    """After a failure the same alert comes again under the same id, freshly signed."""

    def unsteady(exchange: Exchange) -> None:
        if receiver.requests > 1:
            exchange.answer(200, b"ok")
        elif isinstance(first, int):
            exchange.answer(first, b"")
        else:
            exchange.reset()

    receiver = RawServer(unsteady)
    base = await receiver.start()
    webhook = Webhook(client, FakeClock(), Hook(base, SECRET, allow_private=True), NO_WAITS)
    webhook.tell(ALERT)
    await receiver.watch.until(lambda: receiver.requests == 2)
    assert [verified(got)["id"] for got in receiver.received] == [alert_id(ALERT)] * 2
    await webhook.stop()
    assert webhook.delivered == 1
    await receiver.stop()


@pytest.mark.parametrize(("status", "attempts"), [(503, 4), (400, 1), (302, 1)])
async def test_it_is_given_up(client: UpstreamClient, status: int, attempts: int) -> None:
    """A receiver that fails gets so many attempts, one that does not want it gets one; nobody is followed elsewhere. The next
    alert is delivered all the same."""

    def refuse(exchange: Exchange) -> None:
        is_first = b'"per_mille":800' in exchange.received.body
        exchange.answer(status if is_first else 200, b"", (("location", "http://127.0.0.1:9/"),))

    receiver = RawServer(refuse)
    base = await receiver.start()
    webhook = Webhook(client, FakeClock(), Hook(base, SECRET, allow_private=True), NO_WAITS)
    webhook.tell(ALERT)
    webhook.tell(msgspec.structs.replace(ALERT, per_mille=900))
    await receiver.watch.until(lambda: receiver.requests == attempts + 1)
    await webhook.stop()
    assert (webhook.delivered, webhook.given_up) == (1, 1)
    await receiver.stop()


async def test_private_addresses_only_where_allowed(client: UpstreamClient) -> None:
    receiver = RawServer(lambda e: e.answer(200, b""))
    base = await receiver.start()
    webhook = Webhook(client, FakeClock(), Hook(base, SECRET), waits_s=())
    webhook.tell(ALERT)
    await webhook.stop()
    assert (webhook.given_up, receiver.requests) == (1, 0)
    await receiver.stop()


async def test_what_waits_is_bounded(client: UpstreamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead receiver costs memory for so many alerts and no more."""
    monkeypatch.setattr("naru.webhook.MAX_WAITING", 3)
    webhook = Webhook(client, FakeClock(), Hook("http://127.0.0.1:9", SECRET), waits_s=())
    for _ in range(10):
        webhook.tell(ALERT)
    assert webhook.given_up == 7
    await webhook.stop()


# --- In a gateway -------------------------------------------------------------------------------------------------


async def with_budget(gateway: Gateway, amount_nano: int) -> None:
    store, clock = gateway.app.control.store, SystemClock()
    key = gateway.key[3:15]
    budget = BudgetRecord("b1", key, amount_nano, "total", "Asia/Seoul", "advisory", clock.now())
    await asyncio.wrap_future(store.add_budget(budget))
    await gateway.app.gateway.ledger.treasury.load()


async def test_each_mark_once_also_after_a_restart(tmp_path: Path) -> None:
    """Every answer costs a quarter of the budget: 80 % passes with the fourth, with 90 and 100; the fifth says nothing new,
    nor does a gateway that starts again."""
    receiver = RawServer(lambda e: e.answer(200, b""))
    base = await receiver.start()
    config = f'[alerts]\nwebhook = "{base}/"\nsecret = "{SECRET}"\nallow_private = true\n'
    async with running(tmp_path, config) as gateway:
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        cost = (await gateway.entries())[0].cost_nano
        await with_budget(gateway, cost * 4)
        for _ in range(3):
            assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        assert receiver.requests == 0
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        await receiver.watch.until(lambda: receiver.requests == 3)
        told = [verified(got) for got in receiver.received]
        assert [alert["per_mille"] for alert in told] == [800, 900, 1000]
        assert {alert["spent_nano"] for alert in told} == {cost * 4}
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        await gateway.entries()
        key = gateway.key
    async with running(tmp_path, config) as gateway:
        body = msgspec.json.encode({"model": "sandbox/echo", "messages": [{"role": "user", "content": "again"}]})
        assert (await gateway.post(body, authorization=f"Bearer {key}"))[0] == 200
        await gateway.entries()
    assert receiver.requests == 3
    await receiver.stop()


async def test_a_dead_receiver_disturbs_nobody(tmp_path: Path) -> None:
    """The request is answered and billed; the alert is in the log."""
    config = f'[alerts]\nwebhook = "http://127.0.0.1:9/"\nsecret = "{SECRET}"\nallow_private = true\n'
    async with running(tmp_path, config) as gateway:
        await with_budget(gateway, 1)
        for _ in range(3):
            assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        assert len(await gateway.entries()) == 3
