"""JSON schemas as models read them: whole, in one piece, and without what only programs read.

Models see a schema as text. A `$ref` is a jump that small ones miss, and Gemini's and CLOVA Studio's schemas have none; titles
repeat names; `const` and `oneOf` are in neither of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

Json = dict[str, Any]

#: Where schemas stand inside a schema (JSON Schema 2020-12, and `definitions` of the drafts before). All else is values.
_ONE = frozenset(
    (
        *("additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    )
)
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
_DEFINITIONS = ("$defs", "definitions")

#: Formats that say nothing to a model: what the program makes of the text.
_INNER_FORMATS = frozenset(("path", "file-path", "directory-path"))


def mapped(schema: Mapping[str, Any], change: Callable[[Json], Json]) -> Json:
    """The schema with `change` done to it and to every schema inside, inner ones first. Properties that happen to be called
    `title` or `description` are names, not keywords, and stay."""
    result: Json = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, Mapping):
            result[key] = {name: _mapped(inner, change) for name, inner in value.items()}
        elif key in _LISTS and isinstance(value, list):
            result[key] = [_mapped(inner, change) for inner in value]
        elif key in _ONE:
            result[key] = _mapped(value, change)
        else:
            result[key] = value
    return change(result)


def _mapped(value: Any, change: Callable[[Json], Json]) -> Any:
    """true and false are schemas too."""
    return mapped(value, change) if isinstance(value, Mapping) else value


def references(schema: Mapping[str, Any]) -> set[str]:
    """The targets of all `$ref`s of a schema, those of its own definitions left out."""
    found: set[str] = set()

    def note(inner: Json) -> Json:
        found.update(str(inner[key]) for key in ("$ref", "$dynamicRef") if key in inner)
        return inner

    mapped({key: value for key, value in schema.items() if key not in _DEFINITIONS}, note)
    return found


def definition_name(reference: str) -> tuple[str, str] | None:
    """The keyword and the name that `#/$defs/Name…` points to; None: it points elsewhere."""
    start, _, rest = reference.removeprefix("#/").partition("/")
    if not reference.startswith("#/") or start not in _DEFINITIONS:
        return None
    return start, unquote(rest.partition("/")[0]).replace("~1", "/").replace("~0", "~")


def without_unused(schema: Json) -> Json:
    """Definitions that nothing reaches are left out. A reference of a form not known here keeps them all."""
    needed: set[tuple[str, str]] = set()
    todo = references(schema)
    while todo:
        reference = todo.pop()
        place = definition_name(reference)
        if place is None and reference != "#":
            return schema
        if place is None or place in needed:
            continue
        needed.add(place)
        target = schema.get(place[0], {}).get(place[1], {})
        if isinstance(target, Mapping):
            todo |= references(target)
            # Definitions inside a definition are named by longer pointers, through it.
            todo |= {ref for inner in _inner_definitions(target) for ref in references(inner)}
    return {key: value for key, value in _kept(schema, needed) if value != {} or key not in _DEFINITIONS}


def _inner_definitions(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in _DEFINITIONS:
        for inner in schema.get(key, {}).values():
            if isinstance(inner, Mapping):
                yield inner


def _kept(schema: Json, needed: set[tuple[str, str]]) -> Iterator[tuple[str, Any]]:
    for key, value in schema.items():
        if key in _DEFINITIONS and isinstance(value, Mapping):
            value = {name: inner for name, inner in value.items() if (key, name) in needed}
        yield key, value


def plain(schema: Json) -> Json:
    """What pydantic writes, as a model should read it: definitions put in where they are used (a recursive one stays a
    definition), no titles, `enum` for `const`, `anyOf` for `oneOf`; what is optional because None stands for it is simply left
    out of `required`, without a null in its type.

    `additionalProperties: false` is left out: only OpenAI's and DeepSeek's `strict` mode asks for it, and there for every
    object and with every property required, which an optional parameter is not. Unknown arguments are refused when they come."""
    definitions: Json = schema.get("$defs", {})
    recursive = {name for name in definitions if name in _reached(name, definitions)}

    def inlined(inner: Json) -> Json:
        place = definition_name(inner.get("$ref", ""))
        if place is None or place[1] in recursive:
            return inner
        beside = {key: value for key, value in inner.items() if key != "$ref"}
        return mapped(definitions[place[1]], inlined) | beside

    return without_unused(mapped(mapped(schema, inlined), _tidied))


def _reached(name: str, definitions: Json) -> set[str]:
    """All definitions that one uses, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for reference in references(definitions.get(todo.pop(), {})):
            place = definition_name(reference)
            if place is not None and place[1] not in found:
                found.add(place[1])
                todo.append(place[1])
    return found


def _tidied(schema: Json) -> Json:
    schema = {key: value for key, value in schema.items() if key not in ("title", "discriminator")}
    if "const" in schema:
        schema = {
            ("enum" if key == "const" else key): [value] if key == "const" else value for key, value in schema.items()
        }
    if "oneOf" in schema:
        schema = {("anyOf" if key == "oneOf" else key): value for key, value in schema.items()}
    if isinstance(schema.get("additionalProperties"), bool):
        del schema["additionalProperties"]
    if schema.get("format") in _INNER_FORMATS:
        del schema["format"]
    if "properties" in schema:
        schema["properties"] = {name: _without_null(inner) for name, inner in schema["properties"].items()}
    schema = _same_items(schema)
    first = {key: schema[key] for key in ("type", "description") if key in schema}
    return first | schema  # read from left to right: what it is, then its parts


def _without_null(schema: Json) -> Json:
    """A property whose default is None: leaving it out says the same as null, and every model can leave something out."""
    if "default" not in schema or schema["default"] is not None:
        return schema
    schema = {key: value for key, value in schema.items() if key != "default"}
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**choices[0], **beside}
    return schema | {"anyOf": choices} if choices else schema


def _same_items(schema: Json) -> Json:
    """tuple[float, float] is an array of two numbers: `items` is known everywhere, `prefixItems` is not."""
    items = schema.get("prefixItems")
    if items and all(item == items[0] for item in items) and schema.get("maxItems") == len(items):
        schema = {key: value for key, value in schema.items() if key != "prefixItems"} | {"items": items[0]}
    return schema
