"""Reasoning that has to come back, though the client dropped it.

Some providers refuse the next turn of a tool loop unless it carries what they thought before: DeepSeek the text of its
reasoning, Gemini 3 the signature of each step's first call, Claude its signed blocks; OpenAI's encrypted reasoning is
worth having back (providers.md A2.3, A4.4, A5.3, A6.5). Most OpenAI clients keep none of it. So a turn is remembered for its
caller under the id of its first call, or under its text where it made no call, and put back where it is missing.

What a provider signed is bound to the model that signed it; `origin` says which that was, and nobody else is shown it.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from naru.protocol.messages import (
    Event,
    Finish,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Text,
    TextDelta,
    ToolCall,
    ToolCallStart,
)


class Turn(Struct, frozen=True):
    """What one answer has to bring back: its reasoning, and the signatures of its calls by their ids."""

    origin: str
    reasoning: tuple[Reasoning, ...]
    signatures: dict[str, str] = {}

    @property
    def is_bound(self) -> bool:
        """Whether only the model that wrote it can read it."""
        return bool(self.signatures) or any(map(_is_bound, self.reasoning))


class Memory(Protocol):
    """One caller's turns. It may forget any of them at any time."""

    def recall(self, key: str) -> Turn | None: ...

    def remember(self, key: str, turn: Turn) -> None: ...


class Replay(Struct, frozen=True):
    """A caller's memory, and where this attempt goes: provider and model."""

    memory: Memory
    origin: str


def restored(request: Request, replay: Replay) -> Request:
    """The request with every remembered turn completed; the same object where nothing was missing."""
    messages = tuple(_restored(message, replay) for message in request.messages)
    if all(new is old for new, old in zip(messages, request.messages, strict=True)):
        return request
    return replace(request, messages=messages)


def keep(response: Response, replay: Replay) -> None:
    """Remembers a whole answer."""
    if response.choices:
        _remember(response.choices[0].parts, replay)


class Keeper:
    """Remembers a streamed answer, once its first choice has finished."""

    __slots__ = ("_calls", "_replay", "_texts", "_thoughts")

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._thoughts: dict[int, list[ReasoningDelta]] = {}
        self._calls: list[ToolCall] = []
        self._texts: list[str] = []

    def see(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, TextDelta) and not event.choice:
                self._texts.append(event.text)
            elif isinstance(event, ReasoningDelta) and not event.choice:
                self._thoughts.setdefault(event.part, []).append(event)
            elif isinstance(event, ToolCallStart) and not event.choice:
                self._calls.append(ToolCall(event.id, event.name, "", signature=event.signature))
            elif isinstance(event, Finish) and not event.choice:
                thoughts = [_gathered(pieces) for pieces in self._thoughts.values()]
                _remember((*thoughts, Text("".join(self._texts)), *self._calls), self._replay)


def _gathered(pieces: list[ReasoningDelta]) -> Reasoning:
    signature = next((piece.signature for piece in reversed(pieces) if piece.signature is not None), None)
    encrypted = next((piece.encrypted for piece in reversed(pieces) if piece.encrypted is not None), None)
    return Reasoning("".join(piece.text for piece in pieces), signature, encrypted)


def _remember(parts: tuple[Part, ...], replay: Replay) -> None:
    key = _key(parts)
    reasoning = tuple(
        Reasoning(part.text, part.signature, part.encrypted)
        for part in parts
        if isinstance(part, Reasoning) and (part.text or _is_bound(part))
    )
    signatures = {part.id: part.signature for part in parts if isinstance(part, ToolCall) and part.signature}
    if key is not None and (reasoning or signatures):
        replay.memory.remember(key, Turn(replay.origin, reasoning, signatures))


def _restored(message: Message, replay: Replay) -> Message:
    if message.role != "assistant" or any(isinstance(part, Reasoning) and _is_bound(part) for part in message.parts):
        return message
    key = _key(message.parts)
    turn = replay.memory.recall(key) if key is not None else None
    if turn is None or (turn.is_bound and turn.origin != replay.origin):
        return message
    has_text = any(isinstance(part, Reasoning) and part.text for part in message.parts)
    if has_text and not turn.is_bound:
        return message
    rest = (part for part in message.parts if not isinstance(part, Reasoning))
    return replace(message, parts=(*turn.reasoning, *(_signed(part, turn) for part in rest)))


def _signed(part: Part, turn: Turn) -> Part:
    if isinstance(part, ToolCall) and part.signature is None and part.id in turn.signatures:
        return replace(part, signature=turn.signatures[part.id])
    return part


def _is_bound(part: Reasoning) -> bool:
    return part.signature is not None or part.encrypted is not None


def _key(parts: Iterable[Part]) -> str | None:
    """By the first call's id, which is unique; else by the text that was said, None where nothing was."""
    texts = []
    for part in parts:
        if isinstance(part, ToolCall):
            return f"call:{part.id}"
        if isinstance(part, Text):
            texts.append(part.text)
    said = "".join(texts).strip()
    return f"text:{blake2b(said.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}" if said else None
