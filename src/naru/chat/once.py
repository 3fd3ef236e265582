"""One question, one answer, and out: for scripts and pipes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from naru.agent.loop import decoded
from naru.chat.conversation import Chat, Json, Turn, dollars, text_of
from naru.chat.gateway import STOPPED, Answering, Gateway, Hooks
from naru.chat.permission import Permission
from naru.chat.screen import Screen, on_interrupt
from naru.errors import NaruError


async def ask(
    gateway: Gateway, screen: Screen, chat: Chat, message: Json, save: Callable[[Turn], None] | None, *, can_ask: bool
) -> tuple[Turn, NaruError | None]:
    """The turn, and what the endpoint said where it failed.

    `can_ask`: somebody sits at the terminal who can allow a call. Ctrl-C stops the answer."""
    running: list[asyncio.Task[Turn]] = []

    def stop() -> None:
        for task in running:
            task.cancel()

    permission = Permission(screen.note, stop)
    answering = Answering(gateway, screen, Hooks(permission.ask if can_ask else None, save))
    running.append(asyncio.create_task(answering.run(chat, message)))
    with on_interrupt(stop):
        return await running[0], answering.failure


def was_stopped(turn: Turn) -> bool:
    return turn.is_cut and turn.error == STOPPED


def as_json(turn: Turn) -> Json:
    """What --json prints. `error` is there only where something went wrong."""
    answers = [each for each in turn.messages if each["role"] == "assistant"]
    results = {each["tool_call_id"]: text_of(each) for each in turn.messages if each["role"] == "tool"}
    calls = [
        (call, call.get("function") or call.get("custom") or {})
        for each in answers
        for call in each.get("tool_calls") or []
    ]
    return {
        "model": turn.model,
        "text": text_of(answers[-1]) if answers else "",
        "reasoning": "\n\n".join(str(each["reasoning_content"]) for each in answers if each.get("reasoning_content")),
        "tool_calls": [
            {"name": made.get("name"), "arguments": decoded(str(made.get("arguments") or "")), "result": results.get(call["id"])}
            for call, made in calls
        ],
        "usage": {name: getattr(turn.usage, name) for name in ("input", "output", "cached", "reasoning")},
        "cost_usd": None if turn.cost_nano is None else dollars(turn.cost_nano).removeprefix("$"),
        "is_cut": turn.is_cut,
        **({"error": turn.error} if turn.error else {}),
    }  # fmt: skip
