"""What a run tells while it goes on. `event.type` is the name in the field: content | reasoning | tool_start | tool_arguments |
tool_complete | tool_result | usage | done."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from msgspec import Struct

from naru.agent.run import Run, usd
from naru.agent.tool import Json
from naru.protocol.messages import Usage


class Content(Struct, frozen=True):
    type: ClassVar[str] = "content"
    text: str


class ReasoningText(Struct, frozen=True):
    type: ClassVar[str] = "reasoning"
    text: str


class ToolStart(Struct, frozen=True):
    """The model began to write a call. `index` tells the calls of one turn apart."""

    type: ClassVar[str] = "tool_start"
    index: int
    id: str
    name: str


class ToolArguments(Struct, frozen=True):
    """A piece of a call's arguments, JSON text."""

    type: ClassVar[str] = "tool_arguments"
    index: int
    text: str


class ToolComplete(Struct, frozen=True):
    """A call is written whole. `arguments` are as decoded, or {} where they are no JSON object; `raw` is what was written."""

    type: ClassVar[str] = "tool_complete"
    index: int
    id: str
    name: str
    arguments: Json
    raw: str


class ToolResult(Struct, frozen=True):
    """What the model is told of a call; `arguments` are JSON text. Calls that run side by side end in any order."""

    type: ClassVar[str] = "tool_result"
    index: int
    id: str
    name: str
    arguments: str
    text: str
    is_error: bool


class UsageSoFar(Struct, frozen=True):
    """After each turn: of the whole run. `cost_nano` is None where the endpoint does not tell costs."""

    type: ClassVar[str] = "usage"
    usage: Usage
    cost_nano: int | None

    @property
    def cost_usd(self) -> Decimal | None:
        return usd(self.cost_nano)


class Done(Struct, frozen=True):
    type: ClassVar[str] = "done"
    run: Run


RunEvent = Content | ReasoningText | ToolStart | ToolArguments | ToolComplete | ToolResult | UsageSoFar | Done
