"""A weather tool for trying things out. It asks nobody: the figures are made from the city's name."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Annotated, Any, Literal

from naru.agent.function import tool
from naru.agent.tool import ToolError

CONDITIONS = ("sunny", "partly_cloudy", "cloudy", "rain", "snow", "windy")
COLDEST_C, WARMEST_C = -5, 33


@tool
def get_current_weather(
    location: Annotated[str, "City name, such as Seoul"], unit: Literal["celsius", "fahrenheit"] = "celsius"
) -> dict[str, Any]:
    """Current weather of a city. Sandbox data: made up from the name, not measured."""
    name = unicodedata.normalize("NFC", location).strip()
    if not name:
        raise ToolError("Name a city.")
    digest = hashlib.sha256(name.casefold().encode("utf-8", "replace")).digest()
    celsius = COLDEST_C + digest[0] % (WARMEST_C - COLDEST_C + 1)
    condition = CONDITIONS[digest[1] % len(CONDITIONS)]
    if condition == "snow" and celsius > 2:
        condition = "sunny"
    return {
        "location": name,
        "temperature": celsius if unit == "celsius" else round(celsius * 9 / 5 + 32),
        "unit": unit,
        "condition": condition,
        "source": "sandbox",
    }
