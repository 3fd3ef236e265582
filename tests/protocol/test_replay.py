"""Turns put back: what was dropped returns, what the caller kept stays, and nobody is shown a stranger's signature."""

from __future__ import annotations

from naru.protocol.messages import (
    Choice,
    Event,
    Finish,
    Message,
    Reasoning,
    ReasoningDelta,
    Request,
    Response,
    Text,
    TextDelta,
    ToolCall,
    ToolCallStart,
    ToolResult,
)
from naru.protocol.replay import Keeper, Replay, Turn, keep, restored

CALL = ToolCall("c1", "f", "{}")


class Dict:
    def __init__(self) -> None:
        self.turns: dict[str, Turn] = {}

    def recall(self, key: str) -> Turn | None:
        return self.turns.get(key)

    def remember(self, key: str, turn: Turn) -> None:
        self.turns[key] = turn


def replay(memory: Dict, origin: str = "p/m") -> Replay:
    return Replay(memory, origin)


def answered(*parts: object) -> Response:
    return Response("r", "m", 0, (Choice(0, parts, "tool_calls"),))  # type: ignore[arg-type]


def request(*parts: object) -> Request:
    said = Message("assistant", parts)  # type: ignore[arg-type]
    return Request("m", (Message("user", (Text("go"),)), said, Message("tool", (ToolResult("c1", (Text("1"),)),))))


def test_text_reasoning_returns_before_its_call() -> None:
    memory = Dict()
    keep(answered(Reasoning("why"), Text("I look."), CALL), replay(memory))
    found = restored(request(Text("I look."), CALL), replay(memory)).messages[1].parts
    assert found == (Reasoning("why"), Text("I look."), CALL)


def test_a_turn_without_calls_is_found_by_its_text() -> None:
    """White space at its ends, which clients like to trim, makes no other turn of it."""
    memory = Dict()
    keep(answered(Reasoning("why"), Text("Hello. \n")), replay(memory))
    assert restored(request(Text("Hello.")), replay(memory)).messages[1].parts[0] == Reasoning("why")


def test_signed_blocks_return_whole_and_in_order() -> None:
    """Also in the place of the bare text that a client kept of them."""
    memory = Dict()
    blocks = (Reasoning("a", "sig-a"), Reasoning("", None, "redacted"))
    keep(answered(*blocks, CALL), replay(memory))
    assert restored(request(Reasoning("a"), CALL), replay(memory)).messages[1].parts == (*blocks, CALL)


def test_call_signatures_return_to_their_calls() -> None:
    memory = Dict()
    keep(answered(ToolCall("c1", "f", "{}", signature="s1"), ToolCall("c2", "f", "{}")), replay(memory))
    found = restored(request(CALL, ToolCall("c2", "f", "{}")), replay(memory)).messages[1].parts
    assert [part.signature for part in found if isinstance(part, ToolCall)] == ["s1", None]


def test_what_the_caller_kept_stays() -> None:
    """The very same request, so that the dialect can pass its bytes on."""
    memory = Dict()
    keep(answered(Reasoning("why"), CALL), replay(memory))
    for kept in (request(Reasoning("mine"), CALL), request(Reasoning("", "own"), CALL), request(Text("other"))):
        assert restored(kept, replay(memory)) is kept


def test_a_signature_goes_to_who_wrote_it_alone() -> None:
    """Text may go anywhere; what is signed or encrypted is bound to its provider and model."""
    memory = Dict()
    keep(answered(Reasoning("a", "sig"), CALL), replay(memory))
    given = request(CALL)
    assert restored(given, replay(memory, "p/other")) is given
    keep(answered(Reasoning("a"), CALL), replay(memory))
    assert restored(given, replay(memory, "p/other")) is not given


def test_a_stream_is_remembered_as_its_whole_answer_is() -> None:
    whole, streamed = Dict(), Dict()
    keep(answered(Reasoning("why", "sig"), Text("I look."), ToolCall("c1", "f", "{}", signature="s")), replay(whole))
    events: list[Event] = [
        ReasoningDelta("wh"),
        ReasoningDelta("y"),
        ReasoningDelta("", signature="sig"),
        TextDelta("I "),
        TextDelta("look."),
        ToolCallStart(0, "c1", "f", signature="s"),
        TextDelta("of another choice", 1),
        Finish("stop", 1),
    ]
    keeper = Keeper(replay(streamed))
    keeper.see(events)
    assert streamed.turns == {}
    keeper.see([Finish("tool_calls")])
    assert streamed.turns == whole.turns


def test_nothing_worth_remembering_takes_no_room() -> None:
    memory = Dict()
    keep(answered(Text("Hi."), CALL), replay(memory))
    keep(answered(Reasoning("", None), CALL), replay(memory))
    keep(Response("r", "m", 0, ()), replay(memory))
    assert memory.turns == {}
