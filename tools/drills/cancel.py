"""Ten thousand requests that are given up at a random moment: before a connection, waiting for one, in the middle of an answer.

A connection that somebody left with an unread answer on it, and that goes to the next one, tells people what others asked
(reliability.md C7). So every request has its nonce and every answer says it again. Afterwards nothing may be left over anywhere.

In this process: a request is a task of `app.serve`, cancelled, and one in ten is a real socket, dropped. Half of the moments are
chance; the others lie within two milliseconds of the upstream's first word, where answers, races and cancellations meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from naru.app import App
from naru.transport.exchange import HeaderList, Listener
from tools.drills.found import Check, Found
from tools.drills.gateway import CONFIG, Gateway, inside, providers
from tools.drills.questions import Question, nonce
from tools.drills.upstreams import Upstream, standing

TIMES = 10_000
AT_ONCE = 80
LATEST_S = 0.03
NEAR_S = 0.002
#: Of a hundred requests: real sockets, those that nobody gives up, those with an Idempotency-Key.
SOCKETS, KEPT, KEYED = 10, 5, 10
NAMES = ("a", "b", "c")
PATH = "/v1/chat/completions"
#: small: few connections. hedged: two at once, often. limited: a deployment with few places. queued: a model with few places.
MODELS = """
[models.small]
deployments = [{ provider = "a", model = "x" }, { provider = "b", model = "x", priority = 2 }]
[models.hedged]
hedge = { after = "p50", budget = 1.0 }
deployments = [{ provider = "b", model = "h" }, { provider = "c", model = "h" }]
[models.limited]
deployments = [
  { provider = "b", model = "l", limits = { concurrency = 4 } },
  { provider = "c", model = "l", priority = 2 },
]
[models.queued]
limits = { concurrency = 6 }
deployments = [{ provider = "c", model = "q" }]
[routing]
retry_ratio = 1.0
"""
SERVER = "queue_s = 0.05\nmax_in_flight = 70\nmax_queue = 64\n"
_NONCE = re.compile(rb"q[0-9a-f]{12}\b")


class Told:
    """See transport.Exchange: writes down what a caller is told."""

    query = ""
    method = "POST"
    path = PATH
    client = "127.0.0.1"

    def __init__(self, body: bytes, headers: HeaderList) -> None:
        self.payload = body
        self.headers = headers
        self.listener: Listener | None = None
        self.is_gone = False
        self.status = 0
        self.is_ended = False
        self.said: list[bytes] = []

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.status, self.is_ended = status, True
        self.said.append(body)

    def start(self, status: int, headers: HeaderList) -> None:
        self.status = status

    def write(self, data: bytes) -> None:
        self.said.append(data)

    def finish(self) -> None:
        self.is_ended = True

    def cut(self) -> None:
        self.is_ended = True


class Trial(msgspec.Struct, frozen=True):
    """`is_socket`: through the server. `leaves_s`: when it is given up; None: never. `is_near`: so long after the first word."""

    question: Question
    is_socket: bool
    leaves_s: float | None
    is_near: bool
    is_keyed: bool


class Seen(msgspec.Struct, frozen=True):
    """`ends` counts how trials ended, `foreign` those that were told another's nonce, `wrong` the kept ones that were not
    answered in full. `left` is what was there at the end and should not be."""

    ends: dict[str, int]
    foreign: Sequence[str]
    wrong: Sequence[str]
    left: dict[str, int]
    fds: tuple[int, int]
    contradictions: Sequence[str]
    hedges: int


def trials(random: Random, times: int) -> list[Trial]:
    found = []
    for _ in range(times):
        model = random.choice(("small", "hedged", "hedged", "limited", "queued"))
        is_stream = model == "hedged" or random.random() < 0.5
        question = Question(nonce(random), random.randint(1, 6), is_stream, 0.0, model)
        is_near = random.random() < 0.5
        leaves_s = None if random.randrange(100) < KEPT else random.uniform(0.0, NEAR_S if is_near else LATEST_S)
        found.append(Trial(question, random.randrange(100) < SOCKETS, leaves_s, is_near, random.randrange(100) < KEYED))
    return found


def _warm_up(random: Random) -> list[Trial]:
    """Streams that nobody gives up: before some first contents were seen nothing is hedged."""
    return [Trial(Question(nonce(random), 3, True, 0.0, "hedged"), False, None, False, False) for _ in range(60)]


def strangers(said: bytes, mine: str) -> set[str]:
    """Nonces in an answer that are not its own."""
    return {found.decode() for found in _NONCE.findall(said)} - {mine}


def verdict(seen: Seen) -> tuple[Check, ...]:
    left = {name: count for name, count in seen.left.items() if count}
    total = sum(seen.ends.values())
    before, after = seen.fds
    told = ", ".join(f"{count:,} {how}" for how, count in sorted(seen.ends.items()))
    return (
        Check("requests are given up at random moments", f"{total:,}: {told}; {seen.hedges:,} hedges"),
        Check("no answer has another request's nonce", str(list(seen.foreign)[:3] or "none"), not seen.foreign),
        Check(
            "who stays is answered in full, or told why not",
            f"{len(seen.wrong)} {list(seen.wrong)[:3] or ''}",
            not seen.wrong,
        ),
        Check("nothing is left over anywhere", str(left) if left else "all 0", not left),
        Check("file descriptors are back to the start", f"{before} before, {after} after", after <= before),
        Check("the ledger agrees with itself", str(list(seen.contradictions)[:3]), not seen.contradictions),
    )


class _Drill:
    """All trials at one gateway."""

    def __init__(self, app: App, gateway: Gateway) -> None:
        self.app = app
        self.gateway = gateway
        self.loop = asyncio.get_running_loop()
        self.ends: Counter[str] = Counter()
        self.foreign: list[str] = []
        self.wrong: list[str] = []
        self.firsts: dict[str, asyncio.Event] = {}

    def on_first(self, whose: str) -> None:
        if (event := self.firsts.get(whose)) is not None:
            event.set()

    async def all(self, trials: Sequence[Trial]) -> None:
        waiting = iter(trials)

        async def one_after_another() -> None:
            for trial in waiting:
                await self.one(trial)

        await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))

    async def one(self, trial: Trial) -> None:
        if trial.is_near:
            self.firsts[trial.question.nonce] = asyncio.Event()
        try:
            said, how, is_whole = await (self._by_socket(trial) if trial.is_socket else self._by_task(trial))
        finally:
            self.firsts.pop(trial.question.nonce, None)
        self.ends[how] += 1
        if found := strangers(said, trial.question.nonce):
            self.foreign.append(f"{trial.question.model}: {trial.question.nonce} was told {sorted(found)}")
        if trial.leaves_s is None and not is_whole:
            self.wrong.append(f"{trial.question.model} {how}: {said[-200:]!r}")

    async def _moment(self, trial: Trial) -> None:
        """Returns when it is time to leave."""
        if trial.is_near:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.firsts[trial.question.nonce].wait(), LATEST_S)
        assert trial.leaves_s is not None
        await asyncio.sleep(trial.leaves_s)

    async def _by_task(self, trial: Trial) -> tuple[bytes, str, bool]:
        headers = [(b"authorization", f"Bearer {self.gateway.key}".encode())]
        if trial.is_keyed:
            headers.append((b"idempotency-key", trial.question.nonce.encode()))
        told = Told(trial.question.body(), headers)
        serving = self.loop.create_task(self.app.serve(told))
        if trial.leaves_s is not None:
            leaving = self.loop.create_task(self._moment(trial))
            await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
            serving.cancel()
            await asyncio.wait({leaving})
        await asyncio.wait({serving})
        said = b"".join(told.said)
        if serving.cancelled():
            return said, "cancelled while answered" if told.status else "cancelled before an answer", False
        return said, f"ended with {told.status}", told.is_ended and _is_whole(trial, told.status, said)

    async def _by_socket(self, trial: Trial) -> tuple[bytes, str, bool]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(trial.question.request(self.gateway.key))
        reading = self.loop.create_task(reader.read())
        waits = {reading}
        if trial.leaves_s is not None:
            waits.add(self.loop.create_task(self._moment(trial)))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        is_dropped = not reading.done()
        if is_dropped:
            writer.transport.abort()
        for each in waits - {reading}:
            each.cancel()
        await asyncio.wait(waits)
        said = b"" if reading.cancelled() or reading.exception() is not None else reading.result()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        if is_dropped:
            return said, "sockets dropped", False
        return said, "sockets answered", _is_whole(trial, int(said[9:12] or b"0"), said)

    def left(self) -> dict[str, int]:
        """What has to be 0 when all have gone."""
        gateway, pools = self.app.gateway, self.app._client.pools.values()
        return {
            "busy connections": sum(len(pool.open) - len(pool.idle) for pool in pools) + len(self.app._client.busy),
            "connections being made": sum(pool.connecting for pool in pools),
            "waiters for a connection": sum(len(pool.waiters) for pool in pools),
            "open permits": gateway.ledger.open_permits,
            "requests in the gate": gateway.gate.in_flight + gateway.gate.waiting,
            "calls in hand (vitals)": sum(vitals.in_flight for vitals in gateway.failover.fleet.known().values()),
            "places taken (limits)": sum(meter.in_flight for meter in gateway.allowances._meters.values()),
            "waiters for a place": sum(map(len, gateway.allowances.admission.queues.values())),
            "streams": len(gateway.streams.flowing) + len(gateway.streams._waiting),
            "idempotency keys under way": len(gateway.idempotency._running),
            "tasks of the client": len(self.app._client.tasks),
        }


def _is_whole(trial: Trial, status: int, said: bytes) -> bool:
    """A refusal for want of a place is an answer too: so many ask at once on purpose."""
    if status in (429, 503):
        return True
    words = said.count(f"{trial.question.nonce}.".encode())
    return status == 200 and words == trial.question.words and (not trial.question.is_stream or b"[DONE]" in said)


def _fds() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def run(times: float = TIMES, seed: int = 1) -> Found:
    """`times` is how many requests."""
    random = Random(seed)
    loop = asyncio.get_running_loop()
    began = loop.time()
    upstreams = [Upstream(name, lambda: random.uniform(0.0, 0.015), pace_s=0.001) for name in NAMES]
    with tempfile.TemporaryDirectory(prefix="naru-drill-") as name:
        folder, first = Path(name, "drill"), Path(name, "first")
        folder.mkdir()
        first.mkdir()
        (first / "naru.toml").write_text(CONFIG.format(more=""))
        async with inside(first):  # what a first start opens for good is no leak
            await asyncio.sleep(0.1)
        before = _fds()
        async with standing(*upstreams, is_mortal=False):
            ports = {each.name: each.port for each in upstreams}
            few = providers({"a": ports.pop("a")}, "max_connections = 4")
            (folder / "naru.toml").write_text(CONFIG.format(more=SERVER + few + providers(ports) + MODELS))
            async with inside(folder) as (app, gateway):
                quiet = len(asyncio.all_tasks())
                drill = _Drill(app, gateway)
                for each in upstreams:
                    each.on_first = drill.on_first
                await drill.all(_warm_up(random))
                drill.ends.clear()
                await drill.all(trials(random, int(times)))
                left = await _settled(drill, quiet)
                contradictions = await gateway.contradictions()
                hedges = app.gateway.metrics.hedges
        await asyncio.sleep(0.05)
        fds = (before, _fds())
    seen = Seen(dict(drill.ends), drill.foreign, drill.wrong, left, fds, contradictions, hedges)
    return Found("cancel", verdict(seen), loop.time() - began)


async def _settled(drill: _Drill, quiet: int) -> dict[str, int]:
    """What is left once it no longer changes; plain calls go on for a caller that left, so they get a moment."""
    for _ in range(30):
        await asyncio.sleep(0.1)
        left = drill.left()
        left["tasks"] = max(0, len(asyncio.all_tasks()) - quiet)
        if not any(left.values()):
            break
    return left
