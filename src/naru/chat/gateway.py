"""The endpoint that a chat talks to: what it has, and one answer of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from msgspec import Struct

from naru.agent.events import Content, Done, ReasoningText
from naru.agent.loop import Approve, State
from naru.chat import tools
from naru.chat.commands import thinking_fields
from naru.chat.conversation import Chat, Json, Turn, settled
from naru.chat.screen import Screen
from naru.client.client import AsyncNaru
from naru.client.endpoint import Endpoint
from naru.errors import NaruError, NotFound
from naru.toolservers import ToolServers

#: How often the unfinished part of an answer is painted.
TICK_S = 0.06
#: Answers of the model for one message: a chat has somebody who can stop it.
MAX_TURNS = 30
STOPPED = "stopped"
ENDINGS = {
    "max_turns": f"it called tools for {MAX_TURNS} turns; send a message to let it go on",
    "handed_over": "it called a tool that is not here",
}


class Gateway:
    """`where` in words. `servers` are those that the client has as `mcp`."""

    def __init__(self, client: AsyncNaru, where: str, servers: ToolServers) -> None:
        self._servers = servers
        self.client = client
        self.where = where
        self._endpoint = Endpoint(client.openai)

    async def models(self) -> list[str]:
        return await self._endpoint.models()

    async def has(self, model: str) -> bool:
        """Aliases and provider/model are not in the list, but may be asked for."""
        try:
            async with self._endpoint.errors(""):
                await self.client.openai.models.retrieve(model)
        except NotFound:
            return False
        return True

    async def close(self) -> None:
        await self.client.close()
        await self._servers.close()


class Hooks(Struct, frozen=True):
    """`approve` is None where nobody can be asked. `save` hears of the turn as far as it is, after each step."""

    approve: Callable[[Approve], Awaitable[bool]] | None = None
    save: Callable[[Turn], None] | None = None


class Answering:
    """One answer under way. `run` never fails for what the endpoint does: the turn says so."""

    def __init__(self, gateway: Gateway, screen: Screen, hooks: Hooks) -> None:
        self._gateway = gateway
        self._screen = screen
        self._hooks = hooks
        self._drawing = asyncio.Lock()
        self._state: State | None = None
        #: What the endpoint said, where it failed.
        self.failure: NaruError | None = None
        self._text = self._thoughts = ""

    async def run(self, chat: Chat, message: Json) -> Turn:
        """Cancelling stops the answer, upstream too, and gives what there is of it."""
        began, at = time.monotonic(), time.time()
        before = chat.messages
        self._screen.begin(began)
        ticking = asyncio.create_task(self._tick())
        error = ""
        try:
            error = await self._listen(chat, [*before, message])
        except asyncio.CancelledError:
            error = STOPPED
        except NaruError as failure:
            self.failure, error = failure, failure.message
        finally:
            ticking.cancel()
            self._screen.end(time.monotonic())
        return self._turn(chat, len(before), message, at, time.monotonic() - began, error)

    async def _listen(self, chat: Chat, messages: list[Json]) -> str:
        """Why the answer is not whole, or nothing."""
        events = self._gateway.client.stream(
            messages,
            model=chat.model,
            tools=tools.made(chat.tools),
            max_turns=MAX_TURNS,
            approve=self._approve if self._hooks.approve is not None else None,
            save=lambda state: self._saved(chat, len(messages) - 1, state),
            **thinking_fields(chat.think),
        )
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Done):
                    return ENDINGS.get(event.run.ending or "", "")
                self._text += event.text if isinstance(event, Content) else ""
                self._thoughts += event.text if isinstance(event, ReasoningText) else ""
                async with self._drawing:
                    self._screen.feed(event, time.monotonic())
        return ""

    def _saved(self, chat: Chat, place: int, state: State) -> None:
        self._state, self._text, self._thoughts = state, "", ""
        if self._hooks.save is not None:
            self._hooks.save(self._turn(chat, place, state.messages[place], state.at, state.seconds, STOPPED))

    def _turn(self, chat: Chat, place: int, message: Json, at: float, seconds: float, error: str) -> Turn:
        state = self._state
        if state is None:
            return Turn((message,), chat.model, at, seconds, is_cut=True, error=error)
        # Until its usage has come, an answer's cost is not known; the gateway bills it all the same.
        cost = None if self._text or self._thoughts or not state.turns else state.cost_nano
        messages = settled(state, self._text, self._thoughts)[place:]
        return Turn(messages, chat.model, at, seconds, state.usage, cost, is_cut=bool(error), error=error)

    async def _approve(self, action: Approve) -> bool:
        """One question at a time, and nothing else moves while it stands there."""
        assert self._hooks.approve is not None
        async with self._drawing:
            self._screen.pause()
            return await self._hooks.approve(action)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            if not self._drawing.locked():
                self._screen.tick(time.monotonic())
