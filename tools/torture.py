"""`python tools/torture.py [--seconds 60] [--clients 200] [--seed N]`: a gateway killed again and again under load, then audited.

The upstream is the sandbox, in this process, so it outlives the gateway. Clients ask plainly and in streams, leave in the
middle, and run into faults; every few seconds the gateway gets SIGKILL and is started again on the same home. What a client was
told of every answer that ended (tokens and cost) is compared with the ledger entry of its request, every strict budget with what
was charged to it, and the store is asked for contradictions. Loopback only, bounded in time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

from naru import home, keys
from naru.storage.records import BudgetRecord, KeyRecord, LedgerEntry, ScopeRecord
from naru.storage.sqlite import SqliteStore
from naru.testing.sandbox import Sandbox

CONFIG = """
[server]
port = {port}
drain_s = 5
pre_stop_s = 0
[providers.up]
kind = "custom"
base_url = "{upstream}"
allow_private = true
price = {{ input = 3.0, output = 7.0 }}
"""
#: What an answer does, as the sandbox's query; most of them end well.
BEHAVIOURS = (
    *("tokens=8", "tokens=30&tps=300", "tokens=200&tps=400", "ttft_ms=30", "tokens=5&cached=2") * 3,
    *("status=500", "cut_after=4", "reset=1", "status=429&retry_after=1", "garbage=3", "usage=none"),
)
KEYS = 12
#: Strict, in nano-USD: some are used up in the run, some are not.
AMOUNTS = (2_000_000, 20_000_000, 200_000_000, 10_000_000_000)


class Told(msgspec.Struct):
    """What a client was told of an answer that ended. `cost_nano` from the answer itself."""

    request_id: str
    cost_nano: int
    output: int
    is_estimated: bool


class Client:
    """One client, asking again and again. Every figure of `counts` is about requests."""

    def __init__(self, number: int, port: int, key: str, counts: Counter[str], told: list[Told]) -> None:
        self.random = random.Random(number)
        self.port = port
        self.key = key
        self.counts = counts
        self.told = told

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            try:
                await self._once()
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                self.counts["broken"] += 1
                await asyncio.sleep(0.05)

    async def _once(self) -> None:
        chance = self.random
        is_stream = chance.random() < 0.6
        body = {
            "model": f"up/echo?{chance.choice(BEHAVIOURS)}",
            "messages": [{"role": "user", "content": "서울의 날씨와 부산의 날씨를 비교해줘 " * chance.randint(1, 5)}],
            "max_tokens": chance.choice((10, 50, 300)),
            **({"stream": True, "stream_options": {"include_usage": True}} if is_stream else {}),
        }
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.key}\r\nconnection: close\r\n"
            writer.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)
            self.counts["sent"] += 1
            if chance.random() < 0.15:
                # Leaves while it waits, or in the middle, with FIN or RST.
                await asyncio.wait_for(reader.read(chance.choice((1, 400, 3000))), 10)
                self.counts["left"] += 1
                if chance.random() < 0.5:
                    writer.transport.abort()
                return
            answer = await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._note(answer, is_stream)

    def _note(self, answer: bytes, is_stream: bool) -> None:
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head:
            self.counts["broken"] += 1
            return
        status = int(head.split()[1])
        self.counts[f"status {status}"] += 1
        if status != 200:
            return
        fields = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
        request_id = fields["x-request-id"]
        if is_stream:
            if b"data: [DONE]" not in rest:
                self.counts["stream not ended"] += 1
                return
            usage = _usage_of(rest)
            cost = _nano(str(usage["naru"]["cost_usd"]))
        else:
            if len(rest) < int(fields["content-length"]):
                self.counts["broken"] += 1
                return
            usage = json.loads(rest).get("usage") or {}
            cost = _nano(fields["x-naru-cost-usd"])
        self.counts["ended"] += 1
        is_estimated = not usage or bool((usage.get("naru") or {}).get("estimated"))
        self.told.append(Told(request_id, cost, int(usage.get("completion_tokens", -1)), is_estimated))


def _usage_of(stream: bytes) -> dict:  # type: ignore[type-arg]
    for line in reversed(stream.split(b"\n")):
        if line.startswith(b"data: {") and b'"usage":{' in line:
            return json.loads(line[6:], parse_float=str)["usage"]
    raise ValueError("a whole stream without its usage")


def _nano(usd: str) -> int:
    whole, _, rest = usd.partition(".")
    return int(whole) * 10**9 + int(rest.ljust(9, "0"))


class Gateway:
    """The process under torture."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.kills = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {**os.environ, "NARU_HOME": str(self.folder / "home")}
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "naru", "serve", "--config", str(self.folder / "naru.toml"),
                env=environment, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        for _ in range(400):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            assert self._process.returncode is None, (self.folder / "log").read_text()[-3000:]
            await asyncio.sleep(0.025)
        raise RuntimeError("the gateway does not start")

    async def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        self.kills += how is signal.SIGKILL
        return await self._process.wait()

    async def torture(self, until: float, chance: random.Random) -> None:
        while True:
            wait_s = chance.uniform(1.5, 5.0)
            if time.monotonic() + wait_s + 1 > until:
                await asyncio.sleep(max(0.0, until - time.monotonic()))
                return
            await asyncio.sleep(wait_s)
            await self.end(signal.SIGKILL)
            await self.start()


def make_keys(folder: Path) -> list[str]:
    """Keys with a strict budget each, straight into the store."""
    home.prepare(folder / "home")
    pepper = home.pepper(folder / "home")
    store = SqliteStore(folder / "home" / "naru.db")
    made = []
    for number in range(KEYS):
        minted = keys.mint("caller", secrets.token_bytes(keys.ENTROPY_BYTES))
        digest = keys.digest(pepper, minted.secret)
        store.add_key(
            KeyRecord(minted.id, f"key {number}", digest, "caller", time.time(), principal=minted.id)
        ).result()
        amount = AMOUNTS[number % len(AMOUNTS)]
        store.add_budget(
            BudgetRecord(f"b{number}", minted.id, amount, "day", "Asia/Seoul", "strict", time.time())
        ).result()
        made.append(minted.text)
    store.close()
    return made


class Findings(msgspec.Struct):
    entries: list[LedgerEntry]
    scopes: list[ScopeRecord]
    mismatches: list[str]


def audit(folder: Path, told: list[Told]) -> Findings:
    """Compares what clients were told with the ledger, and the ledger with itself."""
    store = SqliteStore(folder / "home" / "naru.db")
    entries = store.entries(0, 1e12, 10_000_000).result()
    scopes = store.scopes().result()
    wrong = store.problems().result()
    store.close()
    by_id = {entry.request_id: entry for entry in entries}
    for each in told:
        entry = by_id.get(each.request_id)
        if entry is None:
            wrong.append(f"{each.request_id} was answered and is not in the ledger")
        elif entry.cost_nano != each.cost_nano:
            wrong.append(f"{each.request_id} ended with {each.cost_nano} nano-USD and was charged {entry.cost_nano}")
        elif each.output >= 0 and not each.is_estimated and entry.output != each.output:
            wrong.append(f"{each.request_id} ended with {each.output} tokens and was charged for {entry.output}")
    for scope in scopes:
        if scope.spent_nano > scope.limit_nano:
            wrong.append(f"the strict budget {scope.id} of {scope.limit_nano} was exceeded: {scope.spent_nano}")
        if scope.leased_nano:
            wrong.append(f"{scope.leased_nano} nano-USD of {scope.id} are still held")
    return Findings(entries, scopes, wrong)


async def run(seconds: float, clients: int, seed: int) -> int:
    chance = random.Random(seed)
    sandbox = Sandbox()
    counts: Counter[str] = Counter()
    told: list[Told] = []
    with tempfile.TemporaryDirectory(prefix="naru-torture-") as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        (folder / "naru.toml").write_text(CONFIG.format(port=port, upstream=await sandbox.start()))
        made = make_keys(folder)
        gateway = Gateway(folder, port)
        await gateway.start()
        until = time.monotonic() + seconds
        asking = [Client(seed * 1000 + n, port, made[n % KEYS], counts, told).run(until) for n in range(clients)]
        await asyncio.gather(gateway.torture(until, chance), *asking)
        code = await gateway.end(signal.SIGTERM)
        found = audit(folder, told)
        if code:
            found.mismatches.append(f"the last stop ended with {code}")
    await sandbox.stop()
    report(found, counts, told, gateway.kills)
    return 1 if found.mismatches else 0


def report(found: Findings, counts: Counter[str], told: list[Told], kills: int) -> None:
    outcomes = Counter(entry.outcome for entry in found.entries)
    full = sum(scope.spent_nano * 100 >= scope.limit_nano * 95 for scope in found.scopes)
    print(f"requests    {counts['sent']:,} sent, {counts['ended']:,} answers ended, {counts['left']:,} left, "
          f"{counts['broken']:,} broken connections")  # fmt: skip
    print(
        f"statuses    {', '.join(f'{name[7:]}: {n:,}' for name, n in sorted(counts.items()) if name.startswith('status'))}"
    )
    print(f"crashes     {kills}")
    print(f"entries     {len(found.entries):,} ({', '.join(f'{name} {n:,}' for name, n in outcomes.most_common())})")
    print(f"recovered   {outcomes['recovered']:,}")
    print(f"budgets     {len(found.scopes)} strict, {full} used to 95 % and more, none exceeded"
          if not any("exceeded" in each for each in found.mismatches) else "budgets     EXCEEDED")  # fmt: skip
    print(f"compared    {len(told):,} answers with their entries")
    print(f"mismatches  {len(found.mismatches)}")
    for each in found.mismatches[:20]:
        print(f"  {each}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # sockets that break are what this is about
    return asyncio.run(run(options.seconds, options.clients, options.seed))


if __name__ == "__main__":
    sys.exit(main())
