"""What a tool is to the loop: a name and a schema for the model, and a function for us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

Json = dict[str, Any]
#: Arguments as the model wrote them, decoded from JSON and an object. What it returns is shown to the model: text as it is,
#: anything else as JSON.
Call = Callable[[Mapping[str, Any]], Awaitable[object]]


class ArgumentsError(Exception):
    """The model's arguments do not fit. The message is for the model: it says which one, and what would fit."""


class ToolError(Exception):
    """A tool failed for a reason that the model can read. `may_retry`: the same call may go well a moment later."""

    def __init__(self, message: str, *, may_retry: bool = False) -> None:
        super().__init__(message)
        self.may_retry = may_retry


class Tool(Struct, frozen=True, kw_only=True):
    """`parameters` is a JSON schema of an object. `call` checks the arguments itself and raises ArgumentsError and ToolError;
    any other exception is told to the model by its type and text. `timeout_s` is for one attempt; `retries` are further ones
    after a time-out or an error that may pass. A longer result than `result_chars` is cut. `needs_approval`: the run's
    approval hook is asked before each call."""

    name: str
    description: str
    parameters: Json
    call: Call
    timeout_s: float = 60.0
    retries: int = 0
    result_chars: int = 20_000
    needs_approval: bool = False

    def spec(self) -> Json:
        """As chat completions' `tools` want it."""
        function: Json = {"name": self.name, "parameters": self.parameters}
        if self.description:
            function["description"] = self.description
        return {"type": "function", "function": function}
