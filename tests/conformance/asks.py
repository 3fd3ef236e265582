"""What is asked of a model, in no protocol's words, and what any client should then see."""

from __future__ import annotations

import json
from typing import Any

import msgspec

#: A red pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "object",
    "properties": {"location": {"type": "string", "description": "A city."}},
    "required": ["location"],
    "additionalProperties": False,
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
CITIES = "서울의 날씨와 부산의 날씨를 비교해줘"
ONE_CITY = "What is the weather in Seoul?"


class Ask(msgspec.Struct, frozen=True):
    """`model` is the sandbox's behaviour behind the upstream: echo, tools, think or json."""

    model: str
    text: str
    is_stream: bool = False
    has_tool: bool = False
    tool_results: dict[str, str] | None = None
    has_image: bool = False
    schema: dict[str, Any] | None = None
    stop: str | None = None
    n: int | None = None
    thinks: bool = False


class Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str

    @property
    def location(self) -> str:
        return str(json.loads(self.arguments)["location"])


class Seen(msgspec.Struct):
    """What a client's SDK showed, in common words. `finish`: stop | length | tool_calls. Tokens are None when not shown."""

    texts: list[str] = []
    reasoning: str = ""
    calls: list[Call] = []
    finish: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    pieces: int = 0

    @property
    def text(self) -> str:
        return self.texts[0] if self.texts else ""


class Refused(Exception):
    """The SDK raised its own error class for an error answer."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
