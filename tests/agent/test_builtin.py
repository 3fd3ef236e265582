"""Naru's own tools by name."""

from __future__ import annotations

import pytest

from naru.agent.builtin.registry import BUILTIN, builtin
from naru.agent.builtin.weather import get_current_weather
from naru.agent.tool import ToolError


def test_each_name_gives_tools_that_go_together() -> None:
    made = [each for name in BUILTIN for each in builtin(name)]
    assert [each.name for each in made] == [
        "calculate",
        "read_file",
        "list_files",
        "search_files",
        "get_current_weather",
        "web_fetch",
    ]
    assert all(each.description and not each.needs_approval for each in made)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calculate", "Did you mean calculator?"),
        ("wether", "Did you mean weather?"),
        ("x", "calculator, files, weather"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ValueError) as failure:
        builtin(name)
    assert said in str(failure.value)


def test_the_weather_is_the_citys_and_says_that_it_is_made_up() -> None:
    seoul = get_current_weather("서울")
    assert seoul == get_current_weather(" 서울 ")
    assert seoul["source"] == "sandbox"
    assert "Sandbox" in get_current_weather.tool.description
    warm = get_current_weather("서울", "fahrenheit")
    assert warm["temperature"] == round(seoul["temperature"] * 9 / 5 + 32)
    assert len({get_current_weather(city)["temperature"] for city in ("서울", "부산", "Paris", "Lima", "Oslo")}) > 1
    with pytest.raises(ToolError, match="Name a city"):
        get_current_weather(" ")
