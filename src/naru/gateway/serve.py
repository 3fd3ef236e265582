"""The straight path. `serve` is the life of a request; docs/life-of-a-request.md walks through it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import TypeVar, cast

import msgspec
import structlog

from naru.allowances import Allowances, Meters
from naru.cache.idempotency import Idempotency, key_in
from naru.cache.turns import TurnStore
from naru.errors import BadRequest, InternalError, NaruError, ShuttingDown, TooLarge, Unpriced, UpstreamBroken
from naru.gateway import endings
from naru.gateway.answers import Abandon, StreamAnswer, refusal, typed
from naru.gateway.auth import Auth, allow_model
from naru.gateway.call import Call, RequestIds
from naru.ledger.display import cost_headers
from naru.ledger.ledger import Ledger, Settlement
from naru.metrics import Metrics
from naru.protocol.bridge import Bridge, Dialects
from naru.protocol.dialect import Envelope, MediaRelay, WholeAnswer
from naru.protocol.images import addresses, place_of
from naru.protocol.reasoning import must_stream
from naru.protocol.replay import Replay
from naru.protocol.retry_after import retry_headers
from naru.routing.plan import Plan, plan
from naru.routing.table import Route, Table
from naru.targets import Target, Upstreams, host_of
from naru.transport.exchange import Exchange, HeaderList
from naru.transport.fetch import ImageFetcher
from naru.transport.upstream import Deadlines, Sink
from naru.transport.whole import PlainAnswer

T = TypeVar("T")

#: money.md: what a stream has come to is noted so often.
PROGRESS_S = 2.0

#: Proxies in front (nginx by default) would otherwise hold a stream back.
STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]

log = structlog.get_logger("naru.gateway")


class Policy(msgspec.Struct, frozen=True):
    """What the operator decides about requests in general.

    `abort_on_disconnect`: whether a plain (not streamed) call is dropped upstream when its client leaves. By default it is
    finished and billed exactly, because providers bill it in full either way (reliability.md 1.4). `is_power_safe`: the
    journal is on the disk before anything is sent upstream and before a plain answer goes out. `images` fetches pictures
    by address for upstreams that take none; None: nothing is fetched. `keeps_content`: requests and answers go into the
    ledger, redacted.
    """

    max_body_bytes: int
    abort_on_disconnect: bool = False
    is_power_safe: bool = False
    images: ImageFetcher | None = None
    keeps_content: bool = False


class Gateway:
    """Serves the hot paths. Everything it uses was built by `app.build`."""

    def __init__(
        self,
        auth: Auth,
        ledger: Ledger,
        allowances: Allowances,
        upstreams: Upstreams,
        dialects: Dialects,
        policy: Policy,
        random: Random,
    ) -> None:
        self.auth = auth
        self.ledger = ledger
        self.allowances = allowances
        self.upstreams = upstreams
        self.dialects = dialects
        self.policy = policy
        self.random = random
        self.metrics = Metrics()
        self.ids = RequestIds(random.randbytes(6))
        self.live: dict[StreamAnswer, Call] = {}
        self._progress_timer: asyncio.TimerHandle | None = None
        self.turns = TurnStore(ledger.clock)
        self.idempotency = Idempotency(ledger.store, ledger.clock)
        self.loop = asyncio.get_running_loop()

    @property
    def table(self) -> Table:
        return self.upstreams.table

    async def serve(self, exchange: Exchange) -> None:
        """Answers one request, whatever happens to it."""
        dialect = self.dialects.at(exchange.path)
        assert dialect is not None, f"{exchange.path} is no hot path"
        call = Call(exchange, self.ids.next(), dialect, self.loop.time())
        self.metrics.in_flight += 1
        try:
            await self._serve(call)
        except NaruError as error:
            self._refuse(call, error)
        except Exception:
            log.exception("a request failed inside the gateway", request_id=call.id)
            self._refuse(call, InternalError(f"Naru failed on this request. Its log has the cause under {call.id}."))
        finally:
            self.metrics.in_flight -= 1
            if call.execution is not None:
                call.execution.end(call.is_sent)

    async def _serve(self, call: Call) -> None:
        """auth -> read -> plan -> reserve -> call -> relay -> settle. Nothing else happens to a request."""
        call.key = self.auth.identify(call.exchange.headers, address=call.exchange.client)
        call.envelope = envelope = self._read(call)
        route = self.table.resolve(envelope.model)
        allow_model(call.key, route.name)
        if (key := key_in(call.exchange.headers)) is not None and not await self._is_first(call, key):
            return
        order = plan(route, self.table.resolve, self.random, call.dialect.name)
        if self.policy.keeps_content:
            call.record()
        await self._admit(call, route, order)
        try:
            if self.policy.is_power_safe:
                await self.ledger.durable()
            if envelope.is_stream:
                await self._stream(call, order)
            else:
                await self._answer(call, order)
        except BaseException as error:
            if not call.permit.is_settled:
                self._settle(call, endings.failed(call, error))
            raise

    async def _admit(self, call: Call, route: Route, order: Plan) -> None:
        """Every limit and every budget, or none of them. Waits only where a place or a lease is missing."""
        call.meters = meters = self.allowances.path(call.key, route)
        if meters:
            call.holds.append(await self.allowances.admit(meters, call.envelope, call.exchange.headers))
        ask = call.ask(order.attempts, self.auth.pepper)
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
        path = f"{exchange.path}?{exchange.query}" if exchange.query else exchange.path
        return call.dialect.read(body, path, exchange.headers)

    async def _is_first(self, call: Call, key: bytes) -> bool:
        """Under an Idempotency-Key: whether the request is to be executed. If not, the answer of the first was told."""
        call.execution = await self.idempotency.begin(call.exchange, key, call.key.owner)
        call.exchange = call.execution or call.exchange
        return call.execution is not None

    # --- The two kinds of answer ----------------------------------------------------------------------------------

    async def _answer(self, call: Call, order: Plan) -> None:
        whole = await self._first(call, order, self._fetch)
        if whole is None:
            self._settle(call, endings.left_early(call))
            return
        await self._tell(call, whole)

    async def _tell(self, call: Call, whole: WholeAnswer) -> None:
        if call.recording is not None:
            call.recording.whole = whole
        usage = endings.usage_or_estimate(whole.usage, call, whole.output_chars)
        cost = self._settle(call, endings.settlement(call, "completed", 200, usage))
        if self.policy.is_power_safe:
            await self.ledger.durable()
        headers = call.headers(whole.content_type) + self._limit_headers(call)
        headers += cost_headers(cost, self.ledger.fx)
        call.exchange.reply(200, headers, whole.body)

    async def _stream(self, call: Call, order: Plan) -> None:
        answer = await self._first(call, order, self._open)
        if answer is None:
            self._settle(call, endings.left_early(call))
            return
        if isinstance(answer, WholeAnswer):
            await self._tell(call, answer)
            return
        call.ttft_s = self.ledger.clock.monotonic() - call.permit.started
        exchange = call.exchange
        headers = (
            call.headers(call.dialect.stream_type or answer.content_type) + STREAM_HEADERS + self._limit_headers(call)
        )
        if not answer.tells_errors:
            # Sound has no place for a usage, so what it costs follows from the request alone, and is known now.
            headers += cost_headers(endings.sound_cost(call), self.ledger.fx)
        exchange.start(200, headers)
        call.is_started = True
        self.live[answer] = call
        try:
            call.permit.progress(endings.so_far(call, answer))
            # What ends the answer for the client is written to it only after the settlement: who was told all is billed all.
            answer.go_live(exchange, lambda: self._settle(call, endings.stream_end(call, answer)))
            if self._progress_timer is None:
                self._progress_timer = self.loop.call_later(PROGRESS_S, self._note_progress)
            await answer.ended()
        finally:
            del self.live[answer]
            answer.cut(ShuttingDown("The gateway stopped before this answer was complete."))
            if not call.permit.is_settled:
                self._settle(call, endings.stream_end(call, answer))
        if answer.error is not None and not answer.tells_errors:
            exchange.cut()
            return
        if answer.error is not None:
            exchange.write(call.dialect.encode_stream_error(answer.error))
        exchange.finish()

    # --- Attempts -------------------------------------------------------------------------------------------------

    async def _first(self, call: Call, order: Plan, attempt: Callable[[Call, Target], Awaitable[T]]) -> T | None:
        """The first attempt that succeeds; None when the client left. Failover ends with the first content."""
        if order.is_wrong_endpoint:
            raise self.table.wrong_endpoint(call.envelope.model, call.dialect.name)
        if not order.attempts:
            raise Unpriced(endings.unpriced(call.envelope.model), param="model")
        errors: list[NaruError] = []
        for deployment in order.attempts:
            if call.has_left():
                return None
            call.attempts += 1
            call.attempt_started = self.loop.time()
            dialect = deployment.spoken(call.dialect.name, call.envelope)
            call.last_target = target = self.upstreams.target(deployment, dialect)
            if (meters := self.allowances.of_deployment(deployment)) and (full := self._take(call, meters)) is not None:
                errors.append(full)
                call.note_failure(deployment.id, full, self.loop.time())
                continue
            remembers = deployment.quirks.remembers_reasoning and "tools" in call.envelope.fields
            call.replay = Replay(self.turns.of(call.key.id), target.upstream.origin) if remembers else None
            try:
                return await attempt(call, target)
            except NaruError as error:
                if call.has_left():
                    return None
                errors.append(error)
                if meters:
                    call.holds.pop().cancel(self.allowances.now_ns())
                call.note_failure(deployment.id, error, self.loop.time())
                self.metrics.attempt_failed(deployment.id, error)
                log.info(
                    "attempt failed", request_id=call.id, deployment=deployment.id, code=error.code, why=error.loggable
                )
                # What one upstream cannot express another may; everything else that is final is final for all.
                if not error.is_retryable and not isinstance(error, BadRequest):
                    break
        raise endings.after_failures(errors)

    def _take(self, call: Call, meters: Meters) -> NaruError | None:
        """A deployment's own limits, for this attempt. What refuses here is no reason not to ask another."""
        try:
            call.holds.append(self.allowances.take(meters, call.envelope))
        except NaruError as error:
            error.is_retryable = True
            return error
        return None

    async def _fetch(self, call: Call, target: Target) -> WholeAnswer:
        """A plain answer, from an upstream that may only know streams."""
        quirks = target.deployment.quirks
        answer = PlainAnswer(self.loop.create_future())
        if self.policy.abort_on_disconnect:
            call.exchange.listener = Abandon(answer)
        bridge = self.dialects.between(call.dialect, target.dialect)
        is_gathered = must_stream(call.envelope, quirks) and not bridge.is_media
        await self._send(call, target, bridge, answer, is_gathered)
        plain = await answer.future
        if plain.status != 200:
            raise refusal(plain, target, self.ledger.clock.now())
        tell = bridge.gathered if is_gathered else bridge.whole
        return typed(tell(plain.inflated(), call.envelope, quirks, call.replay), plain)

    async def _open(self, call: Call, target: Target) -> StreamAnswer | WholeAnswer:
        """A stream that has shown its first content; of sound or images also a whole answer."""
        deployment = target.deployment
        assert deployment.price is not None
        price = partial(endings.cost_of, call, deployment.price)
        bridge = self.dialects.between(call.dialect, target.dialect)
        relay = bridge.stream(call.envelope, deployment.quirks, price, call.replay)
        media = cast(MediaRelay, relay) if bridge.is_media else None
        if call.recording is not None and media is None:
            relay = call.recording.watch(relay)
        answer = StreamAnswer(relay, self.loop, target.dialect.stream_type, media)
        call.exchange.listener = answer
        await self._send(call, target, bridge, answer, is_stream=True)
        plain = await answer.ready()
        if plain is None:
            return answer
        if plain.status != 200:
            raise refusal(plain, target, self.ledger.clock.now())
        if bridge.is_media:
            return typed(bridge.whole(plain.inflated(), call.envelope, deployment.quirks), plain)
        raise UpstreamBroken("The upstream answered a streamed request with something that is no stream.")

    async def _send(self, call: Call, target: Target, bridge: Bridge, sink: Sink, is_stream: bool) -> None:
        needs_data = self.policy.images is not None and target.upstream.quirks.needs_image_data
        images = await self._images(call, target) if needs_data else None
        forwarded = bridge.request(call.envelope, target.upstream, is_stream, call.replay, images)
        call.dropped = forwarded.dropped
        timeouts = target.deployment.timeouts
        connection = target.pool.take() or await target.pool.acquire(timeouts.connect_s)
        if sink.is_over:  # the client left while this waited for a connection
            target.pool.put_back(connection)
            return
        call.is_sent = True
        # One deadline covers all attempts; each attempt has its own first-content time.
        now = self.loop.time()
        first_s = timeouts.ttft_s if is_stream and not bridge.is_media else timeouts.total_s
        left_s = max(0.0, timeouts.total_s - (now - call.started))
        headers = call.passed_headers(target)
        if target.sign is not None:
            headers += target.sign(forwarded.body, is_stream, self.ledger.clock.now())
        request = target.request(forwarded, is_stream, headers)
        connection.send(request, sink, Deadlines(now, first_s, timeouts.idle_s, left_s))

    async def _images(self, call: Call, target: Target) -> Mapping[str, str]:
        """What the request's addresses hold; asked for once, whatever the number of attempts. Files that lie with the
        provider itself (Gemini's) stay there: it reads them, and nobody else may."""
        assert self.policy.images is not None
        call.images = {} if call.images is None else call.images
        own = host_of(target.pool)
        wanted = [url for url in addresses(call.dialect, call.envelope) if place_of(url) != own]
        call.images |= await self.policy.images.all(url for url in wanted if url not in call.images)
        return {url: call.images[url] for url in wanted}

    # --- Endings --------------------------------------------------------------------------------------------------

    def _settle(self, call: Call, end: Settlement) -> int:
        self.metrics.ended(call.dialect.name, end, self.loop.time() - call.started)
        cost = call.permit.settle(call.recorded(end))
        if call.holds:
            call.release(end, self.allowances.now_ns())
        return cost

    def _refuse(self, call: Call, error: NaruError) -> None:
        self.metrics.refused(call.dialect.name, error)
        if error.fault.value != "caller":
            log.warning("request refused", request_id=call.id, status=error.status, code=error.code, why=error.loggable)
        if call.is_started:
            call.exchange.write(call.dialect.encode_stream_error(error))
            call.exchange.finish()
            return
        status, body = call.dialect.encode_error(error)
        headers = call.headers(b"application/json") + retry_headers(error) + self._limit_headers(call)
        call.exchange.reply(status, headers, body)

    def _limit_headers(self, call: Call) -> HeaderList:
        return self.allowances.headers(call.meters) if call.meters else []

    def _note_progress(self) -> None:
        """Every open stream, so that little is lost if this process dies."""
        self._progress_timer = None
        for answer, call in self.live.items():
            call.permit.progress(endings.so_far(call, answer))
        if self.live:
            self._progress_timer = self.loop.call_later(PROGRESS_S, self._note_progress)

    def cut_streams(self) -> None:
        """At the end of the drain time: every open stream gets an in-band error."""
        self.idempotency.stop()
        for answer in list(self.live):
            answer.cut(ShuttingDown("The gateway is restarting. Send the request again."))
