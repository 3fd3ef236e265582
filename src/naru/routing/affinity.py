"""Which deployment a conversation belongs to, so that its provider's or engine's prompt cache is warm. Pure.

The key is the caller's word for the session, else the conversation's head: what does not change from turn to turn (system
prompt, tools, first message). A hash ring gives each key its own order of the deployments.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import msgspec
from msgspec import Raw

from naru.protocol.dialect import Envelope
from naru.routing.table import Affinity, Deployment

SESSION_HEADER = b"x-naru-session"
#: OpenAI's own word for "these requests share a prefix".
_SESSION_FIELD = "prompt_cache_key"
_HEAD_FIELDS = ("system", "instructions", "systemInstruction", "system_instruction", "tools", "prompt")
_TURN_FIELDS = ("messages", "input", "contents")
_OPENING_ROLES = frozenset({"system", "developer"})
#: Heads longer than this differ before it, if at all.
MAX_HEAD_BYTES = 64 * 1024
#: Of 64 bytes, eight places on the ring each, for a deployment of weight 1.
HASHES = 6
#: More weight than this shifts no more conversations: the ring would only grow.
MAX_WEIGHT = 64


class _Turn(msgspec.Struct):
    role: object = None


def affinity_key(kind: Affinity, envelope: Envelope, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """At most 32 bytes; empty: the request belongs nowhere in particular."""
    if kind == "off":
        return b""
    for name, value in headers:
        if name == SESSION_HEADER and value:
            return _digest([b"session", value])
    session = envelope.fields.get(_SESSION_FIELD)
    if session is not None:
        return _digest([b"field", bytes(session)])
    return _digest(_head(envelope)) if kind == "prefix" else b""


def _head(envelope: Envelope) -> list[bytes]:
    fields = envelope.fields
    pieces = [bytes(fields[name])[:MAX_HEAD_BYTES] for name in _HEAD_FIELDS if name in fields]
    for name in _TURN_FIELDS:
        if name in fields:
            pieces += _first_turns(fields[name])
    return pieces


def _first_turns(raw: Raw) -> list[bytes]:
    """Up to the first turn that is no instruction."""
    try:
        turns = msgspec.json.decode(raw, type=list[Raw])
    except msgspec.DecodeError:
        return [bytes(raw)[:MAX_HEAD_BYTES]]  # a plain text, as `input` may be
    found = []
    for turn in turns:
        found.append(bytes(turn)[:MAX_HEAD_BYTES])
        if _role(turn) not in _OPENING_ROLES:
            break
    return found


def _role(turn: Raw) -> object:
    try:
        return msgspec.json.decode(turn, type=_Turn).role
    except msgspec.DecodeError:
        return None


def _digest(pieces: Sequence[bytes]) -> bytes:
    if not pieces:
        return b""
    mixed = blake2b(digest_size=16)
    for piece in pieces:
        mixed.update(len(piece).to_bytes(4, "big") + piece)
    return mixed.digest()


class Ring:
    """A hash ring of deployments. Built once for a configuration: a lookup costs one hash and a bisection, however many there
    are. When a deployment goes, only the keys that were its own move."""

    __slots__ = ("_deployments", "_marks", "_places")

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        marks = sorted((mark, place) for place, each in enumerate(deployments) for mark in _marks(each))
        self._deployments = deployments
        self._marks = [mark for mark, _ in marks]
        self._places = [place for _, place in marks]

    def order(self, key: bytes) -> Iterator[Deployment]:
        """The key's own order of all deployments, its home first."""
        start = bisect(self._marks, int.from_bytes(blake2b(key, digest_size=8).digest()))
        seen: set[int] = set()
        for step in range(len(self._places)):
            place = self._places[(start + step) % len(self._places)]
            if place not in seen:
                seen.add(place)
                yield self._deployments[place]


def _marks(deployment: Deployment) -> Iterator[int]:
    """A deployment's places on the ring, more for more weight."""
    for number in range(min(deployment.weight, MAX_WEIGHT) * HASHES):
        digest = blake2b(f"{deployment.id}\n{number}".encode()).digest()
        yield from (int.from_bytes(digest[place : place + 8]) for place in range(0, len(digest), 8))
