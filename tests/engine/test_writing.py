"""One choice of an answer: budget, grammar, stop texts, counts; the same however the tokens come."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.engine.asking import Plan
from naru.engine.parse.formats import Format
from naru.engine.parse.text import BUDGET_TEXT
from naru.engine.port import Decoding, Grammar, Piece, Prompt, TokenLogprobs
from naru.engine.writing import Continuation, Writer
from naru.protocol.accumulate import accumulate
from naru.protocol.messages import Choice, Event, LogprobsDelta, Reasoning, Start, Text, Tool, ToolCall
from tests.engine.letters import VOCABULARY, decode, encode

FORMATS = frozenset({Format.THINK, Format.HERMES})
OPEN = "<|im_start|>assistant\n"
THINKING = OPEN + "<think>\n"
TOOL = Tool("f")
SCHEMA = Grammar("json_schema", "{}")


def plan(prompt: str = OPEN, **more: object) -> Plan:
    given: dict[str, object] = {
        "prompt": Prompt(encode(prompt), prompt),
        "tail": prompt,
        "decoding": Decoding(max_tokens=100, seed=7),
        "formats": FORMATS,
        "tools": (TOOL,),
        **more,
    }
    return Plan(**given)  # type: ignore[arg-type]


def run(
    asked: Plan, texts: list[str], sizes: list[int] | None = None
) -> tuple[Writer, list[Event], list[Continuation]]:
    """Each text is what the engine writes after one start; `sizes` are those of the pieces, over and over."""
    writer = Writer(asked, VOCABULARY, encode)
    begun = [writer.begin()]
    events: list[Event] = []
    for text in texts:
        ids = encode(text)
        sizes_left = list(sizes or [1])
        at = 0
        while at < len(ids) and not writer.is_done and writer.continuation is None:
            size = sizes_left.pop(0)
            sizes_left.append(size)
            events += writer.take(Piece(ids[at : at + size]))
            at += size
        if writer.continuation is not None:
            begun.append(writer.continuation)
            writer.continuation = None
        elif not writer.is_done:
            events += writer.take(Piece(ending="stop"))
    return writer, events, begun


def choice(events: list[Event]) -> Choice:
    return accumulate([Start("", "", 0), *events]).choices[0]


def said(events: list[Event], kind: type) -> str:
    return "".join(part.text for part in choice(events).parts if isinstance(part, kind))


def test_text_calls_and_counts() -> None:
    text = '<think>\nhm\n</think>\n\nhi\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
    writer, events, begun = run(plan(), [text])
    assert said(events, Reasoning) == "hm"
    assert said(events, Text) == "hi"
    assert [part.arguments for part in choice(events).parts if isinstance(part, ToolCall)] == ['{"a": 1}']
    assert choice(events).finish_reason == "tool_calls"
    assert writer.output == len(encode(text))
    assert writer.reasoning == len(encode("<think>\nhm\n</think>"))
    assert len(begun) == 1


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 12))
def test_a_budget_ends_the_thought_after_so_many_tokens_whatever_the_pieces(sizes: list[int], budget: int) -> None:
    writer, events, begun = run(plan(THINKING, budget=budget), ["0123456789abcdef", "yes"], sizes)
    assert writer.reasoning == budget
    assert said(events, Reasoning) == "0123456789abcdef"[:budget]
    assert said(events, Text) == "yes"
    assert writer.output == budget + len("yes")
    # The engine goes on behind Qwen's sentence, of which the caller sees nothing.
    assert decode(begun[1].prompt.ids) == THINKING + "0123456789abcdef"[:budget] + BUDGET_TEXT
    assert begun[1].decoding.max_tokens == 100 - budget


def test_a_budget_of_nothing_starts_behind_the_thought() -> None:
    _, events, begun = run(plan(THINKING, budget=0), ["yes"])
    assert decode(begun[0].prompt.ids) == THINKING + BUDGET_TEXT
    assert said(events, Text) == "yes"
    assert not said(events, Reasoning)


def test_a_thought_within_its_budget_is_left_alone() -> None:
    _writer, events, begun = run(plan(THINKING, budget=20), ["short\n</think>\n\nyes"])
    assert len(begun) == 1
    assert said(events, Reasoning) == "short"
    assert said(events, Text) == "yes"


def test_a_call_inside_a_thought_is_not_cut() -> None:
    """Qwen3.5 opens a call without closing its thought (T37)."""
    call = "<tool_call>\n<function=f>\n<parameter=text>\n0123456789\n</parameter>\n</function>\n</tool_call>"
    _, events, begun = run(plan(THINKING, budget=6, formats=frozenset({Format.THINK, Format.QWEN_XML})), ["ab" + call])
    assert len(begun) == 1
    assert [part.name for part in choice(events).parts if isinstance(part, ToolCall)] == ["f"]


def test_a_grammar_holds_from_the_end_of_the_thought() -> None:
    asked = plan(THINKING, later=SCHEMA)
    _, events, begun = run(asked, ["hm</think>\n\nNOT THIS", '{"a": 1}'])
    assert begun[0].decoding.grammar is None
    assert begun[1].decoding.grammar == SCHEMA
    assert decode(begun[1].prompt.ids) == THINKING + "hm</think>\n\n"
    assert said(events, Text) == '{"a": 1}'


def test_a_budget_and_a_grammar_end_in_one_continuation() -> None:
    _, events, begun = run(plan(THINKING, budget=2, later=SCHEMA), ["hmmmm", "{}"])
    assert len(begun) == 2
    assert begun[1].decoding.grammar == SCHEMA
    assert said(events, Reasoning) == "hm"
    assert said(events, Text) == "{}"


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_stop_text_ends_the_answer_before_it(sizes: list[int]) -> None:
    writer, events, _ = run(plan(stops=("STOP",)), ["one STO two STOP three"], sizes)
    assert said(events, Text) == "one STO two "
    assert choice(events).finish_reason == "stop"
    assert choice(events).stop_sequence == "STOP"
    assert writer.is_done


def test_stop_texts_do_not_look_into_thoughts_and_calls() -> None:
    call = '<tool_call>\n{"name": "f", "arguments": {"a": "STOP"}}\n</tool_call>'
    _, events, _ = run(plan(stops=("STOP",)), ["<think>\nSTOP\n</think>\n\nok ST\n" + call])
    assert said(events, Reasoning) == "STOP"
    assert said(events, Text) == "ok ST"
    assert [part.arguments for part in choice(events).parts if isinstance(part, ToolCall)] == ['{"a": "STOP"}']


def test_a_stop_text_at_the_very_end_is_found_when_the_text_ends() -> None:
    _, events, _ = run(plan(stops=("\n\nX",)), ["<think>\n\n</think>\n\nab\n\nX"])
    assert said(events, Text) == "ab"
    assert choice(events).stop_sequence == "\n\nX"


def test_a_failure_of_the_library_is_an_error_and_no_finish() -> None:
    writer = Writer(plan(), VOCABULARY, encode)
    writer.begin()
    assert writer.take(Piece(encode("ab"), ending="error", error="no memory"))
    assert writer.is_done
    assert writer.error == "no memory"
    assert writer.take(Piece(encode("more"))) == []


@pytest.mark.parametrize("text", ["한글 😀 텍스트", "a\u0301b"])
def test_characters_are_whole_however_tokens_split_them(text: str) -> None:
    _, events, _ = run(plan(), [text])
    assert said(events, Text) == text
    assert all("\ufffd" not in getattr(event, "text", "") for event in events)


def test_logprobs_are_told_for_content_alone() -> None:
    writer = Writer(plan(THINKING, decoding=Decoding(max_tokens=9, logprobs=1)), VOCABULARY, encode)
    writer.begin()
    ids = encode("h</think>a")
    logprobs = [TokenLogprobs(-0.5, ((id, -0.5),)) for id in ids]
    events = writer.take(Piece(ids, logprobs, "stop"))
    told = [msgspec.json.decode(event.raw) for event in events if isinstance(event, LogprobsDelta)]
    assert [entry["token"] for one in told for entry in one["content"]] == ["a"]
    assert told[0]["content"][0]["top_logprobs"][0]["logprob"] == -0.5


def test_each_choice_has_a_seed_of_its_own() -> None:
    seeds = [Writer(plan(), VOCABULARY, encode, choice=n).begin().decoding.seed for n in range(3)]
    assert seeds == [7, 8, 9]
