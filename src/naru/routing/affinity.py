"""Which deployment a conversation belongs to, so that its provider's or engine's prompt cache is warm. Pure.

The key is the caller's word for the session, else the conversation's head: what does not change from turn to turn (system
prompt, tools, first message). Rendezvous hashing gives each key its own order of the deployments: when one goes, only its
keys move.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import log

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


def by_affinity(key: bytes, deployments: Iterable[Deployment]) -> list[Deployment]:
    """The key's own order; a deployment of double weight is first for twice as many keys."""
    return sorted(deployments, key=lambda deployment: _distance(key, deployment))


def _distance(key: bytes, deployment: Deployment) -> float:
    mixed = blake2b(deployment.id.encode(), key=key, digest_size=8)
    # Exponential with the weight as its rate: the smallest of them is its with probability weight/sum.
    uniform = (int.from_bytes(mixed.digest(), "big") + 1) / (2**64 + 1)
    return -log(uniform) / deployment.weight
