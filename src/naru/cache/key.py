"""Which requests may share an answer, as a key. Pure.

Two requests have one key only if nothing that can change the answer differs: HMAC(tenant, dialect, path, model, route version,
protocol headers, fields). A tenant never meets another's answers, and who sees the store learns no prompt (reliability.md 3.2).
"""

from __future__ import annotations

import hmac
from collections.abc import Container, Iterable

import msgspec
from msgspec import Raw, Struct

from naru.protocol.dialect import MEDIA_FAMILIES, Envelope, HeaderPairs, family_of
from naru.protocol.wire import BAD_JSON, is_null

#: The form of the key. Another form finds nothing of this one.
VERSION = b"1"

#: What says who asks or where a provider files it, and never reaches the answer. The Responses API tells all of its own
#: (user, metadata, prompt_cache_key …) in the answer, so there every field counts. `store` counts everywhere: whoever asks for
#: it may later ask the provider for the answer by its id.
UNHEARD: dict[str, frozenset[str]] = {
    "openai_chat": frozenset({"user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention"}),
    "openai_completions": frozenset({"user"}),
    "anthropic_messages": frozenset({"metadata"}),
    "gemini": frozenset({"labels"}),
    "embeddings": frozenset({"user"}),
    "rerank": frozenset({"user"}),
}
#: Said by the envelope already: `stream: false` is the same as none.
_IN_ENVELOPE = frozenset({"model", "stream"})

#: With one of these an answer does something, or depends on something that changes: calls, searches, code, sound that is kept
#: for an hour under an id.
ACTING = frozenset(
    {
        "tools", "functions", "mcp_servers", "plugins", "container", "web_search_options", "search_parameters", "enable_search",
        "enable_code_interpreter", "audio", "background",
    }
)  # fmt: skip
#: The same by dialect: what the provider keeps and may change, tools included.
KEPT_ELSEWHERE: dict[str, frozenset[str]] = {
    "openai_responses": frozenset({"previous_response_id", "conversation", "prompt"}),
    "gemini": frozenset({"cachedContent"}),
}
_IDLE = (b"null", b"false", b"[]", b'""')

# A number with a point or an exponent keeps its digits: two that a float cannot tell apart are two requests.
_decode = msgspec.json.Decoder(float_hook=lambda digits: Raw(digits.encode())).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class Scope(Struct, frozen=True):
    """What a key is made from beside the body. `tenant`: whose answers these are. `path`: the client's, without its query.
    `route_version` changes whenever the route's deployments or their defaults do. `headers`: see `passed`."""

    tenant: str
    dialect: str
    path: str
    route_version: str
    headers: HeaderPairs = ()


def passed(headers: HeaderPairs, names: Container[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers that are part of the protocol and go upstream, in an order of their own; of one name, as they came."""
    return sorted((pair for pair in headers if pair[0] in names), key=lambda pair: pair[0])


def cache_key(secret: bytes, scope: Scope, envelope: Envelope) -> bytes | None:
    """32 bytes, or None for a request whose answer must not be told to another one. Raises nothing."""
    if family_of(scope.dialect) in MEDIA_FAMILIES:
        return None
    try:
        fields = _canonical(scope.dialect, envelope)
        names = [scope.tenant, scope.dialect, scope.path, scope.route_version, envelope.model]
        head = [VERSION, *(name.encode("utf-8", "surrogatepass") for name in names)]
    except (*BAD_JSON, UnicodeEncodeError):
        return None
    if fields is None:
        return None
    head.append(b"stream" if envelope.is_stream else b"whole")
    headers = [part for pair in scope.headers for part in pair]
    return hmac.digest(secret, _framed([_framed(head), _framed(headers), _framed(fields)]), "sha256")


def _framed(parts: Iterable[bytes]) -> bytes:
    """Each with its length before it: no two lists of parts give the same bytes."""
    return b"".join([b"%d:%b" % (len(part), part) for part in parts])


def _canonical(dialect: str, envelope: Envelope) -> list[bytes] | None:
    """name, value, name, value … in the order of names; None where one of them acts, or is not what it seems."""
    skipped = _IN_ENVELOPE | UNHEARD.get(dialect, frozenset())
    acting = ACTING | KEPT_ELSEWHERE.get(dialect, frozenset())
    parts: list[bytes] = []
    for name, raw in sorted(envelope.fields.items()):
        if name in skipped or is_null(raw):
            continue
        value = _encode(_decode(raw))
        if (name in acting and value not in _IDLE) or _has_repeats(bytes(raw), value):
            return None
        parts += (name.encode(), value)
    return parts


def _has_repeats(raw: bytes, value: bytes) -> bool:
    """Whether an object in it gives a key twice: which of the two an upstream reads is not known here, so its answer could be
    filed under the other one. Every key and every text keeps its colons, so one that is missing was a key's. An escaped colon,
    which nobody writes, could make up for it."""
    return raw.count(b":") != value.count(b":") or b"\\u003a" in raw or b"\\u003A" in raw
