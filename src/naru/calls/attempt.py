"""One call of one deployment for one request: what is sent, and the answer as far as its first content.

However an attempt ends, by an answer, an error or a cancellation, its connection is free or closed and its place given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import cast

import msgspec

from naru.cache.turns import TurnStore
from naru.calls import endings
from naru.calls.answers import Abandon, StreamAnswer, client_left, refusal, typed
from naru.calls.call import Call
from naru.clock import Clock
from naru.errors import NaruError, UpstreamBroken
from naru.limits.admission import Hold
from naru.protocol.bridge import Bridge, Dialects
from naru.protocol.dialect import MediaRelay, StreamRelay, WholeAnswer
from naru.protocol.images import addresses, place_of
from naru.protocol.reasoning import must_stream
from naru.protocol.replay import Replay
from naru.routing.deadlines import patience_s, total_s, ttft_s
from naru.routing.vitals import Vitals
from naru.targets import Target, host_of
from naru.transport.deadlines import Deadlines
from naru.transport.fetch import ImageFetcher
from naru.transport.upstream import Sink
from naru.transport.whole import PlainAnswer


class Means(msgspec.Struct, frozen=True):
    """What attempts are made with. `images` fetches pictures by address for upstreams that take none; None: nothing is fetched.
    `abort_on_disconnect`: a plain call is dropped upstream when its client leaves."""

    dialects: Dialects
    turns: TurnStore
    clock: Clock
    loop: asyncio.AbstractEventLoop
    images: ImageFetcher | None = None
    abort_on_disconnect: bool = False


class Attempt:
    """`started` is on the loop's clock. `hold` is what the deployment's own limits hold for it."""

    __slots__ = (
        "answer", "bridge", "call", "decides", "dropped", "hold", "is_last", "is_sent", "means", "relay", "replay", "started",
        "stream", "target", "vitals",
    )  # fmt: skip

    def __init__(
        self, call: Call, target: Target, vitals: Vitals, hold: Hold | None, means: Means, bridge: Bridge | None = None
    ) -> None:
        """`bridge` is given where it is not the usual one of the two dialects."""
        self.call = call
        self.bridge = bridge or means.dialects.between(call.dialect, target.dialect)
        self.target = target
        self.vitals = vitals
        self.hold = hold
        self.means = means
        self.started = means.loop.time()
        self.dropped: tuple[str, ...] = ()
        self.is_sent = False
        #: Whether nobody else is left to be asked.
        self.is_last = True
        #: Whether the deployment's breaker waits for how this one ends.
        self.decides = False
        quirks = target.deployment.quirks
        remembers = quirks.remembers_reasoning and "tools" in call.envelope.fields
        self.replay = Replay(means.turns.of(call.key.id), target.upstream.origin) if remembers else None
        #: What came, once there is something to show.
        self.answer: WholeAnswer | StreamAnswer | None = None
        self.stream: StreamAnswer | None = None
        self.relay: StreamRelay | None = None

    def adopt(self) -> None:
        """From here on the request's answer is this attempt's."""
        self.call.last_target = self.target
        self.call.dropped = self.dropped

    async def fetch(self) -> WholeAnswer:
        """A plain answer, from an upstream that may only know streams."""
        call, target = self.call, self.target
        quirks = target.deployment.quirks
        answer = PlainAnswer(self.means.loop.create_future())
        if self.means.abort_on_disconnect:
            call.exchange.listener = Abandon(answer)
        bridge = self.bridge
        is_gathered = must_stream(call.envelope, quirks) and not bridge.is_media
        try:
            await self._send(bridge, answer, is_gathered)
            plain = await answer.future
        except BaseException:
            answer.abandon()  # a failure has ended it already; a cancellation has not
            raise
        if plain.status != 200:
            raise refusal(plain, target, self.means.clock.now())
        tell = bridge.gathered if is_gathered else bridge.whole
        whole = typed(tell(plain.inflated(), call.envelope, quirks, self.replay), plain)
        if call.route.strategy == "latency":  # for whom else
            now = self.means.loop.time()
            self.vitals.whole.saw(now - self.started, now)
        return whole

    async def open(self) -> WholeAnswer | StreamAnswer:
        """A stream that has shown its first content; of sound or images also a whole answer."""
        call, target = self.call, self.target
        deployment = target.deployment
        assert deployment.price is not None
        price = partial(endings.cost_of, call, deployment.price)
        bridge = self.bridge
        relay = self.relay = bridge.stream(call.envelope, deployment.quirks, price, self.replay)
        media = cast(MediaRelay, relay) if bridge.is_media else None
        if call.recording is not None and media is None:
            relay = call.recording.watch(relay)
        answer = self.stream = StreamAnswer(relay, self.means.loop, target.dialect.stream_type, media)
        if call.race is None:
            call.exchange.listener = answer
        else:
            call.race.join(answer)
        try:
            await self._send(bridge, answer, is_stream=True)
            plain = await answer.ready()
        except BaseException:
            answer.cut(client_left())
            raise
        if plain is None:
            now = self.means.loop.time()
            self.vitals.first_content(now - self.started, now)
            return answer
        if plain.status != 200:
            raise refusal(plain, target, self.means.clock.now())
        if bridge.is_media:
            return typed(bridge.whole(plain.inflated(), call.envelope, deployment.quirks), plain)
        raise UpstreamBroken("The upstream answered a streamed request with something that is no stream.")

    async def _send(self, bridge: Bridge, sink: Sink, is_stream: bool) -> None:
        call, target, means = self.call, self.target, self.means
        needs_data = means.images is not None and target.upstream.quirks.needs_image_data
        images = await self._images() if needs_data else None
        forwarded = bridge.request(call.envelope, target.upstream, is_stream, self.replay, images)
        self.dropped = call.dropped = forwarded.dropped
        deployment = target.deployment
        timeouts = deployment.timeouts
        connection = target.pool.take() or await target.pool.acquire(timeouts.connect_s + timeouts.start_s)
        if sink.is_over:  # the client left while this waited for a connection
            target.pool.put_back(connection)
            return
        self.is_sent = call.is_sent = True
        # One deadline covers all attempts; each attempt has its own first-content time.
        now = means.loop.time()
        whole_s = total_s(deployment, call.envelope)
        left_s = max(0.0, whole_s - (now - call.started))
        if is_stream and not bridge.is_media:
            first_s = ttft_s(deployment, call.envelope)
        else:
            first_s = left_s if self.is_last else patience_s(deployment, call.envelope, left_s)
        headers = call.passed_headers(target)
        if target.sign is not None:
            headers += target.sign(forwarded.body, is_stream, means.clock.now())
        request = target.request(forwarded, is_stream, headers)
        connection.send(request, sink, Deadlines(now, first_s, timeouts.idle_s, left_s))

    async def _images(self) -> Mapping[str, str]:
        """What the request's addresses hold; asked for once, whatever the number of attempts. Files that lie with the
        provider itself (Gemini's) stay there: it reads them, and nobody else may."""
        call, fetcher = self.call, self.means.images
        assert fetcher is not None
        call.images = {} if call.images is None else call.images
        own = host_of(self.target.pool)
        wanted = [url for url in addresses(call.dialect, call.envelope) if place_of(url) != own]
        call.images |= await fetcher.all(url for url in wanted if url not in call.images)
        return {url: call.images[url] for url in wanted}

    def owed(self) -> int:
        """Nano-dollars that the provider is owed for an attempt that was given up: it has read the prompt."""
        stream, price = self.stream, self.target.deployment.price
        if not self.is_sent or price is None:
            return 0
        reported, chars = (stream.relay.usage, stream.relay.output_chars) if stream is not None else (None, 0)
        return self.call.permit.cost(price, endings.usage_or_estimate(reported, self.call, chars))

    def drop(self, error: NaruError) -> None:
        """Ends a stream that nobody will see."""
        if self.stream is not None:
            self.stream.cut(error)

    def give_back(self, now_ns: int) -> None:
        """Its place at the deployment, where it came to nothing."""
        if self.hold is not None:
            self.call.holds.remove(self.hold)
            self.hold.cancel(now_ns)
            self.hold = None

    def took_s(self) -> float:
        return self.means.loop.time() - self.started
