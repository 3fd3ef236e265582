"""How a caller's dialect meets an upstream's: passed through where they are the same, else by way of the typed messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import product
from typing import Any, Protocol, cast

import msgspec
from msgspec import Raw

from naru.errors import BadRequest, UpstreamError
from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import (
    CHAT,
    MEDIA_FAMILIES,
    ClientSide,
    Dialect,
    Envelope,
    Forwarded,
    MediaDialect,
    MediaRelay,
    PlainClient,
    PlainDialect,
    PlainUpstream,
    Pricer,
    Quirks,
    StreamDecoder,
    StreamEncoder,
    StreamRelay,
    UpstreamSide,
    WholeAnswer,
    family_of,
)
from naru.protocol.foreign_tools import without_foreign_tools
from naru.protocol.images import with_images
from naru.protocol.messages import (
    Event,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Request,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)
from naru.protocol.plain import PlainRequest, PlainResponse
from naru.protocol.reasoning import has_switch, switched
from naru.protocol.replay import Keeper, Replay, keep, restored


class Upstream(msgspec.Struct, frozen=True):
    """What a request must know of the model it goes to: the provider's name for it, its quirks, body fields (in its own
    dialect) that hold where the caller set none, and whose signatures it can read (`replay.Replay.origin`)."""

    model: str
    quirks: Quirks
    defaults: Mapping[str, Raw] = {}
    origin: str = ""


#: Address of a picture -> its content as a data: URI.
Images = Mapping[str, str]


class Bridge(Protocol):
    """One pair of dialects. `replay` is given where turns are to be remembered (`Quirks.remembers_reasoning`), `images`
    where their contents stand in for their addresses (`Quirks.needs_image_data`)."""

    #: Sound or images: slow to begin, and a stream asked for may be answered whole (whisper-1 ignores `stream`).
    is_media: bool

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        """The upstream's body; `is_stream` may be True where the caller's own is not (an upstream that only streams).
        Raises BadRequest, by name, for what the upstream cannot express."""
        ...

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer: ...

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        """One whole answer from the bytes of a stream. Raises UpstreamError if the stream was cut or broken."""
        ...

    def stream(
        self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None
    ) -> StreamRelay: ...


class PassThrough:
    """Both sides speak the same: the body keeps every field, the stream its bytes."""

    is_media = False

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        if upstream.defaults:
            fields = {**upstream.defaults, **envelope.fields}
            envelope = msgspec.structs.replace(envelope, fields=fields)
        if is_stream and not envelope.is_stream:
            fields = {**envelope.fields, "stream": Raw(b"true")}
            # As from a caller who did not ask for usage: then the dialect asks for it itself.
            envelope = msgspec.structs.replace(envelope, fields=fields, is_stream=True, wants_usage=False)
        has_old_switch = not upstream.quirks.reads_soft_switch and has_switch(envelope)
        if replay is not None or has_old_switch or images:
            given = self.dialect.decode_request(envelope)
            request = restored(given, replay) if replay is not None else given
            request = switched(request) if has_old_switch else request
            request = with_images(request, images) if images else request
            if request is not given:
                request = msgspec.structs.replace(request, model=upstream.model, is_stream=is_stream)
                return self.dialect.encode_request(request, upstream.quirks)
        return self.dialect.forward(envelope, upstream.model, upstream.quirks)

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        answer = self.dialect.relay_whole(body, quirks)
        if replay is not None:
            keep(self.dialect.decode_response(body, quirks), replay)
        return answer

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return _told(self.dialect, _gathered(self.dialect, body, quirks), envelope, replay)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        relay = self.dialect.stream_relay(envelope, quirks, price)
        return relay if replay is None else WatchedStream(relay, self.dialect.stream_decoder(quirks), Keeper(replay))


class Translation:
    """Client and upstream speak differently."""

    is_media = False

    def __init__(self, client: Dialect, upstream: Dialect) -> None:
        self.client = client
        self.upstream = upstream

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        return self.encoded(self.decoded(envelope, upstream, replay, images), upstream, is_stream)

    def decoded(self, envelope: Envelope, upstream: Upstream, replay: Replay | None, images: Images | None) -> Request:
        """What the caller asks for, as this upstream is to hear it."""
        decoded = self.client.decode_request(envelope)
        if replay is not None:
            decoded = restored(decoded, replay)
        if not upstream.quirks.reads_soft_switch and has_switch(envelope):
            decoded = switched(decoded)
        return with_images(decoded, images) if images else decoded

    def encoded(self, request: Request, upstream: Upstream, is_stream: bool) -> Forwarded:
        request = msgspec.structs.replace(request, model=upstream.model, is_stream=is_stream, wants_usage=is_stream)
        request, dropped = without_foreign_tools(request, self.upstream.name)
        request, cut = _within_limit(request, upstream.quirks.max_output)
        forwarded = self.upstream.encode_request(request, upstream.quirks)
        body = _with_defaults(forwarded.body, upstream.defaults) if upstream.defaults else forwarded.body
        return Forwarded(body, (*dropped, *cut, *forwarded.dropped))

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return _told(self.client, self.upstream.decode_response(body, quirks), envelope, replay)

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return _told(self.client, _gathered(self.upstream, body, quirks), envelope, replay)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        decoder = self.upstream.stream_decoder(quirks)
        keeper = None if replay is None else Keeper(replay)
        return TranslatedStream(decoder, self.client.stream_encoder(envelope, price), envelope.model, keeper)


def _gathered(upstream: Dialect, body: bytes, quirks: Quirks) -> Response:
    decoder = upstream.stream_decoder(quirks)
    events = decoder.feed(body)
    # A decoder may keep an error for its next call; events that came before one are no whole answer.
    return accumulate([*events, *decoder.feed(b""), *decoder.close()])


def _told(client: Dialect, response: Response, envelope: Envelope, replay: Replay | None) -> WholeAnswer:
    if replay is not None:
        keep(response, replay)
    if not response.model:  # CLOVA Studio's answers name none
        response = msgspec.structs.replace(response, model=envelope.model)
    return WholeAnswer(client.encode_response(response, envelope), response.usage, _size(response))


def _within_limit(request: Request, most: int | None) -> tuple[Request, tuple[str, ...]]:
    """Clients ask for as much as their own protocol's models can write; what a model cannot write is no loss."""
    asked = request.max_output_tokens
    if most is None or asked is None or asked <= most:
        return request, ()
    return msgspec.structs.replace(request, max_output_tokens=most), (f"max_tokens above {most}",)


class TranslatedStream:
    """See dialect.StreamRelay: upstream bytes to events, events to the client's bytes."""

    __slots__ = (
        "_decoder", "_encoder", "_keeper", "_model", "error", "has_content", "is_finished", "output_chars", "usage",
    )  # fmt: skip

    def __init__(self, decoder: StreamDecoder, encoder: StreamEncoder, model: str, keeper: Keeper | None) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._keeper = keeper
        self._model = model
        self.has_content = False
        self.is_finished = False
        self.usage: Usage | None = None
        self.output_chars = 0
        self.error: UpstreamError | None = None

    def feed(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self.error = error
            return b""
        return self._encoded(events)

    def close(self) -> bytes:
        if self.error is not None:
            return b""
        try:
            # The decoder may have kept an error for its next call; what came before it was passed on.
            out = self._encoded(self._decoder.feed(b"")) + self._encoded(self._decoder.close())
        except UpstreamError as error:
            self.error = error
            return b""
        self.is_finished = True
        return out + self._encoder.close()

    def _encoded(self, events: list[Event]) -> bytes:
        if self._keeper is not None:
            self._keeper.see(events)
        encode = self._encoder.event
        pieces = []
        for event in events:
            if type(event) is Start and not event.model:
                event = msgspec.structs.replace(event, model=self._model)
            self._note(event)
            pieces.append(encode(event))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _note(self, event: Event) -> None:
        kind = type(event)
        if kind is TextDelta or kind is ReasoningDelta or kind is RefusalDelta:
            if event.text:  # type: ignore[union-attr]
                self.has_content = True
                self.output_chars += len(event.text)  # type: ignore[union-attr]
        elif kind is ToolCallDelta:
            self.output_chars += len(event.arguments)  # type: ignore[union-attr]
        elif kind is ToolCallStart or kind is WholePart:
            self.has_content = True
        elif kind is UsageReport:
            self.usage = event.usage  # type: ignore[union-attr]


class WatchedStream:
    """A same-dialect stream whose turn is remembered: bytes through, and decoded once more on the side."""

    def __init__(self, relay: StreamRelay, decoder: StreamDecoder, keeper: Keeper) -> None:
        self._relay = relay
        self._decoder: StreamDecoder | None = decoder
        self._keeper = keeper

    @property
    def has_content(self) -> bool:
        return self._relay.has_content

    @property
    def is_finished(self) -> bool:
        return self._relay.is_finished

    @property
    def usage(self) -> Usage | None:
        return self._relay.usage

    @property
    def output_chars(self) -> int:
        return self._relay.output_chars

    @property
    def error(self) -> UpstreamError | None:
        return self._relay.error

    def feed(self, data: bytes) -> bytes:
        if self._decoder is not None:
            self._see(partial(self._decoder.feed, data))
        return self._relay.feed(data)

    def close(self) -> bytes:
        if self._decoder is not None:
            self._see(self._decoder.close)
        return self._relay.close()

    def _see(self, events: Callable[[], Iterable[Event]]) -> None:
        try:
            self._keeper.see(events())
        except UpstreamError:  # the relay says so to whom it concerns; a broken turn is not worth remembering
            self._decoder = None


def _with_defaults(body: bytes, defaults: Mapping[str, Raw]) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, Raw])
    return msgspec.json.encode({**defaults, **fields})


def _size(response: Response) -> int:
    """Characters of output: what an estimate is made from when no usage was reported."""
    size = 0
    for choice in response.choices:
        for part in choice.parts:
            if isinstance(part, Text | Reasoning | Refusal):
                size += len(part.text)
            elif isinstance(part, ToolCall):
                size += len(part.arguments)
    return size


class PlainPassThrough:
    """Both sides speak the same dialect of a plain family. A deployment's `defaults` are for its conversations."""

    is_media = False

    def __init__(self, dialect: PlainDialect[Any, Any]) -> None:
        self.dialect = dialect

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        return self.dialect.forward(envelope, upstream.model, upstream.quirks)

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return self.dialect.relay_whole(body, envelope, quirks)

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return self.whole(body, envelope, quirks)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        raise _never_streamed()


class PlainTranslation:
    """Client and upstream speak different dialects of one plain family."""

    is_media = False

    def __init__(
        self, client: PlainClient[PlainRequest, PlainResponse], upstream: PlainUpstream[PlainRequest, PlainResponse]
    ) -> None:
        self.client = client
        self.upstream = upstream

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        request = msgspec.structs.replace(self.client.decode_request(envelope), model=upstream.model)
        return self.upstream.encode_request(request, upstream.quirks)

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        response = self.upstream.decode_response(body, quirks)
        return WholeAnswer(self.client.encode_response(response, envelope), response.usage, 0)

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return self.whole(body, envelope, quirks)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> StreamRelay:
        raise _never_streamed()


class MediaPassThrough:
    """Sound and images: both sides always speak the one dialect of the family."""

    is_media = True

    def __init__(self, dialect: MediaDialect) -> None:
        self.dialect = dialect

    def request(
        self,
        envelope: Envelope,
        upstream: Upstream,
        is_stream: bool,
        replay: Replay | None = None,
        images: Images | None = None,
    ) -> Forwarded:
        return self.dialect.forward(envelope, upstream.model)

    def whole(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return self.dialect.relay_whole(body, envelope, quirks)

    def gathered(self, body: bytes, envelope: Envelope, quirks: Quirks, replay: Replay | None = None) -> WholeAnswer:
        return self.whole(body, envelope, quirks)

    def stream(self, envelope: Envelope, quirks: Quirks, price: Pricer, replay: Replay | None = None) -> MediaRelay:
        return self.dialect.media_relay(envelope, quirks, price)


def _never_streamed() -> BadRequest:
    return BadRequest("This endpoint answers in one piece. Leave `stream` out.", code="invalid_value", param="stream")


def _bridge(client: ClientSide, upstream: UpstreamSide) -> Bridge:
    """Both are of one family; which protocol a dialect keeps follows from its family (dialect.py)."""
    is_same = cast(object, client) is upstream
    if family_of(client.name) == CHAT:
        one, other = cast(Dialect, client), cast(Dialect, upstream)
        return PassThrough(one) if is_same else Translation(one, other)
    if family_of(client.name) in MEDIA_FAMILIES:
        return MediaPassThrough(cast(MediaDialect, client))
    if is_same:
        return PlainPassThrough(cast("PlainDialect[Any, Any]", client))
    return PlainTranslation(cast("PlainClient[Any, Any]", client), cast("PlainUpstream[Any, Any]", upstream))


class Dialects:
    """Which dialect a client path speaks, and the bridge for each pair of a family. `paths` are exact; `patterns` go by
    prefix and a part that must follow it (Gemini's paths name the model in between)."""

    def __init__(
        self,
        paths: Mapping[str, ClientSide],
        patterns: Iterable[tuple[str, str, ClientSide]],
        upstreams: Iterable[UpstreamSide],
    ) -> None:
        self.paths = dict(paths)
        self._patterns = tuple(patterns)
        clients = [*self.paths.values(), *(dialect for _, _, dialect in self._patterns)]
        #: The dialects that a deployment may be spoken to in.
        self.named = {dialect.name: dialect for dialect in upstreams}
        self._bridges: dict[tuple[str, str], Bridge] = {
            (client.name, upstream.name): _bridge(client, upstream)
            for client, upstream in product(clients, self.named.values())
            if family_of(client.name) == family_of(upstream.name)
        }

    def at(self, path: str) -> ClientSide | None:
        """The dialect of a POST to this path; None where no model is called."""
        found = self.paths.get(path)
        if found is not None:
            return found
        for prefix, part, dialect in self._patterns:
            if path.startswith(prefix) and part in path[len(prefix) :]:
                return dialect
        return None

    def between(self, client: ClientSide, upstream: UpstreamSide) -> Bridge:
        """They must be of one family."""
        return self._bridges[client.name, upstream.name]
