"""What the gateway knows of one request, from its first byte to its settlement."""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Sequence

import msgspec

from naru.cache.flight import Leader
from naru.cache.idempotency import Execution
from naru.cache.responses import Hit
from naru.calls.answers import Both
from naru.errors import NaruError
from naru.ledger.ledger import Ask, Permit, Settlement
from naru.limits.admission import Hold
from naru.limits.meters import Meter
from naru.protocol.content import Recording, safe
from naru.protocol.dialect import ClientSide, Envelope
from naru.routing.plan import Plan
from naru.routing.table import Deployment, Route
from naru.storage.records import Attempt as AttemptRecord
from naru.storage.records import KeyRecord, to_json
from naru.targets import Target, Upstreams
from naru.transport.exchange import Exchange, HeaderList


class RequestIds:
    """`req_<process><count>`: unique without asking the system for randomness every time."""

    def __init__(self, entropy: bytes) -> None:
        self._prefix = f"req_{entropy.hex()}"
        self._count = itertools.count()

    def next(self) -> str:
        return f"{self._prefix}{next(self._count):08x}"


class Call:
    """One request on its way. Filled in step by step by `serve`."""

    __slots__ = (
        "attempts", "begun", "cache_state", "dialect", "dropped", "envelope", "exchange", "execution", "failures", "holds", "id",
        "images", "is_sent",
        "is_started", "key", "last_target", "meters", "permit", "plan", "race", "recording", "route", "started", "ttft_s",
        "upstreams",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, request_id: str, dialect: ClientSide, started: float) -> None:
        self.exchange = exchange
        self.id = request_id
        self.dialect = dialect
        self.started = started
        self.key: KeyRecord
        self.envelope: Envelope
        self.permit: Permit
        #: As they stood when the request came: a new configuration is for the requests that come after it.
        self.upstreams: Upstreams
        self.route: Route
        self.plan: Plan
        #: While two attempts run beside each other: who of them hears of the client.
        self.race: Both | None = None
        self.attempts = 0
        self.failures: list[AttemptRecord] = []
        self.meters: tuple[Meter, ...] = ()
        self.holds: list[Hold] = []
        self.dropped: tuple[str, ...] = ()
        self.last_target: Target | None = None
        self.images: dict[str, str] | None = None
        self.ttft_s: float | None = None
        self.is_sent = False
        self.execution: Execution | None = None
        #: What the response cache said of it, and what callers are told of that: off, miss or hit.
        self.begun: Leader | Hit | None = None
        self.cache_state = b"off"
        self.recording: Recording | None = None
        self.is_started = False

    def passed_headers(self, target: Target) -> bytes:
        """Header lines of the caller's that belong to the protocol, for an upstream that speaks it too (anthropic-beta)."""
        names = self.dialect.passed_headers
        if not names or target.dialect.name != self.dialect.name:
            return b""
        return b"".join(b"%b: %b\r\n" % (name, value) for name, value in self.exchange.headers if name in names)

    def ask(self, candidates: Sequence[Deployment], pepper: bytes) -> Ask:
        """What the ledger has to know before anything is sent."""
        key, envelope = self.key, self.envelope
        user = envelope.fields.get("user") or envelope.fields.get("safety_identifier")
        user_hash = "" if user is None else hmac.digest(pepper, b"user" + bytes(user), "sha256")[:12].hex()
        return Ask(
            self.id, key.id, envelope.model, self.dialect.name, envelope.is_stream, key.owner, key.account, envelope,
            candidates, user_hash,
        )  # fmt: skip

    def note_failure(self, deployment: str, error: NaruError, took_s: float, cost_nano: int = 0) -> None:
        """For the request's record. `cost_nano` is what the provider is owed all the same."""
        why = error.loggable if self.recording is None else safe(error.message)
        self.failures.append(
            AttemptRecord(deployment, int(took_s * 1e6), error.code, why[:200] or None, error.status, cost_nano)
        )

    def lost_nano(self) -> int:
        """What is owed for the attempts that gave the caller nothing."""
        return sum(attempt.cost_nano for attempt in self.failures)

    def shown_plan(self) -> str:
        """For the request's record: who was considered, as explain shows it. "" where that says no more than who was called."""
        return "" if self.plan.is_lone else to_json(self.plan.shown())

    def record(self) -> None:
        """From here on what is said goes into the request's record."""
        self.recording = Recording(self.dialect, self.exchange.payload, self.exchange.headers)

    def recorded(self, end: Settlement) -> Settlement:
        if self.recording is None:
            return end
        return msgspec.structs.replace(end, content=self.recording.content())

    def release(self, end: Settlement | None, now_ns: int) -> None:
        """Gives back what the limits hold. None: nothing was sent. Where nothing is known of the tokens, none come back."""
        holds, self.holds = self.holds, []
        for hold in holds:
            if end is None:
                hold.cancel(now_ns)
            else:
                unknown = None if end.outcome != "failed" else 0
                hold.release(unknown if end.usage is None else end.usage.total, now_ns)

    def has_left(self) -> bool:
        """Whether the client closed the connection."""
        return self.exchange.is_gone

    def headers(self, content_type: bytes) -> HeaderList:
        headers: HeaderList = [
            (b"content-type", content_type),
            (b"x-request-id", self.id.encode("ascii")),
            (b"x-naru-attempts", b"%d" % self.attempts),
            (b"x-naru-cache", self.cache_state),
        ]
        if self.last_target is not None:
            headers.append((b"x-naru-deployment", self.last_target.header_value))
        if self.dropped:
            headers.append((b"x-naru-dropped", ", ".join(self.dropped).encode("ascii", "replace")))
        return headers
