"""Many prompts at once: as fast as the limits allow and no faster, each answered once, results in order, errors in place.

One loop decides (who is next, may they go: pace.py), one task for each request under way does. A prompt's life:

    fresh -> sent -> answered
               └-> waits -> sent ...     a refusal (429, 503) or a failure that a retry may help
               └-> failed                any other error, or retries or time used up
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from naru.client.counting import count_body, most_output
from naru.client.pace import Pace, Ticket
from naru.client.reply import Json, NotSent, Outcome, Reply, Send
from naru.client.resume import ResumeFile, key_of
from naru.clock import Clock
from naru.errors import (
    BudgetExceeded,
    Forbidden,
    InsufficientCredits,
    NaruError,
    NotFound,
    Overloaded,
    Unauthorized,
    Unpriced,
)

#: Back-off: the k-th wait is drawn from 0 to BASE * 2^k seconds ("full jitter"), at most to MAX.
BACKOFF_BASE_S = 0.5
BACKOFF_MAX_S = 30.0
#: Until answers have shown better, where a body does not say how long the answer may be.
FIRST_OUTPUT_TOKENS = 500.0
#: How fast that estimate follows the answers.
OUTPUT_WEIGHT = 0.05
#: What befalls one befalls all: nothing more is sent.
STOPS_ALL = (Unauthorized, BudgetExceeded, InsufficientCredits)
#: What befalls one befalls all of the same model.
STOPS_MODEL = (Forbidden, NotFound, Unpriced)
#: Refusals for want of a place rather than of rate: as soon as one ends there is room again, so fewer go at once, and nobody but
#: the refused one waits (limits, load shedding and throttled deployments of a gateway).
PLACE_CODES = frozenset({"concurrency_limit_exceeded", "overloaded", "deployments_busy"})

Prompt = str | list[Json] | Json


class FanOut(Struct, frozen=True, kw_only=True):
    """`model` and `shared` (temperature, max_tokens, tools ...) are for bodies that do not have them. `rpm`, `tpm`: requests and
    tokens a minute, None: what the server says. `retries`: further tries of one prompt; a refusal that says when to come back
    is none of them. `give_up_s`: no try of a prompt begins later than so long after its first. `resume`: a file of JSON lines.
    """

    model: str | None = None
    shared: Mapping[str, Any] = {}
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int = 32
    retries: int = 5
    give_up_s: float = 600.0
    resume: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "concurrency"):
            value = getattr(self, name)
            if value is None and name != "concurrency":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if self.retries < 0 or not self.give_up_s >= 0:
            raise ValueError(f"retries and give_up_s cannot be negative: {self.retries}, {self.give_up_s}.")


class Progress(Struct, frozen=True, kw_only=True):
    """Where a run stands. `done` counts failed and resumed ones too; `tokens` are input and output of this run's answers;
    `cost_nano` nano-dollars, of those whose cost was said; `held_s`: so long the server wants nobody to come."""

    total: int
    done: int = 0
    failed: int = 0
    resumed: int = 0
    retried: int = 0
    tokens: int = 0
    cost_nano: int = 0
    held_s: float = 0.0


Observe = Callable[[Progress], None]


async def fan_out(
    prompts: Iterable[Prompt],
    send: Send,
    options: FanOut,
    clock: Clock,
    random: Callable[[], float],
    observe: Observe | None = None,
) -> list[Outcome]:
    """One Outcome for each prompt, in order. A prompt is a text, a list of messages, or a body.

    Raises ValueError for a prompt that cannot be sent, before anything is; and whatever `send` raises that is no NaruError.
    Cancelled or broken off, it ends what is under way; what `resume` has is kept.
    """
    bodies = [body_of(prompt, index, options) for index, prompt in enumerate(prompts)]
    with contextlib.ExitStack() as stack:
        file = None if options.resume is None else stack.enter_context(ResumeFile(options.resume, clock))
        run = _Run(bodies, send, options, clock, random)
        run.report_to(file, observe)
        return await run.outcomes()


def body_of(prompt: Prompt, index: int, options: FanOut) -> Json:
    """Raises ValueError and says which prompt it is."""
    if isinstance(prompt, str):
        body: Json = {"messages": [{"role": "user", "content": prompt}]}
    elif isinstance(prompt, list):
        body = {"messages": prompt}
    elif isinstance(prompt, Mapping):
        body = dict(prompt)
    else:
        raise ValueError(
            f"Prompt {index} is a {type(prompt).__name__}; it must be a text, a list of messages or a body."
        )
    body = {**({} if options.model is None else {"model": options.model}), **options.shared, **body}
    if not body.get("model"):
        raise ValueError(f"Prompt {index} names no model. Pass model=… for all, or put it into the body.")
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ValueError(f"Prompt {index} has no messages.")
    if body.get("stream"):
        raise ValueError(f"Prompt {index} asks for a stream; here answers come whole. Leave `stream` out.")
    try:
        key_of(body, index)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Prompt {index} cannot be written as JSON: {error}.") from error
    return body


def is_final(error: NaruError) -> bool:
    """Whether all others would meet the same end. OpenAI says an empty account with 429, but no waiting fills it."""
    return isinstance(error, STOPS_ALL) or error.status == 401 or error.code == "insufficient_quota"


class _Prompt:
    __slots__ = ("attempts", "body", "failures", "first_s", "index", "input_tokens", "most_output")

    def __init__(self, index: int, body: Json) -> None:
        self.index = index
        self.body = body
        self.input_tokens = count_body(body)
        self.most_output = most_output(body)
        self.attempts = 0
        self.failures = 0
        self.first_s = 0.0


class _Run:
    """The state of one fan-out. Everything but `send` happens within turns of the event loop, so nothing needs a lock."""

    def __init__(
        self, bodies: list[Json], send: Send, options: FanOut, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._send = send
        self._options = options
        self._clock = clock
        self._random = random
        self._pace = Pace(options.rpm, options.tpm, options.concurrency, self._now_ns())
        self._prompts = [_Prompt(index, body) for index, body in enumerate(bodies)]
        self._fresh: deque[_Prompt] = deque()
        #: (when in seconds, index): those that wait for another try.
        self._again: list[tuple[float, int]] = []
        self._outcomes: dict[int, Outcome] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._broken: BaseException | None = None
        #: Models of which nothing more is sent; None is all of them.
        self._stopped: set[str | None] = set()
        self._output = FIRST_OUTPUT_TOKENS
        self._counts = {"failed": 0, "resumed": 0, "retried": 0, "tokens": 0, "cost_nano": 0}
        self._file: ResumeFile | None = None
        self._observe: Observe | None = None

    def report_to(self, file: ResumeFile | None, observe: Observe | None) -> None:
        self._file = file
        self._observe = observe

    async def outcomes(self) -> list[Outcome]:
        self._take_up()
        try:
            while len(self._outcomes) < len(self._prompts):
                self._woken.clear()
                wait_s = self._let_go()
                if len(self._outcomes) < len(self._prompts):
                    await self._wait(wait_s)
                if self._broken is not None:
                    raise self._broken
        finally:
            await self._end_tasks()
        return [self._outcomes[prompt.index] for prompt in self._prompts]

    def _take_up(self) -> None:
        """What an earlier run has answered is not asked again."""
        known = {} if self._file is None else self._file.replies
        for prompt in self._prompts:
            reply = known.get(key_of(prompt.body, prompt.index)) if known else None
            if reply is None:
                self._fresh.append(prompt)
            else:
                self._outcomes[prompt.index] = Outcome(index=prompt.index, reply=reply, was_resumed=True)
                self._counts["resumed"] += 1
        self._tell()

    def _let_go(self) -> float | None:
        """Sends what may go now. Seconds until the next may; None: not before something has ended."""
        while (prompt := self._next()) is not None:
            now_ns = self._now_ns()
            wait_ns = self._pace.wait_ns(self._tokens(prompt), now_ns)
            if wait_ns is None:
                return None
            if wait_ns > 0:
                return wait_ns / 1e9
            self._pop(prompt)
            self._start(prompt, self._pace.let_go(self._tokens(prompt), now_ns))
        return max(0.0, self._again[0][0] - self._clock.monotonic()) if self._again else None

    def _next(self) -> _Prompt | None:
        """A try that is due goes before a fresh prompt: it has waited longer."""
        if self._again and self._again[0][0] <= self._clock.monotonic():
            return self._prompts[self._again[0][1]]
        return self._fresh[0] if self._fresh else None

    def _pop(self, prompt: _Prompt) -> None:
        if self._again and self._again[0][1] == prompt.index:
            heapq.heappop(self._again)
        else:
            self._fresh.popleft()

    def _tokens(self, prompt: _Prompt) -> int:
        return prompt.input_tokens + (int(self._output) if prompt.most_output is None else prompt.most_output)

    def _start(self, prompt: _Prompt, ticket: Ticket) -> None:
        prompt.attempts += 1
        if prompt.attempts == 1:
            prompt.first_s = self._clock.monotonic()
        task = asyncio.create_task(self._try(prompt, ticket))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self, prompt: _Prompt, ticket: Ticket) -> None:
        try:
            try:
                reply = await self._send(prompt.body)
            except NaruError as error:
                self._failed(prompt, ticket, error)
            else:
                self._answered(prompt, ticket, reply)
        except BaseException as error:  # not ours to judge (a bug in `send`, a full disk): the run ends with it
            self._broken = self._broken or error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._woken.set()

    def _answered(self, prompt: _Prompt, ticket: Ticket, reply: Reply) -> None:
        self._pace.answered(ticket, reply.usage.total, reply.headers, self._now_ns())
        self._output += OUTPUT_WEIGHT * (reply.usage.output - self._output)
        self._counts["tokens"] += reply.usage.total
        self._counts["cost_nano"] += reply.cost_nano or 0
        self._finish(Outcome(index=prompt.index, reply=reply, attempts=prompt.attempts), prompt)

    def _failed(self, prompt: _Prompt, ticket: Ticket, error: NaruError) -> None:
        asked_s = None if error.retry_after_s is None else max(0.0, error.retry_after_s)
        is_refusal = error.status == 429 or isinstance(error, Overloaded)
        if is_refusal:
            lacks_place = error.code in PLACE_CODES
            hold_s = 0.0 if lacks_place else min(asked_s or 0.0, self._options.give_up_s)
            self._pace.refused(ticket, int(hold_s * 1e9), self._now_ns(), lacks_place=lacks_place)
        else:
            self._pace.failed(ticket)
        if not error.is_retryable or is_final(error) or self._is_stopped(prompt):
            self._give_up(prompt, error)
            return
        if asked_s is None or not (error.status == 429 or error.code in PLACE_CODES):
            prompt.failures += 1
        due_s = self._clock.monotonic() + max(asked_s or 0.0, self._backoff_s(prompt))
        if prompt.failures > self._options.retries or due_s > prompt.first_s + self._options.give_up_s:
            self._give_up(prompt, error)
            return
        self._counts["retried"] += 1
        heapq.heappush(self._again, (due_s, prompt.index))
        self._tell()

    def _backoff_s(self, prompt: _Prompt) -> float:
        """Refusals that say when to come back do not count, and then the pace alone spreads those that come back."""
        if not prompt.failures:
            return 0.0
        return self._random() * min(BACKOFF_MAX_S, BACKOFF_BASE_S * 2.0**prompt.failures)

    def _give_up(self, prompt: _Prompt, error: NaruError) -> None:
        self._finish(Outcome(index=prompt.index, error=error, attempts=prompt.attempts), prompt)
        is_for_all = is_final(error)
        if (is_for_all or isinstance(error, STOPS_MODEL)) and not self._is_stopped(prompt):
            self._stopped.add(None if is_for_all else prompt.body["model"])
            self._leave_out(NotSent(error, prompt.index))

    def _is_stopped(self, prompt: _Prompt) -> bool:
        return None in self._stopped or prompt.body["model"] in self._stopped

    def _leave_out(self, why: NotSent) -> None:
        """Those that would meet the same end, at once. What is under way may still be answered."""
        waiting = [*self._fresh, *(self._prompts[index] for _, index in self._again)]
        for prompt in waiting:
            if self._is_stopped(prompt):
                self._finish(Outcome(index=prompt.index, error=why, attempts=prompt.attempts), prompt)
        self._fresh = deque(prompt for prompt in self._fresh if not self._is_stopped(prompt))
        self._again = [entry for entry in self._again if not self._is_stopped(self._prompts[entry[1]])]
        heapq.heapify(self._again)

    def _finish(self, outcome: Outcome, prompt: _Prompt) -> None:
        if self._file is not None and not isinstance(outcome.error, NotSent):
            self._file.add(key_of(prompt.body, prompt.index), outcome)
        self._outcomes[prompt.index] = outcome
        self._counts["failed"] += not outcome.ok
        self._tell()

    def _tell(self) -> None:
        if self._observe is not None:
            held_s = self._pace.held_ns(self._now_ns()) / 1e9
            done = len(self._outcomes)
            self._observe(Progress(total=len(self._prompts), done=done, held_s=held_s, **self._counts))

    async def _wait(self, wait_s: float | None) -> None:
        """Until something ended, or the time has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._woken.wait()

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _now_ns(self) -> int:
        return int(self._clock.monotonic() * 1e9)
