"""What a tool returned, as text for the model."""

from __future__ import annotations

import dataclasses
import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from naru.agent.results import to_text
from naru.agent.tool import ToolError


class Model(BaseModel):
    city: str


class Record(msgspec.Struct):
    city: str


@dataclasses.dataclass
class Data:
    city: str


class Array:
    def tolist(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("맑음\n", "맑음\n"),
        ("", ""),
        ({"city": "서울", "temp": 3}, '{"city":"서울","temp":3}'),
        ([Model(city="서울"), Data("부산"), Record("대구")], '[{"city":"서울"},{"city":"부산"},{"city":"대구"}]'),
        ((1, 2.5, True, None), "[1,2.5,true,null]"),
        ({"at": datetime.date(2026, 1, 2), "price": Decimal("0.10")}, '{"at":"2026-01-02","price":"0.10"}'),
        (float("inf"), '"Infinity"'),
        (Array(), "[1,2]"),
        (7, "7"),
        ("half a pair: \ud83d", "half a pair: ?"),
    ],
)
def test_text_stays_and_the_rest_is_json(result: Any, text: str) -> None:
    assert to_text(result) == text


def test_nothing_is_said_in_words() -> None:
    assert "no result" in to_text(None)


def test_what_has_no_text_is_an_error_that_says_so() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for result, said in (
        (b"\x00", "1 raw bytes"),
        ([b"\xff"], "as JSON"),
        (object(), "no JSON form"),
        (circle, "as JSON"),
    ):
        with pytest.raises(ToolError, match=said):
            to_text(result)
