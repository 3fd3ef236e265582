"""Idempotency-Key: one execution, whose answer is told again for a day to whoever asks the same under the same key.

The rules are Stripe's (reliability.md 1.1, B16). What was refused before anything was sent upstream is forgotten, so that it can
be tried again; once something was sent, its answer is kept whatever it is, an error or a whole stream included. Two answers are
not: a rate limit, which says itself that nothing was done, and one that this process cut short because it stops.

Keys are apart for each owner. What is under way is known to this process alone; what was answered stands in the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import Future

import structlog

from naru.clock import Clock
from naru.errors import BadRequest, Conflict, IdempotencyMismatch
from naru.protocol.multipart import boundary_in
from naru.storage.port import AnswerStore
from naru.storage.records import StoredAnswer
from naru.transport.exchange import Exchange, HeaderList, Listener

HEADER = b"idempotency-key"
REPLAY: tuple[bytes, bytes] = (b"x-naru-idempotent-replay", b"true")
NOT_STORED: tuple[bytes, bytes] = (b"x-naru-idempotent-stored", b"false")
KEPT_S = 24 * 3600
MAX_KEY_CHARS = 255
MAX_ANSWER_BYTES = 4 * 1024 * 1024
#: Stands in the head of every stream and of nothing else (gateway.serve), so a stream is told again as one.
STREAM_MARK = b"x-accel-buffering"

Place = tuple[str, str]

log = structlog.get_logger("naru.idempotency")


def key_in(headers: HeaderList) -> bytes | None:
    """The request's Idempotency-Key. This alone is what requests without one pay."""
    for name, value in headers:
        if name == HEADER:
            return value
    return None


class Idempotency:
    """What is under way under a key, and the way to what was answered."""

    def __init__(self, store: AnswerStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.is_stopping = False
        self._running: dict[Place, bytes] = {}

    async def begin(self, exchange: Exchange, key: bytes, owner: str) -> Execution | None:
        """None: the stored answer was told. Else the right to execute; `end` it, whatever happens.

        Raises BadRequest (not a key), Conflict (the first still runs), IdempotencyMismatch (another request's key).
        """
        place = (owner, _checked(exchange.headers, key))
        digest = _digest(exchange)
        under_way = self._running.get(place)
        if under_way is not None:
            _same(under_way, digest)
            raise Conflict(
                "A request with this Idempotency-Key is still being answered. Ask again in a moment for its answer.",
                code="idempotency_in_progress",
                param="Idempotency-Key",
                retry_after_s=1,
            )
        self._running[place] = digest
        try:
            stored = await asyncio.wrap_future(self.store.answer(*place, self.clock.now()))
            if stored is None:
                return Execution(self, exchange, place, digest)
            _same(stored.body_hash, digest)
        except BaseException:
            del self._running[place]
            raise
        del self._running[place]
        _tell(exchange, stored)
        return None

    def stop(self) -> None:
        """From now on streams and failures are this process's doing and no answers."""
        self.is_stopping = True

    def ended(self, execution: Execution, is_answer: bool) -> None:
        """`is_answer`: the caller was told something whole that is the upstream's doing."""
        del self._running[execution.place]
        status, body = execution.status, b"".join(execution.pieces)
        is_cut = self.is_stopping and (status != 200 or execution.is_stream)
        if not is_answer or is_cut or status == 429 or not execution.is_whole or execution.is_too_large:
            return
        # What is left of the limits is another matter by the time this is told again.
        kept = [(name, value) for name, value in execution.told if not name.startswith(b"x-ratelimit-")]
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in kept)
        until = self.clock.now() + KEPT_S
        owner, key = execution.place
        # The store works in order: whoever asks again finds it, although nobody waits for it here.
        self.store.keep_answer(
            StoredAnswer(owner, key, execution.digest, status, headers, body, until)
        ).add_done_callback(_note)


class Execution:
    """See transport.Exchange: passes everything on and remembers what was said. The gateway answers through it."""

    __slots__ = (
        "_exchange", "_idempotency", "_size", "client", "digest", "headers", "is_stream", "is_too_large", "is_whole", "method",
        "path", "pieces", "place", "query", "status", "told",
    )  # fmt: skip

    def __init__(self, idempotency: Idempotency, exchange: Exchange, place: Place, digest: bytes) -> None:
        self._idempotency = idempotency
        self._exchange = exchange
        self.method, self.path, self.query = exchange.method, exchange.path, exchange.query
        self.headers, self.client = exchange.headers, exchange.client
        self.place = place
        self.digest = digest
        self.status = 0
        self.told: HeaderList = []
        self.pieces: list[bytes] = []
        self.is_stream = False
        self.is_whole = False
        self.is_too_large = False
        self._size = 0

    def end(self, is_answer: bool) -> None:
        self._idempotency.ended(self, is_answer)

    # --- Exchange -------------------------------------------------------------------------------------------------

    @property
    def is_gone(self) -> bool:
        return self._exchange.is_gone

    @property
    def listener(self) -> Listener | None:
        return self._exchange.listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._exchange.listener = listener

    @property
    def payload(self) -> bytes:
        return self._exchange.payload

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        self.status, self.told = status, headers
        self._keep(body)
        self.is_whole = True
        self._exchange.reply(status, [*headers, NOT_STORED] if self.is_too_large else headers, body)

    def start(self, status: int, headers: HeaderList) -> None:
        self.status, self.told, self.is_stream = status, headers, True
        self._exchange.start(status, headers)

    def write(self, data: bytes) -> None:
        self._keep(data)
        self._exchange.write(data)

    def finish(self) -> None:
        # Who left in mid-stream has seen a part, and the rest was never made.
        self.is_whole = not self._exchange.is_gone
        self._exchange.finish()

    def cut(self) -> None:
        self._exchange.cut()

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            self.is_too_large = True
            self.pieces.clear()
        elif data:
            self.pieces.append(data)


def _checked(headers: HeaderList, key: bytes) -> str:
    is_printable = all(0x20 <= char <= 0x7E for char in key)
    is_single = sum(name == HEADER for name, _ in headers) == 1
    if not is_printable or not is_single or not 1 <= len(key) <= MAX_KEY_CHARS:
        raise BadRequest(
            f"An Idempotency-Key is 1 to {MAX_KEY_CHARS} printable ASCII characters, sent once. A fresh UUID for each new "
            "request is a good one.",
            code="invalid_value",
            param="Idempotency-Key",
        )
    return key.decode("ascii")


def _digest(exchange: Exchange) -> bytes:
    """What makes two requests the same: method, path, query and body. A form's boundary is made anew by every client at every
    try, so it does not count."""
    body = exchange.payload
    boundary = next((boundary_in(value) for name, value in exchange.headers if name == b"content-type"), b"")
    if boundary:
        body = body.replace(boundary, b"")
    head = f"{exchange.method} {exchange.path}?{exchange.query}\n".encode("utf-8", "surrogateescape")
    return hashlib.sha256(head + body).digest()


def _same(known: bytes, digest: bytes) -> None:
    if known != digest:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used for another request. Send a new key with a new request; the same key is only for "
            "asking the very same again.",
            param="Idempotency-Key",
        )


def _tell(exchange: Exchange, stored: StoredAnswer) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in stored.headers]
    is_stream = any(name == STREAM_MARK for name, _ in headers)
    headers.append(REPLAY)
    if not is_stream:
        exchange.reply(stored.status, headers, stored.body)
        return
    exchange.start(stored.status, headers)
    exchange.write(stored.body)
    exchange.finish()


def _note(kept: Future[None]) -> None:
    error = kept.exception()
    if error is not None:
        log.error(
            "an answer under an Idempotency-Key could not be stored; the same key would execute again", why=str(error)
        )
