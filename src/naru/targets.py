"""How one deployment is reached: its pool, the prepared head of a request to it, and what signs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

import msgspec

from naru.protocol.bridge import Upstream
from naru.protocol.dialect import MEDIA_FAMILIES, Forwarded, UpstreamSide
from naru.routing.table import Deployment, Table
from naru.transport.connect import ENGINE_SCHEME
from naru.transport.upstream import Pool

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


class Upstreams(msgspec.Struct):
    """Who answers which model, and how each of them is called in a dialect. Both change together."""

    table: Table
    target: Callable[[Deployment, str], Target]


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
    is_media = dialect.name in MEDIA_FAMILIES
    types = ("*/*", "*/*") if is_media else ("application/json", media_type(dialect))
    plain_accepts = f"accept: {types[0]}\r\naccept-encoding: gzip"
    stream_accepts = f"accept: {types[1]}\r\naccept-encoding: identity"
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
    if origin.scheme == ENGINE_SCHEME:
        return f"{origin.host}.localhost"  # Ollama refuses names that are not this machine's
    default_port = 443 if origin.scheme == "https" else 80
    return origin.host if origin.port == default_port else f"{origin.host}:{origin.port}"


def media_type(dialect: UpstreamSide) -> str:
    """What its streams are, without parameters."""
    return dialect.stream_type.partition(b";")[0].decode("ascii")


def printable(text: str) -> str:
    """`text` as a header value: anything but plain ASCII is percent-encoded, so nothing can end the line."""
    return quote(text, safe="/?=&:@,;+()[]*'! ")[:300]
