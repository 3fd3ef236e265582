"""What the seeds ask for: the weather of two cities compared, with a tool."""

from __future__ import annotations

import json
from typing import Any

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_current_weather",
        "description": "특정 도시의 현재 날씨 조회",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
        },
    },
}
CALCULATE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "수식을 계산합니다",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
COMPARE: list[dict[str, Any]] = [
    {"role": "system", "content": "당신은 정확한 정보를 제공하는 어시스턴트입니다."},
    {"role": "user", "content": "서울의 날씨와 부산의 날씨를 비교해줘"},
]
DEGREES = {"서울": 23, "부산": 27}


def weather_of(arguments: str) -> str:
    location = json.loads(arguments)["location"]
    found = {"location": location, "temperature": DEGREES[location], "unit": "celsius", "condition": "partly_cloudy"}
    return json.dumps(found, ensure_ascii=False)
