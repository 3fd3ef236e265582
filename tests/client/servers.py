"""Servers with limits, as functions: what a Send meets, without sockets, on the loop's time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from typing import Any, Literal

from naru.client.counting import count_body
from naru.client.reply import Json, Reply
from naru.errors import NaruError, Overloaded, RateLimited, UpstreamError
from naru.limits.admission import Admission, Hold
from naru.limits.headers import headers
from naru.limits.meters import Limits, Meter
from naru.protocol.messages import Usage


def reply_to(body: Json, said: dict[str, str] | None = None) -> Reply:
    text = f"re: {body['messages'][-1]['content']}"
    return Reply(
        text=text,
        message={"role": "assistant", "content": text},
        usage=Usage(input=10, output=20),
        cost_nano=1_000,
        headers=said or {},
    )


class Server:
    """Counts what comes and refuses some. `latency_s` for each answer; `failing` and `busy` are shares of all requests."""

    def __init__(self, latency_s: float = 0.2, failing: float = 0.0, busy: float = 0.0, seed: int = 1) -> None:
        self.latency_s = latency_s
        self.failing = failing
        self.busy = busy
        self.draws = random.Random(seed)
        self.came_s: list[float] = []
        self.limited = 0
        self.answers: Counter[str] = Counter()
        self.under_way = 0
        self.most_under_way = 0

    async def send(self, body: Json) -> Reply:
        now_s = asyncio.get_running_loop().time()
        self.came_s.append(now_s)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            refusal, said = self.limit(now_s, body)
            if refusal is not None:
                self.limited += 1
                await asyncio.sleep(0.005)
                raise refusal
            await asyncio.sleep(self.latency_s)
            return self.answer(body, said)
        finally:
            self.under_way -= 1

    def answer(self, body: Json, said: dict[str, str]) -> Reply:
        drawn = self.draws.random()
        if drawn < self.failing:
            raise UpstreamError("told to fail")
        if drawn < self.failing + self.busy:
            raise RateLimited("told to be busy", retry_after_s=1.0)
        reply = reply_to(body, said=said)
        self.answers[reply.text] += 1
        return reply

    def limit(self, now_s: float, body: Json) -> tuple[NaruError | None, dict[str, str]]:
        return None, {}


class Gcra(Server):
    """The gateway's own limits. Tells what is left when the request came (as OpenAI does), when the answer leaves (as Naru does),
    or nothing."""

    def __init__(self, limits: Limits, tells: Literal["coming", "leaving", "nothing"] = "coming", **more: Any) -> None:
        super().__init__(**more)
        self.tells = tells
        self.admission = Admission()
        self.meter = Meter("the key", limits)
        self.holds: dict[asyncio.Task[Any] | None, Hold] = {}

    async def send(self, body: Json) -> Reply:
        try:
            return await super().send(body)
        finally:
            hold = self.holds.pop(asyncio.current_task(), None)
            if hold is not None:
                hold.release(30, int(asyncio.get_running_loop().time() * 1e9))

    def limit(self, now_s: float, body: Json) -> tuple[NaruError | None, dict[str, str]]:
        now_ns = int(now_s * 1e9)
        tokens = count_body(body) + body.get("max_tokens", 0)
        try:
            self.holds[asyncio.current_task()] = self.admission.take([self.meter], tokens, now_ns)
        except RateLimited as refusal:
            return refusal, {}
        return None, self.said(now_ns) if self.tells == "coming" else {}

    def answer(self, body: Json, said: dict[str, str]) -> Reply:
        now_ns = int(asyncio.get_running_loop().time() * 1e9)
        return super().answer(body, self.said(now_ns) if self.tells == "leaving" else said)

    def said(self, now_ns: int) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in headers([self.meter], now_ns)}


class FixedWindow(Server):
    """So many in each minute of the clock, and no word of it until it refuses."""

    def __init__(self, rpm: int, **more: Any) -> None:
        super().__init__(**more)
        self.rpm = rpm
        self.counts: Counter[int] = Counter()

    def limit(self, now_s: float, body: Json) -> tuple[NaruError | None, dict[str, str]]:
        minute = int(now_s // 60)
        self.counts[minute] += 1
        if self.counts[minute] > self.rpm:
            return RateLimited("too many", retry_after_s=60 * (minute + 1) - now_s), {}
        return None, {}


class SlidingWindow(Server):
    """So many in any minute."""

    def __init__(self, rpm: int, **more: Any) -> None:
        super().__init__(**more)
        self.rpm = rpm
        self.taken: deque[float] = deque()

    def limit(self, now_s: float, body: Json) -> tuple[NaruError | None, dict[str, str]]:
        while self.taken and self.taken[0] <= now_s - 60:
            self.taken.popleft()
        if len(self.taken) >= self.rpm:
            return RateLimited("too many", retry_after_s=self.taken[0] + 60 - now_s), {}
        self.taken.append(now_s)
        return None, {}


class Crowded(Server):
    """Takes `places` at once, and says nothing of any rate."""

    def __init__(self, places: int, **more: Any) -> None:
        super().__init__(**more)
        self.places = places

    def limit(self, now_s: float, body: Json) -> tuple[NaruError | None, dict[str, str]]:
        return (Overloaded("full") if self.under_way > self.places else None), {}
