"""A gateway in this process whose naru.toml changes: what takes effect, and that a mistake changes nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from naru.reload import Outcome
from naru.testing import Sandbox
from naru.testing.http import Exchange, RawServer
from naru.transport.connect import Origin
from tests.control.plane import Plane, control_plane
from tests.harness import MESSAGES, Gateway, running

ANSWER = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"x"}}],"usage":{"prompt_tokens":1000,"completion_tokens":0}}'


def provider(name: str, base_url: str, more: str = "") -> str:
    return (
        f'[providers.{name}]\nkind = "custom"\nbase_url = "{base_url}"\napi_key = "k"\nallow_private = true\n{more}\n'
    )


def model(name: str, *deployments: str, more: str = "") -> str:
    tables = ", ".join(
        f'{{ provider = "{each.partition("/")[0]}", model = "{each.partition("/")[2]}", priority = {number} }}'
        for number, each in enumerate(deployments, start=1)
    )
    return f"[models.{name}]\ndeployments = [{tables}]\n{more}\n"


async def save(gateway: Gateway, text: str, trigger: str = "api") -> Outcome:
    source = gateway.app.settings.source
    assert source is not None
    source.write_text(text)
    return await gateway.app._reloader.reload(trigger)


async def state(gateway: Gateway) -> tuple[Any, ...]:
    """Everything that a reload may replace."""
    app = gateway.app
    return (
        app.settings, app.gateway.upstreams, app.gateway.policy, app.gateway.allowances.queue_s, app.gateway.ledger.fx,
        app.control.desk.krw_per_usd, app.webhook, app.sweep.retention_s,
        {origin: pool.max_connections for origin, pool in app._client.pools.items()},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def same_log() -> Iterator[None]:
    """A reload may change the level of this process's log."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
async def upstream() -> AsyncIterator[Sandbox]:
    sandbox = Sandbox()
    sandbox.url = await sandbox.start()  # type: ignore[attr-defined]
    yield sandbox
    await sandbox.stop()


def url(upstream: Sandbox) -> str:
    return str(upstream.url)  # type: ignore[attr-defined]


async def test_settings_take_effect_at_once(tmp_path: Path) -> None:
    """Those that live outside the table too, the log's level among them; `on_taken` hears of it."""
    text = """
    log_level = "error"
    [server]
    queue_s = 3
    on_disconnect = "abort"
    fetch_images = "any"
    drain_s = 7
    [ledger]
    durability = "power"
    display_currency = "KRW"
    krw_per_usd = 1400
    [log]
    content = true
    retention_days = 2
    [alerts]
    webhook = "https://ops.example.com/hook"
    secret = "s"
    """
    async with running(tmp_path) as gateway:
        app, heard = gateway.app, []
        app.on_taken = heard.append
        outcome = await save(gateway, text)
        assert (outcome.result, outcome.error, outcome.waiting) == ("applied", None, [])
        policy = app.gateway.policy
        means = app.gateway.failover.means
        assert (means.abort_on_disconnect, policy.is_power_safe, policy.keeps_content) == (True, True, True)
        assert means.images is not None
        assert means.images.allow_private
        assert (app.gateway.allowances.queue_s, app.sweep.retention_s) == (3.0, 2 * 86_400)
        assert (app.gateway.ledger.fx, app.control.desk.fx) == ("1400 KRW/USD", "1400 KRW/USD")
        assert str(app.control.desk.krw_per_usd) == "1400"
        assert [settings.server.drain_s for settings in heard] == [7.0]
        assert not structlog.get_logger("naru").is_enabled_for(logging.INFO)
        assert app.webhook is not None
        webhook = app.webhook
        await save(gateway, text.replace("/hook", "/other"))
        assert app.webhook is webhook
        assert webhook.hook.url == "https://ops.example.com/other"
        assert webhook.origin in app._client.pools
        await save(gateway, "")
        assert app.webhook is None
        assert webhook.origin not in app._client.pools
        assert app.gateway.failover.means.images is None


async def test_routing_takes_effect_and_remembers(tmp_path: Path) -> None:
    """What is known of a deployment outlives the configuration; a changed credential is tried anew."""
    text = """
    [server]
    max_in_flight = 7
    max_queue = 1
    hold_s = 2
    keepalive_s = 3
    [routing]
    breaker_failures = 2
    retry_ratio = 0.1
    [providers.one]
    kind = "sandbox"
    [models.m]
    deployments = [{ provider = "one", model = "echo" }]
    """
    async with running(tmp_path, text.replace("breaker_failures = 2", "").replace("0.1", "0.3")) as gateway:
        app = gateway.app
        failover, deployment = app.gateway.failover, app.gateway.table.resolve("m").deployments[0]
        vitals = failover.fleet.of(deployment)
        vitals.credential.refused(app.gateway.loop.time())
        assert (await save(gateway, text)).result == "applied"
        assert failover.fleet.of(app.gateway.table.resolve("m").deployments[0]) is vitals
        assert (vitals.breaker.policy.failures, failover.retries.ratio) == (2, 0.1)
        assert not vitals.is_well(app.gateway.loop.time())
        gate, streams = app.gateway.gate, app.gateway.streams
        assert (gate._meter.places, streams.hold_s, streams.keep_alive_s) == (7, 2.0, 3.0)
        await save(gateway, text.replace('kind = "sandbox"', 'kind = "sandbox"\napi_key = "new"'))
        assert vitals.is_well(app.gateway.loop.time())


async def test_a_cache_comes_and_goes(tmp_path: Path) -> None:
    """Requests under way keep theirs."""
    async with running(tmp_path) as gateway:
        body = b'{"model":"sandbox/echo","messages":[{"role":"user","content":"hi"}]}'

        async def states() -> list[str]:
            return [(await gateway.post(body))[1]["x-naru-cache"] for _ in range(2)]

        assert await states() == ["off", "off"]
        await save(gateway, "[cache]\nenabled = true\n")
        assert await states() == ["miss", "hit"]
        await save(gateway, "[cache]\nenabled = true\nttl_s = 60\n")
        assert await states() == ["miss", "hit"]
        await save(gateway, "")
        assert await states() == ["off", "off"]


async def test_probes_begin_and_end_with_the_file(tmp_path: Path) -> None:
    server = RawServer(lambda exchange: exchange.answer(200, b"{}"))
    base = await server.start()
    text = f'[providers.gpu]\nkind = "vllm"\nbase_url = "{base}/v1"\nallow_private = true\n'
    async with running(tmp_path, text) as gateway:
        assert server.requests == 0
        await save(gateway, text + "probe_s = 0.01\n")
        async with asyncio.timeout(5):
            while server.requests < 4:
                await asyncio.sleep(0.005)
        assert {received.path for received in server.received} == {"/health", "/metrics"}
        await save(gateway, text)
        assert gateway.app.prober._tasks == []
    await server.stop()


MISTAKES = {
    "no TOML": "[server\n",
    "half written": '[models.m]\ndeployments = [{ provider = "sandbox", mod',
    "an unknown key": "[server]\nqueue = 1\n",
    "a wrong value": "[server]\nqueue_s = -1\n",
    "an unknown provider": model("m", "nobody/x"),
    "no such kind": '[providers.x]\nkind = "nothing"\n',
    "a variable that is not set": '[providers.deepseek]\napi_key = "${NARU_NO_SUCH_VARIABLE}"\n',
    "a region without address": '[providers.dashscope]\napi_key = "k"\nregion = "moon"\n',
    "a circle": model("a", "sandbox/echo", more='fallbacks = ["b"]')
    + model("b", "sandbox/echo", more='fallbacks = ["a"]'),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
async def test_a_mistake_changes_nothing_and_is_told(mistake: str, tmp_path: Path) -> None:
    """Good changes beside it are not taken over either. The log and the outcome name the file; it is counted."""
    good = "log_level = 'error'\n" + provider("good", "http://127.0.0.1:1/v1", "price = 'free'")
    async with running(tmp_path, model("kept", "sandbox/echo")) as gateway:
        before = await state(gateway)
        with structlog.testing.capture_logs() as logs:
            outcome = await save(gateway, good + MISTAKES[mistake])
        assert outcome.result == "failed"
        assert outcome.error is not None
        assert str(tmp_path / "naru.toml") in outcome.error
        assert [(each["log_level"], each["why"]) for each in logs] == [("error", outcome.error)]
        assert all(now is then or now == then for now, then in zip(await state(gateway), before, strict=True))
        assert (await gateway.chat(model="kept"))[0] == 200
        metrics = gateway.app.gateway.metrics
        assert metrics.reloads == {"applied": 0, "unchanged": 0, "failed": 1}
        assert metrics.reload_failed_at == outcome.at
        assert (await save(gateway, good)).result == "applied"


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """Not even to another file that would be found now."""
    async with running(tmp_path, model("kept", "sandbox/echo")) as gateway:
        (tmp_path / "naru.toml").rename(tmp_path / "home" / "naru.toml")
        outcome = await gateway.app._reloader.reload("save")
        assert "there is no such file" in str(outcome.error)
        assert (await gateway.chat(model="kept"))[0] == 200


async def test_a_failure_of_our_own_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever cannot be built is found before the first thing is replaced."""
    async with running(tmp_path, model("kept", "sandbox/echo")) as gateway:
        before = await state(gateway)
        monkeypatch.setattr("naru.app.load_catalog", lambda rate: 1 / 0)
        outcome = await save(gateway, "log_level = 'error'\n")
        assert (outcome.result, outcome.error) == ("failed", "ZeroDivisionError; the log has the cause")
        assert await state(gateway) == before


async def test_what_a_signal_read_is_not_read_again_as_a_save(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        saves = gateway.app._watcher.saves
        await save(gateway, "[server]\nqueue_s = 1\n", "signal")
        assert [saves.poll() for _ in range(3)] == [False] * 3


async def test_what_needs_a_restart_waits_and_the_rest_does_not(tmp_path: Path) -> None:
    """The warning names the keys; they are named again until the restart or until they are as before."""
    text = "[server]\nmax_body_bytes = 7\nport = 1\nqueue_s = 2\n[store]\nurl = 'sqlite:///x.db'\n"
    async with running(tmp_path) as gateway:
        with structlog.testing.capture_logs() as logs:
            outcome = await save(gateway, text)
        waiting = ["server.port", "server.max_body_bytes", "store.url"]
        assert (outcome.result, sorted(outcome.waiting)) == ("applied", sorted(waiting))
        assert [sorted(each["settings"]) for each in logs if each["log_level"] == "warning"] == [sorted(waiting)]
        settings = gateway.app.settings
        assert (settings.server.queue_s, settings.server.max_body_bytes) == (2.0, 32 * 1024 * 1024)
        assert gateway.app.gateway.policy.max_body_bytes == 32 * 1024 * 1024
        again = await save(gateway, text)
        assert (again.result, sorted(again.waiting)) == ("unchanged", sorted(waiting))
        assert (await save(gateway, "[server]\nqueue_s = 2\n")).changes == ()


async def test_models_and_prices_are_exchanged(tmp_path: Path, upstream: Sandbox) -> None:
    """A model comes, costs something else, and goes; its provider with it."""
    base = provider("box", url(upstream))
    async with running(tmp_path) as gateway:
        assert (await gateway.chat(model="m"))[0] == 404
        costs = []
        for price in (1, 2):
            await save(gateway, base + model("m", "box/echo", more=f"price = {{ input = {price}, output = {price} }}"))
            assert (await gateway.chat(model="m"))[0] == 200
            costs.append((await gateway.entries())[0])
        assert costs[1].cost_nano == 2 * costs[0].cost_nano > 0
        assert costs[1].price_version != costs[0].price_version
        await save(gateway, "")
        assert (await gateway.chat(model="m"))[0] == 404
        assert (await gateway.chat(model="box/echo"))[0] == 404


async def test_a_request_under_way_costs_what_it_did_when_it_began(tmp_path: Path, upstream: Sandbox) -> None:
    """Its price, its rate and its provider are those of its beginning, though all three change before it ends."""

    def text(price: int, rate: int) -> str:
        fx = f"[ledger]\ndisplay_currency = 'KRW'\nkrw_per_usd = {rate}\n"
        what = f"price = {{ input = {price}, output = {price} }}"
        return fx + provider("box", url(upstream)) + model("m", "box/echo?ttft_ms=0&tps=20", more=what)

    async with running(tmp_path, text(1, 1000)) as gateway:
        began = gateway.app.gateway.table.resolve("m").deployments[0]
        asked = asyncio.create_task(
            gateway.post(msgspec.json.encode({"model": "m", "stream": True, "messages": MESSAGES}))
        )
        await upstream.watch.until(lambda: upstream.open_streams == 1)
        assert (await save(gateway, text(5, 2000).replace("box", "other"))).result == "applied"
        status, _, answer = await asked
        assert (status, b"[DONE]" in answer) == (200, True)
        (entry,) = await gateway.entries()
        assert began.price is not None
        assert (entry.outcome, entry.price_version, entry.fx) == ("completed", began.price.version, "1000 KRW/USD")
        assert entry.provider == "box"


async def test_limits_take_effect_at_once(tmp_path: Path) -> None:
    """A model's and a deployment's: set, changed, taken away; also for who waits for a place already."""
    slow = model("m", "sandbox/echo?hang_after=1")
    async with running(tmp_path, "[server]\nqueue_s = 60\n" + slow + "limits = { concurrency = 1 }\n") as gateway:
        body = msgspec.json.encode({"model": "m", "stream": True, "messages": MESSAGES})
        allowances = gateway.app.gateway.allowances
        tasks = [asyncio.create_task(gateway.post(body)) for _ in range(3)]
        await until(lambda: sum(map(len, allowances.admission.queues.values())) == 2)
        await save(gateway, "[server]\nqueue_s = 60\n" + slow + "limits = { concurrency = 2 }\n")
        await until(lambda: sum(map(len, allowances.admission.queues.values())) == 1)
        await save(gateway, slow)
        await until(lambda: gateway.app.gateway.ledger.open_permits == 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for more, statuses in (("", [200, 200]), ("limits = { rpm = 1 }", [200, 429]), ("", [200, 200])):
            await save(gateway, model("n", "sandbox/echo", more=more))
            assert [(await gateway.chat(model="n"))[0] for _ in range(2)] == statuses
        limited = '[models.m]\ndeployments = [{ provider = "sandbox", model = "echo", limits = { rpm = 1 } }]\n'
        await save(gateway, limited)
        assert [(await gateway.chat(model="m"))[0] for _ in range(2)] == [200, 429]
        await save(gateway, limited.replace("rpm = 1 ", "rpm = 1000 "))
        assert (await gateway.chat(model="m"))[0] == 200


async def until(is_so: Any) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


async def test_connections_stay_warm_where_the_address_stays(tmp_path: Path, upstream: Sandbox) -> None:
    """Another key, price, name and limit of connections, and the same socket; another address gets its own, and the old
    one's are closed."""
    base = provider("box", url(upstream), 'price = "free"')
    async with running(tmp_path, base) as gateway:
        assert (await gateway.chat(model="box/echo"))[0] == 200
        assert upstream._server.connections == 1
        changed = base.replace('"k"', '"other"').replace("box", "crate") + "max_connections = 3\n"
        assert (await save(gateway, changed)).result == "applied"
        assert (await gateway.chat(model="crate/echo"))[0] == 200
        assert (upstream._server.connections, upstream.open_connections) == (1, 1)
        assert [pool.max_connections for pool in gateway.app._client.pools.values() if pool.open] == [3]
        await save(gateway, "")
        await upstream.watch.until(lambda: upstream.open_connections == 0)
        assert Origin.of(url(upstream), True) not in gateway.app._client.pools


async def test_a_stream_of_a_removed_provider_comes_to_its_end(tmp_path: Path, upstream: Sandbox) -> None:
    """And then its connection is closed, and its pool is gone."""
    async with running(tmp_path, provider("box", url(upstream), 'price = "free"')) as gateway:
        body = msgspec.json.encode({"model": "box/echo?tps=20", "stream": True, "messages": MESSAGES})
        asked = asyncio.create_task(gateway.post(body))
        await upstream.watch.until(lambda: upstream.open_streams == 1)
        await save(gateway, "")
        origin = Origin.of(url(upstream), True)
        assert origin in gateway.app._client.pools
        _, _, answer = await asked
        assert b"[DONE]" in answer
        await upstream.watch.until(lambda: upstream.open_connections == 0)
        gateway.app._client._drop_gone()
        assert origin not in gateway.app._client.pools


async def test_what_was_planned_can_be_called_after_the_swap(tmp_path: Path, upstream: Sandbox) -> None:
    """Whoever holds on to the Upstreams it began with reaches a provider that is no more, whether it was called before or
    not; the new ones do not know it."""
    text = provider("box", url(upstream), 'price = "free"') + model("m", "box/echo")
    async with running(tmp_path, text) as gateway:
        held = gateway.app.gateway.upstreams
        deployment = held.table.resolve("m").deployments[0]
        await save(gateway, "")
        now = gateway.app.gateway.upstreams
        assert now is not held
        target = held.target(deployment, "openai_chat")
        connection = await target.pool.acquire(5)
        target.pool.put_back(connection)
        await upstream.watch.until(lambda: upstream._server.connections == 1 and upstream.open_connections == 0)
        with pytest.raises(KeyError):
            now.target(deployment, "openai_chat")


async def test_failover_after_the_swap_reaches_what_was_planned(tmp_path: Path, upstream: Sandbox) -> None:
    """The first deployment fails after its fallback's provider was taken out of the file: the request is answered all the
    same, by the provider that it was planned for."""
    is_swapped = asyncio.Event()

    async def fail_after_the_swap(exchange: Exchange) -> None:
        await is_swapped.wait()
        exchange.answer(500, b'{"error":{"message":"x"}}')

    first = RawServer(fail_after_the_swap)
    one = provider("one", await first.start() + "/v1", 'price = "free"')
    two = provider("two", url(upstream), 'price = "free"')
    async with running(tmp_path, one + two + model("m", "one/x", "two/echo")) as gateway:
        asked = asyncio.create_task(gateway.chat(model="m"))
        await first.watch.until(lambda: first.requests == 1)
        outcome = await save(gateway, one + model("m", "one/x"))
        is_swapped.set()
        status, headers, _ = await asked
        await first.stop()
    assert (outcome.result, status, headers.get("x-naru-deployment")) == ("applied", 200, "two/echo")


async def test_a_sandbox_added_by_a_reload_is_started_and_stays(tmp_path: Path) -> None:
    off = "[providers.sandbox]\nenabled = false\n"
    async with running(tmp_path, off) as gateway:
        assert gateway.app._sandbox is None
        await save(gateway, '[providers.play]\nkind = "sandbox"\n' + off)
        sandbox = gateway.app._sandbox
        assert (await gateway.chat(model="play/echo"))[0] == 200
        await save(gateway, off)
        assert (await gateway.chat(model="play/echo"))[0] == 404
        assert gateway.app._sandbox is sandbox
        await save(gateway, "")
        assert (await gateway.chat(model="sandbox/echo"))[0] == 200
        assert gateway.app._sandbox is sandbox


# --- By the admin API ---------------------------------------------------------------------------------------------


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    async with control_plane(tmp_path) as found:
        yield found


async def test_the_admin_api_reloads_and_answers(plane: Plane, tmp_path: Path) -> None:
    """What changed, what waits, or what is wrong, with the figures of it in /metrics and a line in the audit log."""
    path = "/admin/config/reload"
    assert await plane.ok("GET", path) == {"last": None}
    (tmp_path / "naru.toml").write_text("[server]\nqueue_s = 2\nport = 9\n")
    told = await plane.ok("POST", path)
    assert (told["result"], told["trigger"], told["source"]) == ("applied", "api", str(tmp_path / "naru.toml"))
    assert told["changes"] == [{"key": "server.queue_s", "change": "0.0 -> 2.0"}]
    assert told["needs_restart"] == [{"key": "server.port", "change": "8000 -> 9"}]
    assert await plane.ok("GET", path) == {"last": told}
    (tmp_path / "naru.toml").write_text("[server]\nqueue_s = -2\n")
    status, code, message = await plane.refused("POST", path)
    assert (status, code) == (400, "config_refused")
    assert "server.queue_s" in message
    assert (await plane.ok("GET", path))["last"]["result"] == "failed"
    assert [action for action, _ in await plane.audit()][:2] == ["config.reload"] * 2
    metrics = (await plane.client.get("/metrics")).text
    assert 'naru_config_reloads_total{result="applied"} 1.0' in metrics
    assert 'naru_config_reloads_total{result="failed"} 1.0' in metrics
    values = dict(line.split() for line in metrics.splitlines() if line.startswith("naru_config_last_"))
    assert float(values["naru_config_last_error_timestamp_seconds"]) >= told["at"]
    assert float(values["naru_config_last_reload_timestamp_seconds"]) == pytest.approx(told["at"])


async def test_secrets_are_in_no_answer_log_or_file(
    plane: Plane, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Set, changed and taken out, with a mistake in between that stands beside one."""
    texts = [
        f'[providers.deepseek]\napi_key = "canary-key-{n}"\nheaders = {{ "X-A" = "canary-header-{n}" }}\n'
        f'[alerts]\nwebhook = "https://o.example.com/canary-hook-{n}"\nsecret = "canary-sign-{n}"\n'
        for n in (1, 2)
    ]
    seen = []
    with structlog.testing.capture_logs() as logs:
        for text in (*texts, texts[0] + "oops = 1\n", texts[0] + "= canary-toml", ""):
            (tmp_path / "naru.toml").write_text(text)
            seen.append(await plane.ask("POST", "/admin/config/reload"))
        seen.append(await plane.ask("GET", "/admin/config/reload"))
        seen.append(await plane.ask("GET", "/admin/audit"))
    assert "providers.deepseek.api_key" in str(seen)
    assert len([each for each in logs if "reloaded" in each["event"]]) == 5
    printed = capfd.readouterr()
    files = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert "canary" not in f"{seen}{logs}{printed.out}{printed.err}"
    assert b"canary" not in files
