"""The sandbox as a server: real HTTP on a loopback socket, so that nothing on the path to an upstream is bypassed."""

from __future__ import annotations

import asyncio
import math
import random
from urllib.parse import unquote

import msgspec

from naru.clock import Clock, SystemClock
from naru.errors import MethodNotAllowed, NaruError, NotFound
from naru.testing.http import Exchange, Headers, RawServer, Received
from naru.testing.sandbox import bedrock, clova, media, vectors, wire
from naru.testing.sandbox.answers import Answer, answer
from naru.testing.sandbox.behaviour import MODELS, SERVED, Behaviour, parse_model
from naru.testing.sandbox.request import ChatRequest
from naru.testing.sandbox.speech import Frame, Speech

LABEL: Headers = (("server", "naru-sandbox"), ("x-naru-sandbox", "no inference"))
JSON: Headers = (("content-type", "application/json"), *LABEL)
HTML: Headers = (("content-type", "text/html"), *LABEL)
HTML_PAGE = b"<html><head><title>Bad gateway</title></head><body><h1>The sandbox was told to fail</h1></body></html>\n"
#: fail_rate keeps one sequence of draws for each model name, and this many names.
MAX_SEQUENCES = 1000
#: An unpaced stream lets others run after so many pieces.
STEPS_PER_TURN = 64
#: The protocols spoken beside OpenAI's, by what their paths begin with.
SPEECHES: tuple[tuple[str, Speech], ...] = ((clova.PATH, clova.Clova()), (bedrock.PATH, bedrock.Converse()))
OPENAI = wire.OpenAI()


class Sandbox:
    """A deterministic upstream for rehearsals. `start` gives its base URL; docs/sandbox.md says what it serves.

    `requests` counts completions asked for (refused ones too), `failed` those ended by a fault, `limited` those of them beyond
    an `rpm`, `aborted` those whose peer left first, `open_streams` streams now running, `tokens_in` and `tokens_out` what was
    read and sent. `received`
    keeps the last `kept` requests, none by default.
    """

    def __init__(self, *, clock: Clock | None = None, kept: int = 0) -> None:
        self.requests = 0
        self.failed = 0
        self.limited = 0
        self.open_streams = 0
        self.tokens_in = 0
        self.tokens_out = 0
        self._clock: Clock = SystemClock() if clock is None else clock
        self._server = RawServer(self._handle, kept=kept)
        self._draws: dict[str, random.Random] = {}
        #: When the `rpm` of a model name is whole again, on the monotonic clock.
        self._full_at_s: dict[str, float] = {}
        self.received = self._server.received
        self.watch = self._server.watch

    @property
    def aborted(self) -> int:
        return self._server.aborted

    @property
    def open_connections(self) -> int:
        return self._server.open_connections

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Returns the base URL, such as http://127.0.0.1:40123/v1."""
        return await self._server.start(host, port) + "/v1"

    async def stop(self) -> None:
        await self._server.stop()

    async def _handle(self, exchange: Exchange) -> None:
        path = exchange.received.path
        speech: Speech = next((speech for start, speech in SPEECHES if path.startswith(start)), OPENAI)
        try:
            await self._route(exchange, speech)
        except NaruError as failure:
            status, headers, body = speech.refusal(failure)
            exchange.answer(status, body, (*JSON, *headers))

    async def _route(self, exchange: Exchange, speech: Speech) -> None:
        method, path = exchange.received.method, exchange.received.path
        if path in SERVED or speech is not OPENAI:
            if method != "POST":
                raise MethodNotAllowed(f"{path} takes POST, not {method}.")
            if path == "/v1/chat/completions" or speech is not OPENAI:
                await self._complete(exchange, speech)
            elif path.startswith(("/v1/audio/", "/v1/images/")):
                await self._media(exchange, path)
            else:
                await self._measure(exchange, path)
        elif path == "/v1/models" and method == "GET":
            exchange.answer(200, wire.model_list(), JSON)
        elif path.startswith("/v1/models/") and method == "GET":
            name = unquote(path.removeprefix("/v1/models/")).removeprefix("sandbox/")
            if name not in MODELS:
                raise NotFound(f"The sandbox has no model '{name}'.", code="model_not_found", param="model")
            exchange.answer(200, msgspec.json.encode(wire.model_entry(name)), JSON)
        else:
            raise NotFound(f"The sandbox does not serve {method} {path}.", code="unknown_url")

    async def _complete(self, exchange: Exchange, speech: Speech) -> None:
        self.requests += 1
        number = self.requests
        request = speech.read(exchange.received)
        name, behaviour = self._behaviour(request.model, "/v1/chat/completions")
        run = _Run(self, exchange, speech, behaviour)
        run.says(request, answer(name, behaviour, request))
        frame = speech.frame(number, request, int(self._clock.now()))
        if await run.refuse():
            return
        self.tokens_in += run.prompt_tokens
        if not request.stream:
            await run.whole(frame)
            return
        self.open_streams += 1
        self.watch.changed()
        try:
            await run.stream(frame)
        finally:
            self.open_streams -= 1
            self.watch.changed()

    async def _measure(self, exchange: Exchange, path: str) -> None:
        """Embeddings and rankings: plain answers, with the faults of plain answers."""
        self.requests += 1
        (kind,) = SERVED[path]
        request = vectors.read(kind, exchange.received.body)
        _, behaviour = self._behaviour(request.model, path)
        make = vectors.embeddings if kind == "embed" else vectors.rankings
        rows, read = make(request)
        told = wire.input_usage(behaviour, read)
        body = wire.rows(kind, request.model, rows, told)
        run = _Plain(self, exchange, OPENAI, behaviour)
        if await run.refuse():
            return
        self.tokens_in += read
        await run.send(body, 0)

    async def _media(self, exchange: Exchange, path: str) -> None:
        """Sound and images: whole, as events, or as sound that comes in pieces."""
        self.requests += 1
        request = _read_media(exchange.received, path)
        model = request.fields["model"] if isinstance(request, media.Upload) else request.model
        _, behaviour = self._behaviour(model, path)
        run = _MediaRun(self, exchange, OPENAI, behaviour)
        if isinstance(request, media.Upload):
            heard = media.transcript(request)
            made = heard.whole(request.fields.get("response_format", "json"), behaviour)
            pieces = heard.events(behaviour) if request.fields.get("stream") == "true" else None
        elif isinstance(request, media.SpeechRequest):
            is_sound = request.stream_format == "audio"
            pieces = media.speech_pieces(request) if is_sound else media.speech_events(request, behaviour)
            made = media.sound(request)
        else:
            created = int(self._clock.now())
            made = "application/json", media.images(request, created, behaviour)
            pieces = media.image_events(request, created, behaviour) if request.stream else None
        if await run.refuse():
            return
        if pieces is None:
            await run.send(made[1], 1, (("content-type", made[0]), *LABEL))
            return
        is_sound = made[0].startswith("audio/") and not pieces[0][0].startswith(b"event:")
        self.open_streams += 1
        self.watch.changed()
        try:
            await run.stream(pieces, made[0] if is_sound else OPENAI.stream_type, is_sound)
        finally:
            self.open_streams -= 1
            self.watch.changed()

    def _behaviour(self, model: str, path: str) -> tuple[str, Behaviour]:
        """The model's name and what it does this time."""
        name, behaviour = parse_model(model, path)
        if behaviour.rpm is not None and (wait_s := self._take(model, behaviour.rpm)) > 0:
            return name, behaviour.refusing(wait_s)
        if behaviour.fail_rate is None and behaviour.busy_rate is None:
            return name, behaviour
        return name, behaviour.struck(self._draw(model, behaviour.seed))

    def _take(self, model: str, rpm: int) -> int:
        """One of `rpm` a minute of this model name: that many at once, then one each 60 / rpm seconds. 0 where there was one,
        else in how many seconds there is."""
        now_s = self._clock.monotonic()
        if model not in self._full_at_s:
            while len(self._full_at_s) >= MAX_SEQUENCES:
                del self._full_at_s[next(iter(self._full_at_s))]
        full_at_s = max(self._full_at_s.get(model, now_s), now_s) + 60 / rpm
        lacking_s = full_at_s - now_s - 60
        if lacking_s > 1e-6:
            self.limited += 1
            return max(1, math.ceil(lacking_s))
        self._full_at_s[model] = full_at_s
        return 0

    def _draw(self, model: str, seed: int) -> float:
        """The next number of this model name's own sequence: its k-th request fails or not, whatever else runs."""
        if model not in self._draws:
            while len(self._draws) >= MAX_SEQUENCES:
                del self._draws[next(iter(self._draws))]
            self._draws[model] = random.Random(seed)
        return self._draws[model].random()


class _Plain:
    """One answer on its way out, in one piece."""

    def __init__(self, sandbox: Sandbox, exchange: Exchange, speech: Speech, behaviour: Behaviour) -> None:
        self._sandbox = sandbox
        self._exchange = exchange
        self._speech = speech
        self._behaviour = behaviour
        self._started_s = asyncio.get_running_loop().time()

    async def refuse(self) -> bool:
        """The faults before any answer. True when one of them struck."""
        behaviour, exchange = self._behaviour, self._exchange
        if behaviour.hang:
            self._sandbox.failed += 1
            await exchange.hang()
        cuts = (behaviour.cut_after, behaviour.hang_after)
        if behaviour.reset and cuts == (None, None):
            self._sandbox.failed += 1
            exchange.reset()
            return True
        status = 200 if behaviour.error_200 else behaviour.refusal_status
        if status is None:
            return False
        self._sandbox.failed += 1
        await self._pace(0)
        retry = () if behaviour.retry_after is None else (("retry-after", behaviour.retry_after),)
        if behaviour.html:
            exchange.answer(status, HTML_PAGE, (*HTML, *retry))
        else:
            headers, body = self._speech.fault(behaviour.refusal_status or 500)
            exchange.answer(status, body, (*JSON, *headers, *retry))
        return True

    async def send(self, body: bytes, tokens: int, headers: Headers = JSON) -> None:
        """A plain answer. Positions of cuts are bytes of the body here; the body is never quite whole when cut."""
        behaviour, exchange = self._behaviour, self._exchange
        await self._pace(tokens)
        if behaviour.error_after is not None:
            self._sandbox.failed += 1
            headers, body = self._speech.fault(500)
            exchange.answer(200, body, (*JSON, *headers))
        elif behaviour.garbage is not None:
            self._sandbox.failed += 1
            exchange.answer(200, body[: len(body) // 2], headers)
        elif behaviour.cut_after is not None or behaviour.hang_after is not None:
            at = behaviour.cut_after if behaviour.cut_after is not None else behaviour.hang_after
            exchange.start(200, headers, len(body))
            exchange.send(body[: min(at or 0, len(body) - 1)])
            await self._break()
        else:
            self._sandbox.tokens_out += tokens
            exchange.answer(200, body, headers)

    async def _break(self, frame: Frame | None = None) -> None:
        """Ends what was begun, in the way asked for; a stream has a frame."""
        behaviour, exchange = self._behaviour, self._exchange
        self._sandbox.failed += 1
        await exchange.drained()
        if behaviour.reset:
            exchange.reset()
        elif behaviour.cut_after is not None:
            exchange.close()
        elif behaviour.hang_after is not None:
            await exchange.hang()
        else:
            assert frame is not None, "errors and garbage of plain answers are whole answers"
            exchange.send(frame.failure(500) if behaviour.error_after is not None else frame.garbage())
            exchange.end()

    def _breaks_at(self) -> int | None:
        """The piece of the stream at which a fault strikes; past the last one means: before the stream is finished."""
        behaviour = self._behaviour
        garbage = None if behaviour.garbage is None else behaviour.garbage - 1
        points = (behaviour.cut_after, behaviour.hang_after, behaviour.error_after, garbage)
        return min((point for point in points if point is not None), default=None)

    async def _pace(self, tokens: int, *, is_turn: bool = False) -> None:
        """Waits until the moment at which so many tokens are due: ttft_ms, then 1/tps seconds each."""
        due_s = self._behaviour.ttft_ms / 1000
        if self._behaviour.tps:
            due_s += tokens / self._behaviour.tps
        wait_s = self._started_s + due_s - asyncio.get_running_loop().time() if due_s else 0.0
        if wait_s > 0 or is_turn:
            await self._exchange.pause(max(0.0, wait_s))


class _MediaRun(_Plain):
    """Sound or an image on its way out, in pieces."""

    async def stream(self, pieces: list[media.Piece], content_type: str, is_sound: bool) -> None:
        """In the middle of sound there is no saying what went wrong, so there every fault but hang and reset is a cut."""
        exchange = self._exchange
        await self._pace(0)
        exchange.start(200, (("content-type", content_type), ("cache-control", "no-cache"), *LABEL))
        breaks_at = self._breaks_at()
        sent = 0
        # One beyond the last piece strikes before it, so that the stream is never whole.
        for index, (piece, tokens) in enumerate(pieces if breaks_at is None else pieces[:-1]):
            if index == breaks_at:
                break
            sent += tokens
            await self._pace(sent, is_turn=index % STEPS_PER_TURN == 0)
            exchange.send(piece)
            self._sandbox.tokens_out += tokens
            await exchange.drained()
        if breaks_at is None:
            exchange.end()
        elif is_sound and self._behaviour.hang_after is None and not self._behaviour.reset:
            self._sandbox.failed += 1
            await exchange.drained()
            exchange.close()
        else:
            await self._break(wire.Frame("", "", 0))


class _Run(_Plain):
    """One completion on its way out. `says` comes before everything else."""

    def says(self, request: ChatRequest, answer: Answer) -> None:
        self._answer = answer
        self._n = request.n or 1
        self._top_logprobs = (request.top_logprobs or 0) if request.logprobs else None
        self.prompt_tokens = request.prompt_tokens()

    def _told(self) -> object:
        return wire.usage(self._behaviour, self.prompt_tokens, self._answer, self._n)

    async def whole(self, frame: Frame) -> None:
        body = frame.whole(self._answer, self._n, self._top_logprobs, self._told())
        await self.send(body, self._answer.tokens * self._n)

    async def stream(self, frame: Frame) -> None:
        behaviour, exchange = self._behaviour, self._exchange
        await self._pace(0)
        exchange.start(200, (("content-type", self._speech.stream_type), ("cache-control", "no-cache"), *LABEL))
        exchange.send(frame.opening(self._answer, self._n))
        breaks_at = self._breaks_at()
        sent = 0
        for index, step in enumerate(wire.steps(self._answer, frame.id, self._n, self._top_logprobs)):
            if index == breaks_at:
                break
            sent += step[2]
            await self._pace(sent, is_turn=index % STEPS_PER_TURN == 0)
            exchange.send(frame.step(step))
            self._sandbox.tokens_out += step[2]
            await exchange.drained()
        if breaks_at is not None:
            await self._break(frame)
            return
        exchange.send(frame.closing(self._answer, self._n, self._told(), behaviour.usage == "twice"))
        if behaviour.done:
            exchange.send(frame.done())
        exchange.end()


def _read_media(received: Received, path: str) -> media.Upload | media.SpeechRequest | media.ImageRequest:
    """Raises BadRequest."""
    kind = received.header("content-type") or ""
    if path.startswith("/v1/audio/tran"):
        return media.read_form(kind, received.body)
    if path == "/v1/images/edits" and kind.startswith("multipart/"):
        return media.edit_request(media.read_form(kind, received.body))
    if path == "/v1/audio/speech":
        return vectors.decode(media.SpeechRequest, received.body)
    return vectors.decode(media.ImageRequest, received.body)
