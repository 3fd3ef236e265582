"""What is asked for: a run's messages, limits and saved states, from what callers write."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from msgspec import Struct

from naru.agent.drive import Approval, Save
from naru.agent.loop import Approve, Approved, Denied, Limits, State
from naru.agent.run import Run, nano_of
from naru.agent.tool import Json
from naru.errors import BadRequest

Messages = str | Sequence[Mapping[str, Any]]
Answer = bool | str | Approved | Denied
Hook = Callable[[Approve], Answer | Awaitable[Answer]]
Resume = Run | State | bytes | str | Path
Keep = str | Path | Callable[[State], Any]


class RunOptions(TypedDict, total=False):
    """Of `run` and `stream`. The first part is the run's own, the second goes into every request; further fields of chat
    completions do so too, by their names or in `extra_body`.

    `system`: a message before the others. Limits: `max_turns` (10) answers of the model, `max_total_tokens`, `max_cost_usd`
    (needs an endpoint that tells costs), `max_seconds`. `approve` is asked before a tool with needs_approval. `save`: a file,
    or a function, that gets the state after each step; `resume`: such a file, a state or a Run to go on from.
    """

    system: str | None
    max_turns: int
    max_total_tokens: int | None
    max_cost_usd: Decimal | float | str | None
    max_seconds: float | None
    approve: Hook | None
    save: Keep | None
    resume: Resume | None

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: str | list[str]
    tool_choice: Any
    parallel_tool_calls: bool
    response_format: Any
    reasoning_effort: str
    enable_thinking: bool
    thinking_budget: int
    user: str
    extra_body: Json


class Asked(Struct, frozen=True):
    """Options, taken apart. `fields` are the requests'."""

    limits: Limits
    system: str | None
    approve: Approval | None
    save: Save | None
    resume: State | None
    fields: Json


def asked(options: Mapping[str, Any]) -> Asked:
    """Raises BadRequest."""
    own = RunOptions.__annotations__.keys() - _FIELDS
    resume, extra = options.get("resume"), options.get("extra_body") or {}
    return Asked(
        limits=_limits(options),
        system=options.get("system"),
        approve=approver(options.get("approve")),
        save=saver(options.get("save")),
        resume=None if resume is None else state_of(resume),
        fields={name: value for name, value in options.items() if name not in own} | extra,
    )


_FIELDS = frozenset(
    {
        "temperature", "top_p", "max_tokens", "seed", "stop", "tool_choice", "parallel_tool_calls", "response_format",
        "reasoning_effort", "enable_thinking", "thinking_budget", "user",
    }
)  # fmt: skip


def messages_of(prompt: Messages, system: str | None = None) -> list[Json]:
    """A text is one message of the user. Raises BadRequest."""
    listed = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(each) for each in prompt]
    if not listed:
        raise BadRequest("There is no message. Pass a text, or a list of messages.")
    if system is not None:
        listed.insert(0, {"role": "system", "content": system})
    return listed


def _limits(options: Mapping[str, Any]) -> Limits:
    turns, cost = options.get("max_turns", 10), options.get("max_cost_usd")
    if turns < 1:
        raise BadRequest("max_turns has to be 1 or more: one turn is one answer of the model.", param="max_turns")
    return Limits(
        max_turns=turns,
        max_tokens=options.get("max_total_tokens"),
        max_cost_nano=None if cost is None else nano_of(cost),
        max_seconds=options.get("max_seconds"),
    )


def state_of(resume: Resume) -> State:
    """Raises BadRequest for what is no saved run."""
    if isinstance(resume, Run):
        return resume.state
    if isinstance(resume, State):
        return resume
    try:
        return State.load(resume if isinstance(resume, bytes) else Path(resume).read_bytes())
    except (msgspec.DecodeError, OSError) as error:
        raise BadRequest(f"This is no saved run: {error}.") from error


def saver(keep: Keep | None) -> Save | None:
    """Into a file (whole or not at all), or whatever a function does with it."""
    if keep is None:
        return None
    if callable(keep):
        return _calling(keep)
    path = Path(keep)

    async def write(state: State) -> None:
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(state.dump())
        os.replace(beside, path)

    return write


def _calling(function: Callable[[State], Any]) -> Save:
    async def call(state: State) -> None:
        found = function(state)
        if inspect.isawaitable(found):
            await found

    return call


def approver(hook: Hook | None) -> Approval | None:
    """A hook may be a plain function."""
    if hook is None:
        return None

    async def ask(action: Approve) -> Answer:
        said = hook(action)
        return await said if inspect.isawaitable(said) else said

    return ask
