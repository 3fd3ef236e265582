"""A conversation as it is kept, and what can be done to it. Data only; store.py has the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from naru.agent.loop import State
from naru.protocol.messages import Usage

Json = dict[str, Any]
#: What a model is told of a call that was under way when its answer was stopped: a call without a result is refused by all.
STOPPED = "Stopped by the user before there was a result."
TITLE_CHARS = 60


class Turn(Struct, frozen=True):
    """A message and what came of it. `messages` are those of chat completions, the user's first. `cost_nano` is None where
    the endpoint did not tell. `is_cut`: the answer was stopped, or broke off; `error` says why."""

    messages: tuple[Json, ...]
    model: str
    at: float
    seconds: float = 0.0
    usage: Usage = Usage()
    cost_nano: int | None = None
    is_cut: bool = False
    error: str = ""


class Chat(Struct, frozen=True):
    """`think` as commands.think_of has it. Times in Unix seconds."""

    name: str
    model: str
    created_at: float
    version: int = 1
    system: str = ""
    tools: tuple[str, ...] = ()
    think: str = ""
    turns: tuple[Turn, ...] = ()

    @property
    def messages(self) -> list[Json]:
        """What is sent before the next message."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *(message for turn in self.turns for message in turn.messages)]

    @property
    def title(self) -> str:
        """The first line that was asked."""
        first = next((text_of(turn.messages[0]) for turn in self.turns), "").strip()
        line = first.splitlines()[0] if first else ""
        return line if len(line) <= TITLE_CHARS else f"{line[:TITLE_CHARS]}…"

    @property
    def reasoning(self) -> str:
        """The last turn's thoughts, whole."""
        messages = self.turns[-1].messages if self.turns else ()
        return "\n\n".join(str(each["reasoning_content"]) for each in messages if each.get("reasoning_content"))

    def dump(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    @staticmethod
    def load(data: bytes) -> Chat:
        """Raises msgspec.DecodeError."""
        return msgspec.json.decode(data, type=Chat)

    def with_turn(self, turn: Turn) -> Chat:
        return replace(self, turns=(*self.turns, turn))

    def without_last(self) -> Chat:
        return replace(self, turns=self.turns[:-1])


def text_of(message: Json) -> str:
    """With a word for each picture."""
    content = message.get("content")
    if not isinstance(content, list):
        return str(content or "")
    parts = [str(part.get("text") or "") if part.get("type") == "text" else "[picture]" for part in content]
    return "\n".join(part for part in parts if part)


def settled(state: State, partial: str = "", thoughts: str = "") -> tuple[Json, ...]:
    """A run's messages as the next request can have them, wherever the run ended. `partial` and `thoughts` are what the answer
    had come to that is not among them yet. Every call has its result."""
    messages = list(state.messages)
    if partial:
        cut: Json = {"role": "assistant", "content": partial}
        messages.append(cut | ({"reasoning_content": thoughts} if thoughts else {}))
    for call in state.calls:
        said = call.result if call.stage == "done" else STOPPED
        messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    return tuple(messages)


# --- Figures ----------------------------------------------------------------------------------------------------------


class Sums(Struct, frozen=True):
    """`cost_nano` is what is known of it; `unknown` counts the turns that did not tell theirs."""

    model: str
    turns: int
    usage: Usage
    cost_nano: int
    unknown: int


def sums(turns: Sequence[Turn]) -> list[Sums]:
    """By model, in the order of their first use."""
    by_model: dict[str, list[Turn]] = {}
    for turn in turns:
        by_model.setdefault(turn.model, []).append(turn)
    return [_sum(model, those) for model, those in by_model.items()]


def _sum(model: str, turns: Sequence[Turn]) -> Sums:
    names = ("input", "output", "cached", "reasoning")
    usage = Usage(**{name: sum(getattr(turn.usage, name) for turn in turns) for name in names})
    costs = [turn.cost_nano for turn in turns if turn.cost_nano is not None]
    return Sums(model, len(turns), usage, sum(costs), len(turns) - len(costs))


def dollars(nano: int) -> str:
    """Exact: $0.000123, and $0 for nothing."""
    text = f"{Decimal(nano).scaleb(-9):.9f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}" if part else f"${whole}"


def usage_line(turn: Turn) -> str:
    """model · 412 in (12 cached) · 96 out (34 thinking) · $0.000123 · 2.1 s"""
    usage = turn.usage
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    thinking = f" ({usage.reasoning:,} thinking)" if usage.reasoning else ""
    parts = [turn.model]
    if usage.input or usage.output:
        parts += [f"{usage.input:,} in{cached}", f"{usage.output:,} out{thinking}"]
    if turn.cost_nano is not None:
        parts.append(dollars(turn.cost_nano))
    return " · ".join([*parts, f"{turn.seconds:.1f} s"])


# --- Export -----------------------------------------------------------------------------------------------------------


def markdown(chat: Chat) -> str:
    """For people: questions, answers, calls with their results, and what each turn cost."""
    parts = [f"# {chat.title or chat.name}"]
    if chat.system:
        parts.append("\n".join(f"> {line}" for line in chat.system.splitlines()))
    for turn in chat.turns:
        for message in turn.messages:
            parts += _exported(message, turn.model)
        if turn.is_cut:
            parts.append(f"*[cut{': ' + turn.error if turn.error else ''}]*")
        parts.append(f"<sub>{usage_line(turn)}</sub>")
    return "\n\n".join(parts) + "\n"


def _exported(message: Json, model: str) -> list[str]:
    text = text_of(message)
    if message["role"] == "user":
        return ["## You", text]
    if message["role"] == "tool":
        fence = "`" * (max((len(run) for run in re.findall(r"`{3,}", text)), default=2) + 1)
        return [f"{fence}text\n{text}\n{fence}"]
    calls = [each.get("function") or each.get("custom") or {} for each in message.get("tool_calls") or []]
    made = [f"- `{call.get('name')}({call.get('arguments') or call.get('input') or ''})`" for call in calls]
    return [f"## {model}", *([text] if text else []), *(["\n".join(made)] if made else [])]
