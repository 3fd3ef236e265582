"""What a run's events look like, before any terminal: things that are finished, and the one that is still being written."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from naru.agent.events import (
    Content,
    ReasoningText,
    RunEvent,
    ToolArguments,
    ToolComplete,
    ToolResult,
    ToolStart,
    UsageSoFar,
)
from naru.chat.blocks import Blocks, harmless

ARGUMENTS_CHARS = 300
RESULT_CHARS = 300
RESULT_LINES = 3


class Prose(Struct, frozen=True):
    """One block of Markdown."""

    text: str


class Thought(Struct, frozen=True):
    text: str
    seconds: float


class Called(Struct, frozen=True):
    name: str
    arguments: str


class Result(Struct, frozen=True):
    """`name` is empty where it is clear whose result it is."""

    name: str
    text: str
    is_error: bool


Shown = Prose | Thought | Called | Result


class Tail(Struct, frozen=True):
    """What is under way, and for how long."""

    kind: Literal["waiting", "thinking", "writing", "calling"]
    text: str = ""
    seconds: float = 0.0


class View:
    """Of one answer. Times in seconds of one clock."""

    def __init__(self, now: float) -> None:
        self._blocks = Blocks()
        self._thoughts = ""
        self._thinking_since = now
        self._since = now
        self._names: dict[int, str] = {}
        self._arguments: dict[int, str] = {}
        self._open = 0
        #: Whether the results of this turn are told apart by name, its last one too.
        self._several = False

    def feed(self, event: RunEvent, now: float) -> list[Shown]:
        """What is finished with this."""
        if isinstance(event, ReasoningText):
            if not self._thoughts:
                self._thinking_since = now
            self._thoughts += harmless(event.text)
            return []
        if isinstance(event, Content):
            return [*self._thought(now), *map(Prose, self._blocks.feed(event.text))]
        if isinstance(event, ToolStart):
            self._names[event.index] = event.name
            return self.close(now)
        if isinstance(event, ToolArguments):
            self._arguments[event.index] = self._arguments.get(event.index, "") + event.text
        elif isinstance(event, ToolComplete):
            self._names.pop(event.index, None)
            self._arguments.pop(event.index, None)
            self._open += 1
            return [*self.close(now), Called(event.name, in_short(readable(event.raw or "{}"), ARGUMENTS_CHARS))]
        elif isinstance(event, ToolResult):
            name = event.name if self._open > 1 or self._several else ""
            self._several = self._open > 1
            self._open -= 1
            self._since = now
            return [Result(name, few_lines(readable(event.text)), event.is_error)]
        elif isinstance(event, UsageSoFar):
            self._since = now
            return self.close(now)
        return []

    def close(self, now: float) -> list[Shown]:
        return [*self._thought(now), *map(Prose, self._blocks.close())]

    def tail(self, now: float) -> Tail:
        if self._names:
            index, name = max(self._names.items())
            return Tail(
                "calling", f"{name}({in_short(self._arguments.get(index, ''), ARGUMENTS_CHARS)}", now - self._since
            )
        if self._blocks.rest.strip():
            return Tail("writing", self._blocks.rest)
        if self._thoughts:
            return Tail("thinking", self._thoughts, now - self._thinking_since)
        return Tail("waiting", "", now - self._since)

    def _thought(self, now: float) -> list[Shown]:
        thoughts, self._thoughts = self._thoughts, ""
        return [Thought(thoughts, now - self._thinking_since)] if thoughts.strip() else []


def readable(text: str) -> str:
    """JSON with spaces between its parts, so that a line can be broken there; anything else as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return msgspec.json.format(text.strip(), indent=0)
    except msgspec.DecodeError:
        return text


def in_short(text: str, most: int) -> str:
    """On one line."""
    line = " ".join(harmless(text).split())
    return line if len(line) <= most else f"{line[:most]}…"


def few_lines(text: str) -> str:
    lines = harmless(text).strip().splitlines()
    kept = [line if len(line) <= RESULT_CHARS else f"{line[:RESULT_CHARS]}…" for line in lines[:RESULT_LINES]]
    if len(lines) > RESULT_LINES:
        kept.append(f"… {len(lines) - RESULT_LINES} more lines")
    return "\n".join(kept)
