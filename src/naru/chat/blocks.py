"""Markdown that is still being written: which of its blocks can no longer change, and may be printed for good."""

from __future__ import annotations

import re
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

#: Blocks that a blank line ends. A list and indented code may go on after one, HTML too.
_ENDED_BY_BLANK = frozenset({"paragraph_open", "blockquote_open", "table_open"})
#: Blocks that are whole with their last line's end.
_ENDED_BY_LINE = frozenset({"heading_open", "hr"})


#: A model's text is no program for the terminal: escape sequences and the like are taken out; lines and tabs stay.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_BLANK_EDGES = re.compile(r"\A(?:[ \t]*\n)+|\s+\Z")


def harmless(text: str) -> str:
    return _CONTROL.sub("", text)


class Blocks:
    """Takes an answer in pieces. However it is cut, the same blocks come out, without the blank lines between them."""

    def __init__(self) -> None:
        self.rest = ""
        self._parser = _parser()

    def feed(self, text: str) -> list[str]:
        """The blocks that are finished now."""
        text = harmless(text)
        self.rest += text
        if "\n" not in text:  # only a whole line decides anything
            return []
        found = []
        while (end := _first_end(self.rest, self._parser)) > 0:
            found.append(self.rest[:end])
            self.rest = self.rest[end:]
        return _trimmed(found)

    def close(self) -> list[str]:
        rest, self.rest = self.rest, ""
        if not rest:
            return []
        starts = _starts(rest, self._parser)
        edges = [0, *starts[1:], len(rest)]
        return _trimmed([rest[start:end] for start, end in pairwise(edges)])


def _trimmed(blocks: list[str]) -> list[str]:
    return [block for block in (_BLANK_EDGES.sub("", each) for each in blocks) if block]


def _parser() -> MarkdownIt:
    """The blocks that rich's Markdown knows; what stands inside them does not matter here. A definition of a
    reference counts as text."""
    return MarkdownIt().enable("table").disable(["inline", "reference"])


def _first_end(text: str, parser: MarkdownIt) -> int:
    """Where the first block ends for good, or 0."""
    whole = text[: text.rfind("\n") + 1]
    tops = _tops(whole, parser)
    if not tops:
        return 0
    lines = _lines(whole)
    if len(tops) > 1:
        return _offset(lines, _line(tops[1]))
    return _offset(lines, len(lines)) if _is_ended(tops[0], lines) else 0


def _is_ended(token: Token, lines: list[str]) -> bool:
    assert token.map is not None
    first, last = token.map
    if token.type in _ENDED_BY_LINE:
        return True
    if token.type in _ENDED_BY_BLANK:
        return last < len(lines) and not lines[last].strip()
    if token.type != "fence" or last - first < 2:
        return False
    closing = lines[last - 1].strip()
    return len(closing) >= len(token.markup) and set(closing) == {token.markup[0]}


def _starts(text: str, parser: MarkdownIt) -> list[int]:
    lines = _lines(text)
    return [_offset(lines, _line(token)) for token in _tops(text, parser)]


def _tops(text: str, parser: MarkdownIt) -> list[Token]:
    return [token for token in parser.parse(text) if token.level == 0 and token.nesting >= 0 and token.map]


def _lines(text: str) -> list[str]:
    """As the parser counts them; str.splitlines knows other ends besides."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _line(token: Token) -> int:
    assert token.map is not None
    return token.map[0]


def _offset(lines: list[str], line: int) -> int:
    return sum(map(len, lines[:line]))
