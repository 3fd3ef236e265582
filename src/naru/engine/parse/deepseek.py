"""DeepSeek V3, R1 and V3.1: `<｜tool▁call▁begin｜>` … `<｜tool▁sep｜>` … `<｜tool▁call▁end｜>` (local_serving.md 1.10).

V3.1 writes the name before the separator and bare JSON after it; V3 writes `function` before it, then the name, a line
break and JSON in a fence. What follows the separator tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from naru.engine.parse.emit import Emitter
from naru.engine.parse.jsonvalue import BLANK, JsonValue, Status
from naru.engine.parse.lexer import Cursor, Terminals

BLOCK_OPEN = "<｜tool▁calls▁begin｜>"
BLOCK_CLOSE = "<｜tool▁calls▁end｜>"
CALL_OPEN = "<｜tool▁call▁begin｜>"
CALL_CLOSE = "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_TAGS = (CALL_CLOSE, BLOCK_CLOSE, CALL_OPEN)
_HEADER = Terminals((_SEPARATOR, *_TAGS))
_LINE = Terminals(("\n", *_TAGS))
_BEFORE_JSON = Terminals(("{", *_TAGS))
_ENDS = Terminals(_TAGS)
_LONGEST_NAME = 256


class _At(Enum):
    HEADER = auto()  # up to the separator
    AFTER_SEPARATOR = auto()
    NAME = auto()  # V3: the line after the separator
    FENCE = auto()  # up to the brace
    JSON = auto()
    TAIL = auto()  # the closing fence, up to the tag


class DeepSeekCall:
    __slots__ = ("_at", "_emit", "_held", "_json", "_name")

    def __init__(self, emit: Emitter) -> None:
        self._emit = emit
        self._at = _At.HEADER
        self._held: list[str] = []
        self._name = ""
        self._json = JsonValue(emit.arguments, _TAGS)

    def run(self, cursor: Cursor) -> Status:
        while (status := _STEPS[self._at](self, cursor)) is None:
            pass
        return status

    def end(self) -> None:
        if self._at in (_At.FENCE, _At.JSON):
            self._emit.has_broken_call = True

    def _header(self, cursor: Cursor) -> Status | None:
        text, found = cursor.until(_HEADER, self._room)
        self._held.append(text)
        if found == _SEPARATOR:
            self._name, self._held = "".join(self._held).strip(), []
            self._at = _At.AFTER_SEPARATOR
            return None
        return Status.BROKEN if found or self._room <= 0 else Status.MORE

    def _after_separator(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        found = cursor.here(_BEFORE_JSON)
        if found is None or (not found and not cursor.peek()):
            return Status.MORE
        cursor.back(len(found))
        if not found and self._name == "function":
            self._at = _At.NAME
            return None
        return self._start(cursor, self._name)

    def _read_name(self, cursor: Cursor) -> Status | None:
        text, found = cursor.until(_LINE, self._room)
        self._held.append(text)
        if found:
            cursor.back(len(found))
            return self._start(cursor, "".join(self._held).strip())
        return Status.BROKEN if self._room <= 0 else Status.MORE

    @property
    def _room(self) -> int:
        return _LONGEST_NAME - sum(map(len, self._held))

    def _start(self, cursor: Cursor, name: str) -> Status | None:
        if not name:
            return Status.BROKEN
        self._emit.start(name)
        cursor.unmark()
        self._at = _At.FENCE
        return None

    def _fence(self, cursor: Cursor) -> Status | None:
        _, found = cursor.until(_BEFORE_JSON)
        if not found:
            return Status.MORE
        cursor.back(len(found))
        if found == "{":
            self._at = _At.JSON
        else:
            self._emit.arguments("{}")  # rule 5
            self._at = _At.TAIL
        return None

    def _read_json(self, cursor: Cursor) -> Status | None:
        status = self._json.run(cursor)
        if status is Status.MORE:
            return status
        self._emit.has_broken_call |= status is Status.BROKEN
        self._at = _At.TAIL
        return None

    def _tail(self, cursor: Cursor) -> Status | None:
        _, found = cursor.until(_ENDS)
        if not found:
            return Status.MORE
        if found != CALL_CLOSE:
            cursor.back(len(found))
        return Status.DONE


_STEPS: dict[_At, Callable[[DeepSeekCall, Cursor], Status | None]] = {
    _At.HEADER: DeepSeekCall._header,
    _At.AFTER_SEPARATOR: DeepSeekCall._after_separator,
    _At.NAME: DeepSeekCall._read_name,
    _At.FENCE: DeepSeekCall._fence,
    _At.JSON: DeepSeekCall._read_json,
    _At.TAIL: DeepSeekCall._tail,
}
