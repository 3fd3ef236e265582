"""Recorded provider traffic: read from YAML, served again over real HTTP, whole or in any pieces.

    skipped: list[Skipped] = []                              # what was not read, and why
    interactions = load_interactions(Path("transcripts"), skipped)
    server = ReplayServer(interactions[:1], cuts="bytes")
    origin = await server.start()

A recording is a file with a list `interactions`, each a `request` and a `response` as VCR writes them; bodies are
`parsed_body` (JSON, kept as a tree) or `body` (text, or a mapping with `string` or `base64_string`).

Reading needs PyYAML, which the product itself does not install: import this module only where recordings are.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
import yaml

from naru.testing.http import Exchange, Headers, RawServer, Received

#: Header of a request to a ReplayServer that names the interaction wanted, by its place in the list.
INDEX_HEADER = "x-replay-index"
#: Headers of the recorded connection, not of the recorded content: the body served is decoded and framed anew.
STALE_HEADERS = frozenset(
    {"alt-svc", "connection", "content-encoding", "content-length", "date", "keep-alive", "set-cookie"}
    | {"strict-transport-security", "trailer", "transfer-encoding", "upgrade"}
)
STREAM_TYPES = frozenset({"text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"})

#: "whole": one write. "bytes": one write a byte. Or the positions, in bytes, at which the body is cut.
Cuts = Literal["whole", "bytes"] | Sequence[int]


class Interaction(msgspec.Struct, frozen=True, kw_only=True):
    """One recorded request and its answer. `request_json` is None when the request had no JSON body.

    `headers` are the response's, names in lower case. `body` is the response's, decoded (never gzip). `content_type` is
    without parameters, in lower case.
    """

    file: str
    index: int
    method: str
    uri: str
    request_json: Any
    status: int
    headers: Headers
    body: bytes
    content_type: str
    is_stream: bool

    @property
    def path(self) -> str:
        """Path of the uri with its query, as a request line has it."""
        parts = urlsplit(self.uri)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class Skipped(msgspec.Struct, frozen=True):
    """What was not read, and why. `index` is None when it is the whole file."""

    file: str
    index: int | None
    reason: str


class _NotHttp(Exception):
    """The recording is of something else, or in a form unknown here."""


def load_interactions(folder: Path, skipped: list[Skipped] | None = None) -> list[Interaction]:
    """Reads every .yaml and .yml file under `folder`, in the order of their paths. Never raises for a strange file.

    What is no HTTP interaction is left out and, when `skipped` is given, appended to it with the reason.
    """
    skipped = [] if skipped is None else skipped
    interactions: list[Interaction] = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in {".yaml", ".yml"}):
        name = path.relative_to(folder).as_posix()
        try:
            entries = _entries(path)
        except _NotHttp as reason:
            skipped.append(Skipped(name, None, str(reason)))
            continue
        for index, entry in enumerate(entries):
            try:
                interactions.append(_interaction(name, index, entry))
            except _NotHttp as reason:
                skipped.append(Skipped(name, index, str(reason)))
    return interactions


def _entries(path: Path) -> list[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(path.read_bytes(), loader)
    except (yaml.YAMLError, ValueError) as error:
        raise _NotHttp(f"not YAML: {str(error).splitlines()[0]}") from error
    entries = document.get("interactions") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise _NotHttp("no list of interactions")
    return entries


def _interaction(file: str, index: int, entry: Any) -> Interaction:
    request, response = _mapping(entry, "request"), _mapping(entry, "response")
    headers = _headers(response.get("headers"))
    content_type = _first(headers, "content-type").partition(";")[0].strip().lower()
    method, uri = request.get("method"), request.get("uri")
    if not isinstance(method, str) or not isinstance(uri, str):
        raise _NotHttp("the request has no method or no uri")
    return Interaction(
        file=file,
        index=index,
        method=method.upper(),
        uri=uri,
        request_json=_request_json(request),
        status=_status(response.get("status")),
        headers=headers,
        body=_body(response),
        content_type=content_type,
        is_stream=content_type in STREAM_TYPES,
    )


def _mapping(entry: Any, name: str) -> dict[str, Any]:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, dict):
        known = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise _NotHttp(f"not an HTTP interaction: no {name}; it has {known}")
    return value


def _headers(recorded: Any) -> Headers:
    """VCR keeps each header as a list of values; a bare string is taken as one."""
    if not isinstance(recorded, dict):
        return ()
    pairs: list[tuple[str, str]] = []
    for name, values in recorded.items():
        listed = values if isinstance(values, list) else [values]
        pairs.extend((str(name).lower(), _text(value)) for value in listed)
    return tuple(pairs)


def _text(value: Any) -> str:
    """Some clients hand over their headers' values as bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _first(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key == name), "")


def _status(recorded: Any) -> int:
    code = recorded.get("code") if isinstance(recorded, dict) else recorded
    if not isinstance(code, int):
        raise _NotHttp("the response has no status code")
    return code


def _body(message: dict[str, Any]) -> bytes:
    """The bytes of a body in any of its recorded forms. A tree becomes compact JSON, its text as it is (no escapes)."""
    if "parsed_body" in message:
        return _dumped(message["parsed_body"])
    body = message.get("body")
    if isinstance(body, dict):
        if "string" in body:
            body = body["string"]
        elif "base64_string" in body or "base64" in body:
            return _decoded(body.get("base64_string") or body.get("base64"))
        else:
            return _dumped(body)
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return _dumped(body)


def _dumped(tree: Any) -> bytes:
    try:
        return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError) as error:
        raise _NotHttp(f"the recorded body is not JSON: {error}") from error


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (TypeError, ValueError, binascii.Error) as error:
        raise _NotHttp(f"the recorded body is not base64: {error}") from error


def _request_json(request: dict[str, Any]) -> Any:
    if "parsed_body" in request:
        return request["parsed_body"]
    try:
        return json.loads(_body(request))
    except ValueError:
        return None


# --- serving ----------------------------------------------------------------------------------------------------------


def pieces(body: bytes, cuts: Cuts) -> list[bytes]:
    """The body cut as asked: joined, they are the body again. Positions outside the body, or repeated, cut nothing."""
    if not isinstance(cuts, str):
        edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(body)}), len(body)]
        return [body[start:end] for start, end in pairwise(edges)]
    return [body] if cuts == "whole" else [body[at : at + 1] for at in range(len(body))]


def content_headers(headers: Iterable[tuple[str, str]]) -> Headers:
    """The recorded headers without those of the recorded connection."""
    return tuple((name, value) for name, value in headers if name not in STALE_HEADERS and _is_plain(value))


def _is_plain(value: str) -> bool:
    return all(" " <= letter <= "\xff" and letter != "\x7f" for letter in value)


class ReplayServer:
    """Answers with recorded responses: recorded status and content headers, chunked, every piece a write of its own.

    Which one: the header `x-replay-index` says so; else, with `by_path`, the next unused one of the same method and
    path; else the next in order. A single interaction answers every request. When none is left, or none fits, status
    500 says so. `cuts` may be changed between requests; `received` is what came.
    """

    def __init__(self, interactions: Sequence[Interaction], *, cuts: Cuts = "whole", by_path: bool = False) -> None:
        self.interactions = list(interactions)
        self.cuts: Cuts = cuts
        self.by_path = by_path
        self._unused = list(range(len(self.interactions)))
        self._server = RawServer(self._handle)
        self.received = self._server.received

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Returns the origin, without a path: the recorded paths are free to be anything."""
        return await self._server.start(host, port)

    async def stop(self) -> None:
        await self._server.stop()

    async def _handle(self, exchange: Exchange) -> None:
        chosen = self._choose(exchange.received)
        if isinstance(chosen, str):
            exchange.answer(500, json.dumps({"error": {"message": chosen, "type": "replay_error"}}).encode())
            return
        exchange.start(chosen.status, content_headers(chosen.headers))
        for piece in pieces(chosen.body, self.cuts):
            exchange.send(piece)
            await exchange.drained()
            await exchange.pause()
        exchange.end()

    def _choose(self, received: Received) -> Interaction | str:
        named = received.header(INDEX_HEADER)
        if named is not None:
            if named.isdecimal() and int(named) < len(self.interactions):
                return self.interactions[int(named)]
            return f"{INDEX_HEADER} {named!r} is not one of the {len(self.interactions)} interactions"
        if len(self.interactions) == 1 and not self.by_path:
            return self.interactions[0]
        for index in self._unused:
            if not self.by_path or self._fits(self.interactions[index], received):
                self._unused.remove(index)
                return self.interactions[index]
        return f"no interaction is left for {received.method} {received.target}"

    @staticmethod
    def _fits(interaction: Interaction, received: Received) -> bool:
        return interaction.method == received.method and interaction.path == received.target
