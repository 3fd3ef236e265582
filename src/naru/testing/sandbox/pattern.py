"""A string that matches a regular expression, written from the expression: no search, so no expression can be slow.

It reads what JSON schemas use: literals, classes, groups, alternatives, repetitions, anchors. The rest (looking around,
back references, flags, Unicode properties) is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_PATTERN = 500
MAX_DEPTH = 30
MAX_REPEAT = 1000
MAX_LENGTH = 10_000

#: Makes a matching string; the argument is how often to repeat where the expression leaves it open.
Maker = Callable[[int], str]

_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_IN_CLASS = {"d": "0123456789", "w": "abcxyzABCXYZ0123456789_", "s": " \t\n"}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
#: Tried in this order for a negated class.
_OTHERS = "a0A-_ ~!#%&가"


class UnknownPattern(ValueError):
    """The expression uses something that this writer does not know, or is not an expression."""


def matching(pattern: str, min_length: int = 0, max_length: int = MAX_LENGTH) -> str:
    """A string that matches, of a length within the bounds (in characters). Raises UnknownPattern."""
    if len(pattern) > MAX_PATTERN:
        raise UnknownPattern(f"it is longer than {MAX_PATTERN} characters")
    make = _Reader(pattern).whole()
    for times in (0, 1, 2, 4, 8, min_length):
        text = make(times)
        if len(text) < min_length and not pattern.endswith("$"):
            text += "x" * (min_length - len(text))  # nothing says where the match has to end
        if min_length <= len(text) <= max_length:
            return text
    raise UnknownPattern(f"no match of {min_length} to {max_length} characters was found")


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._depth = 0

    def whole(self) -> Maker:
        make = self._alternatives()
        if self._at < len(self._pattern):
            raise UnknownPattern("a ')' closes nothing")
        return make

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        letter = self._peek()
        if not letter:
            raise UnknownPattern("it ends too early")
        self._at += 1
        return letter

    def _accept(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _alternatives(self) -> Maker:
        """The first alternative is as good as any."""
        first = self._sequence()
        while self._accept("|"):
            self._sequence()
        return first

    def _sequence(self) -> Maker:
        parts: list[Maker] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return lambda times: _bounded("".join(part(times) for part in parts))

    def _atom(self) -> Maker:
        letter = self._next()
        if letter == "(":
            return self._group()
        if letter == "[":
            return _always(self._class())
        if letter == "\\":
            return _always(self._escape())
        if letter in "^$":
            return _always("")
        if letter in "*+?":
            raise UnknownPattern(f"'{letter}' repeats nothing")
        return _always("a" if letter == "." else letter)

    def _group(self) -> Maker:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UnknownPattern(f"it is nested more than {MAX_DEPTH} deep")
        if self._accept("?") and not self._accept(":"):
            self._accept("P")
            if not self._accept("<") or self._peek() in ("=", "!"):
                raise UnknownPattern("it looks around or sets flags: (?…")
            while self._next() != ">":
                pass
        make = self._alternatives()
        if self._next() != ")":
            raise UnknownPattern("a '(' is not closed")
        self._depth -= 1
        return make

    def _escape(self) -> str:
        letter = self._next()
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in "AZ":
            return ""
        return self._literal(letter)

    def _literal(self, letter: str) -> str:
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter in "xu":
            digits = "".join(self._next() for _ in range(2 if letter == "x" else 4))
            if not all(digit in "0123456789abcdefABCDEF" for digit in digits) or 0xD800 <= int(digits, 16) <= 0xDFFF:
                raise UnknownPattern(f"\\{letter}{digits} is no character")
            return chr(int(digits, 16))
        if letter.isalnum():
            raise UnknownPattern(f"it uses \\{letter}")
        return letter

    def _class(self) -> str:
        """One character of a bracket expression."""
        is_negated = self._accept("^")
        ranges: list[tuple[str, str]] = []
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            low = self._next()
            if low == "\\":
                low = self._next()
                if low in _IN_CLASS:
                    ranges.extend((each, each) for each in _IN_CLASS[low])
                    continue
                low = self._literal(low)
            high = low
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
                self._next()
                high = self._next()
                high = self._literal(self._next()) if high == "\\" else high
            ranges.append((low, high))
        self._next()
        if not is_negated:
            return ranges[0][0]
        for letter in _OTHERS:
            if not any(low <= letter <= high for low, high in ranges):
                return letter
        raise UnknownPattern("no character was found for a negated class")

    def _repeated(self, make: Maker) -> Maker:
        bounds = self._bounds()
        if bounds is None:
            return make
        if not self._accept("?"):
            self._accept("+")  # lazy and possessive match the same strings as far as we write them
        low, high = bounds
        if low > MAX_REPEAT:
            raise UnknownPattern(f"it repeats more than {MAX_REPEAT} times")
        return lambda times: _times(make(times), max(low, times if high is None else min(high, times)))

    def _bounds(self) -> tuple[int, int | None] | None:
        if self._accept("*"):
            return 0, None
        if self._accept("+"):
            return 1, None
        if self._accept("?"):
            return 0, 1
        if not self._accept("{"):
            return None
        inside = ""
        while (letter := self._next()) != "}":
            inside += letter
        low, comma, high = inside.partition(",")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise UnknownPattern(f"{{{inside}}} is no repetition")
        return int(low), int(high) if high else (None if comma else int(low))


def _always(text: str) -> Maker:
    return lambda times: text


def _bounded(text: str) -> str:
    return _times(text, 1)


def _times(text: str, count: int) -> str:
    if len(text) * count > MAX_LENGTH:
        raise UnknownPattern(f"its match is longer than {MAX_LENGTH} characters")
    return text * count
