"""Schemas are filled validly, the same way every time, or refused; texts are cut in tokens that join again."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.testing.sandbox.pattern import UnknownPattern, matching
from naru.testing.sandbox.places import find_places
from naru.testing.sandbox.schema import Filler, Unfillable
from naru.testing.sandbox.talk import Talk, read_talk
from naru.testing.sandbox.tokens import count, split

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def is_kind(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def is_valid(value: Any, schema: Any, root: Any) -> bool:
    """A second opinion on JSON schema, written from the specification for the keywords used below."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        node = root
        for step in schema["$ref"].split("/")[1:]:
            node = node[step]
        return is_valid(value, node, root)
    kinds = schema.get("type")
    if kinds is not None and not any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    checks = [
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        all(is_valid(value, part, root) for part in schema.get("allOf", [])),
        "anyOf" not in schema or any(is_valid(value, part, root) for part in schema["anyOf"]),
    ]
    if isinstance(value, dict):
        checks.append(is_valid_object(value, schema, root))
    elif isinstance(value, list):
        checks.append(is_valid_array(value, schema, root))
    elif isinstance(value, str):
        checks.append(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf))
        checks.append("pattern" not in schema or re.search(schema["pattern"], value) is not None)
    elif is_kind(value, "number"):
        exact = Fraction(str(value))
        checks += [
            "minimum" not in schema or exact >= Fraction(str(schema["minimum"])),
            "maximum" not in schema or exact <= Fraction(str(schema["maximum"])),
            "exclusiveMinimum" not in schema or exact > Fraction(str(schema["exclusiveMinimum"])),
            "exclusiveMaximum" not in schema or exact < Fraction(str(schema["exclusiveMaximum"])),
            "multipleOf" not in schema or exact % Fraction(str(schema["multipleOf"])) == 0,
        ]
    return all(checks)


def is_valid_object(value: dict[str, Any], schema: Any, root: Any) -> bool:
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    return (
        all(name in value for name in schema.get("required", []))
        and schema.get("minProperties", 0) <= len(value)
        and all(is_valid(part, known.get(name, rest), root) for name, part in value.items())
    )


def is_valid_array(value: list[Any], schema: Any, root: Any) -> bool:
    first = schema.get("prefixItems", [])
    parts = [*first, *[schema.get("items", True)] * len(value)]
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)
        and all(is_valid(item, part, root) for item, part in zip(value, parts, strict=False))
        and (not schema.get("uniqueItems") or len({repr(item) for item in value}) == len(value))
    )


def fill(schema: Any, text: str = "", *, fills_all: bool = True) -> Any:
    return Filler(schema, read_talk(text), fills_all=fills_all).fill()


NAMES = st.sampled_from(["city", "query", "unit", "days", "a", "값", "expression"])
STRINGS = st.builds(
    lambda low, extra: {"type": "string", "minLength": low, "maxLength": low + extra},
    st.integers(0, 20),
    st.integers(0, 20),
)
INTEGERS = st.builds(
    lambda low, extra: {"type": "integer", "minimum": low, "maximum": low + extra},
    st.integers(-1000, 1000),
    st.integers(0, 50),
)
NUMBERS = st.builds(
    lambda low, extra: {"type": "number", "exclusiveMinimum": low, "maximum": low + extra},
    st.integers(-1000, 1000),
    st.sampled_from([0.25, 1, 3.5, 100]),
)
MULTIPLES = st.builds(
    lambda step, at: {"type": "number", "multipleOf": step, "minimum": at, "maximum": at + 2 * step},
    st.sampled_from([0.01, 0.5, 3, 7]),
    st.integers(-100, 100),
)
LEAVES = st.one_of(
    STRINGS,
    INTEGERS,
    NUMBERS,
    MULTIPLES,
    st.just({"type": "boolean"}),
    st.just({"type": ["string", "null"]}),
    st.just({"type": "null"}),
    st.just(True),
    st.just({}),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text(max_size=5), min_size=1, unique=True)),
    st.builds(lambda value: {"const": value}, st.text(max_size=5)),
    st.just({"$ref": "#/$defs/node"}),
)


def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.builds(
        lambda properties, share: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[: len(properties) * share // 2],
            "additionalProperties": False,
        },
        st.dictionaries(NAMES, inner, max_size=4),
        st.integers(0, 2),
    )
    arrays = st.builds(
        lambda items, low, extra: {"type": "array", "items": items, "minItems": low, "maxItems": low + extra},
        inner,
        st.integers(0, 3),
        st.integers(0, 3),
    )
    unions = st.builds(lambda parts: {"anyOf": parts}, st.lists(inner, min_size=1, max_size=3))
    return objects | arrays | unions


SCHEMAS = st.recursive(LEAVES, grow, max_leaves=12)
NODE = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["label", "next", "children"],
}
TALKS = st.sampled_from(
    ["", "서울의 날씨와 부산의 날씨를 3일 동안", "What is 12 * 7 in London, as a table?", "-5 and 2.5"]
)


@given(schema=SCHEMAS, text=TALKS, fills_all=st.booleans())
def test_what_is_made_is_valid_and_always_the_same(schema: Any, text: str, fills_all: bool) -> None:
    root = {"type": "object", "properties": {"value": schema}, "required": ["value"], "$defs": {"node": NODE}}
    made = fill(root, text, fills_all=fills_all)
    assert is_valid(made, root, root)
    assert made == fill(root, text, fills_all=fills_all)


@given(
    schema=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "properties",
                        "required",
                        "items",
                        "enum",
                        "anyOf",
                        "allOf",
                        "$ref",
                        "minItems",
                        "minimum",
                        "multipleOf",
                        "minLength",
                        "pattern",
                        "format",
                        "default",
                        "const",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=15,
    )
)
def test_any_json_is_filled_or_refused(schema: Any) -> None:
    """A caller's schema may be anything at all; nothing but Unfillable comes out."""
    try:
        fill(schema)
    except Unfillable:
        pass


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array", "items": {"type": "integer", "minimum": 3}, "minItems": 3, "uniqueItems": True}, [3, 4, 5]),
        ({"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": False}, [1, 2]),
        ({"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"const": 5}}}]}, {"a": 5}),
        ({"type": "object", "minProperties": 2, "additionalProperties": {"const": 0}}, {"extra_1": 0, "extra_2": 0}),
        ({"type": "string", "enum": ["a", "b"], "default": "b"}, "b"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, 1),
        ({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"const": "x"}}}, {"a": "x", "b": "x"}),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, 4),
    ],
)
def test_keywords(schema: Any, expected: Any) -> None:
    assert fill(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "string", "minLength": 5, "maxLength": 4},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"not": {}},
        {"type": "thing"},
        {"enum": []},
        {"type": "string", "pattern": "(?=x)"},
        {"type": "object", "required": ["a"], "additionalProperties": False},
    ],
)
def test_what_has_no_value_is_refused(schema: Any) -> None:
    with pytest.raises(Unfillable):
        fill(schema)


def test_only_what_the_text_offers_is_filled_beyond_the_required() -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "kelvin"]}, "note": {"type": "string"}},
    }
    assert fill(schema, "hello", fills_all=False) == {}
    assert fill(schema, "Paris in Kelvin", fills_all=False) == {"city": "Paris", "unit": "kelvin"}


@pytest.mark.parametrize(
    "pattern",
    [
        r"^\d{3}-\d{4}$",
        r"^[A-Z][a-z]{2,}$",
        r"^(GET|POST)\s/\w+$",
        r"[^a-z]+",
        r"^#(?:[0-9a-fA-F]{3}){1,2}$",
        r"^a?b*c+?$",
        r"^\u0041\x42$",
        r"^[\w.-]+@[\w-]+\.[a-z]{2,}$",
        r"^$",
        r"^[]x]$",
        r"^(?P<year>\d{4})$",
        r"^.{10,20}$",
        r"^\+?[0-9 ()-]{7,}$",
    ],
)
@pytest.mark.parametrize("least", [0, 3])
def test_a_pattern_is_matched(pattern: str, least: int) -> None:
    try:
        text = matching(pattern, least)
    except UnknownPattern:
        assert pattern in (r"^$", r"^[]x]$", r"^\u0041\x42$")
        assert least == 3
        return
    assert re.search(pattern, text)
    assert len(text) >= least


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?=a)",
        r"(?i)a",
        r"\1",
        r"\bword",
        "(",
        ")",
        "[",
        "*",
        "a{x}",
        "\\",
        "(((a{1000}){1000}){1000}){1000}",
        "(" * 499,
    ],
)
def test_what_the_writer_does_not_know_is_refused(pattern: str) -> None:
    with pytest.raises(UnknownPattern):
        matching(pattern)


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    assert "".join(split(text)) == text
    assert count(text) == len(split(text))


def test_tokens_are_words_of_twelve_characters() -> None:
    assert split("a  bb 안녕하세요 internationalization ") == [
        "a",
        "  bb",
        " 안녕하세요",
        " internationa",
        "lization",
        " ",
    ]


def test_places_are_found_as_written() -> None:
    assert find_places("서울의 날씨와 부산은, 그리고 서울") == ["서울", "부산"]
    assert find_places("new york, Seoul; Romeo in Rome") == ["new york", "Seoul", "Rome"]
    assert find_places("고양이와 공주") == []


def test_a_talk_is_read() -> None:
    talk = read_talk("서울 3일, 12 * (3 + 4)는?")
    assert talk == Talk("서울 3일, 12 * (3 + 4)는?", ("서울",), (3.0, 12.0, 3.0, 4.0), "12 * (3 + 4)")
    assert read_talk("for 3 days").numbers == (3.0,)
