"""Which part of a conversation is sent, so that it fits a number of tokens. Pure.

A *turn* begins with a user's message and ends before the next one: the answer, its tool calls and their results stay with it.
What the system and the developer say is always sent; of the turns the newest, as many as fit, none of them in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from naru.client.counting import count_message
from naru.client.reply import Json
from naru.errors import BadRequest

STANDING = ("system", "developer")


class DoesNotFit(BadRequest):
    """The newest turn and what always goes with it are more than the budget. `needed_tokens` of `budget_tokens`."""

    code: str | None = "context_length_exceeded"

    def __init__(self, needed_tokens: int, budget_tokens: int) -> None:
        super().__init__(
            f"The newest turn and the system message are about {needed_tokens:,} tokens, and {max(budget_tokens, 0):,} are there "
            "for them. Ask for less at once, or raise context_tokens (or lower max_tokens, whose room is set aside)."
        )
        self.needed_tokens = needed_tokens
        self.budget_tokens = budget_tokens


class Trimmed(Struct, frozen=True, kw_only=True):
    """`messages` are sent, `dropped` are not; each in the order of the conversation. `tokens` is the estimate of what is sent."""

    messages: list[Json]
    dropped: list[Json]
    tokens: int


def trim(messages: Sequence[Json], budget_tokens: int, count: Callable[[Json], int] = count_message) -> Trimmed:
    """Raises DoesNotFit where the newest turn does not fit whole. What has no turn yet, a system message alone, is a turn."""
    turns = turns_of(messages)
    costs = [sum(count(messages[index]) for index in turn) for turn in turns]
    tokens = sum(count(message) for message in messages if is_standing(message))
    kept: set[int] = set()
    for age, (turn, cost) in enumerate(zip(reversed(turns), reversed(costs), strict=True)):
        if tokens + cost > budget_tokens:
            if age == 0:
                raise DoesNotFit(tokens + cost, budget_tokens)
            break
        tokens += cost
        kept.update(turn)
    if tokens > budget_tokens:  # no turn at all
        raise DoesNotFit(tokens, budget_tokens)
    sent = [is_standing(message) or index in kept for index, message in enumerate(messages)]
    return Trimmed(
        messages=[message for message, is_sent in zip(messages, sent, strict=True) if is_sent],
        dropped=[message for message, is_sent in zip(messages, sent, strict=True) if not is_sent],
        tokens=tokens,
    )


def turns_of(messages: Sequence[Json]) -> list[list[int]]:
    """The places of the messages of each turn, oldest first, without those that stand for all. While a call waits for its result
    no turn begins, whatever comes between."""
    turns: list[list[int]] = []
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if is_standing(message):
            continue
        if not turns or (message.get("role") == "user" and not open_calls):
            turns.append([])
        turns[-1].append(index)
        open_calls.update(str(call.get("id")) for call in message.get("tool_calls") or ())
        open_calls.discard(str(message.get("tool_call_id")))
    return turns


def is_standing(message: Json) -> bool:
    return message.get("role") in STANDING
