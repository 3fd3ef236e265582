"""What the parser says, as events: pieces of one kind are joined, and blanks wait until it is known whether they count."""

from __future__ import annotations

from collections.abc import Sequence

from naru.protocol.messages import Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart


class Emitter:
    """Collects the events of one choice. Calls are numbered in the order they start; ids are `prefix` and the number."""

    __slots__ = ("_arguments", "_choice", "_events", "_pieces", "_prefix", "block", "calls", "has_broken_call")

    def __init__(self, choice: int, prefix: str) -> None:
        self._choice = choice
        self._prefix = prefix
        self._events: list[Event] = []
        self._pieces: list[str] = []  # of the text that the last event of _events will carry
        self.calls = 0
        self.block = 0  # the number of this block of reasoning
        self.has_broken_call = False
        self._arguments: list[str] = []  # of the last call

    def text(self, text: str) -> None:
        self._add(TextDelta(text, self._choice))

    def reasoning(self, text: str) -> None:
        self._add(ReasoningDelta(text, self._choice, self.block))

    def start(self, name: str) -> None:
        self._flush()
        self._events.append(ToolCallStart(self.calls, f"{self._prefix}{self.calls}", name, self._choice))
        self.calls += 1
        self._arguments = []

    def arguments(self, text: str) -> None:
        if text:
            self._arguments.append(text)
            self._add(ToolCallDelta(self.calls - 1, text, self._choice))

    @property
    def last_arguments(self) -> str:
        return "".join(self._arguments)

    def drain(self) -> list[Event]:
        self._flush()
        events, self._events = self._events, []
        return events

    def _add(self, event: TextDelta | ReasoningDelta | ToolCallDelta) -> None:
        last = self._events[-1] if self._events and self._pieces else None
        if last is None or _key(last) != _key(event):
            self._flush()
            self._events.append(event)
        self._pieces.append(event.arguments if isinstance(event, ToolCallDelta) else event.text)

    def _flush(self) -> None:
        """Writes the joined pieces into the last event."""
        if not self._pieces:
            return
        text, self._pieces = "".join(self._pieces), []
        last = self._events[-1]
        if isinstance(last, ToolCallDelta):
            self._events[-1] = ToolCallDelta(last.index, text, self._choice)
        elif isinstance(last, ReasoningDelta):
            self._events[-1] = ReasoningDelta(text, self._choice, last.part)
        else:
            self._events[-1] = TextDelta(text, self._choice)


def _key(event: Event) -> tuple[type, int]:
    if isinstance(event, ToolCallDelta):
        return ToolCallDelta, event.index
    return type(event), event.part if isinstance(event, ReasoningDelta) else 0


class Blanks:
    """Holds whitespace back: it belongs to the markup if a tag comes next, and to the text otherwise (rule 10)."""

    __slots__ = ("_gap",)

    def __init__(self) -> None:
        self._gap: list[str] = []

    def text(self, text: str) -> str:
        """What may be said now, with the blanks before it; the blanks at its end wait."""
        said = text.rstrip()
        if not said:
            if text:
                self._gap.append(text)
            return ""
        ready = self.flush() + said
        if len(said) < len(text):
            self._gap.append(text[len(said) :])
        return ready

    def hold(self, blanks: str) -> None:
        if blanks:
            self._gap.append(blanks)

    def flush(self) -> str:
        gap, self._gap = "".join(self._gap), []
        return gap

    def drop(self) -> None:
        self._gap = []


def joined(events: Sequence[Event]) -> tuple[str, str, list[tuple[str, str]]]:
    """(reasoning, content, calls as (name, arguments)): what an answer that is not streamed says."""
    reasoning: list[str] = []
    content: list[str] = []
    calls: list[tuple[str, list[str]]] = []
    for event in events:
        if isinstance(event, ReasoningDelta):
            reasoning.append(event.text)
        elif isinstance(event, TextDelta):
            content.append(event.text)
        elif isinstance(event, ToolCallStart):
            calls.append((event.name, []))
        elif isinstance(event, ToolCallDelta):
            calls[event.index][1].append(event.arguments)
    return "".join(reasoning), "".join(content), [(name, "".join(pieces)) for name, pieces in calls]
