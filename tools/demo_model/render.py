"""A conversation as one text, in pieces that are trained on and pieces that are not."""

from __future__ import annotations

import json
from random import Random

from naru.engine.parse.text import BUDGET_TEXT
from tools.demo_model.conversations import Conversation, Exchange, Step, written

#: (text, whether the model has to write it)
Piece = tuple[str, bool]
NO_THOUGHT = "<think>\n\n</think>\n\n"


def head(conversation: Conversation) -> str:
    system = conversation.system
    if conversation.tools:
        listed = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in conversation.tools)
        system = (
            (f"{system}\n\n" if system else "")
            + f"# Tools\n<tools>{listed}\n</tools>\n"
            + 'Call as <tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        )
    return f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""


def pieces(conversation: Conversation, random: Random) -> list[Piece]:
    """Past turns stand in a prompt without their thinking, so now and then they do here, as context that is not trained on.
    A thought is sometimes cut off by a budget: then the model has to answer after BUDGET_TEXT, which it did not write."""
    found: list[Piece] = [(head(conversation), False)]
    last = len(conversation.exchanges) - 1
    for number, exchange in enumerate(conversation.exchanges):
        found.append((f"<|im_start|>user\n{exchange.user}<|im_end|>\n", False))
        # A thought is seen again only within its own exchange; an earlier exchange that thinks is context.
        is_past = number < last and (exchange.thinks or random.random() < 0.2)
        found += _exchange(exchange, random, is_past)
    return found


def _exchange(exchange: Exchange, random: Random, is_past: bool) -> list[Piece]:
    found: list[Piece] = []
    for number, step in enumerate(exchange.steps):
        found.append(("<|im_start|>assistant\n", False))
        is_earlier_step = number < len(exchange.steps) - 1
        if is_past or (is_earlier_step and not exchange.thinks and random.random() < 0.5):
            found.append((written(step) + "<|im_end|>", False))
        elif exchange.thinks:
            found += _thinking(step, random)
        else:
            found += [(NO_THOUGHT, False), (written(step) + "<|im_end|>", True)]
        found.append(("\n" + _results(step), False))
    return found


def _thinking(step: Step, random: Random) -> list[Piece]:
    answer = written(step) + "<|im_end|>"
    if not step.reasoning:  # /no_think: an empty thought
        return [(NO_THOUGHT + answer, True)]
    if random.random() < 0.15:
        cut = step.reasoning[: random.randint(1, len(step.reasoning))]
        return [(f"<think>\n{cut}", True), (BUDGET_TEXT, False), (answer, True)]
    return [(f"<think>\n{step.reasoning}\n</think>\n\n{answer}", True)]


def _results(step: Step) -> str:
    if not step.results:
        return ""
    told = "".join(f"\n<tool_response>\n{result}\n</tool_response>" for result in step.results)
    return f"<|im_start|>user{told}<|im_end|>\n"
