"""The worker's HTTP: OpenAI's endpoints over one model, in the forms that the gateway reads anyway.

`serve` is called for the paths in HOT with an exchange of naru.transport; the rest (`web`) is plain ASGI: /health, /metrics,
/v1/models. It trusts whoever reaches its socket: keys, limits and money are the gateway's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from naru.engine.answers import Answer, Switchboard
from naru.engine.meter import Meter
from naru.engine.model import Model
from naru.engine.port import Embedder, Reranker
from naru.engine.vectors import embedded, ranked
from naru.errors import BadRequest, InternalError, MethodNotAllowed, NaruError, NotFound
from naru.protocol.accumulate import Accumulator
from naru.protocol.dialect import Dialect, Envelope, StreamEncoder
from naru.protocol.embeddings import EMBEDDINGS
from naru.protocol.messages import Event, Start, TextDelta, Usage, UsageReport
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_completions import OPENAI_COMPLETIONS
from naru.protocol.rerank import RERANK
from naru.transport.exchange import Exchange, HeaderList

log = structlog.get_logger("naru.engine")

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBED, RANK = "/v1/embeddings", "/v1/rerank"
HOT = (CHAT, COMPLETIONS, EMBED, RANK)
JSON: HeaderList = [(b"content-type", b"application/json")]


class Clock(Protocol):
    def now(self) -> float: ...


class Worker:
    """`model` writes, `embedder` embeds, `reranker` judges: one of them, as the model's files are. `names` are for all."""

    def __init__(
        self,
        names: Sequence[str],
        model: Model | Embedder | Reranker,
        board: Switchboard,
        clock: Clock,
        random: Random,
    ) -> None:
        self.names = tuple(names)
        self.model = model
        self.board = board
        self.clock = clock
        self.random = random
        self.meter = Meter()
        self._lock = asyncio.Lock()  # embedding and judging are one call at a time
        self._dialects: dict[str, Dialect] = {CHAT: OPENAI_CHAT, COMPLETIONS: OPENAI_COMPLETIONS}

    # --- What is hot ------------------------------------------------------------------------------------------------

    async def serve(self, exchange: Exchange) -> None:
        try:
            if exchange.method != "POST":
                raise MethodNotAllowed(f"{exchange.method} is not possible on {exchange.path}. Use POST.")
            if exchange.path in self._dialects:
                self._write(exchange, self._dialects[exchange.path])
            elif exchange.path == EMBED:
                await self._embed(exchange)
            else:
                await self._rank(exchange)
        except NaruError as error:
            refuse(exchange, error)
        except Exception as error:
            log.error("a request failed", path=exchange.path, exc_info=error)
            refuse(exchange, InternalError("The engine failed on this request; its log has the cause."))

    def _write(self, exchange: Exchange, dialect: Dialect) -> None:
        envelope = dialect.read(exchange.payload, exchange.path, exchange.headers)
        model = self.model
        if not isinstance(model, Model):
            raise BadRequest(f"{self.names[0]} does not write text: it {_what(model)}.", code="unsupported_value")
        asked = model.chat(envelope) if dialect is OPENAI_CHAT else model.completions(envelope)
        number = f"{self.random.getrandbits(64):016x}"
        start = Start(f"chatcmpl-{number}", envelope.model, int(self.clock.now()), dialect=dialect.name)
        reply = (Streamed if envelope.is_stream else Whole)(exchange, dialect, envelope, start, self.meter, self._now())
        answer = Answer(model.backend, self.board, asked.seeded(self.random).plans, reply, f"call_{number}_")
        exchange.listener = Hangup(answer)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _embed(self, exchange: Exchange) -> None:
        envelope = EMBEDDINGS.read(exchange.payload)
        self._check(envelope)
        model = self.model
        if not isinstance(model, Embedder):
            raise BadRequest(f"{self.names[0]} does not embed: it {_what(model)}.", code="unsupported_value")
        request = EMBEDDINGS.decode_request(envelope)
        async with self._lock:
            response = await asyncio.to_thread(embedded, model, request)
        exchange.reply(200, JSON, EMBEDDINGS.encode_response(response, envelope))

    async def _rank(self, exchange: Exchange) -> None:
        envelope = RERANK.read(exchange.payload)
        self._check(envelope)
        model = self.model
        if not isinstance(model, Reranker):
            raise BadRequest(f"{self.names[0]} does not rerank: it {_what(model)}.", code="unsupported_value")
        request = RERANK.decode_request(envelope)
        async with self._lock:
            response = await asyncio.to_thread(ranked, model, request)
        exchange.reply(200, JSON, RERANK.encode_response(response, envelope))

    def _check(self, envelope: Envelope) -> None:
        if envelope.model not in self.names:
            raise NotFound(
                f"This engine serves {', '.join(self.names)}; it has no {envelope.model!r}.", code="model_not_found"
            )

    # --- The rest ---------------------------------------------------------------------------------------------------

    def web(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/models", self._models),
            ]
        )

    async def _health(self, request: WebRequest) -> Response:
        about: dict[str, object] = {"status": "ok", "models": list(self.served)}
        if isinstance(self.model, Model):
            facts = self.model.backend.facts
            about |= {"engine": facts.library, "device": facts.device, "context": facts.context}
        return JSONResponse(about)

    async def _models(self, request: WebRequest) -> Response:
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "naru"} for name in self.served]
        return JSONResponse({"object": "list", "data": listed})

    async def _metrics(self, request: WebRequest) -> Response:
        load = self.model.backend.load() if isinstance(self.model, Model) else None
        return PlainTextResponse(self.meter.text(load))

    @property
    def served(self) -> Sequence[str]:
        return self.model.served if isinstance(self.model, Model) else self.names


def _what(model: object) -> str:
    if isinstance(model, Model):
        return "writes text (/v1/chat/completions)"
    return "embeds (/v1/embeddings)" if isinstance(model, Embedder) else "reranks (/v1/rerank)"


def refuse(exchange: Exchange, error: NaruError) -> None:
    status, body = OPENAI_CHAT.encode_error(error)
    exchange.reply(status, JSON, body)


class Hangup:
    """exchange.Listener: a caller who left frees the place. An engine cannot be paused; what it makes is bounded."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def on_pause(self) -> None: ...

    def on_resume(self) -> None: ...

    def on_gone(self) -> None:
        self._answer.cancel()


class _Reply:
    def __init__(
        self, exchange: Exchange, dialect: Dialect, envelope: Envelope, start: Start, meter: Meter, now: float
    ) -> None:
        self._exchange = exchange
        self._dialect = dialect
        self._envelope = envelope
        self._begun = start
        self._timer = meter.begin(now)

    def _count(self, usage: Usage, failed: bool = False) -> None:
        self._timer.end(asyncio.get_running_loop().time(), usage, failed)


class Whole(_Reply):
    """answers.Listener: an answer in one piece."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._gathered = Accumulator()
        self._gathered.add(self._begun)

    def on_events(self, events: list[Event]) -> None:
        self._timer.first(asyncio.get_running_loop().time())
        for event in events:
            self._gathered.add(event)

    def on_end(self, usage: Usage) -> None:
        self._count(usage)
        self._gathered.add(UsageReport(usage))
        self._exchange.reply(200, JSON, self._dialect.encode_response(self._gathered.response(), self._envelope))

    def on_failure(self, error: NaruError, usage: Usage) -> None:
        self._count(usage, failed=True)
        refuse(self._exchange, error)


class Streamed(_Reply):
    """answers.Listener: an answer as it comes. Its head goes out with the first piece, so that a failure before has a status."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._encoder: StreamEncoder = self._dialect.stream_encoder(self._envelope, _free)
        self._has_begun = False

    def on_events(self, events: list[Event]) -> None:
        encoder = self._encoder
        if self._has_begun:
            self._exchange.write(b"".join([encoder.event(event) for event in joined(events)]))
            return
        self._has_begun = True
        self._timer.first(asyncio.get_running_loop().time())
        self._exchange.start(200, [(b"content-type", self._dialect.stream_type)])
        self._exchange.write(encoder.event(self._begun) + b"".join([encoder.event(event) for event in events]))

    def on_end(self, usage: Usage) -> None:
        self._count(usage)
        if not self._has_begun:
            self.on_events([])
        self._encoder.event(UsageReport(usage))
        self._exchange.write(self._encoder.close())
        self._exchange.finish()

    def on_failure(self, error: NaruError, usage: Usage) -> None:
        self._count(usage, failed=True)
        if not self._has_begun:
            refuse(self._exchange, error)
            return
        self._exchange.write(self._dialect.encode_stream_error(error))
        self._exchange.finish()


def joined(events: list[Event]) -> list[Event]:
    """Texts of one step that follow each other go out as one chunk."""
    if len(events) < 2:
        return events
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta) and event.choice == last.choice:
            found[-1] = TextDelta(last.text + event.text, event.choice)
        else:
            found.append(event)
    return found


def _free(usage: Usage) -> int:
    """What it costs is the gateway's business."""
    return 0
