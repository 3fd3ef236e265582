"""One JSON value out of streamed text, as the model wrote it: brackets are counted, strings are respected (rules 4, 7, 9).

Nothing is parsed into numbers or rebuilt, so a 20-digit integer and an odd escape come through unchanged, and the pieces of
an unfinished value are still exactly what the model wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from naru.engine.parse.lexer import Cursor, Terminals

BLANK = re.compile(r"\s*")
_SCALAR = re.compile(r"[^,}\]\s<]+")


class Status(Enum):
    MORE = auto()  # needs more text
    DONE = auto()
    BROKEN = auto()  # what came cannot be this


class JsonValue:
    """Scans one value. `tags` end it wherever they stand outside a string; inside one only after a raw line break, which
    no JSON string may hold: a string that was never closed must not swallow the calls that follow."""

    __slots__ = ("_depth", "_in_string", "_inside", "_is_scalar", "_outside", "_say", "_started", "is_string")

    def __init__(self, say: Callable[[str], None], tags: tuple[str, ...]) -> None:
        self._say = say
        self._outside = Terminals(("{", "}", "[", "]", '"', *tags))
        self._inside = Terminals(('"', "\\", *("\n" + tag for tag in tags)))
        self._depth = 0
        self._in_string = False
        self._started = False
        self._is_scalar = False
        self.is_string = False

    def run(self, cursor: Cursor) -> Status:
        """Consumes the value as far as it has come. The text after it, and a tag that cut it off, stay."""
        if not self._started:
            cursor.run(BLANK)
            if not cursor.peek():
                return Status.MORE
            self._started = True
            self.is_string = cursor.peek() == '"'
            self._is_scalar = cursor.peek() not in ("{", "[", '"')
        if self._is_scalar:
            return self._scalar(cursor)
        while True:
            status = self._string(cursor) if self._in_string else self._structure(cursor)
            if status is not None:
                return status

    def _scalar(self, cursor: Cursor) -> Status:
        text = cursor.run(_SCALAR)
        self._say(text)
        return Status.DONE if cursor.peek() or cursor.is_final else Status.MORE

    def _structure(self, cursor: Cursor) -> Status | None:
        text, hit = cursor.until(self._outside)
        self._say(text)
        if not hit:
            return Status.MORE
        if len(hit) > 1:
            cursor.back(len(hit))
            return Status.BROKEN
        self._say(hit)
        if hit == '"':
            self._in_string = True
            return None
        self._depth += 1 if hit in "{[" else -1
        return Status.DONE if self._depth <= 0 else None

    def _string(self, cursor: Cursor) -> Status | None:
        text, hit = cursor.until(self._inside)
        self._say(text)
        if not hit:
            return Status.MORE
        if hit == "\\":
            escaped = cursor.peek()
            if not escaped:
                cursor.back(1)
                if not cursor.is_final:
                    return Status.MORE
                self._say(cursor.take(1))
                return Status.MORE
            self._say(hit + cursor.take(1))
            return None
        if len(hit) > 1:
            cursor.back(len(hit))
            return Status.BROKEN
        self._say(hit)
        self._in_string = False
        return Status.DONE if self._depth == 0 else None


_UNICODE = re.compile(r"\\u[0-9a-fA-F]{4}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Unquoter:
    """A JSON string literal in pieces, decoded as it comes: arguments that a model wrote as a string of JSON.

    Half a surrogate pair stays an escape: what is decoded is JSON itself, where that is as good, and it is not text.
    """

    __slots__ = ("_escape", "_high")

    def __init__(self) -> None:
        self._escape = ""  # an escape that has not wholly come
        self._high = ""  # the escape of a high surrogate whose other half may follow

    def feed(self, raw: str) -> str:
        out = []
        for char in raw:
            if self._escape:
                self._escape += char
                if self._escape[1] != "u" or len(self._escape) == 6:
                    out.append(self._decode(self._escape))
                    self._escape = ""
            elif char == "\\":
                self._escape = char
            elif char != '"':
                out.append(self.close() + char)
        return "".join(out)

    def close(self) -> str:
        held, self._high = self._high, ""
        return held

    def _decode(self, escape: str) -> str:
        if escape[1] != "u":
            return self.close() + _ESCAPES.get(escape[1], escape[1])
        if not _UNICODE.fullmatch(escape):
            return self.close() + escape
        code = int.from_bytes(bytes.fromhex(escape.removeprefix("\\u")))
        if 0xDC00 <= code < 0xE000 and self._high:
            high, self._high = int.from_bytes(bytes.fromhex(self._high.removeprefix("\\u"))), ""
            return chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00)
        before = self.close()
        if 0xD800 <= code < 0xDC00:
            self._high = escape
            return before
        return before + (escape if 0xDC00 <= code < 0xE000 else chr(code))
