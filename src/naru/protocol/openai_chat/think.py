"""Reasoning that stands inline in the content, `<think>…</think>`, taken apart over any chunk boundaries.

Some templates put the opening tag in the prompt, so that only the closing one arrives: `open_implied` starts inside.
A suffix that could be the start of a tag is held back until the following piece decides (providers.md A7.6 rule 4).
The line breaks after each tag belong to the markup, not to the text.
"""

from __future__ import annotations

from enum import Enum, auto

_OPEN = "<think>"
_CLOSE = "</think>"


class _At(Enum):
    START = auto()  # nothing but blanks so far
    OPENED = auto()  # right after the opening tag
    INSIDE = auto()
    CLOSED = auto()  # right after the closing tag
    CONTENT = auto()


class ThinkSplitter:
    """Text in, (reasoning, content) out. One block of reasoning, before the content; later tags are the model's text."""

    __slots__ = ("_at", "_held")

    def __init__(self, think_tag: str) -> None:
        self._at = _At.OPENED if think_tag == "open_implied" else _At.START
        self._held = ""

    @property
    def is_past(self) -> bool:
        """The answer itself has begun: no tag can mean anything any more, so text need not be fed."""
        return self._at is _At.CONTENT

    def feed(self, text: str) -> tuple[str, str]:
        text, self._held = self._held + text, ""
        reasoning = ""
        if self._at is _At.START:
            text = self._start(text)
        if self._at is _At.OPENED and (text := text.lstrip("\n")):
            self._at = _At.INSIDE
        if self._at is _At.INSIDE:
            reasoning, tag, text = text.partition(_CLOSE)
            if tag:
                self._at = _At.CLOSED
            else:
                reasoning = self._hold_back(reasoning)
        if self._at is _At.CLOSED and (text := text.lstrip("\n")):
            self._at = _At.CONTENT
        return reasoning, text if self._at is _At.CONTENT else ""

    def close(self) -> tuple[str, str]:
        """What was still held back when the stream ended."""
        held, self._held = self._held, ""
        return (held, "") if self._at is _At.INSIDE else ("", held)

    def _start(self, text: str) -> str:
        begun = text.lstrip()
        if begun.startswith(_OPEN):
            self._at = _At.OPENED
            return begun[len(_OPEN) :]
        if _OPEN.startswith(begun):
            self._held = text
            return ""
        self._at = _At.CONTENT
        return text

    def _hold_back(self, text: str) -> str:
        for size in range(min(len(_CLOSE) - 1, len(text)), 0, -1):
            if _CLOSE.startswith(text[-size:]):
                self._held = text[-size:]
                return text[:-size]
        return text
