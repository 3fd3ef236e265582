"""Fills a JSON schema: always the same value for the same schema and talk, and valid, or refused by name.

Understood: type, enum, const, default, properties, required, items, prefixItems, lengths and bounds, multipleOf,
uniqueItems, pattern, format, allOf, anyOf, oneOf (the first branch that can be filled), and $ref inside the schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from urllib.parse import unquote

from naru.testing.sandbox.pattern import UnknownPattern, matching
from naru.testing.sandbox.talk import Talk, is_calculation, is_name, is_place, is_text

#: Below this depth only what is required is filled, so that a recursive schema comes to an end.
SHALLOW = 5
MAX_DEPTH = 40
MAX_NODES = 5000
MAX_ITEMS = 1000
MAX_LENGTH = 10_000

_REFUSED = (
    "not",
    "if",
    "contains",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "$dynamicRef",
)
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "sandbox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_TYPE_HINTS = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}

Schema = dict[str, Any]


class Unfillable(ValueError):
    """The schema has no value, or uses something that the sandbox does not know. The message says which."""


class Filler:
    """Fills one schema. `fills_all`: what is optional too; else only what is required or what the talk supplies."""

    def __init__(self, root: Any, talk: Talk, *, fills_all: bool) -> None:
        self._root = root
        self._talk = talk
        self._fills_all = fills_all
        self._places = list(talk.places)
        self._numbers = list(talk.numbers)
        self._quotes = list(talk.quotes)
        self._nodes = 0

    def fill(self) -> Any:
        """Raises Unfillable."""
        try:
            return self._value(self._root, "value", 0, 0)
        except (TypeError, AttributeError, KeyError, OverflowError) as error:
            raise Unfillable(f"the schema is malformed: {error}") from error

    def _value(self, schema: Any, name: str, depth: int, salt: int) -> Any:
        """`name` is the property's, for a fitting value; `salt` numbers the items of an array, for different ones."""
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise Unfillable("the schema never ends, or is too large")
        schema = self._resolved(schema)
        for branches in ("anyOf", "oneOf"):
            if branches in schema:
                return self._branch(schema, branches, name, depth, salt)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"], schema, salt)
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name, salt)
        if kind in ("integer", "number"):
            return self._number(schema, kind, salt)
        if kind == "boolean":
            default = schema.get("default")
            return default if isinstance(default, bool) else salt % 2 == 0
        return None

    # --- composition ---

    def _resolved(self, raw: Any) -> Schema:
        """A mapping without $ref and allOf."""
        schema = _mapping(raw)
        for _ in range(MAX_DEPTH):
            if "$ref" in schema:
                siblings = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merged(self._lookup(schema["$ref"]), siblings)
            elif "allOf" in schema:
                parts = _listed(schema, "allOf")
                schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in parts:
                    schema = _merged(schema, self._resolved(part))
            else:
                break
        else:
            raise Unfillable("a $ref points in a circle")
        for keyword in _REFUSED:
            if keyword in schema:
                raise Unfillable(f"the sandbox does not know the keyword '{keyword}'")
        return schema

    def _lookup(self, reference: Any) -> Schema:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unfillable(f"$ref {reference!r} points outside the schema")
        node = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            elif isinstance(node, dict) and key in node:
                node = node[key]
            else:
                raise Unfillable(f"$ref '{reference}' points at nothing")
        return _mapping(node)

    def _branch(self, schema: Schema, keyword: str, name: str, depth: int, salt: int) -> Any:
        base = {key: value for key, value in schema.items() if key != keyword}
        branches = [_merged(base, self._resolved(branch)) for branch in _listed(schema, keyword)]
        # null comes last where there is room, and first where the schema has to come to an end
        branches.sort(key=lambda branch: (branch.get("type") == "null") != (depth > SHALLOW))
        reason = Unfillable(f"{keyword} has no branch")
        for branch in branches:
            try:
                return self._value(branch, name, depth + 1, salt)
            except Unfillable as error:
                reason = error
        raise reason

    # --- kinds ---

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = _listed(schema, "required")
        made: dict[str, Any] = {}
        for name, part in properties.items():
            if name in required or (depth < SHALLOW and self._is_wanted(name, part)):
                made[name] = self._value(part, name, depth + 1, 0)
        rest = schema.get("additionalProperties", True)
        for name in required:
            if name not in made:
                made[name] = self._value(rest, name, depth + 1, 0)
        for number in range(1, _whole(schema, "minProperties", 0) + 1):
            if len(made) < _whole(schema, "minProperties", 0):
                made.setdefault(f"extra_{number}", self._value(rest, f"extra_{number}", depth + 1, number))
        if len(made) > _whole(schema, "maxProperties", len(made)):
            raise Unfillable("maxProperties leaves no room for what is required")
        return made

    def _is_wanted(self, name: str, part: Any) -> bool:
        """Whether an optional property is filled: always in full mode, else when the talk has something for it."""
        if self._fills_all:
            return True
        part = self._resolved(part)
        if "enum" in part:
            return _mentioned(_listed(part, "enum"), self._talk.text) is not None
        if is_place(name, part.get("description")):
            return bool(self._talk.places)
        if is_name(name):
            return bool(self._quotes)
        return is_text(name) or (is_calculation(name) and self._talk.calculation is not None)

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        first = _listed(schema, "prefixItems")
        least = _whole(schema, "minItems", 0)
        most = _whole(schema, "maxItems", MAX_ITEMS)
        wanted = max(least, len(first), 0 if depth > SHALLOW else 1)
        items = schema.get("items", True)
        if (
            isinstance(items, dict)
            and is_place(name, schema.get("description"))
            and self._resolved(items).get("type") == "string"
        ):
            wanted = max(wanted, len(self._places))
        wanted = max(least, min(wanted, most))
        if least > most or wanted > MAX_ITEMS:
            raise Unfillable(f"an array of {least} to {most} items cannot be made here")
        if items is False:
            wanted = min(wanted, len(first))
        parts = [*first, *[items] * (wanted - len(first))][:wanted]
        made = [self._value(part, name, depth + 1, salt) for salt, part in enumerate(parts)]
        if len(made) < least or (schema.get("uniqueItems") and len({repr(item) for item in made}) < len(made)):
            raise Unfillable("the sandbox cannot make that many different items")
        return made

    def _string(self, schema: Schema, name: str, salt: int) -> str:
        least, most = _whole(schema, "minLength", 0), _whole(schema, "maxLength", MAX_LENGTH)
        if least > min(most, MAX_LENGTH):
            raise Unfillable(f"a text of {least} to {most} characters cannot be made here")
        if "pattern" in schema:
            try:
                return matching(str(schema["pattern"]), least, min(most, MAX_LENGTH))
            except UnknownPattern as error:
                raise Unfillable(f"no text was found for pattern {schema['pattern']!r}: {error}") from error
        if schema.get("format") in _FORMATS:
            formatted = _FORMATS[schema["format"]]
            if least <= len(formatted) <= most:
                return formatted
            raise Unfillable(f"format '{schema['format']}' with these lengths")
        default = schema.get("default")
        sample = default if isinstance(default, str) else f"sample {name}" + (f" {salt + 1}" if salt else "")
        text = self._suggestion(schema, name) or sample
        if len(text) > most:  # a number at the end keeps the items of an array apart
            mark = str(salt + 1) if salt else ""
            text = (text[: max(0, most - len(mark))] + mark)[:most]
        return text + "x" * (least - len(text))

    def _suggestion(self, schema: Schema, name: str) -> str | None:
        if is_place(name, schema.get("description")):
            if not self._talk.places:
                return None if "default" in schema else self._talk.usual_place
            return self._places.pop(0) if len(self._places) > 1 else self._places[0]
        if is_calculation(name):
            return self._talk.calculation
        if is_name(name):
            return self._quotes.pop(0) if self._quotes else None
        return self._talk.text or None if is_text(name) else None

    def _number(self, schema: Schema, kind: str, salt: int) -> int | float:
        is_allowed, candidates = _numbers(schema, kind, salt)
        for index, number in enumerate(self._numbers):
            exact = _exact(number)
            if exact is not None and is_allowed(exact):
                del self._numbers[index]
                return _plain(exact)
        default = _exact(schema.get("default"))
        if default is not None and salt == 0 and is_allowed(default):
            return _plain(default)
        for candidate in candidates:
            if is_allowed(candidate):
                return _plain(candidate)
        raise Unfillable("no number lies within the bounds")

    def _choice(self, values: Any, schema: Schema, salt: int) -> Any:
        if not isinstance(values, list) or not values:
            raise Unfillable("enum has no value")
        kinds = schema.get("type")
        allowed = [value for value in values if _has_kind(value, kinds)]
        if not allowed:
            raise Unfillable("no value of enum has the type asked for")
        if salt:
            return allowed[salt % len(allowed)]
        mentioned = _mentioned(allowed, self._talk.text)
        if mentioned is not None:
            return mentioned
        default = schema.get("default")
        return default if default in allowed else allowed[0]


# --- pure helpers -----------------------------------------------------------------------------------------------------


def _merged(base: Schema, more: Schema) -> Schema:
    """Both at once, as far as joining keywords can say it."""
    merged = {**base, **more}
    for keyword in ("properties", "$defs", "definitions"):
        if keyword in base and keyword in more:
            merged[keyword] = {**base[keyword], **more[keyword]}
    if "required" in base and "required" in more:
        merged["required"] = list(dict.fromkeys([*base["required"], *more["required"]]))
    for keyword, pick in _TIGHTER.items():
        if keyword in base and keyword in more:
            merged[keyword] = pick(base[keyword], more[keyword])
    if isinstance(base.get("enum"), list) and isinstance(more.get("enum"), list):
        merged["enum"] = [value for value in base["enum"] if value in more["enum"]]
    return merged


_TIGHTER: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}


def _mapping(schema: Any) -> Schema:
    if schema is True:
        return {}
    if isinstance(schema, dict):
        return schema
    raise Unfillable("a schema that is false, or no object, has no value")


def _kind(schema: Schema) -> str:
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != "null"), "null")
    if kinds is None:
        kinds = next((kind for hint, kind in _TYPE_HINTS.items() if hint in schema), "string")
    if kinds not in _PYTHON_TYPES:
        raise Unfillable(f"there is no type {kinds!r}")
    return str(kinds)


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _has_kind(value: Any, kinds: Any) -> bool:
    if kinds is None:
        return True
    listed = kinds if isinstance(kinds, list) else [kinds]
    return any(
        isinstance(value, _PYTHON_TYPES.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))
        for kind in listed
        if isinstance(kind, str)
    )


def _listed(schema: Schema, keyword: str) -> list[Any]:
    value = schema.get(keyword, [])
    if not isinstance(value, list):
        raise Unfillable(f"'{keyword}' is no list")
    return value


def _whole(schema: Schema, keyword: str, otherwise: int) -> int:
    value = schema.get(keyword, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise Unfillable(f"'{keyword}' is no count")
    return math.ceil(value)


def _mentioned(values: list[Any], text: str) -> Any:
    """The first value, of those that are texts, that the user's text contains; None when none."""
    lowered = text.lower()
    return next((value for value in values if isinstance(value, str) and value and value.lower() in lowered), None)


def _exact(value: Any) -> Fraction | None:
    """A JSON number without binary rounding: 0.1 is a tenth. None for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return Fraction(str(value))


def _plain(number: Fraction) -> int | float:
    return int(number) if number.denominator == 1 else float(number)


def _numbers(schema: Schema, kind: str, salt: int) -> tuple[Callable[[Fraction], bool], list[Fraction]]:
    """What numbers are allowed, and candidates that meet the bounds if any number of the simple ones does."""
    low, high = _exact(schema.get("minimum")), _exact(schema.get("maximum"))
    over, under = _exact(schema.get("exclusiveMinimum")), _exact(schema.get("exclusiveMaximum"))
    if schema.get("exclusiveMinimum") is True:  # draft 4 says so by a flag
        low, over = None, low
    if schema.get("exclusiveMaximum") is True:
        high, under = None, high
    step = _exact(schema.get("multipleOf"))
    if step is not None and step <= 0:
        raise Unfillable("multipleOf is not above zero")
    if kind == "integer" and step is None:
        step = Fraction(1)

    def is_allowed(number: Fraction) -> bool:
        return (
            (low is None or number >= low)
            and (high is None or number <= high)
            and (over is None or number > over)
            and (under is None or number < under)
            and (step is None or number % step == 0)
            and (kind == "number" or number.denominator == 1)
        )

    bottom = max((bound for bound in (low, over) if bound is not None), default=None)
    top = min((bound for bound in (high, under) if bound is not None), default=None)
    return is_allowed, _candidates(bottom, top, step, salt)


def _candidates(bottom: Fraction | None, top: Fraction | None, step: Fraction | None, salt: int) -> list[Fraction]:
    start = Fraction(1)
    if bottom is not None and bottom >= start:
        start = bottom
    elif top is not None and top < start:
        start = top if bottom is None else bottom
    stride = step or Fraction(1)
    near = math.ceil(start / stride) * stride
    found = [near + stride * (salt + offset) for offset in (0, 1, -1, 2, -2)]
    if bottom is not None and top is not None:
        found += [bottom + (top - bottom) * part / 7 for part in range(8)]
        found.append(math.floor(top / stride) * stride)
        found.append(math.ceil(bottom / stride) * stride)
    if top is not None:
        found += [math.floor(top / stride) * stride - stride * (salt + offset) for offset in (0, 1, 2)]
    return [start + salt, *found] if step is None else found
