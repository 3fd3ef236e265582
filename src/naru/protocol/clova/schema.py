"""A JSON schema in the keywords that CLOVA Studio's structured output knows (providers.md A1.3).

What says the same in other words is rewritten: `$ref` is replaced by what it names, `const` by an enum of one, a list of
types by anyOf. A keyword that narrows the answer and is not known (pattern, minLength …) is left out and named; what cannot
be rewritten is refused.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.wire import BAD_JSON, decode_any

PARAM = "response_format"

#: `description` is not in the list of keywords, but in the documentation's own examples (unverified).
_KEPT = frozenset({"type", "required", "enum", "minimum", "maximum", "minItems", "maxItems", "description"})
_FORMATS = frozenset({"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
#: Words without effect on the answer, or with the effect that structured output has anyway.
_HARMLESS = frozenset(
    {"$schema", "$id", "$defs", "definitions", "title", "default", "examples", "additionalProperties", "$comment"}
)
_MAX_DEPTH = 64


def known_schema(raw: Raw, dropped: list[str]) -> dict[str, Any]:
    """Raises BadRequest; the names of what was left out go to `dropped`."""
    try:
        root = decode_any(raw)
    except BAD_JSON:
        raise _refused("is not JSON") from None
    if not isinstance(root, dict):
        raise _refused("must be an object")
    found = _Rewriter(root, dropped).schema(root, 0)
    if found.get("type") != "object":
        raise _refused("must have `type: object` at its root")
    return found


class _Rewriter:
    def __init__(self, root: dict[str, Any], dropped: list[str]) -> None:
        self._root = root
        self._dropped = dropped

    def schema(self, given: Any, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise _refused("refers to itself, or is nested too deeply")
        if not isinstance(given, dict):
            raise _refused("has `true` or `false` where a schema must stand")
        if "$ref" in given:
            beside = {name: value for name, value in given.items() if name != "$ref"}
            return self.schema({**self._named(given["$ref"]), **beside}, depth + 1)
        found: dict[str, Any] = {}
        for name, value in given.items():
            self._keyword(name, value, found, depth)
        return found

    def _keyword(self, name: str, value: Any, found: dict[str, Any], depth: int) -> None:
        if name == "type" and isinstance(value, list):
            found["anyOf"] = [{"type": each} for each in value]
        elif name in _KEPT or (name == "format" and isinstance(value, str) and value in _FORMATS):
            found[name] = value
        elif name == "properties" and isinstance(value, dict):
            found[name] = {key: self.schema(each, depth + 1) for key, each in value.items()}
        elif name == "items":
            found[name] = self.schema(value, depth + 1)
        elif name in ("anyOf", "oneOf") and isinstance(value, list):
            found["anyOf"] = [self.schema(each, depth + 1) for each in value]
        elif name == "allOf" and isinstance(value, list) and len(value) == 1:
            found |= self.schema(value[0], depth + 1)
        elif name == "const":
            found["enum"] = [value]
        elif name in ("allOf", "not", "if", "prefixItems", "patternProperties"):
            raise _refused(f"uses `{name}`")
        elif name not in _HARMLESS:
            self._dropped.append(f"{PARAM}.schema.{name}")

    def _named(self, ref: Any) -> dict[str, Any]:
        """What `#/$defs/Name` names, inside the same schema."""
        found: Any = self._root
        if not isinstance(ref, str) or not ref.startswith("#/"):
            raise _refused(f"refers to something outside itself ({str(ref)[:100]})")
        for step in ref[2:].split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, dict):
            raise _refused(f"refers to {ref[:100]}, which is not there")
        return found


def _refused(what: str) -> BadRequest:
    return BadRequest(
        f"The schema of `{PARAM}` {what}, which this model's provider (CLOVA Studio) cannot do. "
        "Write it without, or choose another model.",
        code="unsupported_value",
        param=PARAM,
    )
