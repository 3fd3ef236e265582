"""What a run came to."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct

from naru.agent.loop import Call, Ending, State, decoded
from naru.agent.tool import Json
from naru.protocol.messages import Usage

NANO = 9


class ToolUse(Struct, frozen=True):
    """One call that the run made. `raw` are the arguments as the model wrote them; `arguments` are {} where that is no JSON
    object."""

    id: str
    name: str
    arguments: Json
    raw: str
    result: str
    is_error: bool


class Run(Struct, frozen=True):
    """`ending` is "done" where the model has answered; else a limit ended it, and `state` can be gone on with. `tool_calls` are
    all of its calls in their order. `usage` and the cost are sums over the turns."""

    state: State

    @property
    def text(self) -> str:
        """The last answer's text."""
        return _text(self.state.messages[-1]) if self.state.messages else ""

    @property
    def reasoning(self) -> str:
        """The last answer's thinking, where it was told."""
        return str(self.state.messages[-1].get("reasoning_content") or "") if self.state.messages else ""

    @property
    def tool_calls(self) -> list[ToolUse]:
        return [_used(call) for call in self.state.log]

    @property
    def pending(self) -> list[ToolUse]:
        """Calls that the run ended before, or that are not its own (`handed_over`)."""
        return [_used(call) for call in self.state.calls if call.stage != "done"]

    @property
    def messages(self) -> list[Json]:
        """All of the conversation; what comes next can be appended."""
        return list(self.state.messages)

    @property
    def usage(self) -> Usage:
        return self.state.usage

    @property
    def cost_nano(self) -> int | None:
        """Nano-dollars; None where the endpoint does not tell costs."""
        return self.state.cost_nano

    @property
    def cost_usd(self) -> Decimal | None:
        """Dollars, exact."""
        return usd(self.state.cost_nano)

    @property
    def turns(self) -> int:
        return self.state.turns

    @property
    def ending(self) -> Ending | None:
        return self.state.ending

    @property
    def finish_reason(self) -> str:
        """Of the last answer: length means that it was cut."""
        return self.state.finish_reason

    @property
    def ok(self) -> bool:
        return self.state.ending == "done"

    def __str__(self) -> str:
        return self.text


def usd(cost_nano: int | None) -> Decimal | None:
    """Dollars, exact: 0.000007188, and 0 for nothing (`scaleb` would make it 0E-9)."""
    return None if cost_nano is None else Decimal(cost_nano) / 10**NANO


def nano_of(cost_usd: Decimal | str | float) -> int:
    """Nano-dollars of an amount; half a nano-dollar is rounded up."""
    return int((Decimal(str(cost_usd)).scaleb(NANO)).to_integral_value(rounding="ROUND_HALF_UP"))


def _used(call: Call) -> ToolUse:
    arguments = decoded(call.arguments)
    return ToolUse(
        call.id, call.name, arguments if isinstance(arguments, dict) else {}, call.arguments, call.result, call.is_error
    )


def _text(message: Json) -> str:
    content = message.get("content")
    if message.get("role") != "assistant" or content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(
        str(part.get("text", "")) for part in content if isinstance(part, dict) and part.get("type") == "text"
    )
