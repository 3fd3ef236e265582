"""The straight path. `serve` is the life of a request; docs/life-of-a-request.md walks through it."""

from __future__ import annotations

from functools import partial

import msgspec
import structlog

from naru.cache.flight import Ending
from naru.cache.idempotency import Idempotency, key_in
from naru.cache.responses import HIT, Hit
from naru.calls import endings
from naru.calls.answers import StreamAnswer
from naru.calls.attempt import Attempt
from naru.calls.call import Call, RequestIds
from naru.calls.failover import Failover
from naru.calls.planning import NOTHING, insisted, plan_for
from naru.calls.room import Room
from naru.calls.streams import Streams
from naru.errors import InternalError, NaruError, ShuttingDown, TooLarge
from naru.gateway import cached
from naru.gateway.auth import Auth, allow_model
from naru.gateway.cached import CachedAnswers
from naru.ledger.display import cost_headers
from naru.ledger.ledger import Ledger, Settlement
from naru.limits.gate import Gate
from naru.protocol.content_type import check_json
from naru.protocol.dialect import MEDIA_FAMILIES, ClientSide, Envelope, WholeAnswer
from naru.protocol.retry_after import retry_headers
from naru.routing.plan import Find, Plan, lone
from naru.routing.strategies import Conditions
from naru.routing.table import Route, Table
from naru.targets import Upstreams
from naru.transport.exchange import Exchange, HeaderList

#: Proxies in front (nginx by default) would otherwise hold a stream back.
STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

log = structlog.get_logger("naru.gateway")


class Policy(msgspec.Struct, frozen=True):
    """What the operator decides about requests in general.

    `is_power_safe`: the journal is on the disk before anything is sent upstream and before a plain answer goes out.
    `keeps_content`: requests and answers go into the ledger, redacted. A stream that has shown nothing for `hold_s` begins all
    the same, and one that is silent gets a comment every `keep_alive_s`, so that proxies in between do not close it.
    """

    max_body_bytes: int
    is_power_safe: bool = False
    keeps_content: bool = False
    hold_s: float = 10.0
    keep_alive_s: float = 15.0


class Gateway:
    """Serves the hot paths. Everything it uses was built by `app.build`."""

    def __init__(
        self,
        auth: Auth,
        ledger: Ledger,
        upstreams: Upstreams,
        failover: Failover,
        gate: Gate,
        policy: Policy,
        cached: CachedAnswers | None = None,
    ) -> None:
        self.auth = auth
        self.ledger = ledger
        self.allowances = failover.allowances
        self.upstreams = upstreams
        self.failover = failover
        self.gate = gate
        self.room = Room(failover.fleet, gate)
        self.policy = policy
        self.cached = cached
        self.dialects = failover.means.dialects
        self.random = failover.random
        self.metrics = failover.metrics
        self.loop = failover.means.loop
        self.ids = RequestIds(self.random.randbytes(6))
        self.streams = Streams(policy.hold_s, policy.keep_alive_s, self._begin_stream, self._note)
        self.idempotency = Idempotency(ledger.store, ledger.clock)

    @property
    def table(self) -> Table:
        return self.upstreams.table

    def take(self, upstreams: Upstreams, policy: Policy) -> None:
        """Another configuration, for the requests that come from now on."""
        self.upstreams = upstreams
        self.policy = policy
        self.streams.hold_s, self.streams.keep_alive_s = policy.hold_s, policy.keep_alive_s

    async def serve(self, exchange: Exchange) -> None:
        """Answers one request, whatever happens to it."""
        dialect = self.dialects.at(exchange.path)
        assert dialect is not None, f"{exchange.path} is no hot path"
        call = Call(exchange, self.ids.next(), dialect, self.loop.time())
        try:
            if not self.gate.enter():
                await self.gate.wait(exchange.headers)
        except NaruError as error:
            self._refuse(call, error)
            return
        try:
            await self._serve(call)
        except NaruError as error:
            self._refuse(call, error)
        except Exception:
            log.exception("a request failed inside the gateway", request_id=call.id)
            self._refuse(call, InternalError(f"Naru failed on this request. Its log has the cause under {call.id}."))
        finally:
            self.gate.leave()
            if call.begun is not None:
                call.begun.end()
            if call.execution is not None:
                call.execution.end(call.is_sent)

    async def _serve(self, call: Call) -> None:
        """auth -> read -> plan -> reserve -> call -> relay -> settle. Nothing else happens to a request."""
        call.key = self.auth.identify(call.exchange.headers, address=call.exchange.client)
        call.envelope = envelope = self._read(call)
        call.upstreams = self.upstreams
        call.route = route = call.upstreams.table.resolve(envelope.model)
        allow_model(call.key, route.name)
        if (key := key_in(call.exchange.headers)) is not None and not await self._is_first(call, key):
            return
        if self.cached is not None and (hit := await self.cached.begin(call)) is not None:
            await self._tell_again(call, hit)
            return
        call.plan = self._plan(call)
        if self.policy.keeps_content:
            call.record()
        await self._admit(call)
        try:
            if self.policy.is_power_safe:
                await self.ledger.durable()
            if call.plan.is_busy:  # after the limits, which count requests as they come
                call.plan = await self.room.wait(
                    call.plan, call.exchange, envelope.is_stream, partial(self._plan, call)
                )
            if envelope.is_stream:
                await self._stream(call)
            else:
                await self._answer(call)
        except BaseException as error:
            if not call.permit.is_settled:
                self._settle(call, endings.failed(call, error))
            raise

    def _plan(self, call: Call) -> Plan:
        return self.plan(call.route, call.upstreams.table.resolve, call.dialect, call.envelope, call.exchange.headers)

    def plan(self, route: Route, find: Find, client: ClientSide, envelope: Envelope, headers: HeaderList) -> Plan:
        """As things stand now."""
        fleet, now = self.failover.fleet, self.loop.time()
        if insisted(headers) == NOTHING and (found := lone(route, client.name, fleet, now)) is not None:
            return found
        world = Conditions(fleet, now, self.random)
        return plan_for(route, find, client, envelope, headers, world, self.ledger.clock.now())

    async def _admit(self, call: Call) -> None:
        """Every limit and every budget, or none of them. Waits only where a place or a lease is missing."""
        call.meters = meters = self.allowances.path(call.key, call.route)
        if meters:
            call.holds.append(await self.allowances.admit(meters, call.envelope, call.exchange.headers))
        ask = call.ask(call.plan.candidates, self.auth.pepper)
        try:
            call.permit = self.ledger.reserve_now(ask) or await self.ledger.reserve(ask)
        except BaseException:
            call.release(None, self.allowances.now_ns())
            raise

    def _read(self, call: Call) -> Envelope:
        body = call.exchange.payload
        if len(body) > self.policy.max_body_bytes:
            raise TooLarge(
                f"The request is larger than {self.policy.max_body_bytes} bytes. Send less, pass files by URL, or raise "
                "server.max_body_bytes."
            )
        exchange = call.exchange
        if call.dialect.name not in MEDIA_FAMILIES:  # their dialects have their families' names
            check_json(exchange.headers)
        path = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        return call.dialect.read(body, path, exchange.headers)

    async def _is_first(self, call: Call, key: bytes) -> bool:
        """Under an Idempotency-Key: whether the request is to be executed. If not, the answer of the first was told."""
        call.execution = await self.idempotency.begin(call.exchange, key, call.key.owner)
        call.exchange = call.execution or call.exchange
        return call.execution is not None

    # --- The two kinds of answer ----------------------------------------------------------------------------------

    async def _answer(self, call: Call) -> None:
        attempt = await self.failover.first(call)
        if attempt is None:
            self._settle(call, endings.left_early(call))
            return
        assert isinstance(attempt.answer, WholeAnswer)
        await self._tell(call, attempt.answer)

    async def _tell(self, call: Call, whole: WholeAnswer) -> None:
        if call.recording is not None:
            call.recording.whole = whole
        usage = endings.usage_or_estimate(whole.usage, call, whole.output_chars)
        cost = self._settle(call, endings.settlement(call, "completed", 200, usage))
        if self.policy.is_power_safe:
            await self.ledger.durable()
        headers = call.headers(whole.content_type) + self._limit_headers(call)
        headers += cost_headers(cost, call.permit.fx)
        call.exchange.reply(200, headers, whole.body)

    async def _tell_again(self, call: Call, hit: Hit) -> None:
        """From the cache, under this request's own head. It passes the limits as any other, and costs nothing."""
        call.plan = Plan((), is_lone=True)
        await self._admit(call)
        end = cached.ending(Ending.GONE)
        try:
            own = [*call.headers(b"")[1:], *self._limit_headers(call), *cost_headers(0, call.permit.fx)]
            end = cached.ending(await hit.tell([*hit.headers, *(pair for pair in own if pair[0] != HIT[0])]))
        finally:
            self._settle(call, end)

    async def _stream(self, call: Call) -> None:
        self.streams.waits(call)
        try:
            attempt = await self.failover.first(call)
        finally:
            self.streams.begins(call)
        if attempt is None:
            self._settle(call, endings.left_early(call))
            return
        if isinstance(attempt.answer, WholeAnswer):
            await self._tell(call, attempt.answer)
            return
        call.ttft_s = self.ledger.clock.monotonic() - call.permit.started
        try:
            # Whatever ends this, `attempt` is the one whose stream was shown last.
            while (following := await self._relay(call, attempt)) is not None:
                attempt = following
        finally:
            assert attempt.stream is not None
            if not call.permit.is_settled:
                self._settle(call, endings.stream_end(call, attempt.stream))
        answer, exchange = attempt.stream, call.exchange
        if answer.error is not None and not answer.tells_errors:
            exchange.cut()
            return
        if answer.error is not None:
            cached.spoil(call)
            exchange.write(call.dialect.encode_stream_error(answer.error))
        exchange.finish()

    async def _relay(self, call: Call, attempt: Attempt) -> Attempt | None:
        """A stream from its first content to its end. Returns the attempt that goes on with it where it was cut; None nearly
        always."""
        answer = attempt.stream
        assert answer is not None
        try:
            if not call.is_started:
                self._begin_stream(call, answer)
            call.permit.progress(endings.so_far(call, answer))
            self.streams.flows(answer, call)
            # What ends the answer for the client is written to it only after the settlement: who was told all is billed all.
            answer.go_live(call.exchange, lambda: self._settle(call, endings.stream_end(call, answer)))
            await answer.ended()
        finally:
            self.streams.ended(answer)
            answer.cut(ShuttingDown("The gateway stopped before this answer was complete."))
            self.failover.ended(attempt, answer.error)
        return await self.failover.resume(attempt) if call.route.continues and answer.error is not None else None

    def _begin_stream(self, call: Call, answer: StreamAnswer | None = None) -> None:
        """The head. Without an answer it says only that there will be one."""
        content_type = call.dialect.stream_type or (answer.content_type if answer is not None else b"")
        headers = call.headers(content_type) + STREAM_HEADERS + self._limit_headers(call)
        if answer is not None and not answer.tells_errors:
            # Sound has no place for a usage, so what it costs follows from the request alone, and is known now.
            headers += cost_headers(endings.sound_cost(call), call.permit.fx)
        call.exchange.start(200, headers)
        call.is_started = True

    # --- Endings --------------------------------------------------------------------------------------------------

    def _settle(self, call: Call, end: Settlement) -> int:
        self.metrics.ended(call.dialect.name, end, self.loop.time() - call.started)
        cost = call.permit.settle(call.recorded(end))
        if call.begun is not None:
            cached.keep(call, end, cost)
        if call.holds:
            call.release(end, self.allowances.now_ns())
        return cost

    def _refuse(self, call: Call, error: NaruError) -> None:
        self.metrics.refused(call.dialect.name, error)
        if error.fault.value != "caller":
            log.warning("request refused", request_id=call.id, status=error.status, code=error.code, why=error.loggable)
        if call.is_started:
            cached.spoil(call)
            call.exchange.write(call.dialect.encode_stream_error(error))
            call.exchange.finish()
            return
        status, body = call.dialect.encode_error(error)
        headers = call.headers(b"application/json") + retry_headers(error) + self._limit_headers(call)
        call.exchange.reply(status, headers, body)

    def _limit_headers(self, call: Call) -> HeaderList:
        return self.allowances.headers(call.meters) if call.meters else []

    def _note(self, answer: StreamAnswer, call: Call) -> None:
        """What an open stream has come to, so that little is lost if this process dies."""
        call.permit.progress(endings.so_far(call, answer))

    def cut_streams(self) -> None:
        """At the end of the drain time: every open stream gets an in-band error."""
        self.idempotency.stop()
        self.streams.cut(ShuttingDown("The gateway is restarting. Send the request again."))
