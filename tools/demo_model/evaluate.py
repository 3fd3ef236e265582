"""How much of the held-out set the shipped model gets right: `python -m tools.demo_model.evaluate [--count 500] [--card]`.

It is asked as a user asks it: through LocalModel, greedily, with the template and the parsers. A conversation counts as right
if every turn of its last exchange is, to the letter: the calls with their arguments, or the text; thoughts are not compared.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from naru.errors import NaruError
from naru.local import LocalAnswer, LocalModel
from tools.demo_model.conversations import Conversation, Maker, Step, messages_of

SEED = 7_000_003
CARD = Path(__file__).parent.parent.parent / "src" / "naru" / "engine" / "demo" / "README.md"
#: Where the table of the card stands.
BEGIN, END = "<!-- measured -->", "<!-- end -->"


def held_out(count: int, invented: float) -> list[Conversation]:
    maker = Maker(SEED + int(invented), held_out=True, invented=invented)
    return [maker.conversation(most=2) for _ in range(count)]


def rights(model: LocalModel, conversations: list[Conversation]) -> list[bool]:
    """Every step of every last exchange is asked with the right history before it."""
    asked: list[tuple[int, Step, LocalAnswer | NaruError]] = []
    for thinks in (False, True):
        cases = [
            (at, conversation, number)
            for at, conversation in enumerate(conversations)
            for number in range(len(conversation.exchanges[-1].steps))
            if conversation.exchanges[-1].thinks is thinks
        ]
        for at, conversation, number in cases:
            messages = messages_of(conversation, len(conversation.exchanges) - 1, number)
            step = conversation.exchanges[-1].steps[number]
            tools = {"tools": list(conversation.tools)} if conversation.tools else {}
            asked.append((at, step, _answered(model, messages, {**tools, "enable_thinking": thinks})))
    found = [True] * len(conversations)
    for at, step, answer in asked:
        found[at] &= _is_right(step, answer)
    return found


def _answered(model: LocalModel, messages: list[dict[str, Any]], fields: dict[str, Any]) -> LocalAnswer | NaruError:
    try:
        return model.chat(messages, max_tokens=400, temperature=0, **fields)
    except NaruError as error:
        return error


def _is_right(step: Step, answer: LocalAnswer | NaruError) -> bool:
    if isinstance(answer, NaruError):
        return False
    calls = [(call.name, json.loads(call.arguments)) for call in answer.tool_calls if _is_json(call.arguments)]
    return answer.text == step.content and calls == [(name, arguments) for name, arguments in step.calls]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def table(model: LocalModel, count: int) -> tuple[float, str]:
    """(share of the held-out set that is right, a table in Markdown)."""
    conversations = held_out(count, invented=0.0)
    found = rights(model, conversations)
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for conversation, is_right in zip(conversations, found, strict=True):
        exchange = conversation.exchanges[-1]
        by_kind[exchange.kind.replace("_", " ") + (", thinking" if exchange.thinks else "")].append(is_right)
    unseen = [each for each in held_out(count, invented=1.0) if each.exchanges[-1].kind in ("weather", "both")]
    lines = ["| asked for | right | of | share |", "|---|---:|---:|---:|"]
    lines += [_row(kind, by_kind[kind]) for kind in sorted(by_kind)]
    lines.append(_row("**all of the held-out set**", found))
    lines.append(_row("weather of names that no list has", rights(model, unseen)))
    return sum(found) / len(found), "\n".join(lines)


def _row(what: str, found: list[bool]) -> str:
    return f"| {what} | {sum(found)} | {len(found)} | {100 * sum(found) / len(found):.1f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="naru-demo")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--card", action="store_true", help="write the table into the model's card")
    given = parser.parse_args()
    with LocalModel(given.model) as model:
        share, text = table(model, given.count)
    print(text)
    if given.card:
        card = CARD.read_text(encoding="utf-8")
        head, rest = card.split(BEGIN)
        CARD.write_text(head + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1], encoding="utf-8")
    raise SystemExit(0 if share >= 0.95 else 1)


if __name__ == "__main__":
    main()
