"""Text with hold-back: find the earliest of some literals in text that arrives in pieces (local_serving.md 2.2 rule 2).

A suffix that may be the beginning of a literal waits for the next piece. Nothing is scanned again but that suffix, so the
work is linear in the text however it is cut; `Cursor.scanned` counts it for the tests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class Terminals:
    """A set of literals. None may be a proper prefix of another: the shorter would be taken or not by how the text is cut."""

    __slots__ = ("literals", "longest", "pattern", "prefixes")

    def __init__(self, literals: Iterable[str]) -> None:
        self.literals = tuple(sorted(set(literals)))
        self.prefixes = frozenset(text[:size] for text in self.literals for size in range(1, len(text)))
        if clash := self.prefixes & set(self.literals):
            raise ValueError(f"{sorted(clash)} begin other literals of the same set")
        self.longest = max((len(text) for text in self.literals), default=0)
        self.pattern = re.compile("|".join(map(re.escape, self.literals)) or r"(?!)")

    def held(self, text: str, start: int) -> int:
        """How long the suffix of `text[start:]` is that may be the beginning of a literal."""
        for size in range(min(self.longest - 1, len(text) - start), 0, -1):
            if text[len(text) - size :] in self.prefixes:
                return size
        return 0


class Cursor:
    """The text that has come and is not consumed. `is_final`: no more will come, so nothing is held back.

    Between `mark` and `unmark` what is consumed is remembered, for a call that turns out to be plain text.
    """

    __slots__ = ("_marked", "_pos", "_text", "is_final", "scanned")

    def __init__(self) -> None:
        self._text = ""
        self._pos = 0
        self._marked: list[str] | None = None
        self.is_final = False
        self.scanned = 0

    def push(self, text: str) -> None:
        self._text = self._text[self._pos :] + text
        self._pos = 0

    @property
    def is_empty(self) -> bool:
        return self._pos >= len(self._text)

    def mark(self, so_far: str = "") -> None:
        self._marked = [so_far]

    def unmark(self) -> str:
        marked, self._marked = self._marked, None
        return "".join(marked or ())

    @property
    def is_marked(self) -> bool:
        return self._marked is not None

    def take(self, size: int) -> str:
        piece = self._text[self._pos : self._pos + size]
        self._pos += len(piece)
        self.scanned += len(piece)
        if self._marked is not None:
            self._marked.append(piece)
        return piece

    def peek(self) -> str:
        """The next character, or nothing."""
        return self._text[self._pos : self._pos + 1]

    def run(self, pattern: re.Pattern[str]) -> str:
        """Takes what `pattern`, one that matches any number of single characters, matches here."""
        found = pattern.match(self._text, self._pos)
        return self.take(found.end() - self._pos) if found else ""

    def until(self, terminals: Terminals, limit: int | None = None) -> tuple[str, str]:
        """(the text before the earliest literal, that literal), both taken; the literal is empty if none is there yet.

        At most `limit` characters of text are taken: a name that long is none, wherever the text was cut.
        """
        found = terminals.pattern.search(self._text, self._pos)
        if limit is not None and (found.start() if found else len(self._text)) - self._pos >= limit:
            return self.take(limit), ""
        if found:
            text = self.take(found.start() - self._pos)
            return text, self.take(found.end() - found.start())
        return self.take(len(self._text) - self._pos - self._held(terminals)), ""

    def here(self, terminals: Terminals) -> str | None:
        """The literal that stands right here, taken; None if it cannot be told yet; empty if there is none."""
        found = terminals.pattern.match(self._text, self._pos)
        if found:
            return self.take(found.end() - self._pos)
        left = len(self._text) - self._pos
        self.scanned += min(left, terminals.longest)
        if self.is_final or left >= terminals.longest:
            return ""
        return None if left == 0 or self._text[self._pos :] in terminals.prefixes else ""

    def is_at_cut(self, terminals: Terminals) -> bool:
        """Whether the text ends here within a literal; what there is of it is taken."""
        is_cut = self.is_final and self._text[self._pos :] in terminals.prefixes
        if is_cut:
            self.take(len(self._text) - self._pos)
        return is_cut

    def back(self, size: int) -> None:
        """Gives back the last `size` characters of what the latest call took."""
        self._pos -= size
        if size and self._marked is not None:
            self._marked[-1] = self._marked[-1][:-size]

    def _held(self, terminals: Terminals) -> int:
        self.scanned += terminals.longest
        return 0 if self.is_final else terminals.held(self._text, self._pos)
