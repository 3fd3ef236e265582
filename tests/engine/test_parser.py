"""Every case of the table: whole, character by character and at every split; then the laws that hold for any text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.engine.parse.emit import joined
from naru.engine.parse.formats import Format
from naru.engine.parse.parser import Options, Parser
from naru.protocol.messages import Event, Finish, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart
from tests.engine.cases import CASES, DS, DSML, FORMATS, HCX32, OPEN, PLAIN, QWEN3, SHUT, TOOLS, XML, Case, one

Result = tuple[str, str, list[tuple[str, str]], str]


def run(case: Case, pieces: Iterable[str]) -> Result:
    parser = Parser(case.formats, case.tail, TOOLS if case.has_tools else ())
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
    events += parser.close()
    assert [event for event in events if isinstance(event, Finish)] == events[-1:]
    last = events[-1]
    assert isinstance(last, Finish)
    return (*joined(events), last.reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_whole(case: Case) -> None:
    assert run(case, [case.text]) == (case.reasoning, case.content, list(case.calls), case.reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_case_in_pieces(case: Case) -> None:
    """Rule 13: the result does not depend on how the text was cut."""
    whole = run(case, [case.text])
    assert run(case, case.text) == whole
    for at in range(1, len(case.text)):
        assert run(case, [case.text[:at], case.text[at:]]) == whole, case.text[:at]


def test_every_number_of_the_list_has_a_case() -> None:
    elsewhere = {22, 23, 25, 26, 41, 42, 55}
    numbers = {*range(1, 18), *range(20, 28), *range(30, 44), *range(50, 56), *range(60, 67), *range(70, 75)}
    named = {int(case.id[1:3]) for case in CASES if case.id.startswith("T")}
    assert named == numbers - elsewhere


FRAGMENTS = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<function=f>", "<function=", "</function>", "<parameter=s>", "<parameter=i>",
    "</parameter>", "\n", "\n\n", " ", "{", "}", "[", "]", '"', "\\", ",", ":", '{"name": "f", "arguments": ', '{"name": "', '"arguments"', "null",
    '"a": 1', '"{\\"', "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "f\n", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "function", "```json\n", "```", '<｜DSML｜invoke name="f">', "<｜DSML｜tool_calls>",
    '<｜DSML｜parameter name="s" string="true">', '<｜DSML｜ parameter name="q">', "</｜DSML｜parameter>", "</｜DSML｜invoke>", "</｜DSML｜tool_calls>",
    "<|im_end|>", "<|im_start|>assistant", " -> tool/function_call\n", "assistant -> tool/function_call\n", "/think\n", "한글 ", "😀", "word", "<", ">", "\\ud83d",
    "n" * 300,
]  # fmt: skip
SETS = [
    *(frozenset(formats) for formats in FORMATS.values()),
    frozenset(Format),
    frozenset[Format](),
    QWEN3 | {Format.JSON_LIST},
]
TAILS = ["", PLAIN, OPEN, SHUT, "<|im_start|>assistant/think\n", PLAIN + "<tool_call>\n", "<｜Assistant｜></think>"]


@settings(max_examples=600, deadline=None)
@given(
    formats=st.sampled_from(SETS),
    tail=st.sampled_from(TAILS),
    fragments=st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=25),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_any_text_in_any_pieces(formats: frozenset[Format], tail: str, fragments: list[str], cuts: list[int]) -> None:
    """Nothing raises, the cut does not matter, and events are valid UTF-8."""
    text = "".join(fragments)
    case = Case("any", formats, tail, text)
    whole = run(case, [text])
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    assert run(case, [text[a:b] for a, b in pairwise(places)]) == whole
    assert run(case, text) == whole
    repr_of = str(whole[:3])
    repr_of.encode()


WORDS = st.lists(
    st.sampled_from(["word", "한글", "😀", "a<b", "{x}", "<b>", "`x`", "1. ", "tool_call"]), min_size=1, max_size=6
).map(" ".join)
PIECES = st.one_of(
    st.tuples(st.just("text"), WORDS),
    st.tuples(st.just("call"), st.builds(lambda text: msgspec.json.encode({"s": text}).decode(), WORDS)),
)


@settings(max_examples=300, deadline=None)
@given(thought=st.one_of(st.none(), WORDS), pieces=st.lists(PIECES, max_size=6))
def test_no_text_is_lost(thought: str | None, pieces: list[tuple[str, str]]) -> None:
    """What is said adds up to what was written, without the tags and the blanks around them."""
    text = "" if thought is None else f"<think>\n{thought}\n</think>\n\n"
    text += "\n".join(one(said) if kind == "call" else said for kind, said in pieces)
    case = Case("lost", QWEN3, PLAIN, text)
    reasoning, content, calls, _ = run(case, text)
    assert reasoning == (thought or "").strip()
    assert "".join(content.split()) == "".join("".join(said.split()) for kind, said in pieces if kind == "text")
    assert calls == [("f", said) for kind, said in pieces if kind == "call"]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(alphabet=st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=60),
    formats=st.sampled_from([QWEN3, XML, DS, DSML, HCX32]),
)
def test_text_without_tags_is_content_exactly(text: str, formats: frozenset[Format]) -> None:
    assert run(Case("plain", formats, PLAIN, text), text) == ("", text, [], "stop")


ADVERSARIES = {
    "brackets": "<" * 100_000,
    "half-tags": "<tool_cal" * 11_000,
    "openers": "<tool_call>" * 9_000,
    "blanks": "a" + " " * 100_000 + "b",
    "blanks-behind-a-tag": "<think>" + "\n" * 100_000,
    "deep": '<tool_call>{"name":"f","arguments":' + "[" * 100_000,
    "long-string": '<tool_call>{"name":"f","arguments":{"s":"' + "x" * 100_000 + '"}}</tool_call>',
    "string-of-backslashes": '<tool_call>{"name":"f","arguments":{"s":"' + "\\" * 100_000,
    "nameless": '<tool_call>{"arguments":{"s":"' + "x" * 100_000 + '"}}</tool_call>',
    "nested-openers": '<tool_call>{"a":"' * 6_000,
    "keys": '<tool_call>{"name":"f",' + '"k":1,' * 16_000,
    "xml-value": "<tool_call><function=f><parameter=s>\n" + "code <b>\n" * 11_000,
    "xml-closers": "<tool_call><function=f><parameter=s>" + "</parameter> x" * 7_000,
    "xml-closer-blanks": "<tool_call><function=f><parameter=s></parameter>" + " " * 100_000 + "x",
    "xml-typed": "<tool_call><function=f><parameter=o>" + "x" * 100_000,
    "xml-parameters": "<tool_call><function=f>" + "<parameter=s>x</parameter>" * 4_000,
    "xml-name": "<tool_call><function=" + "f" * 100_000,
    "xml-key": "<tool_call><function=f><parameter=" + "k" * 100_000,
    "deepseek": "<｜tool▁call▁begin｜>" * 6_000,
    "dsml": '<｜DSML｜invoke name="f">' * 5_000,
    "thoughts": "<think></think>" * 7_000,
}


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("size", [1, 100_000])
def test_the_work_is_linear(name: str, size: int) -> None:
    """T23: steps and characters looked at are counted, not seconds."""
    text = ADVERSARIES[name]
    parser = Parser(frozenset(Format) - {Format.JSON_LIST}, PLAIN, TOOLS)
    for start in range(0, len(text), size):
        parser.feed(text[start : start + size])
    parser.close()
    assert parser.work < 120 * len(text)


def test_a_large_argument_comes_as_it_is_written() -> None:
    """T23: nothing waits for the end of a value."""
    for formats, head in (
        (QWEN3, '<tool_call>{"name":"f","arguments":{"s":"'),
        (XML, "<tool_call><function=f><parameter=s>\nx"),
    ):
        parser = Parser(formats, PLAIN, TOOLS)
        parser.feed(head)
        for _ in range(1_000):
            events = parser.feed("code 50 letters long " * 3)
            assert sum(len(event.arguments) for event in events if isinstance(event, ToolCallDelta)) > 20


def test_events_say_each_thing_once() -> None:
    """Rule 3: id and name come once, then fragments; T02: ids differ; T26: choices are apart."""
    parser = Parser(QWEN3, PLAIN, TOOLS, Options(choice=2, call_prefix="call_ab_"))
    events = [
        event for piece in "<think>a</think>b" + one('{"i": 1}') * 2 for event in parser.feed(piece)
    ] + parser.close()
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [(start.index, start.id, start.name) for start in starts] == [(0, "call_ab_0", "f"), (1, "call_ab_1", "f")]
    assert all(getattr(event, "choice", None) == 2 for event in events)
    assert isinstance(events[0], ReasoningDelta)
    assert isinstance(events[1], TextDelta)


def test_two_parsers_share_nothing() -> None:
    """T26."""
    first, second = Parser(QWEN3, PLAIN, TOOLS), Parser(QWEN3, PLAIN, TOOLS)
    first.feed("<think>a<")
    assert second.feed("b") == [TextDelta("b")]


def test_many_tokens_at_once() -> None:
    """T22: pieces of several tokens, of every size."""
    for case in CASES:
        whole = run(case, [case.text])
        for size in (2, 3, 5, 7, 16):
            assert run(case, [case.text[at : at + size] for at in range(0, len(case.text), size)]) == whole, case.id


@pytest.mark.parametrize(
    ("policy", "text", "content", "arguments"),
    [
        ("text", '<tool_call>{"name": "f', '<tool_call>{"name": "f', None),
        ("drop", '<tool_call>{"name": "f', "", None),
        ("repair", '<tool_call>{"name": "f", "arguments": {"s": ["ab', "", '{"s": ["ab"]}'),
        ("repair", '<tool_call>{"name": "f", "arguments": {"s":', "", '{"s": null}'),
        ("repair", '<tool_call>{"name": "f", "arguments": {"s": "a\\', "", '{"s": "a\\\\"}'),
        ("repair", '<tool_call>{"name": "f"', "", "{}"),
        ("drop", '<tool_call>{"name": "f", "arguments": {"s": "ab', "", '{"s": "ab'),
    ],
)
def test_the_policy_on_calls_cut_off(policy: str, text: str, content: str, arguments: str | None) -> None:
    parser = Parser(QWEN3, PLAIN, TOOLS, Options(incomplete=policy))  # type: ignore[arg-type]
    said = joined([*parser.feed(text), *parser.close("length")])
    assert said == ("", content, [] if arguments is None else [("f", arguments)])


def test_the_finish() -> None:
    """T24: an upstream's `stop` becomes `tool_calls`, its `length` stays."""
    for reason, expected in (("stop", "tool_calls"), ("length", "length"), ("error", "error")):
        parser = Parser(QWEN3, PLAIN, TOOLS)
        parser.feed(one("{}"))
        assert parser.close(reason)[-1] == Finish(expected)  # type: ignore[arg-type]
    assert Parser(QWEN3).close("stop", "END") == [Finish("stop", 0, "END")]


def test_what_is_thinking_is_known_at_each_token() -> None:
    """T40: a grammar starts behind the tag; T42: tokens of thinking are counted; 1.5: no budget cuts a call."""
    parser = Parser(QWEN3, OPEN, TOOLS)
    seen = []
    for piece in ("hm", "</think>", "<tool_call>", '{"name"', ': "f"}', "</tool_call>", "Hi"):
        parser.feed(piece)
        seen.append((parser.is_reasoning, parser.is_in_call))
    assert seen == [(True, False), *[(False, False)], *[(False, True)] * 3, *[(False, False)] * 2]


def test_surrogates() -> None:
    parser = Parser(frozenset())
    events = [*parser.feed("a\ud83d"), *parser.feed("\ude00b\ude00"), *parser.feed("\ud83d"), *parser.close()]
    assert joined(events)[1] == "a😀b\ufffd\ufffd"
