"""Leaner tool lists: never larger, the same when done twice, what is required untouched."""

from __future__ import annotations

import copy
import json
import unicodedata
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.agent.function import tool
from naru.agent.optimize import optimize_tools, shortened

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "특정 도시의 현재 날씨를 조회합니다. " + "도시 이름은 한국어나 영어로 씁니다. " * 10,
        "parameters": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Arguments",
            "type": "object",
            "properties": {
                "title": {"type": "string", "title": "Title", "description": "City name", "examples": ["서울"]},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius", "description": ""},
                "days": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
                "where": {"$ref": "#/$defs/Where"},
            },
            "required": ["title", "where"],
            "additionalProperties": False,
            "$defs": {
                "Where": {"type": "object", "title": "Where", "properties": {"at": {"$ref": "#/$defs/Point"}}},
                "Point": {"type": "array", "items": {"type": "number"}},
                "Unused": {"type": "string"},
            },
        },
    },
}


def test_what_says_nothing_goes_and_what_is_meant_stays() -> None:
    before = copy.deepcopy(WEATHER)
    done = optimize_tools([WEATHER], tool_chars=40)
    assert before == WEATHER
    assert done.tools[0]["function"] == {
        "name": "get_current_weather",
        "description": "특정 도시의 현재 날씨를 조회합니다.",
        "parameters": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "description": "City name"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "where": {"$ref": "#/$defs/Where"},
            },
            "required": ["title", "where"],
            "additionalProperties": False,
            "$defs": {
                "Where": {"type": "object", "properties": {"at": {"$ref": "#/$defs/Point"}}},
                "Point": {"type": "array", "items": {"type": "number"}},
            },
        },
    }
    assert done.saved_tokens == done.tokens_before - done.tokens_after > 100


def test_optional_parameters_go_only_where_asked() -> None:
    lean = optimize_tools([WEATHER], required_only=True).tools[0]["function"]["parameters"]
    assert list(lean["properties"]) == ["title", "where"]
    assert list(optimize_tools([WEATHER]).tools[0]["function"]["parameters"]["properties"]) == [
        "title",
        "unit",
        "days",
        "where",
    ]


def test_what_a_branch_requires_is_required() -> None:
    either: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ("a", "b", "c")},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    spec = {"type": "function", "function": {"name": "f", "parameters": either}}
    lean = optimize_tools([spec], required_only=True).tools[0]["function"]["parameters"]
    assert list(lean["properties"]) == ["a", "b"]


async def test_tools_and_functions_come_back_as_tools_that_run() -> None:
    @tool(retries=2)
    def look(city: str, unit: Literal["c", "f"] = "c") -> str:
        """Looks."""
        return city + unit

    (made,) = optimize_tools([look], required_only=True).tools
    assert (made.name, made.retries, list(made.parameters["properties"])) == ("look", 2, ["city"])
    assert await made.call({"city": "서울"}) == "서울c"


def test_other_forms_of_tools() -> None:
    flat = {"type": "function", "name": "f", "description": "", "parameters": {"type": "object", "title": "F"}}
    hosted = {"type": "web_search", "title": "kept"}
    assert optimize_tools([flat, hosted]).tools == [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        hosted,
    ]
    with pytest.raises(TypeError, match="has no function"):
        optimize_tools([{"type": "function"}])
    with pytest.raises(TypeError, match="is no tool"):
        optimize_tools([3])
    with pytest.raises(ValueError, match="1 character"):
        optimize_tools([], tool_chars=0)


@pytest.mark.parametrize(
    ("text", "chars", "short"),
    [
        ("Short.", 10, "Short."),
        ("One sentence. Another one.", 20, "One sentence."),
        ("City name, e.g. Seoul or Busan", 20, "City name, e.g."),
        ("Price of 3.50 dollars and more", 12, "Price of"),
        ("a\n\n  b", 10, "a b"),
        ("도시의 현재 날씨를 조회합니다", 10, "도시의 현재 날씨를"),
        ("东京的天气。大阪的天气", 8, "东京的天气。"),
        ("날씨조회도구입니다", 3, "날씨조"),
        (unicodedata.normalize("NFD", "각각각"), 4, unicodedata.normalize("NFD", "각")),
        ("👩‍👩‍👧👩‍👩‍👧", 7, "👩‍👩‍👧"),
    ],
)
def test_descriptions_end_where_a_reader_would_end_them(text: str, chars: int, short: str) -> None:
    assert shortened(text, chars) == short


TEXTS = st.text(st.sampled_from("ab .,!도시\n。👍🏽\u200d\u0301각"), max_size=40)
NAMES = st.sampled_from(["a", "b", "title", "default", "description", "도시"])
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), TEXTS, st.just([]), st.just({}))
NOTES = st.fixed_dictionaries(
    {}, optional={"title": TEXTS, "description": TEXTS, "default": VALUES, "examples": st.lists(VALUES, max_size=2)}
)
LEAVES = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": "integer", "minimum": 0}, {"enum": ["title", {"title": "x"}]}]),
    st.sampled_from(["A", "B"]).map(lambda name: {"$ref": f"#/$defs/{name}"}),
)


def inner(schemas: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        schemas.map(lambda items: {"type": "array", "items": items}),
        st.lists(schemas, min_size=1, max_size=2).map(lambda any_of: {"anyOf": any_of}),
        st.dictionaries(NAMES, schemas, max_size=3).map(lambda named: {"type": "object", "properties": named}),
    )


SCHEMAS = st.recursive(LEAVES, inner, max_leaves=6).flatmap(lambda schema: NOTES.map(lambda notes: {**schema, **notes}))


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    properties = draw(st.dictionaries(NAMES, SCHEMAS, max_size=4))
    required = draw(st.lists(st.sampled_from(sorted(properties)), unique=True)) if properties else []
    definitions = {"A": draw(SCHEMAS), "B": draw(SCHEMAS), "C": {"type": "null"}}
    parameters = {"type": "object", "properties": properties, "required": required, "$defs": definitions, **draw(NOTES)}
    return {"type": "function", "function": {"name": "f", "description": draw(TEXTS), "parameters": parameters}}


def bare(schema: Any, is_schema: bool = True) -> Any:
    """A schema without its notes: what it asks for."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    notes = ("title", "description", "default", "examples") if is_schema else ()
    return {
        key: value if key == "enum" and is_schema else bare(value, not (is_schema and key in ("properties", "$defs")))
        for key, value in schema.items()
        if key not in notes
    }


@settings(max_examples=50)
@given(st.lists(specs(), max_size=2), st.booleans(), st.integers(1, 30))
def test_laws(tools: list[dict[str, Any]], required_only: bool, chars: int) -> None:
    done = optimize_tools(tools, required_only=required_only, tool_chars=chars, parameter_chars=chars)
    again = optimize_tools(done.tools, required_only=required_only, tool_chars=chars, parameter_chars=chars)
    assert again.tools == done.tools
    assert done.tokens_after == again.tokens_before <= done.tokens_before
    assert len(json.dumps(done.tools)) <= len(json.dumps(tools))
    for before, after in zip(tools, done.tools, strict=True):
        old, new = before["function"]["parameters"], after["function"]["parameters"]
        kept = old["required"] if required_only else old["properties"]
        assert {name: bare(old["properties"][name]) for name in kept} == {
            name: bare(schema) for name, schema in new["properties"].items()
        }
        assert new.get("required", []) == old["required"]
        for name in {text.rpartition("/")[2] for text in references_in(new)}:
            assert bare(new["$defs"][name]) == bare(old["$defs"][name])


def references_in(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in references_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [found for each in value.values() for found in references_in(each)]
