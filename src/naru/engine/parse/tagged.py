"""Calls with a tag for each parameter, turned into JSON as they come: `{`, `"key": `, the value, `}` (2.2 rule 4).

A closing tag inside a value closes it only if what follows is markup or the end: code and HTML that a model writes may hold
the very same text (T12, T52).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from naru.engine.parse.emit import Emitter
from naru.engine.parse.grammars import Grammar
from naru.engine.parse.jsonvalue import BLANK, JsonValue, Status
from naru.engine.parse.lexer import Cursor, Terminals
from naru.engine.parse.schema import UNKNOWN, Schemas, Types, coerced, is_text, quoted

_LONGEST_NAME = 256


class _At(Enum):
    NAME = auto()
    HEAD = auto()  # a name that only the tag after it confirms
    BODY = auto()  # between parameters
    KEY = auto()
    VALUE_OPEN = auto()
    VALUE = auto()
    CONFIRM = auto()  # after a closing tag inside a value
    JSON = auto()  # the arguments as one object, instead of parameters


class Tags:
    """The literals of one grammar, made ready once for each response."""

    __slots__ = ("after_call", "after_value", "body", "key", "name", "value", "value_open")

    def __init__(self, grammar: Grammar) -> None:
        g = grammar
        around = (*g.opens, *g.wrapper_opens, *g.wrapper_closes)
        self.name = Terminals({g.name_end, "\n", "<"})
        self.body = Terminals((*g.parameters, *g.closes, *g.value_closes, *around))
        self.key = Terminals((g.key_end, "\n"))
        self.value_open = Terminals(g.value_opens)
        self.value = Terminals((*g.value_closes, *g.closes, *("\n" + tag for tag in g.lines)))
        self.after_value = self.body
        self.after_call = Terminals(around)


class TaggedCall:
    """One call, from behind the tag that opened it."""

    __slots__ = (
        "_at",
        "_closer",
        "_emit",
        "_grammar",
        "_held",
        "_json",
        "_name",
        "_schemas",
        "_tags",
        "_types",
        "_used",
        "_value",
    )

    def __init__(self, emit: Emitter, grammar: Grammar, tags: Tags, schemas: Schemas) -> None:
        self._emit = emit
        self._grammar = grammar
        self._tags = tags
        self._schemas = schemas
        self._at = _At.NAME
        self._name = ""
        self._held: list[str] = []  # text that is not decided yet: a name, a key, a closing tag and the blanks after it
        self._closer = ""
        self._types: dict[str, Types] = {}
        self._used = 0
        self._value: _Value | None = None
        self._json: JsonValue | None = None

    def run(self, cursor: Cursor) -> Status:
        while (status := _STEPS[self._at](self, cursor)) is None:
            pass
        return status

    def end(self) -> None:
        """The text ended inside. What stands is left as it came; only a call whose values are all there is closed."""
        if self._at is _At.BODY:
            self._finish()
        elif self._at not in (_At.NAME, _At.HEAD):
            self._emit.has_broken_call = True
            if self._value is not None:
                self._value.cut()

    # --- Steps: None goes on -------------------------------------------------------------------------------------

    def _read_name(self, cursor: Cursor) -> Status | None:
        text, found = cursor.until(self._tags.name, _LONGEST_NAME - sum(map(len, self._held)))
        self._held.append(text)
        if not found:
            return Status.BROKEN if sum(map(len, self._held)) >= _LONGEST_NAME else Status.MORE
        header = self._grammar.header.fullmatch("".join(self._held))
        name = header["name"].strip() if header else ""
        self._held = []
        if not name:
            return Status.BROKEN
        self._name = name
        if self._grammar.name_end == "\n":
            if found == "<":
                cursor.back(1)
            self._at = _At.HEAD
            return None
        return self._start(cursor) if found == self._grammar.name_end else Status.BROKEN

    def _head(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        found = cursor.here(self._tags.body)
        if found is None or (not found and not cursor.peek()):
            return Status.MORE
        cursor.back(len(found))
        is_named = not any(map(str.isspace, self._name))
        is_call = found in self._grammar.parameters or (found in self._grammar.closes and self._name in self._schemas)
        return self._start(cursor) if is_call and is_named else Status.BROKEN

    def _start(self, cursor: Cursor) -> Status | None:
        self._emit.start(self._name)
        self._types = self._schemas.of(self._name)
        cursor.unmark()
        self._at = _At.BODY
        return None

    def _body(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        found = cursor.here(self._tags.body)
        if found is None or (not found and not cursor.peek()):
            return Status.MORE
        if not found:
            return self._stray(cursor)
        if found in self._grammar.parameters:
            self._at = _At.KEY
            return None
        if found in self._grammar.value_closes:
            return None  # T51: closed twice
        if found not in self._grammar.closes:
            cursor.back(len(found))
        self._finish()
        return Status.DONE

    def _stray(self, cursor: Cursor) -> Status | None:
        """Not a tag: the arguments as one object (SGLang's "format 2"), or text that nobody can place, which is content."""
        if cursor.peek() == "{" and not self._used:
            self._used = 1
            self._json = JsonValue(self._emit.arguments, (*self._grammar.closes, *self._grammar.wrapper_closes))
            self._at = _At.JSON
        else:
            self._emit.text(cursor.take(1))
        return None

    def _read_json(self, cursor: Cursor) -> Status | None:
        assert self._json is not None
        status = self._json.run(cursor)
        if status is Status.MORE:
            return status
        self._emit.has_broken_call |= status is Status.BROKEN
        self._at = _At.BODY
        return None

    def _read_key(self, cursor: Cursor) -> Status | None:
        text, found = cursor.until(self._tags.key)
        self._held.append(text)
        if not found:
            return Status.MORE
        header = self._grammar.header.fullmatch("".join(self._held))
        groups = header.groupdict() if header else {}
        key = str(groups.get("name") or "".join(self._held)).strip()
        self._held = []
        self._emit.arguments((", " if self._used and self._json is None else "{") + quoted(key) + ": ")
        self._used += 1
        self._value = self._value_of(key, groups.get("string"))
        self._at = _At.VALUE_OPEN if self._grammar.value_opens else _At.VALUE
        if found == "\n" and self._grammar.key_end != "\n":
            cursor.back(1)  # the key was never closed: its value begins on the next line
        return None

    def _value_of(self, key: str, is_string: str | None) -> _Value:
        types = self._types.get(key, UNKNOWN)
        g = self._grammar
        if is_string == "true":
            return _Value(self._emit, None, g.trims_line, is_null_known=False)
        if is_string == "false":
            return _Value(self._emit, UNKNOWN, g.trims_line)
        streams = is_text(types) or (not types and g.reading == "schema")
        return _Value(self._emit, None if streams else types, g.trims_line)

    def _value_open(self, cursor: Cursor) -> Status | None:
        cursor.run(BLANK)
        found = cursor.here(self._tags.value_open)
        if found is None or (not found and not cursor.peek()):
            return Status.MORE
        self._at = _At.VALUE
        return None

    def _read_value(self, cursor: Cursor) -> Status | None:
        assert self._value is not None
        text, found = cursor.until(self._tags.value)
        self._value.write(text)
        if not found:
            return Status.MORE
        if found.startswith("\n"):
            cursor.back(len(found))
            self._close_value()
        else:
            self._closer = found
            self._held = [found]
            self._at = _At.CONFIRM
        return None

    def _confirm(self, cursor: Cursor) -> Status | None:
        assert self._value is not None
        is_call = self._closer in self._grammar.closes
        self._held.append(cursor.run(BLANK))
        found = cursor.here(self._tags.after_call if is_call else self._tags.after_value)
        is_over = not cursor.peek() and not found
        if found is None or (is_over and not cursor.is_final):
            return Status.MORE
        if not found and not is_over:
            self._value.write("".join(self._held))
            self._held = []
            self._at = _At.VALUE
            return None
        cursor.back(len(found))
        self._held = []
        self._close_value()
        if not is_call:
            return None
        self._finish()
        return Status.DONE

    def _close_value(self) -> None:
        assert self._value is not None
        self._value.close()
        self._value = None
        self._at = _At.BODY

    def _finish(self) -> None:
        if self._json is None:
            self._emit.arguments("}" if self._used else "{}")


class _Value:
    """One value on its way to JSON. `types` is None for a string, which is streamed; anything else is read at its end."""

    __slots__ = ("_emit", "_is_null_known", "_is_open", "_line", "_pieces", "_trims", "_types")

    def __init__(self, emit: Emitter, types: Types | None, trims_line: bool, is_null_known: bool = True) -> None:
        self._emit = emit
        self._types = types
        self._trims = trims_line
        self._is_null_known = is_null_known
        self._is_open = False  # the opening quote is written
        self._line = ""  # a line break that is markup if the value ends here
        self._pieces: list[str] = []

    def write(self, text: str) -> None:
        if not text:
            return
        self._pieces.append(text)
        if self._types is None and (self._is_open or not self._may_be_null()):
            self._say(is_last=False)

    def _may_be_null(self) -> bool:
        text = "".join(self._pieces)
        return self._is_null_known and len(text) <= 8 and "null".startswith(text.strip())

    def _say(self, is_last: bool) -> None:
        text = self._line + "".join(self._pieces)
        self._pieces, self._line = [], ""
        if not self._is_open:
            text = text.removeprefix("\n") if self._trims else text
            self._is_open = True
            self._emit.arguments('"')
        if self._trims and text.endswith("\n"):
            text, self._line = text[:-1], "" if is_last else "\n"
        self._emit.arguments(quoted(text)[1:-1])

    def close(self) -> None:
        """One line break on each side is markup (T53); indentation is the value's own."""
        whole = "".join(self._pieces)
        if not self._is_open and self._is_null_known and whole.strip() == "null":
            self._emit.arguments("null")
        elif self._types is None:
            self._say(is_last=True)
            self._emit.arguments('"')
        else:
            if self._trims:
                whole = whole.removeprefix("\n").removesuffix("\n")
            self._emit.arguments(coerced(whole, self._types))

    def cut(self) -> None:
        """The text ended inside: what has come is said, and nothing is closed (rule 4)."""
        if self._types is None:
            self._say(is_last=False)
        else:
            self._emit.arguments("".join(self._pieces).removeprefix("\n"))


_STEPS: dict[_At, Callable[[TaggedCall, Cursor], Status | None]] = {
    _At.NAME: TaggedCall._read_name,
    _At.HEAD: TaggedCall._head,
    _At.BODY: TaggedCall._body,
    _At.KEY: TaggedCall._read_key,
    _At.VALUE_OPEN: TaggedCall._value_open,
    _At.VALUE: TaggedCall._read_value,
    _At.CONFIRM: TaggedCall._confirm,
    _At.JSON: TaggedCall._read_json,
}
