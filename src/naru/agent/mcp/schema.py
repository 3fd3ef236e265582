"""Input schemas as models are shown them: without what only programs read, references written out."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

#: Said of the schema itself. Google refuses `$schema`, and titles that a program made of field names tell a model nothing.
ASIDES = frozenset({"$schema", "$id", "$comment", "title"})
DEFINITIONS = ("$defs", "definitions")
#: Under these stand names of fields, which may be called "title" too.
NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
#: Under these stand values, not schemas.
VALUES = frozenset({"enum", "const", "default", "examples", "required"})
#: References in references, at most. A schema that refers to itself has no end, and stays as it is.
MAX_DEPTH = 16


def plain_schema(schema: Json) -> Json:
    """An object's schema with its local references written out; one that has none that ends keeps its definitions."""
    try:
        written = _plain(schema, schema, 0)
    except RecursionError:
        written = {name: value for name, value in schema.items() if name not in ASIDES}
    written["type"] = "object"
    written.setdefault("properties", {})
    return written


def _plain(schema: Json, root: Json, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise RecursionError
    target = _target(schema.get("$ref"), root)
    if target is not None:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return _plain({**target, **beside}, root, depth + 1)
    kept = {name: value for name, value in schema.items() if name not in ASIDES and name not in DEFINITIONS}
    return {name: _inner(name, value, root, depth) for name, value in kept.items()}


def _inner(name: str, value: Any, root: Json, depth: int) -> Any:
    if name in VALUES:
        return value
    if isinstance(value, dict):
        if name in NAMED:
            return {key: _plain(item, root, depth) if isinstance(item, dict) else item for key, item in value.items()}
        return _plain(value, root, depth)
    if isinstance(value, list):
        return [_plain(item, root, depth) if isinstance(item, dict) else item for item in value]
    return value


def _target(reference: object, root: Json) -> Json | None:
    """What `#/$defs/Name` names in the same schema. Raises RecursionError for what names something else."""
    if not isinstance(reference, str):
        return None
    found: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    if not reference.startswith("#/") or not isinstance(found, dict):
        raise RecursionError
    return found
