"""Calls written as JSON: `{"name": …, "arguments": …}`, one, several, or a list of them (Hermes, Qwen, HyperCLOVA X 14B).

The arguments are streamed as the model wrote them, from the moment the name is known (2.2 rules 3 and 4). A call whose name
never comes is not a call: BROKEN, and the parser gives its text back.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

import msgspec

from naru.engine.parse.emit import Emitter
from naru.engine.parse.jsonvalue import BLANK, JsonValue, Status, Unquoter
from naru.engine.parse.lexer import Cursor, Terminals

#: T14: llama's spelling is `parameters`.
_ARGUMENT_KEYS = frozenset({"arguments", "parameters"})


class _At(Enum):
    BETWEEN = auto()  # before, between and after the calls
    FIELDS = auto()  # inside a call: a key, a comma or the end
    KEY = auto()
    COLON = auto()
    VALUE = auto()
    JUNK = auto()  # a call that is begun and broken: up to the tag that ends it


class JsonCalls:
    """`closer` ends it; without one the end of the outermost value does. `openers` begin something else and end it too.

    `is_known` says which names may be called; None takes any, since an agent can recover from an unknown one (rule 8).
    """

    __slots__ = (
        "_arguments",
        "_at",
        "_calls_before",
        "_closer",
        "_early",
        "_emit",
        "_ends",
        "_field",
        "_has_arguments",
        "_in_list",
        "_is_known",
        "_name",
        "_raw",
        "_tags",
        "_unquoter",
        "_value",
    )  # fmt: skip

    def __init__(
        self,
        emit: Emitter,
        closer: str,
        openers: tuple[str, ...] = (),
        is_known: Callable[[str], bool] | None = None,
    ) -> None:
        self._emit = emit
        self._closer = closer
        self._tags = (closer, *openers) if closer else openers
        self._ends = Terminals(self._tags)
        self._is_known = is_known
        self._at = _At.BETWEEN
        self._in_list = False
        self._calls_before = emit.calls
        self._reset()

    def _reset(self) -> None:
        self._field: str | None = None
        self._name: str | None = None
        self._has_arguments = False
        self._arguments = 0  # characters given as arguments
        self._early: list[str] = []  # arguments that came before the name
        self._raw: list[str] = []  # the key or the name that is being read
        self._unquoter: Unquoter | None = None
        self._value: JsonValue | None = None

    def run(self, cursor: Cursor) -> Status:
        while (status := _STEPS[self._at](self, cursor)) is None:
            pass
        return status

    def end(self) -> None:
        """The text ended inside: a call that is begun stays as it came (rule 4), one without a name is plain text."""
        if self._at is _At.BETWEEN:
            return
        if self._name is not None:
            self._emit.has_broken_call |= self._value is not None or not self._has_arguments
            self._say_unquoted_rest()

    # --- Steps: None goes on -------------------------------------------------------------------------------------

    def _between(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        found = cursor.here(self._ends)
        if found is None or (not found and not cursor.peek()):
            return Status.MORE
        if found:
            if found != self._closer:
                cursor.back(len(found))
            return Status.DONE if self._has_called else Status.BROKEN
        if self._has_called and cursor.is_at_cut(self._ends):
            return Status.MORE
        char = cursor.peek()
        if char == "{":
            if not cursor.is_marked:
                cursor.mark()
            cursor.take(1)
            self._at = _At.FIELDS
        elif char == "[" and not self._in_list and not self._has_called:
            cursor.take(1)
            self._in_list = True
        elif self._has_called and char in "]},;" and (self._closer or self._in_list):
            cursor.take(1)  # T04: a brace too many, and the separators of a list
            if char == "]" and not self._closer:
                return Status.DONE
        else:
            return Status.DONE if self._has_called else Status.BROKEN
        return None

    @property
    def _has_called(self) -> bool:
        return self._emit.calls > self._calls_before

    def _fields(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        char = cursor.peek()
        if not char:
            return Status.MORE
        if char == '"':
            self._value = JsonValue(self._raw.append, self._tags)
            self._at = _At.KEY
        elif char == ",":
            cursor.take(1)
        elif char == "}":
            cursor.take(1)
            return self._close_call(cursor)
        else:
            return self._broken(cursor)
        return None

    def _key(self, cursor: Cursor) -> Status | None:
        status = self._scan(cursor)
        if status is Status.DONE:
            self._field = _string("".join(self._raw))
            self._raw = []
            self._at = _At.COLON
            return None
        return self._broken(cursor) if status is Status.BROKEN else status

    def _colon(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        if not cursor.peek():
            return Status.MORE
        if cursor.peek() != ":":
            return self._broken(cursor)
        cursor.take(1)
        self._value = JsonValue(self._sink(), self._tags)
        self._at = _At.VALUE
        return None

    def _value_(self, cursor: Cursor) -> Status | None:
        status = self._scan(cursor)
        if status is Status.MORE:
            return status
        if self._field == "name" and self._name is None:
            self._named(_string("".join(self._raw)), cursor)
        self._raw = []
        if self._field in _ARGUMENT_KEYS:
            self._has_arguments = True
        self._field = None
        if status is Status.BROKEN or (self._name is not None and not self._allows(self._name)):
            return self._broken(cursor)
        self._value = None
        self._at = _At.FIELDS
        return None

    def _junk(self, cursor: Cursor) -> Status | None:
        _, found = cursor.until(self._ends)
        if not found:
            return Status.MORE
        if found != self._closer:
            cursor.back(len(found))
        return Status.DONE

    # --- What they do --------------------------------------------------------------------------------------------

    def _scan(self, cursor: Cursor) -> Status:
        assert self._value is not None
        return self._value.run(cursor)

    def _sink(self) -> Callable[[str], None]:
        if self._field in _ARGUMENT_KEYS and not self._has_arguments:
            return self._say
        return self._raw.append if self._field == "name" and self._name is None else _nowhere

    def _say(self, raw: str) -> None:
        """A piece of the arguments. A string that holds them is decoded (T15); null is none."""
        if self._unquoter is None and self._value is not None and self._value.is_string:
            self._unquoter = Unquoter()
        text = self._unquoter.feed(raw) if self._unquoter else raw
        if not text:
            return
        if self._name is None or (not self._arguments and "null".startswith("".join((*self._early, text)))):
            self._early.append(text)
        else:
            self._give("".join((*self._early, text)))
            self._early = []

    def _give(self, text: str) -> None:
        self._arguments += len(text)
        self._emit.arguments(text)

    def _say_unquoted_rest(self) -> None:
        if self._unquoter:
            self._give(self._unquoter.close())
        self._give("".join(self._early))
        self._early = []

    def _allows(self, name: str) -> bool:
        return self._is_known is None or self._is_known(name)

    def _named(self, name: str | None, cursor: Cursor) -> None:
        if not name or not self._allows(name):
            return
        self._name = name
        cursor.unmark()
        self._emit.start(name)
        early = "".join(self._early)
        if not "null".startswith(early):
            self._give(early)
            self._early = []

    def _close_call(self, cursor: Cursor) -> Status | None:
        if self._name is None:
            return self._broken(cursor)
        if self._unquoter:
            self._give(self._unquoter.close())
        early = "".join(self._early)
        self._give("{}" if not self._arguments and early in ("", "null") else early)
        self._reset()
        self._at = _At.BETWEEN
        return None if self._closer or self._in_list else Status.DONE

    def _broken(self, cursor: Cursor) -> Status | None:
        """Without a name it is text; with one it is a call with the arguments as they came, and the rest is passed over."""
        if self._name is None:
            return Status.BROKEN
        is_cut = self._value is not None
        self._say_unquoted_rest()
        if not self._arguments:
            self._give("{}")
        elif is_cut:
            self._emit.has_broken_call = True
        self._reset()
        self._at = _At.JUNK
        return None


def _nowhere(_: str) -> None:
    """What is neither name nor arguments (`type`, `id`) is read over."""


def _string(raw: str) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None


_STEPS: dict[_At, Callable[[JsonCalls, Cursor], Status | None]] = {
    _At.BETWEEN: JsonCalls._between,
    _At.FIELDS: JsonCalls._fields,
    _At.KEY: JsonCalls._key,
    _At.COLON: JsonCalls._colon,
    _At.VALUE: JsonCalls._value_,
    _At.JUNK: JsonCalls._junk,
}
