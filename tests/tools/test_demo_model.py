"""The demo model's conversations: what is taught is what the template renders, and what is measured was never taught."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from tools.demo_model import asks
from tools.demo_model.conversations import Conversation, Exchange, Maker, Step, is_held_out, messages_of, written
from tools.demo_model.render import pieces
from tools.demo_model.words import CITIES, KO, invented_city, particle

from naru.engine.history import prepare
from naru.engine.parse.formats import detect
from naru.engine.parse.parser import Parser
from naru.engine.template import ChatTemplate, Turn
from naru.protocol.accumulate import accumulate
from naru.protocol.messages import Start, Text, Tool, ToolCall

TEMPLATE = (Path(asks.__file__).parent / "template.jinja").read_text(encoding="utf-8")


def rendered(conversation: Conversation, thinks: bool, step: int) -> str:
    messages = prepare(messages_of(conversation, len(conversation.exchanges) - 1, step))
    turn = Turn(messages, datetime(2026, 1, 1), conversation.tools, enable_thinking=thinks)
    return ChatTemplate(TEMPLATE, "t").render(turn)


def test_the_text_that_is_taught_begins_as_the_template_renders_it() -> None:
    maker = Maker(3)
    for _ in range(300):
        conversation = maker.conversation(most=1)
        exchange = conversation.exchanges[0]
        text = "".join(text for text, _ in pieces(conversation, Random(1)))
        prompt = rendered(conversation, exchange.thinks, 0)
        assert text.startswith(prompt.removesuffix("<think>\n\n</think>\n\n"))


def test_all_steps_of_a_conversation_without_thoughts_are_rendered_alike() -> None:
    """With the empty thought taken out, which the history of a prompt does not have."""
    maker = Maker(4)
    for _ in range(200):
        conversation = maker.conversation(most=3)
        if any(exchange.thinks for exchange in conversation.exchanges):
            continue
        text = "".join(text for text, _ in pieces(conversation, Random(1))).replace("<think>\n\n</think>\n\n", "")
        last = conversation.exchanges[-1].steps[-1]
        whole = rendered(conversation, True, len(conversation.exchanges[-1].steps) - 1) + written(last) + "<|im_end|>\n"
        assert text == whole


def test_what_is_held_out_is_never_taught() -> None:
    taught = {exchange.user for maker in [Maker(5)] for _ in range(400) for exchange in maker.conversation().exchanges}
    measured = {Maker(6, held_out=True).conversation().exchanges[-1].user for _ in range(3)}
    measured |= {Maker(n, held_out=True).conversation().exchanges[-1].user for n in range(100)}
    assert not any(map(is_held_out, taught))
    assert all(map(is_held_out, measured))


def test_calls_are_read_back_by_the_parser() -> None:
    maker = Maker(7)
    for _ in range(200):
        for exchange in maker.conversation().exchanges:
            for step in exchange.steps:
                parser = Parser(detect(TEMPLATE), "<|im_start|>assistant\n<think>\n\n</think>\n\n", [Tool("f")])
                choice = accumulate([Start("", "", 0), *parser.feed(written(step)), *parser.close()]).choices[0]
                calls = [(p.name, json.loads(p.arguments)) for p in choice.parts if isinstance(p, ToolCall)]
                assert calls == list(step.calls)
                assert "".join(p.text for p in choice.parts if isinstance(p, Text)) == step.content


@pytest.mark.parametrize(
    ("values", "compares", "verdict"),
    [
        ((3, 7), "warm", "더 따뜻한 곳: 부산"),
        ((3, 7), "cold", "더 추운 곳: 서울"),
        ((-3, -7), "warm", "더 따뜻한 곳: 서울"),
        ((7, 7), "warm", "기온이 같은 곳이 있습니다."),
    ],
)
def test_the_verdict_of_a_comparison(values: tuple[int, int], compares: str, verdict: str) -> None:
    ask = asks.Ask("", KO, ("서울", "부산"), compares=compares)
    assert asks.answer(ask, [asks.Result("", str(value)) for value in values]).splitlines()[-1] == verdict


def test_a_tool_that_failed_is_told_and_nothing_is_compared() -> None:
    ask = asks.Ask("", KO, ("서울", "부산"), compares="warm")
    told = asks.answer(ask, [asks.Result("", "3"), asks.Result("", error="timeout")])
    assert told == "서울: 3°C\n부산: 도구의 오류 (timeout)"


def test_a_past_exchange_that_thought_is_context_alone() -> None:
    step = Step("hi", reasoning="hm")
    conversation = Conversation(
        (Exchange("small_talk", "a", (step,), thinks=True), Exchange("small_talk", "b", (step,), thinks=True))
    )
    found = pieces(conversation, Random(3))
    assert [text for text, is_taught in found if is_taught and "hm" in text] == [
        "<think>\nhm\n</think>\n\nhi<|im_end|>"
    ]
    assert ("hi<|im_end|>", False) in found


def test_words() -> None:
    assert len(CITIES) > 300
    assert len({name for pair in CITIES for name in pair}) > 640
    assert particle("서울", "과/와") == "서울과"
    assert particle("제주", "과/와") == "제주와"
    assert invented_city(Random(1), KO) == invented_city(Random(1), KO)
