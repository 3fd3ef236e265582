"""`naru serve` and its file: SIGHUP, on save, a closing terminal, and twenty reloads under load without a lost request."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.config import load_settings
from naru.ledger.pricing import Price, cost_nano
from naru.protocol.messages import Usage
from naru.testing import Sandbox
from tests.process import Process, command, environment, serving

TEXT = "one two three four five six"
MESSAGES = [{"role": "user", "content": TEXT}]
CLIENTS = 50


async def metric(gateway: Process, name: str) -> float:
    text = (await gateway.whole("GET", "/metrics")).decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def reloads(gateway: Process, result: str, count: int) -> None:
    """Waits until so many readings have had that result."""
    await so(lambda: metric(gateway, f'naru_config_reloads_total{{result="{result}"}}'), count)


async def so(ask: Callable[[], Awaitable[float]], value: float) -> None:
    async with asyncio.timeout(20):
        while await ask() != value:
            await asyncio.sleep(0.02)


def replace(file: Path, text: str) -> None:
    """As editors do it: another file, then a rename."""
    other = file.with_suffix(".new")
    other.write_text(text)
    other.rename(file)


async def test_sighup_reloads_and_stops_nothing(tmp_path: Path) -> None:
    """A new model answers; a mistake is logged, counted and changes nothing; the flags of the start still hold; drain_s
    and the log's level are the new ones."""
    log, file = tmp_path / "log", tmp_path / "naru.toml"
    model = '[models.m]\ndeployments = [{ provider = "sandbox", model = "echo" }]\n'
    async with serving(tmp_path, log=log) as gateway:
        body = {"model": "m", "messages": MESSAGES}
        assert b" 404 " in (await gateway.whole("POST", "/v1/chat/completions", body))[:20]
        file.write_text(model + "[server]\ndrain_s = 0.2\npre_stop_s = 0\nport = 1\n")
        gateway.process.send_signal(signal.SIGHUP)
        await reloads(gateway, "applied", 1)
        assert b" 200 " in (await gateway.whole("POST", "/v1/chat/completions", body))[:20]
        file.write_text("[models.m]\n")
        gateway.process.send_signal(signal.SIGHUP)
        await reloads(gateway, "failed", 1)
        assert b" 200 " in (await gateway.whole("POST", "/v1/chat/completions", body))[:20]
        file.write_text(f'log_level = "error"\n{model}[server]\ndrain_s = 0.2\npre_stop_s = 0\n')
        gateway.process.send_signal(signal.SIGHUP)
        await reloads(gateway, "applied", 2)
        assert b"200 OK" in await gateway.whole("GET", "/readyz")
        reader, writer = await gateway.ask(
            "POST", "/v1/chat/completions", {"model": "sandbox/echo?hang_after=1", "messages": MESSAGES, "stream": True}
        )
        await reader.readuntil(b'"content":"one')
        gateway.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):  # the usual drain_s is 30
            assert b"server_shutting_down" in await reader.read()
            assert await gateway.process.wait() == 0
        writer.close()
    lines = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()]
    assert [line["changes"] for line in lines if line["event"] == "configuration reloaded"] == [
        ["server.drain_s: 30.0 -> 0.2", "server.pre_stop_s: 1.0 -> 0.0", "models.m: added"]
    ]
    (error,) = [line for line in lines if line["level"] == "error"]
    assert f"{file}: models.m.deployments: is missing" in error["why"]


async def test_a_saved_file_is_reloaded(tmp_path: Path) -> None:
    """Written in place and by rename; a mistake too, once; without a word to the process."""
    file = tmp_path / "naru.toml"
    async with serving(tmp_path) as gateway:
        file.write_text("[server]\nqueue_s = 1\n")
        await reloads(gateway, "applied", 1)
        replace(file, "[server]\nqueue_s = -1\n")
        await reloads(gateway, "failed", 1)
        replace(file, "[server]\nqueue_s = 2\n")
        await reloads(gateway, "applied", 2)
        assert await metric(gateway, 'naru_config_reloads_total{result="failed"}') == 1


async def test_check_tells_what_became_of_the_last_reading(tmp_path: Path) -> None:
    """The file on the disk may be another than the one that `check` was given."""
    file, other = tmp_path / "naru.toml", tmp_path / "other.toml"
    other.write_text("")
    async with serving(tmp_path) as gateway:
        for text, result, state, words in (
            ("[server]\nqueue_s = -1\n", "failed", "fail", "server.queue_s"),
            ("[server]\nmax_body_bytes = 9\n", "unchanged", "warn", "server.max_body_bytes"),
            ("[server]\nqueue_s = 1\n", "applied", "ok", str(file)),
        ):
            file.write_text(text)
            gateway.process.send_signal(signal.SIGHUP)
            await reloads(gateway, result, 1)
            _, out, _ = await command(gateway.home, "check", "--json", "--config", str(other))
            (found,) = [each for each in msgspec.json.decode(out)["findings"] if each["what"] == "reload"]
            assert (found["state"], words in found["text"]) == (state, True), found


TTY = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"


@pytest.mark.skipif(not Path("/dev/ptmx").exists(), reason="needs pseudo-terminals")
async def test_a_closing_terminal_stops_it(tmp_path: Path) -> None:
    """The SIGHUP of a terminal that goes away is a wish to stop; that of anybody else, while it is there, is not."""
    master, slave = pty.openpty()
    serve = [sys.executable, "-m", "naru", "serve", "--port", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TTY, os.ttyname(slave), *serve, env=environment(tmp_path / "home"), cwd=tmp_path,
        start_new_session=True, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(slave)
    try:
        assert process.stdout is not None
        banner = ""
        async with asyncio.timeout(20):
            while "OpenAI clients" not in banner:
                banner += (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGHUP)
        gateway = Process(process, tmp_path / "home", banner)
        await reloads(gateway, "unchanged", 1)
        os.close(master)
        assert await asyncio.wait_for(process.wait(), 20) == 0
        await process.stdout.read()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# --- Under load ---------------------------------------------------------------------------------------------------


def provider(name: str, url: str) -> str:
    return f'[providers.{name}]\nkind = "custom"\nbase_url = "{url}"\napi_key = "k"\nallow_private = true\n'


def model(name: str, deployments: list[str], price: int) -> str:
    named = [each.split("/") for each in deployments]
    tables = ", ".join(f'{{ provider = "{p}", model = "{m}", priority = {n} }}' for n, (p, m) in enumerate(named, 1))
    return f"[models.{name}]\ndeployments = [{tables}]\nprice = {{ input = {price}, output = {2 * price} }}\n"


class Files:
    """What the file says in turn: two prices, two providers of which one comes and goes, and mistakes."""

    def __init__(self, a: str, b: str) -> None:
        self.a, self.b = provider("a", a), provider("b", b)

    def good(self, price: int, with_b: bool) -> str:
        """`m` is at b while it is there; `f` fails over, to a."""
        m, f = (["b/echo?tps=60"], ["b/echo?status=500", "a/echo"]) if with_b else (["a/echo?tps=60"], ["a/echo"])
        return self.a + (self.b if with_b else "") + model("m", m, price) + model("f", f, price)

    def turns(self) -> list[tuple[str, str]]:
        """(what it says, what becomes of it): 20 of them."""
        found = []
        for turn in range(5):
            price = turn % 2 + 1
            found += [
                (self.good(price, with_b=True), "applied"),
                (self.good(price, with_b=True)[:-20], "failed"),
                (self.good(price, with_b=False), "applied"),
                (self.good(price, with_b=False) + model("x", ["b/echo"], 1), "failed"),
            ]
        return found

    def versions(self, folder: Path) -> dict[str, Price]:
        found = {}
        for price in (1, 2):
            file = folder / "price.toml"
            file.write_text(self.good(price, with_b=True))
            known = load_settings(file, {"HOME": str(folder)}, {}).models["m"].price
            assert known is not None
            found[known.version] = known
        return found


async def client(gateway: Process, number: int, is_over: asyncio.Event) -> list[str]:
    """Asks until the reloads are over. For each request nothing, or the answer that was no whole good one."""
    found = []
    is_stream = number % 2 == 0
    while not is_over.is_set():
        body = {"model": "f" if number % 5 == 0 else "m", "messages": MESSAGES, "stream": is_stream}
        answer = await gateway.whole("POST", "/v1/chat/completions", body)
        ok = b" 200 " in answer[:20] and (b"[DONE]" in answer if is_stream else TEXT.encode() in answer)
        found.append("" if ok and b'"error"' not in answer else answer.decode())
    return found


async def ask_to_reload(gateway: Process, admin: str, turn: int) -> dict[str, Any]:
    """By the signal and by the admin API in turn; what became of it."""
    asking = Process(gateway.process, gateway.home, gateway.banner)
    asking.key = admin

    async def last() -> Any:
        answer = await asking.whole("GET", "/admin/config/reload")
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])["last"] or {"at": 0.0}

    before = (await last())["at"]
    trigger = "signal" if turn % 2 else "api"
    if trigger == "signal":
        gateway.process.send_signal(signal.SIGHUP)
    else:
        await asking.whole("POST", "/admin/config/reload")
    async with asyncio.timeout(20):
        while (found := await last())["at"] == before:
            await asyncio.sleep(0.01)
    assert isinstance(found, dict)
    return found


async def test_twenty_reloads_under_load_lose_no_request(tmp_path: Path) -> None:
    """50 clients, half of them streaming, while prices change, a provider comes and goes and every other file is a mistake:
    every answer is whole, every request has one entry at one of the two prices, and the ledger agrees with itself."""
    a, b = Sandbox(), Sandbox()
    files = Files(await a.start(), await b.start())
    turns = files.turns()
    assert len(turns) == 20
    async with serving(tmp_path, turns[-2][0]) as gateway:
        admin = next(word for word in gateway.banner.split() if word.startswith("nka-"))
        is_over = asyncio.Event()
        clients = [asyncio.create_task(client(gateway, number, is_over)) for number in range(CLIENTS)]
        try:
            for turn, (text, result) in enumerate(turns):
                replace(tmp_path / "naru.toml", text)
                at_b = b.requests
                told = await ask_to_reload(gateway, admin, turn)
                # The saved file may have been seen by itself, a moment before.
                assert told["result"] in (result, "unchanged" if result == "applied" else result), told
                assert result == "applied" or told["error"]
                if "providers.b" in text and result == "applied":
                    await b.watch.until(lambda at_b=at_b: b.requests > at_b)
        finally:
            is_over.set()
            told_to = await asyncio.gather(*clients)
            await asyncio.gather(a.stop(), b.stop())
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(gateway.process.wait(), 20) == 0
    assert [answer for answers in told_to for answer in answers if answer] == []
    replace(tmp_path / "naru.toml", turns[0][0])  # the last one is a mistake, and commands read it too
    code, out, err = await command(gateway.home, "ledger", "export", "--json")
    assert code == 0, err
    entries = msgspec.json.decode(out)
    prices = files.versions(tmp_path)
    assert {entry["price_version"] for entry in entries} == set(prices)
    assert {entry["provider"] for entry in entries} == {"a", "b"}
    odd = [entry for entry in entries if entry["outcome"] != "completed" or entry["cost_nano"] != cost(entry, prices)]
    assert odd == []
    assert len(entries) == sum(len(answers) for answers in told_to)
    code, out, _ = await command(gateway.home, "ledger", "verify")
    assert code == 0, out


def cost(entry: dict[str, Any], prices: dict[str, Price]) -> int:
    """By the price that the entry names."""
    usage = Usage(entry["input"], entry["output"])
    return cost_nano(prices[entry["price_version"]], usage, entry["at"])
