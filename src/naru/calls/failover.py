"""From a plan to an answer: attempts one after another, a second one beside the first where that is worth it, until one shows
its first content. After that nobody else is asked: an answer is not given twice.

The rules are reliability.md 1.3. What each attempt shows of its deployment is noted in the deployment's vitals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from random import Random

import structlog

from naru.allowances import Allowances
from naru.calls import continuation, endings
from naru.calls.answers import Both, client_left
from naru.calls.attempt import Attempt, Means
from naru.calls.call import Call
from naru.errors import BadRequest, NaruError, UpstreamAuth, UpstreamError, UpstreamTimeout
from naru.metrics import Metrics
from naru.protocol.continuation import PlainStream
from naru.routing.budget import RetryBudget
from naru.routing.deadlines import total_s
from naru.routing.fleet import Fleet
from naru.routing.plan import MAX_ATTEMPTS, Place, place_of
from naru.routing.table import Deployment, Hedge

#: Before the third attempt and later ones: everybody who failed together does not come back together.
JITTER_S = 0.1
CONTEXT_CODES = frozenset({"context_length_exceeded"})
POLICY_CODES = frozenset({"content_filter", "content_policy_violation", "bio_policy", "misalignment_policy_violation"})

Racer = asyncio.Task[NaruError | None]

log = structlog.get_logger("naru.calls")


class HedgeLost(UpstreamError):
    """Ends the slower of two attempts; nobody sees it but the ledger."""

    code: str | None = "hedge_lost"

    def __init__(self) -> None:
        super().__init__("Another deployment answered first.")


class Failover:
    """Makes attempts for requests. `fleet` and the budgets outlive a configuration."""

    def __init__(
        self, means: Means, fleet: Fleet, allowances: Allowances, metrics: Metrics, random: Random, retries: RetryBudget
    ) -> None:
        self.means = means
        self.fleet = fleet
        self.allowances = allowances
        self.metrics = metrics
        self.random = random
        self.retries = retries
        self.hedges: dict[str, RetryBudget] = {}

    def take(self, means: Means, retry_ratio: float) -> None:
        """Another configuration, for the attempts that are made from now on."""
        self.means = means
        self.retries.ratio = retry_ratio

    async def first(self, call: Call) -> Attempt | None:
        """The first attempt that succeeds, its `answer` in place; None when the client left. Raises what the caller is to be told
        when none does."""
        if call.has_left():  # it may have waited for a place
            return None
        if not call.plan.attempts:
            raise endings.nobody(call.plan, call.envelope, call.dialect.name, call.upstreams.table)
        self.retries.request(call.started)
        errors: list[NaruError] = []
        if call.plan.is_lone:  # as below, where there is nobody else to ask
            attempt = self._begin(call, call.plan.attempts[0], errors)
            if attempt is not None:
                error = await self._run(attempt)
                if error is None:
                    return self._succeeded(attempt)
                if call.has_left():
                    return None
                errors.append(error)
            raise endings.after_failures(errors, self._pauses(call))
        queue = _Queue(call, self._is_well)
        for deployment in queue:
            if call.has_left():
                return None
            if errors and not await self._may_retry(call, deployment, errors):
                break
            attempt = self._begin(call, deployment, errors)
            if attempt is None:
                continue
            attempt.is_last = not queue.has_more
            hedge = call.route.hedge if call.envelope.is_stream else None
            if hedge is None:
                error = await self._run(attempt)
            else:
                attempt, error = await self._hedged(attempt, hedge, queue, errors)
            if error is None:
                return self._succeeded(attempt)
            if call.has_left():
                return None
            errors.append(error)
            if not queue.goes_on(error, attempt.target.deployment):
                break
        raise endings.after_failures(errors, self._pauses(call))

    def _succeeded(self, attempt: Attempt) -> Attempt:
        attempt.adopt()
        if attempt.answer is not attempt.stream:  # it is whole; a stream goes on
            self.ended(attempt, None)
        return attempt

    def ended(self, attempt: Attempt, error: NaruError | None) -> None:
        """How an answer went that had begun well. Each stream that `first` gave ends with this."""
        attempt.vitals.ended(error, self.means.loop.time(), self.random, attempt.decides)

    def _is_well(self, deployment: Deployment) -> bool:
        return self.fleet.of(deployment).is_well(self.means.loop.time())

    async def resume(self, cut: Attempt) -> Attempt | None:
        """Another attempt that goes on with a stream that was cut short, at its first content; None where that cannot be."""
        call, stream = cut.call, cut.stream
        before = continuation.what_was_said(cut)
        if before is None or stream is None or stream.error is None:
            return None
        place = len(call.failures)
        call.note_failure(cut.target.deployment.id, stream.error, cut.took_s(), cut.owed())
        following = None
        try:
            following = await self._successor(call, cut, before)
        finally:
            if following is None:
                del call.failures[place]  # it is the answer after all
                cut.adopt()
        return following

    async def _successor(self, call: Call, cut: Attempt, before: PlainStream) -> Attempt | None:
        for deployment in continuation.successors(call, cut, self.fleet, self.means.loop.time()):
            if call.has_left() or not self.retries.take(self.means.loop.time()):
                return None
            attempt = self._begin(call, deployment, [], before)
            if attempt is not None and await self._run(attempt) is None:
                attempt.adopt()
                self.metrics.resumed += 1
                return attempt
        return None

    async def _may_retry(self, call: Call, deployment: Deployment, errors: list[NaruError]) -> bool:
        last = errors[-1]
        now = self.means.loop.time()
        if now - call.started >= total_s(deployment, call.envelope):
            return False
        # What never reached a provider (our limits, a request that it cannot express, no connection) has cost nobody anything.
        was_sent = isinstance(last, UpstreamError) and last.was_sent
        if was_sent and not self.retries.take(now):
            self.metrics.retries_refused += 1
            return False
        if len(errors) >= 2:
            await asyncio.sleep(self.random.uniform(0.0, JITTER_S))
        return True

    def _begin(
        self, call: Call, deployment: Deployment, errors: list[NaruError], before: PlainStream | None = None
    ) -> Attempt | None:
        """None where the deployment's own limits are used up; the refusal is among the errors then. `before` is what is to be
        gone on with."""
        call.attempts += 1
        target = call.upstreams.target(deployment, deployment.spoken(call.dialect.name, call.envelope))
        call.last_target = target
        hold = None
        if meters := self.allowances.of_deployment(deployment):
            try:
                hold = self.allowances.take(meters, call.envelope)
            except NaruError as error:
                error.is_retryable = True  # no reason not to ask another
                errors.append(error)
                call.note_failure(deployment.id, error, 0.0)
                return None
            call.holds.append(hold)
        bridge = None
        if call.route.continues and call.envelope.is_stream:
            bridge = continuation.bridge_for(call, target, before)
        return Attempt(call, target, self.fleet.of(deployment), hold, self.means, bridge)

    async def _run(self, attempt: Attempt) -> NaruError | None:
        """One attempt as far as its first content, or its failure."""
        # Here, not where it was made: a task that is cancelled before its first step never comes to the end of this.
        attempt.decides = attempt.vitals.began(attempt.started)
        try:
            attempt.answer = await (attempt.open() if attempt.call.envelope.is_stream else attempt.fetch())
            return None
        except NaruError as error:
            self._failed(attempt, error)
            return error
        except BaseException:
            attempt.vitals.lost(self.means.loop.time(), attempt.decides)
            raise

    def _failed(self, attempt: Attempt, error: NaruError) -> None:
        call, deployment = attempt.call, attempt.target.deployment
        now = self.means.loop.time()
        if call.has_left():
            attempt.vitals.lost(now, attempt.decides)
            return
        attempt.vitals.ended(error, now, self.random, attempt.decides)
        attempt.give_back(self.allowances.now_ns())
        call.note_failure(deployment.id, error, now - attempt.started)
        self.metrics.attempt_failed(deployment.id, error)
        tell = log.warning if isinstance(error, UpstreamAuth) else log.info  # somebody has to look at the credential
        tell("attempt failed", request_id=call.id, deployment=deployment.id, code=error.code, why=error.loggable)

    def _pauses(self, call: Call) -> list[float]:
        """How long the deployments of the plan are to be left alone from now on, those among them that are."""
        now = self.means.loop.time()
        waits = [self.fleet.of(d).wait_s(now) for d in (*call.plan.attempts, *call.plan.last_resort)]
        return [wait for wait in waits if wait > 0]

    # --- Two at once ------------------------------------------------------------------------------------------------

    async def _hedged(
        self, first: Attempt, hedge: Hedge, queue: _Queue, errors: list[NaruError]
    ) -> tuple[Attempt, NaruError | None]:
        """The attempt that showed its content first, or the one that failed last with its error."""
        call, loop = first.call, self.means.loop
        budget = self._hedge_budget(call.route.name, hedge)
        budget.request(loop.time())
        delay_s = self._patience(call, hedge.quantile)
        if delay_s is None:
            return first, await self._run(first)
        running = loop.create_task(self._run(first))
        try:
            await asyncio.wait({running}, timeout=delay_s)
            second = None if running.done() else self._second(call, budget, queue, errors)
            if second is None:
                return first, await running
            return await self._race({running: first}, second, errors)
        except BaseException:
            await self._discard(running, first)
            raise

    def _second(self, call: Call, budget: RetryBudget, queue: _Queue, errors: list[NaruError]) -> Attempt | None:
        now = self.means.loop.time()
        if call.has_left() or not queue.has_more or not budget.take(now) or not self.retries.take(now):
            return None
        return self._begin(call, next(queue), errors)

    async def _race(
        self, racers: dict[Racer, Attempt], second: Attempt, errors: list[NaruError]
    ) -> tuple[Attempt, NaruError | None]:
        call = second.call
        self.metrics.hedges += 1
        call.race = call.exchange.listener = Both(call.exchange.listener)
        other = self.means.loop.create_task(self._run(second))
        racers[other] = second
        failed: list[tuple[Attempt, NaruError]] = []
        left = set(racers)
        try:
            while left:
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    error = task.result()
                    if error is None:
                        await self._won(task, racers)
                        return racers[task], None
                    failed.append((racers[task], error))
        except BaseException:
            await self._discard(other, second)
            raise
        finally:
            call.race = None
        errors += [error for _, error in failed[:-1]]
        return failed[-1]

    async def _discard(self, task: Racer, attempt: Attempt) -> None:
        """Ends an attempt that nobody will see, whatever it has come to: the request itself was cancelled."""
        if not task.done():
            await _cancelled(task)
        elif not task.cancelled() and task.exception() is None and task.result() is None:
            # It had its answer already, and nobody came for it.
            attempt.drop(client_left())
            attempt.vitals.lost(self.means.loop.time(), attempt.decides)

    async def _won(self, winner: Racer, racers: dict[Racer, Attempt]) -> None:
        """The slower one is dropped at once. Its provider has read the prompt and is owed that; if it is well nobody knows."""
        lost = HedgeLost()
        for place, (task, attempt) in enumerate(racers.items()):
            if task is winner:
                self.metrics.hedges_won += place  # 0 is the first
                attempt.call.exchange.listener = attempt.stream
                continue
            if task.done() and task.result() is not None:
                continue  # it had failed, which is noted
            took_s = attempt.took_s()
            attempt.call.note_failure(attempt.target.deployment.id, lost, took_s, attempt.owed())
            attempt.vitals.ttft.at_least(took_s, self.means.loop.time())
            if task.done():  # both showed their content in one moment
                attempt.drop(lost)
                attempt.vitals.lost(self.means.loop.time(), attempt.decides)
            else:
                await _cancelled(task)
            attempt.give_back(self.allowances.now_ns())

    def _patience(self, call: Call, quantile: float) -> float | None:
        """Seconds after which a second deployment is asked: what the quickest of those who may answer takes for nearly all of its
        calls. The first one's own figure would be of no use: a deployment that became slow has a slow tail."""
        now = self.means.loop.time()
        known = [self.fleet.of(d).ttfts.of(quantile, now) for d in call.plan.attempts]
        return min((seconds for seconds in known if seconds is not None), default=None)

    def _hedge_budget(self, route: str, hedge: Hedge) -> RetryBudget:
        budget = self.hedges.get(route)
        if budget is None or budget.ratio != hedge.budget:
            budget = self.hedges[route] = RetryBudget(hedge.budget, least=1.0)
        return budget


class _Queue:
    """The deployments still to be asked. A request that was too long, or that a provider's rules refuse, goes on with those who
    are named for that, if anybody is."""

    def __init__(self, call: Call, is_well: Callable[[Deployment], bool]) -> None:
        self._plan = call.plan
        self._is_well = is_well
        #: Where a time-out was waited for. What is lost is often lost as a whole, so nobody waits there twice while another place
        #: can be asked.
        self._late: set[Place] = set()
        self._next: list[Deployment] = [*call.plan.attempts, *call.plan.last_resort]
        self._asked = 0

    @property
    def has_more(self) -> bool:
        return bool(self._next) and self._asked < MAX_ATTEMPTS

    def __iter__(self) -> Iterator[Deployment]:
        return self

    def __next__(self) -> Deployment:
        if not self.has_more:
            raise StopIteration
        self._asked += 1
        if self._asked == 1:
            return self._next.pop(0)
        # The plan may be as old as a time-out: who fell ill since then comes after those who are well.
        keys = [(not self._is_well(each), place_of(each) in self._late) for each in self._next]
        return self._next.pop(keys.index(min(keys)))

    def goes_on(self, error: NaruError, asked: Deployment) -> bool:
        """Whether anybody else may answer what failed so at `asked`."""
        if isinstance(error, UpstreamTimeout):
            self._late.add(place_of(asked))
        others: tuple[Deployment, ...] = ()
        if error.code in CONTEXT_CODES:
            others = self._plan.on_context
        elif error.code in POLICY_CODES:
            others = self._plan.on_policy
        if others:
            self._next = list(others)
            self._asked = min(self._asked, MAX_ATTEMPTS - 1)
            return True
        # What one upstream cannot express another may; everything else that is final is final for all.
        return error.is_retryable or isinstance(error, BadRequest)


async def _cancelled(task: Racer) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
