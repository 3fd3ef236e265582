"""From what an engine yields to text that can be parsed: characters made whole, stop strings found."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from naru.engine.parse.lexer import Cursor, Terminals

#: What decoders write for half a character.
_INCOMPLETE = "\ufffd"
#: A character is at most four tokens of a byte each; more broken ones than that are broken for good.
_LONGEST_WAIT = 8


class Utf8Feeder:
    """Bytes to text; a character split across pieces waits for its rest (T25). Bytes that are no UTF-8 become U+FFFD."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        return self._decoder.decode(piece)

    def close(self) -> str:
        return self._decoder.decode(b"", True)


class TokenFeeder:
    """Token ids to text, for engines whose tokenizer decodes lists of ids. Only a window is decoded again, so that a long
    answer costs no more than linear time; two decodings are compared because some decoders eat the first blank."""

    __slots__ = ("_decode", "_ids", "_said")

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._said = 0  # how many of the ids are said already; they are kept as context for the next

    def feed(self, token: int) -> str:
        self._ids.append(token)
        text, before = self._decode(self._ids), self._decode(self._ids[: self._said])
        if text.endswith(_INCOMPLETE) and len(self._ids) - self._said < _LONGEST_WAIT:
            return ""
        self._ids = self._ids[self._said :]
        self._said = len(self._ids)
        return text[len(before) :]

    def close(self) -> str:
        """What is incomplete for good."""
        text, before = self._decode(self._ids), self._decode(self._ids[: self._said])
        self._ids, self._said = [], 0
        return text[len(before) :]


class StopScanner:
    """Ends a text before the earliest of the stop strings, wherever it was cut. `found` is the one that was met."""

    __slots__ = ("_cursor", "_stops", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        kept = [stop for stop in stops if stop]
        # One that begins another is met first wherever the other could be.
        shortest = [stop for stop in kept if not any(stop != other and stop.startswith(other) for other in kept)]
        self._stops = Terminals(shortest)
        self._cursor = Cursor()
        self.found: str | None = None

    def feed(self, text: str) -> str:
        """The text that may be said. Once a stop string is found, nothing more comes."""
        if self.found is not None:
            return ""
        self._cursor.push(text)
        said, stop = self._cursor.until(self._stops)
        self.found = stop or None
        return said

    def close(self) -> str:
        if self.found is not None:
            return ""
        self._cursor.is_final = True
        return self._cursor.until(self._stops)[0]


#: local_serving.md 1.5: the text that ends thinking when its budget is used up (Qwen's own words), for engines to force.
BUDGET_TEXT = (
    "\n\nConsidering the limited time by the user, I have to give the solution based on the thinking directly now."
    "\n</think>\n\n"
)
