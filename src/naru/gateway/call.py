"""What the gateway knows of one request, from its first byte to its settlement, and what it needs to reach an upstream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from naru.ledger.ledger import Permit
from naru.protocol.bridge import Upstream
from naru.protocol.dialect import MEDIA_FAMILIES, ClientSide, Envelope, Forwarded, UpstreamSide
from naru.protocol.replay import Replay
from naru.routing.table import Deployment
from naru.storage.records import KeyRecord
from naru.transport.exchange import Exchange, HeaderList
from naru.transport.upstream import Pool


class RequestIds:
    """`req_<process><count>`: unique without asking the system for randomness every time."""

    def __init__(self, entropy: bytes) -> None:
        self._prefix = f"req_{entropy.hex()}"
        self._count = itertools.count()

    def next(self) -> str:
        return f"{self._prefix}{next(self._count):08x}"


#: Header lines that a provider wants of each request anew: from its body, whether it streams, and the time.
Sign = Callable[[bytes, bool, float], bytes]


class Target(msgspec.Struct, frozen=True):
    """A deployment and one of its dialects, with what it takes to call it, prepared once. `sign` is None for nearly all."""

    deployment: Deployment
    upstream: Upstream
    dialect: UpstreamSide
    pool: Pool
    whole_head: bytes
    stream_head: bytes
    header_value: bytes
    sign: Sign | None = None

    def request(self, forwarded: Forwarded, is_stream: bool, more_headers: bytes = b"") -> tuple[bytes, ...]:
        """The pieces of a whole request. `more_headers` are lines, each with its line end."""
        head, body = self.stream_head if is_stream else self.whole_head, forwarded.body
        return head, b"%d\r\ncontent-type: %b\r\n%b\r\n" % (len(body), forwarded.content_type, more_headers), body


def target_for(
    deployment: Deployment,
    dialect: UpstreamSide,
    pool: Pool,
    paths: Sequence[str],
    headers: Mapping[str, str],
    sign: Sign | None = None,
) -> Target:
    """`paths` are those of a plain and of a streamed call. `headers` are the provider's own, credential included; their
    values were checked when the settings were read."""
    plain_path, stream_path = paths
    lines = [f"host: {host_of(pool)}", "user-agent: naru"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    common = "\r\n".join(lines)
    whole_type = "*/*" if dialect.name in MEDIA_FAMILIES else "application/json"
    plain_accepts = f"accept: {whole_type}\r\naccept-encoding: gzip"
    stream_accepts = f"accept: {media_type(dialect)}\r\naccept-encoding: identity"
    whole = f"POST {plain_path} HTTP/1.1\r\n{common}\r\n{plain_accepts}\r\ncontent-length: "
    stream = f"POST {stream_path} HTTP/1.1\r\n{common}\r\n{stream_accepts}\r\ncontent-length: "
    return Target(
        deployment,
        deployment.upstream,
        dialect,
        pool,
        whole.encode("latin-1"),
        stream.encode("latin-1"),
        printable(deployment.id).encode("ascii"),
        sign,
    )


def host_of(pool: Pool) -> str:
    """The value of the header `host`."""
    origin = pool.origin
    default_port = 443 if origin.scheme == "https" else 80
    return origin.host if origin.port == default_port else f"{origin.host}:{origin.port}"


def media_type(dialect: UpstreamSide) -> str:
    """What its streams are, without parameters."""
    return dialect.stream_type.partition(b";")[0].decode("ascii")


def printable(text: str) -> str:
    """`text` as a header value: anything but plain ASCII is percent-encoded, so nothing can end the line."""
    return quote(text, safe="/?=&:@,;+()[]*'! ")[:300]


class Call:
    """One request on its way. Filled in step by step by `serve`."""

    __slots__ = (
        "attempts", "dialect", "dropped", "envelope", "exchange", "id", "images", "is_sent", "is_started", "key", "last_target",
        "permit", "replay", "started", "ttft_s",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, request_id: str, dialect: ClientSide, started: float) -> None:
        self.exchange = exchange
        self.id = request_id
        self.dialect = dialect
        self.started = started
        self.key: KeyRecord
        self.envelope: Envelope
        self.permit: Permit
        self.attempts = 0
        self.dropped: tuple[str, ...] = ()
        self.last_target: Target | None = None
        self.replay: Replay | None = None
        self.images: dict[str, str] | None = None
        self.ttft_s: float | None = None
        self.is_sent = False
        self.is_started = False

    def passed_headers(self, target: Target) -> bytes:
        """Header lines of the caller's that belong to the protocol, for an upstream that speaks it too (anthropic-beta)."""
        names = self.dialect.passed_headers
        if not names or target.dialect.name != self.dialect.name:
            return b""
        return b"".join(b"%b: %b\r\n" % (name, value) for name, value in self.exchange.headers if name in names)

    def has_left(self) -> bool:
        """Whether the client closed the connection."""
        return self.exchange.is_gone

    def headers(self, content_type: bytes) -> HeaderList:
        headers: HeaderList = [
            (b"content-type", content_type),
            (b"x-request-id", self.id.encode("ascii")),
            (b"x-naru-attempts", b"%d" % self.attempts),
            (b"x-naru-cache", b"off"),
        ]
        if self.last_target is not None:
            headers.append((b"x-naru-deployment", self.last_target.header_value))
        if self.dropped:
            headers.append((b"x-naru-dropped", ", ".join(self.dropped).encode("ascii", "replace")))
        return headers
