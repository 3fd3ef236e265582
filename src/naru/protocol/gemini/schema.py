"""Google's older schemas (`parameters`, `responseSchema`: a subset of OpenAPI 3.0) as JSON Schema, which the rest speak.

The other way is not needed: whatever a JSON schema says goes into `parametersJsonSchema` and `responseJsonSchema`, which
take it as it is (providers.md A6.2).
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.protocol.gemini.wire import Aliases, aliases_of
from naru.protocol.wire import decode_any, raw_of

_NAMES: Aliases = aliases_of(
    "anyOf", "additionalProperties", "maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties",
    "propertyOrdering", "prefixItems",
)  # fmt: skip
_TYPES = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})
#: Only Google has it: the order in which the model writes the properties.
_OWN = frozenset({"propertyOrdering"})
#: Numbers that protocol buffers write as strings, as 64-bit integers always are.
_COUNTS = frozenset({"maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"})


def json_schema(raw: Raw) -> Raw:
    """The schema in JSON Schema's words; what is no schema stays as it is. Raises one of BAD_JSON."""
    return raw_of(_converted(decode_any(raw)))


def _converted(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        name = _NAMES.get(str(key)) or str(key)
        if name not in _OWN and name != "nullable":
            found[name] = _value(name, value)
    if schema.get("nullable") is True:
        _allow_null(found)
    return found


def _value(name: str, value: Any) -> Any:
    if name == "type" and isinstance(value, str):
        lowered = value.lower()
        return lowered if lowered in _TYPES else value
    if name in ("items", "additionalProperties"):
        return _converted(value)
    if name in ("anyOf", "prefixItems") and isinstance(value, list):
        return [_converted(item) for item in value]
    if name in ("properties", "$defs", "defs") and isinstance(value, dict):
        return {key: _converted(item) for key, item in value.items()}
    if name in _COUNTS and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return value


def _allow_null(schema: dict[str, Any]) -> None:
    kind = schema.get("type")
    if isinstance(kind, str):
        schema["type"] = [kind, "null"]
        if isinstance(schema.get("enum"), list):
            schema["enum"] = [*schema["enum"], None]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
