"""The loop's shell: asks the model, calls the tools side by side, tells what happens. All decisions are loop.py's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from msgspec import Struct

from naru.agent import loop as core
from naru.agent.events import (
    Content,
    Done,
    ReasoningText,
    RunEvent,
    ToolArguments,
    ToolComplete,
    ToolResult,
    ToolStart,
    UsageSoFar,
)
from naru.agent.loop import Action, Approved, Ask, CallTool, Denied, Failed, Loop, Returned, Said, State, decoded
from naru.agent.results import to_text
from naru.agent.run import Run
from naru.agent.tool import ArgumentsError, Json, Tool, ToolError
from naru.errors import NaruError
from naru.protocol.messages import Event, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStart

#: Calls of one turn that run at the same time.
SIDE_BY_SIDE = 16


class Model(Protocol):
    def ask(self, messages: Sequence[Json], left_s: float | None) -> AsyncIterator[Event | Said]:
        """One answer, as it comes; a Said at its end. `left_s` bounds the time. Raises NaruError."""
        ...


#: Is asked before a call that needs it: True, or what may be done instead. A text is told to the model as the reason why not.
Approval = Callable[[core.Approve], Awaitable["Approved | Denied | bool | str"]]
#: Hears of every state, before what follows from it is begun.
Save = Callable[[State], Awaitable[None]]


class Ports(Struct, frozen=True):
    """`clock` in seconds."""

    model: Model
    clock: Callable[[], float]
    approve: Approval | None = None
    save: Save | None = None


async def drive(loop: Loop, state: State, ports: Ports) -> AsyncGenerator[RunEvent]:
    """Ends with a Done. An error of the model's endpoint is raised once it is in the state, which can be gone on with. Whoever
    stops listening stops the run: what is under way is cancelled."""
    driver = _Driver(loop, ports)
    try:
        async with aclosing(driver.run(state)) as events:
            async for event in events:
                yield event
    finally:
        await driver.stop()


class _Driver:
    def __init__(self, loop: Loop, ports: Ports) -> None:
        self._loop = loop
        self._ports = ports
        self._happened: asyncio.Queue[RunEvent | core.Event | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)
        self._error: NaruError | None = None
        self._is_stopping = False

    async def run(self, state: State) -> AsyncGenerator[RunEvent]:
        state, actions = self._loop.due(state, self._ports.clock())
        while True:
            if self._ports.save is not None:
                await self._ports.save(state)
            for told in self._tell(actions):
                yield told
            if state.phase == "over":
                break
            for action in actions:
                self._begin(action)
            while isinstance(happened := await self._happened.get(), RunEvent):
                yield happened
            if isinstance(happened, BaseException):
                raise happened
            state, actions = self._loop.step(state, happened, self._ports.clock())
            if isinstance(happened, Said):
                yield UsageSoFar(state.usage, state.cost_nano)
        if self._error is not None and state.ending == "error":
            raise self._error
        yield Done(Run(state))

    async def stop(self) -> None:
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tell(self, actions: Sequence[Action]) -> list[RunEvent]:
        tells = [each for each in actions if isinstance(each, core.Tell)]
        return [_result(each.place, each.call) for each in tells]

    def _begin(self, action: Action) -> None:
        if isinstance(action, Ask):
            work = self._ask(action)
        elif isinstance(action, CallTool):
            work = self._call(self._loop.tools[action.name], action)
        elif isinstance(action, core.Approve):
            work = self._approve(action)
        else:
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that ends without telling anything would be waited for for ever."""
        self._tasks.discard(task)
        if task.cancelled():
            if not self._is_stopping:
                self._happened.put_nowait(
                    asyncio.CancelledError("A tool, or the model's endpoint, was cancelled from within.")
                )
        elif (error := task.exception()) is not None:
            self._happened.put_nowait(error)

    async def _ask(self, action: Ask) -> None:
        put = self._happened.put_nowait
        try:
            async for event in self._ports.model.ask(action.messages, action.left_s):
                if isinstance(event, Said):
                    for told in _written(event.message):
                        put(told)
                    put(event)
                elif (shown := _shown(event)) is not None:
                    put(shown)
        except NaruError as error:
            self._error = error
            put(core.AskFailed(error.message))

    async def _call(self, tool: Tool, action: CallTool) -> None:
        async with self._places:
            self._happened.put_nowait(await outcome(tool, action))

    async def _approve(self, action: core.Approve) -> None:
        self._happened.put_nowait(await approval(self._ports.approve, action))


async def outcome(tool: Tool, action: CallTool) -> Returned | Failed:
    """Whatever a tool does, the model is told something that it can go on with."""
    place = action.place
    try:
        async with asyncio.timeout(action.timeout_s) as limit:
            return Returned(place, to_text(await tool.call(action.arguments)))
    except ArgumentsError as error:
        return Failed(place, str(error))
    except ToolError as error:
        return Failed(place, str(error), error.may_retry)
    except TimeoutError as error:
        if not limit.expired():
            return Failed(place, f"{tool.name} failed: TimeoutError: {error}")
        return Failed(place, f"{tool.name} gave no result within {action.timeout_s:g} s.", may_retry=True)
    except Exception as error:
        return Failed(place, f"{tool.name} failed: {type(error).__name__}: {error}")


async def approval(ask: Approval | None, action: core.Approve) -> Approved | Denied:
    """Where nobody can be asked, nothing is allowed. A hook that fails allows nothing either."""
    if ask is None:
        return Denied(action.place, "Nobody is here to allow it.")
    try:
        said = await ask(action)
    except Exception as error:
        return Denied(action.place, f"Asking for permission failed: {type(error).__name__}: {error}")
    if isinstance(said, Approved | Denied):
        return said
    if isinstance(said, str):
        return Denied(action.place, said)
    return Approved(action.place) if said else Denied(action.place)


def _result(place: int, call: core.Call) -> RunEvent:
    return ToolResult(place, call.id, call.name, call.arguments, call.result, call.is_error)


def _shown(event: Event) -> RunEvent | None:
    if isinstance(event, TextDelta):
        return Content(event.text) if event.text else None
    if isinstance(event, ReasoningDelta):
        return ReasoningText(event.text) if event.text else None
    if isinstance(event, ToolCallStart):
        return ToolStart(event.index, event.id, event.name)
    if isinstance(event, ToolCallDelta):
        return ToolArguments(event.index, event.arguments)
    return None


def _written(message: Json) -> list[RunEvent]:
    found: list[RunEvent] = []
    for index, call in enumerate(message.get("tool_calls") or []):
        function = call.get("function") or call.get("custom") or {}
        raw = str(function.get("arguments") or function.get("input") or "")
        arguments = decoded(raw)
        found.append(
            ToolComplete(
                index, str(call.get("id") or ""), str(function.get("name") or ""),
                arguments if isinstance(arguments, dict) else {}, raw,
            )
        )  # fmt: skip
    return found
