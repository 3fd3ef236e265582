"""What the demo model is taught: conversations, made from a seed. An answer is a function of what was asked, so that "right" is
a comparison of strings.

Which requests are held out is decided by a hash of their text: training never sees one of them, whatever the seed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tools.demo_model import asks
from tools.demo_model.words import KO, LANGUAGES, REPLIES, SMALL_TALK, SYSTEM, other_text

Json = dict[str, Any]
#: One request in so many is held out.
HELD_OUT = 16


@dataclass(frozen=True)
class Step:
    """One turn of the assistant, and what the tools answered to its calls."""

    content: str = ""
    calls: tuple[tuple[str, Json], ...] = ()
    results: tuple[str, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True)
class Exchange:
    kind: str
    user: str
    steps: tuple[Step, ...]
    thinks: bool = False


@dataclass(frozen=True)
class Conversation:
    exchanges: tuple[Exchange, ...]
    system: str = ""
    tools: tuple[Json, ...] = field(default=())


def is_held_out(user: str) -> bool:
    return hashlib.sha256(user.encode()).digest()[0] % HELD_OUT == 0


class Maker:
    """Conversations for training, or (`held_out`) for measuring. `invented` is the share of cities that no list has."""

    def __init__(self, seed: int, held_out: bool = False, invented: float = 0.2) -> None:
        self.random = Random(seed)
        self.held_out = held_out
        self.invented = invented

    def conversation(self, most: int = 4) -> Conversation:
        """With 1 to `most` exchanges; of a held-out one only the last is held out."""
        random = self.random
        schema = asks.random_schema(random)
        language = random.choice(LANGUAGES)
        count = random.randint(1, most)
        exchanges = tuple(self.exchange(schema, language, is_last=n == count - 1) for n in range(count))
        system = random.choice(SYSTEM) if random.random() < 0.5 else ""
        return Conversation(exchanges, system, tuple(schema.tools))

    def lesson(self, level: int) -> Conversation:
        """One request that needs a tool, and nothing around it: what has to be copied stands a few tokens away. Level 0 is one
        city and its call, 1 the calls of any request, 2 their results and the answer too."""
        while True:
            kind = "weather" if level == 0 else self.random.choices(("weather", "sum"), (3, 1))[0]
            exchange = self.exchange(asks.PLAIN, self.random.choice(LANGUAGES), kind=kind)
            if level == 2:
                return Conversation((exchange,))
            first = exchange.steps[0]
            if (level == 1 and not exchange.thinks) or (len(first.calls) == 1 and not exchange.thinks):
                step = Step(first.content, first.calls)
                return Conversation((Exchange(exchange.kind, exchange.user, (step,)),))

    def comparison(self) -> tuple[str, str]:
        """(degrees of some cities and the question which is warmest or coldest, that city)."""
        said, ending, city = asks.comparison(self.random, self.random.choice(LANGUAGES), self.invented).rpartition(": ")
        return f"<|im_start|>assistant\n{said}{ending}", f"{city}<|im_end|>\n"

    def exchange(self, schema: asks.Schema, language: str, is_last: bool = True, kind: str = "") -> Exchange:
        wanted = self.held_out and is_last
        language = language if self.random.random() < 0.85 else self.random.choice(LANGUAGES)
        while True:
            made = self._exchange(schema, language, kind or self._kind(schema))
            if is_held_out(made.user) == wanted:
                return made

    def _kind(self, schema: asks.Schema) -> str:
        kinds = {"small_talk": 3, "other": 4, "weather": 8 if schema.weather else 1.5, "sum": 4 if schema.sums else 1}
        if schema.weather and schema.sums:
            kinds["both"] = 1
        return self.random.choices(list(kinds), list(kinds.values()))[0]

    def _exchange(self, schema: asks.Schema, language: str, kind: str) -> Exchange:
        random = self.random
        thinks = random.random() < 0.3
        is_korean = language == KO
        if kind == "small_talk":
            about = random.choice(list(SMALL_TALK))
            text = asks.dressed(random, random.choice(SMALL_TALK[about][0 if is_korean else 1]))
            steps = (Step(_reply(about, language), reasoning=asks.why(about, language)),)
        elif kind == "other":
            text = asks.dressed(random, other_text(random, language))
            steps = (Step(_reply("other", language), reasoning=asks.why("other", language)),)
        else:
            ask = asks.make(random, language, kind, self.invented)
            text = ask.text
            lacking = asks.lacking(ask, schema)
            steps = (
                (Step(_reply(lacking, ask.language), reasoning=asks.why(lacking, ask.language)),)
                if lacking
                else self._answered(ask, schema)
            )
        if thinks and random.random() < 0.06:
            text, steps = text + " /no_think", tuple(_without_reasoning(step) for step in steps)
        return Exchange(kind, text, steps if thinks else tuple(_without_reasoning(step) for step in steps), thinks)

    def _answered(self, ask: asks.Ask, schema: asks.Schema) -> tuple[Step, ...]:
        calls = asks.calls(ask, schema)
        found = [asks.result(self.random, ask, n) for n in range(len(calls))]
        first = Step("", tuple(calls), tuple(each.text for each in found), asks.plan(ask, schema))
        return (first, Step(asks.answer(ask, found), reasoning=asks.reading(ask, found)))


def _reply(kind: str, language: str) -> str:
    return REPLIES[kind][0 if language == KO else 1]


def _without_reasoning(step: Step) -> Step:
    return Step(step.content, step.calls, step.results)


# --- As messages, and as text ---------------------------------------------------------------------------------------


def messages_of(conversation: Conversation, upto: int | None = None, steps: int | None = None) -> list[Json]:
    """OpenAI messages. `upto` is the exchange to stop in, before its step number `steps`."""
    found: list[Json] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    last = len(conversation.exchanges) - 1 if upto is None else upto
    for number, exchange in enumerate(conversation.exchanges[: last + 1]):
        found.append({"role": "user", "content": exchange.user})
        for turn, step in enumerate(exchange.steps[: steps if number == last else None]):
            ids = [f"call_{number}_{turn}_{place}" for place in range(len(step.calls))]
            found.append(_message(step, ids))
            told = zip(ids, step.results, strict=True)
            found += [{"role": "tool", "tool_call_id": id, "content": result} for id, result in told]
    return found


def _message(step: Step, ids: Sequence[str]) -> Json:
    calls = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": json.dumps(said, ensure_ascii=False)}}
        for id, (name, said) in zip(ids, step.calls, strict=True)
    ]
    message: Json = {"role": "assistant", "content": step.content}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    return message | ({"tool_calls": calls} if calls else {})


def written(step: Step) -> str:
    """What the model has to write after its reasoning: text or calls, as the template has them."""
    calls = [
        f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}\n</tool_call>'
        for name, arguments in step.calls
    ]
    return step.content + "\n".join(calls)
