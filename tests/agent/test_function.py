"""Functions as tools: their schema, the check of arguments, the call."""

from __future__ import annotations

import contextvars
import dataclasses
import datetime
import enum
import functools
import threading
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict

import pytest
from pydantic import BaseModel, Field

from naru.agent.function import FunctionTool, as_tool, tool
from naru.agent.tool import ArgumentsError


class Unit(enum.Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


@dataclasses.dataclass
class Place:
    """Somewhere."""

    city: str
    district: str = ""


class Stay(TypedDict):
    place: Place
    nights: NotRequired[int]


class Point(NamedTuple):
    x: float
    y: float = 0.0


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Order(BaseModel):
    places: list[Place]
    price: Decimal = Field(gt=0)


@tool
def get_current_weather(location: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> dict[str, str]:
    """Current weather of a city.

    Args:
        location: The city,
            such as Seoul.
        unit: Of the temperature.
    """
    return {"location": location, "unit": unit}


def properties(function: Any) -> dict[str, Any]:
    found: dict[str, Any] = as_tool(function).parameters["properties"]
    return found


async def refused(function: Any, **arguments: Any) -> str:
    with pytest.raises(ArgumentsError) as failure:
        await as_tool(function).call(arguments)
    return str(failure.value)


def test_a_function_becomes_a_tool_and_stays_a_function() -> None:
    assert get_current_weather("서울") == {"location": "서울", "unit": "celsius"}
    assert get_current_weather.__name__ == "get_current_weather"
    assert get_current_weather.tool.spec() == {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Current weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "The city, such as Seoul."},
                    "unit": {
                        "type": "string",
                        "enum": ["celsius", "fahrenheit"],
                        "default": "celsius",
                        "description": "Of the temperature.",
                    },
                },
                "required": ["location"],
            },
        },
    }


def google(city: str) -> None:
    """Looks.

    Args:
        city (str): Which one.

    Returns:
        Nothing.
    """


def numpy(city: str) -> None:
    """Looks.

    Parameters
    ----------
    city : str
        Which one.
    """


def rest(city: str) -> None:
    """Looks.

    :param city: Which one.
    :returns: Nothing.
    """


def annotated(city: Annotated[str, "Which one."]) -> None:
    """Looks."""


def field(city: Annotated[str, Field(description="Which one.")]) -> None:
    """Looks.

    Args:
        city: Not this one.
    """


@pytest.mark.parametrize("function", [google, numpy, rest, annotated, field])
def test_descriptions_come_from_the_docstring_or_stand_beside_the_type(function: Any) -> None:
    made = as_tool(function)
    assert (made.description, properties(function)["city"]["description"]) == ("Looks.", "Which one.")


def hints(
    text: str,
    count: int,
    share: float,
    flag: bool,
    unit: Unit,
    words: list[str],
    unique: set[int],
    point: tuple[float, float],
    table: dict[str, int],
    either: int | str,
    anything: Any,
    day: datetime.date,
    moment: datetime.datetime,
    price: Decimal,
    limited: Annotated[int, Field(ge=1, le=9)],
    nullable: int | None,
    path: Path = Path("notes"),
    limit: Optional[int] = None,  # noqa: UP045 - the old spelling is meant
    only: Literal["a"] = "a",
) -> None: ...


def test_every_common_hint_has_a_plain_schema() -> None:
    assert properties(hints) == {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "share": {"type": "number"},
        "flag": {"type": "boolean"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "words": {"type": "array", "items": {"type": "string"}},
        "unique": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        "point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "table": {"type": "object", "additionalProperties": {"type": "integer"}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "anything": {},
        "day": {"type": "string", "format": "date"},
        "moment": {"type": "string", "format": "date-time"},
        "price": {"type": "number"},
        "limited": {"type": "integer", "minimum": 1, "maximum": 9},
        "nullable": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "path": {"type": "string", "default": "notes"},
        "limit": {"type": "integer"},
        "only": {"type": "string", "enum": ["a"], "default": "a"},
    }
    assert "limit" not in as_tool(hints).parameters["required"]
    assert "nullable" in as_tool(hints).parameters["required"]


PLACE = {
    "type": "object",
    "description": "Somewhere.",
    "properties": {"city": {"type": "string"}, "district": {"type": "string", "default": ""}},
    "required": ["city"],
}


def nested(order: Order, stays: list[Stay], point: Point, home: Place | None = None) -> list[Any]:
    return [order, stays, point, home]


def test_nested_types_stand_where_they_are_used() -> None:
    assert "$defs" not in as_tool(nested).parameters
    assert properties(nested) == {
        "order": {
            "type": "object",
            "properties": {
                "places": {"type": "array", "items": PLACE},
                "price": {"type": "number", "exclusiveMinimum": 0},
            },
            "required": ["places", "price"],
        },
        "stays": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"place": PLACE, "nights": {"type": "integer"}},
                "required": ["place"],
            },
        },
        "point": {
            "type": "object",
            "properties": {"x": {"type": "number"}, "y": {"type": "number", "default": 0.0}},
            "required": ["x"],
        },
        "home": PLACE,
    }


async def test_arguments_arrive_as_the_types_that_the_function_asks_for() -> None:
    arguments = {
        "order": {"places": [{"city": "서울"}], "price": 0.1},
        "stays": [{"place": {"city": "부산"}, "nights": "2"}],
        "point": {"x": 1},
    }
    order, stays, point, home = await as_tool(nested).call(arguments)  # type: ignore[misc]
    assert (order.places, order.price) == ([Place("서울")], Decimal("0.1"))
    assert stays == [{"place": Place("부산"), "nights": 2}]
    assert (point, home) == (Point(1.0), None)


async def test_a_type_that_contains_itself_stays_a_definition() -> None:
    def plant(tree: Tree, other: Place) -> str:
        return tree.children[0].name

    schema = as_tool(plant).parameters
    assert list(schema["$defs"]) == ["Tree"]
    assert schema["properties"]["other"] == PLACE
    assert (
        await as_tool(plant).call({"tree": {"name": "a", "children": [{"name": "b"}]}, "other": {"city": "x"}}) == "b"
    )


async def test_names_that_pydantic_keeps_for_itself_are_fine() -> None:
    def odd(json: str, schema: int, model_config: str, _hidden: bool = False) -> list[Any]:
        return [json, schema, model_config, _hidden]

    assert list(properties(odd)) == ["json", "schema", "model_config", "_hidden"]
    assert await as_tool(odd).call({"json": "{}", "schema": 1, "model_config": "m"}) == ["{}", 1, "m", False]


async def test_all_problems_are_told_at_once_and_by_place() -> None:
    said = await refused(
        nested,
        order={"places": [{"district": "x"}], "price": -1},
        stays=[{"place": {"city": "서울"}, "nights": "two"}],
        pint={"x": 1},
    )
    assert said.splitlines() == [
        "The arguments of nested do not fit. Put this right and call it again:",
        "- order.places[0].city is missing.",
        "- order.price: should be greater than 0; it was -1",
        '- stays[0].nights: should be a valid integer, unable to parse string as an integer; it was "two"',
        "- point is missing. It is: object",
        "- pint is not a parameter. Did you mean point?",
    ]


async def test_a_wrong_choice_is_told_the_choices() -> None:
    assert "- unit: should be 'celsius' or 'fahrenheit'; it was \"kelvin\"" in await refused(
        get_current_weather, location="서울", unit="kelvin"
    )
    assert "- location is missing. It is: string; The city, such as Seoul." in await refused(get_current_weather)


async def test_the_branches_of_a_union_are_one_problem() -> None:
    def pick(value: int | list[str]) -> None: ...

    said = await refused(pick, value={"a": 1})
    assert said.count("\n") == 1
    assert '- value: should be a valid integer or a valid array; it was {"a": 1}' in said


async def test_text_that_is_none_is_told() -> None:
    assert "Write whole characters" in await refused(get_current_weather, location="\ud83d")


async def test_long_and_many_problems_are_cut() -> None:
    def pick(values: list[int]) -> None: ...

    said = await refused(pick, values=["x" * 500] * 30)
    assert said.endswith("- and 20 more")
    assert len(said) < 3000


async def test_what_the_model_leaves_out_is_the_functions_own_default() -> None:
    default: list[str] = ["mine"]

    def keep(names: list[str] = default) -> list[str]:
        return names

    assert await as_tool(keep).call({}) is default


async def test_a_plain_function_runs_in_a_thread_with_the_callers_context() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    user.set("지민")

    def where() -> tuple[bool, str]:
        return threading.current_thread() is threading.main_thread(), user.get()

    async def there() -> tuple[bool, str]:
        return where()

    assert await as_tool(where).call({}) == (False, "지민")
    assert await as_tool(there).call({}) == (True, "지민")


class Agent:
    def __init__(self, name: str) -> None:
        self.name = name

    @tool
    def search(self, query: str) -> str:
        """Searches."""
        return f"{self.name}: {query}"

    async def plain(self, query: str) -> str:
        return f"{self.name}, {query}"

    def __call__(self, query: str) -> str:
        return query


async def test_methods_are_tools_of_their_object() -> None:
    agent = Agent("a")
    assert agent.search("x") == "a: x"
    assert list(properties(agent.search)) == list(properties(agent.plain)) == ["query"]
    assert await as_tool(agent.search).call({"query": "x"}) == "a: x"
    assert await as_tool(agent.plain).call({"query": "x"}) == "a, x"
    assert (as_tool(agent).name, await as_tool(agent).call({"query": "x"})) == ("Agent", "x")
    with pytest.raises(TypeError, match=r"the_object\.search"):
        as_tool(Agent.search)


async def test_a_partial_function_has_the_parameters_that_are_left() -> None:
    def add(a: int, b: int) -> int:
        return a + b

    half = functools.partial(add, b=2)
    assert as_tool(half).name == "add"
    assert as_tool(half).parameters["required"] == ["a"]
    assert await as_tool(half).call({"a": 1}) == 3


def test_what_the_decorator_says_goes_into_the_tool() -> None:
    @tool(name="look", description="Looks.", timeout_s=5, retries=2, result_chars=100, needs_approval=True)
    def function(a: int) -> int:
        """Not this."""
        return a

    made = function.tool
    assert isinstance(function, FunctionTool)
    assert function(3) == 3
    assert (made.name, made.description, made.timeout_s, made.retries) == ("look", "Looks.", 5, 2)
    assert (made.result_chars, made.needs_approval) == (100, True)


def var_args(*names: str) -> None: ...
def var_kwargs(**names: str) -> None: ...
def positional(a: int, /) -> None: ...
def untyped(city) -> None: ...  # type: ignore[no-untyped-def]
def with_field(a: int = Field(3)) -> None: ...
def unusable(ok: int, agent: Agent) -> None: ...
def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (var_args, r"var_args\(\): the parameter \*names.*no fixed form"),
        (var_kwargs, r"\*\*names.*no fixed form"),
        (positional, "Remove the /"),
        (untyped, r"Write `city: str`"),
        (with_field, r"Write `a: Annotated\["),
        (unusable, r"unusable\(\): the type of agent .*Agent.* cannot be told to a model"),
        (unknown, "'Nowhere' is not known"),
        ({"type": "function"}, "nothing to run"),
        (Agent, "the class Agent is no tool"),
        (3, r"a int \(3\) is no tool"),
    ],
)
def test_what_is_no_tool_is_told_what_to_write(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        as_tool(given)


@pytest.mark.parametrize("name", ["날씨", "a b", "x" * 65, "a.b"])
def test_names_are_those_that_providers_take(name: str) -> None:
    with pytest.raises(ValueError, match=r"@tool\(name=…\)"):
        tool(name=name)(google)


@pytest.mark.parametrize("options", [{"timeout_s": 0}, {"retries": -1}, {"result_chars": 0}])
def test_options_without_sense_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="timeout_s over 0"):
        tool(**options)
