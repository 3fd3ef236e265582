"""Events to the whole answer: order, merging, and what comes in pieces."""

from __future__ import annotations

from msgspec import Raw

from naru.protocol.accumulate import accumulate, merged, response_events
from naru.protocol.messages import (
    Choice,
    Event,
    ExtraDelta,
    Finish,
    Image,
    LogprobsDelta,
    Reasoning,
    ReasoningDelta,
    Refusal,
    RefusalDelta,
    Response,
    Start,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageReport,
    WholePart,
)


def test_parts_keep_the_order_in_which_they_began() -> None:
    """Text after a tool call is another text; interleaved calls and thoughts find their own."""
    events: list[Event] = [
        Start("id", "m", 3, dialect="d"),
        ReasoningDelta("a", part=0),
        TextDelta("one "),
        TextDelta("text"),
        ToolCallStart(0, "c0", "f"),
        ToolCallStart(1, "c1", "g", kind="custom"),
        ToolCallDelta(0, '{"x"'),
        ToolCallDelta(1, "free"),
        ToolCallDelta(0, ":1}"),
        TextDelta("after"),
        ReasoningDelta("", part=0, signature="s"),
        ReasoningDelta("", part=1, encrypted="e"),
        RefusalDelta("no"),
        WholePart(Image("data:x")),
        Finish("tool_calls", stop_sequence="END"),
    ]
    (choice,) = accumulate(events).choices
    assert choice.parts == (
        Reasoning("a", "s"),
        Text("one text"),
        ToolCall("c0", "f", '{"x":1}'),
        ToolCall("c1", "g", "free", "custom"),
        Text("after"),
        Reasoning("", None, "e"),
        Refusal("no"),
        Image("data:x"),
    )
    assert (choice.finish_reason, choice.stop_sequence) == ("tool_calls", "END")


def test_the_last_usage_counts() -> None:
    """Reports are never added up."""
    assert accumulate([UsageReport(Usage(1, 1)), UsageReport(Usage(5, 2))]).usage == Usage(5, 2)


def test_choices_come_sorted_and_logprobs_joined() -> None:
    """Choices may arrive interleaved; log probabilities come chunk by chunk."""
    events: list[Event] = [
        TextDelta("b", 1),
        TextDelta("a", 0),
        LogprobsDelta(Raw(b'{"content":[1.50]}'), 1),
        LogprobsDelta(Raw(b'{"content":[2],"refusal":null}'), 1),
    ]
    first, second = accumulate(events).choices
    assert (first.parts, second.parts) == ((Text("a"),), (Text("b"),))
    assert second.logprobs == Raw(b'{"content":[1.50,2],"refusal":null}')


def test_extras_are_joined_by_kind() -> None:
    """Lists are joined, objects merged with their sound appended, everything else is replaced."""
    one = {"list": Raw(b"[1]"), "text": Raw(b'"a"'), "audio": Raw(b'{"id":"x","data":"AA","transcript":"he"}')}
    two = {"list": Raw(b"[2.0]"), "text": Raw(b'"b"'), "audio": Raw(b'{"data":"BB","transcript":"y","expires_at":3}')}
    assert merged(one, two) == {
        "list": Raw(b"[1,2.0]"),
        "text": Raw(b'"b"'),
        "audio": Raw(b'{"id":"x","data":"AABB","transcript":"hey","expires_at":3}'),
    }


def test_extras_of_the_answer_and_of_a_choice() -> None:
    """The service tier may come late; it is a field of its own."""
    fields = {"tier": Raw(b"1"), "service_tier": Raw(b'"flex"')}
    response = accumulate(
        [Start("i", "m", 0, {"a": Raw(b"1")}, "auto"), ExtraDelta(fields), ExtraDelta({"z": Raw(b"2")}, 0)]
    )
    assert response.extra == {"a": Raw(b"1"), "tier": Raw(b"1")}
    assert response.service_tier == "flex"
    assert response.choices[0].extra == {"z": Raw(b"2")}


def test_a_whole_answer_as_events() -> None:
    """Everything a stored answer holds comes out again, media included."""
    choice = Choice(
        0, (Reasoning("r", "s"), Text("t"), Image("u"), ToolCall("i", "f", "")), "stop", extra={"x": Raw(b"1")}
    )
    response = Response("id", "m", 1, (choice,), Usage(1, 2), "flex", {"y": Raw(b"2")}, "d")
    assert accumulate(response_events(response)) == response


def test_deltas_of_a_call_that_never_started_are_ignored() -> None:
    """A decoder's mistake must not lose the rest of the answer."""
    assert accumulate([ToolCallDelta(3, "x"), TextDelta("a")]).choices[0].parts == (Text("a"),)
