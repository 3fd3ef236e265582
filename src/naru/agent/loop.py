"""The tool loop without I/O: what happened goes in, what is to be done comes out.

    loop = Loop(tools, Limits(max_turns=5))
    state = loop.begin(messages, now)
    state, actions = loop.due(state, now)           # at the start, and again after a state was read from a file
    state, actions = loop.step(state, event, now)   # after everything that happened, until an End is among the actions

A state is data: `dump` and `load` are JSON. Whoever saves it after each step can go on from there in another process; a tool
that was under way is called again then. `now` is in seconds of any clock that goes on while the loop is away (time.time).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from naru.agent.tool import Json, Tool
from naru.protocol.messages import Usage

#: done: the model has answered. handed_over: it called tools that are not ours. The others: a limit was reached, or asking the
#: model failed.
Ending = Literal["done", "handed_over", "max_turns", "max_tokens", "max_cost", "max_seconds", "error"]
#: Why a state that has come to an end may go on all the same, under other limits.
PAUSES = frozenset({"max_turns", "max_tokens", "max_cost", "max_seconds", "error"})
Phase = Literal["asking", "calling", "over"]
Stage = Literal["approving", "running", "done", "handed_over"]


class Limits(Struct, frozen=True, kw_only=True):
    """Of one run. A turn is one answer of the model; `max_calls` is for the calls of one turn, of which the rest is refused."""

    max_turns: int = 10
    max_calls: int = 32
    max_tokens: int | None = None
    max_cost_nano: int | None = None
    max_seconds: float | None = None


class Call(Struct, frozen=True):
    """One call of the turn under way. `arguments` as the model wrote them; `result` is what it will be told."""

    id: str
    name: str
    arguments: str
    stage: Stage
    attempt: int = 1
    result: str = ""
    is_error: bool = False


class State(Struct, frozen=True):
    """`messages` are those of chat completions. `calls` stay until all of a turn are done; they are answered in their order,
    whatever the order in which they end; `log` has those of all turns. `cost_nano` is in nano-dollars, None as soon as one
    answer did not tell its cost."""

    messages: tuple[Json, ...]
    phase: Phase = "asking"
    calls: tuple[Call, ...] = ()
    log: tuple[Call, ...] = ()
    turns: int = 0
    usage: Usage = Usage()
    cost_nano: int | None = 0
    seconds: float = 0.0
    at: float = 0.0
    ending: Ending | None = None
    finish_reason: str = ""
    error: str = ""

    def dump(self) -> bytes:
        return msgspec.json.encode(self)

    @staticmethod
    def load(data: bytes) -> State:
        """Raises msgspec.ValidationError for what is no state."""
        return msgspec.json.decode(data, type=State)


# --- What happened --------------------------------------------------------------------------------------------------


class Said(Struct, frozen=True):
    """The model answered: `message` as it goes back with the next turn, reasoning and signatures included."""

    message: Json
    usage: Usage = Usage()
    cost_nano: int | None = None
    finish_reason: str = "stop"


class AskFailed(Struct, frozen=True):
    why: str


class Returned(Struct, frozen=True):
    """Call number `place` of the turn gave this text."""

    place: int
    text: str


class Failed(Struct, frozen=True):
    """`why` is for the model. `may_retry`: the same call may go well a moment later."""

    place: int
    why: str
    may_retry: bool = False


class Approved(Struct, frozen=True):
    """`arguments`: what whoever approved made of them, JSON text; None leaves them."""

    place: int
    arguments: str | None = None


class Denied(Struct, frozen=True):
    place: int
    why: str = ""


Event = Said | AskFailed | Returned | Failed | Approved | Denied


# --- What is to be done ---------------------------------------------------------------------------------------------


class Ask(Struct, frozen=True):
    """`left_s`: what is left of the run's time; None is no limit."""

    messages: tuple[Json, ...]
    left_s: float | None = None


class CallTool(Struct, frozen=True):
    place: int
    id: str
    name: str
    arguments: Json
    attempt: int
    timeout_s: float


class Approve(Struct, frozen=True):
    place: int
    id: str
    name: str
    arguments: Json


class Tell(Struct, frozen=True):
    """A call has its result: for whoever watches. Nothing has to be done."""

    place: int
    call: Call


class End(Struct, frozen=True):
    ending: Ending


Action = Ask | CallTool | Approve | Tell | End
Step = tuple[State, tuple[Action, ...]]


# --- The loop -------------------------------------------------------------------------------------------------------


class Loop(Struct, frozen=True):
    """`tools` by name. Calls of `others` are handed over to whoever asked; any other name is answered to the model."""

    tools: Mapping[str, Tool]
    limits: Limits = Limits()
    others: frozenset[str] = frozenset()

    def begin(self, messages: Sequence[Json], now: float) -> State:
        return State(tuple(messages), at=now)

    def due(self, state: State, now: float) -> Step:
        """What has to be done in this state, whatever was begun before. A run that a limit ended goes on where the limit now
        allows it."""
        state = replace(state, at=now)
        if state.ending in PAUSES and (state.ending == "error" or self._over(state) is None):
            state = replace(state, phase="calling" if state.calls else "asking", ending=None, error="")
        return state, self._due(state)

    def step(self, state: State, event: Event, now: float) -> Step:
        """Raises ValueError for an event that this state does not wait for."""
        state = replace(state, seconds=state.seconds + max(0.0, now - state.at), at=now)
        if isinstance(event, Said | AskFailed):
            _expect(state.phase == "asking", state, event)
            return self._said(state, event) if isinstance(event, Said) else self._ask_failed(state, event)
        _expect(state.phase == "calling" and 0 <= event.place < len(state.calls), state, event)
        call = state.calls[event.place]
        transition = _TRANSITIONS.get((call.stage, type(event)))
        _expect(transition is not None, state, event)
        assert transition is not None  # for the type checker
        call = transition(self, call, event)
        state = replace(state, calls=(*state.calls[: event.place], call, *state.calls[event.place + 1 :]))
        if call.stage == "running":
            return state, (_run(self.tools[call.name], self._left(state), event.place, call),)
        tell = Tell(event.place, call)
        return (state, (tell,)) if _is_active(state) else _first((tell,), self._answered(state))

    # --- The model's turn -------------------------------------------------------------------------------------------

    def _said(self, state: State, said: Said) -> Step:
        asked = said.message.get("tool_calls") or []
        state = replace(
            state,
            messages=(*state.messages, said.message),
            turns=state.turns + 1,
            usage=added(state.usage, said.usage),
            cost_nano=None if state.cost_nano is None or said.cost_nano is None else state.cost_nano + said.cost_nano,
            finish_reason=said.finish_reason,
        )
        if not asked:
            return _ended(state, "done")
        state = replace(
            state, phase="calling", calls=tuple(self._asked(place, each) for place, each in enumerate(asked))
        )
        over = self._over(state)
        if over is not None and not self._is_handed_over(state):
            return _ended(self._explained(state, over), over)
        tells = tuple(Tell(place, call) for place, call in enumerate(state.calls) if call.stage == "done")
        return _first(tells, (state, self._due(state)) if _is_active(state) else self._answered(state))

    def _ask_failed(self, state: State, event: AskFailed) -> Step:
        if self._is_late(state):
            return _ended(state, "max_seconds")
        return _ended(replace(state, error=event.why), "error")

    def _asked(self, place: int, asked: Json) -> Call:
        """A call as it begins: what cannot be done is answered at once, in words that the model can act on."""
        function = asked.get("function") or asked.get("custom") or {}
        name, arguments = str(function.get("name") or ""), str(function.get("arguments") or function.get("input") or "")
        call = Call(str(asked.get("id") or ""), name, arguments, "running")
        if name in self.others:
            return replace(call, stage="handed_over")
        if place >= self.limits.max_calls:
            return _refused(call, f"Too many calls at once: at most {self.limits.max_calls}. Ask for this one again.")
        tool = self.tools.get(name)
        if tool is None:
            known = ", ".join([*self.tools, *sorted(self.others)]) or "none"
            return _refused(call, f"There is no tool {name!r}. The tools are: {known}.")
        if isinstance(decoded(arguments), str):
            return _refused(call, str(decoded(arguments)))
        return replace(call, stage="approving") if tool.needs_approval else call

    # --- The tools' turn --------------------------------------------------------------------------------------------

    def _answered(self, state: State) -> Step:
        """Every call of ours has its result: the model is asked again."""
        done = tuple(call for call in state.calls if call.stage == "done")
        handed_over = len(done) < len(state.calls)
        state = replace(state, messages=(*state.messages, *map(_told, done)), log=(*state.log, *done))
        if handed_over:
            return _ended(state, "handed_over")
        state = replace(state, calls=(), phase="asking")
        over = self._over(state)
        return (state, self._due(state)) if over is None else _ended(self._explained(state, over), over)

    def _is_handed_over(self, state: State) -> bool:
        """Nothing of ours is left to do, so no limit of ours stands between the model and whoever asked."""
        return not _is_active(state) and any(call.stage == "handed_over" for call in state.calls)

    def _due(self, state: State) -> tuple[Action, ...]:
        if state.phase == "over":
            assert state.ending is not None
            return (End(state.ending),)
        if state.phase == "asking":
            return (Ask(state.messages, self._left(state)),)
        return tuple(
            self._action(state, place, call) for place, call in enumerate(state.calls) if call.stage in _ACTIVE
        )

    def _action(self, state: State, place: int, call: Call) -> Action:
        if call.stage == "approving":
            return Approve(place, call.id, call.name, _object(call.arguments))
        return _run(self.tools[call.name], self._left(state), place, call)

    # --- Limits -----------------------------------------------------------------------------------------------------

    def _over(self, state: State) -> Ending | None:
        limits = self.limits
        if state.turns >= limits.max_turns:
            return "max_turns"
        if limits.max_tokens is not None and state.usage.total >= limits.max_tokens:
            return "max_tokens"
        if limits.max_cost_nano is not None and (state.cost_nano is None or state.cost_nano >= limits.max_cost_nano):
            return "max_cost" if state.cost_nano is not None else "error"
        return "max_seconds" if self._is_late(state) else None

    def _explained(self, state: State, ending: Ending) -> State:
        return replace(state, error=_UNKNOWN_COST) if ending == "error" else state

    def _is_late(self, state: State) -> bool:
        return self.limits.max_seconds is not None and state.seconds >= self.limits.max_seconds

    def _left(self, state: State) -> float | None:
        return None if self.limits.max_seconds is None else max(0.0, self.limits.max_seconds - state.seconds)

    # --- What becomes of a call -------------------------------------------------------------------------------------

    def _returned(self, call: Call, event: Event) -> Call:
        assert isinstance(event, Returned)
        return replace(call, stage="done", result=cut(event.text, self.tools[call.name].result_chars))

    def _failed(self, call: Call, event: Event) -> Call:
        assert isinstance(event, Failed)
        if event.may_retry and call.attempt <= self.tools[call.name].retries:
            return replace(call, attempt=call.attempt + 1)
        return _refused(call, cut(event.why, self.tools[call.name].result_chars))

    def _approved(self, call: Call, event: Event) -> Call:
        assert isinstance(event, Approved)
        if event.arguments is None:
            return replace(call, stage="running")
        wrong = decoded(event.arguments)
        if isinstance(wrong, str):
            return _refused(call, wrong)
        return replace(call, stage="running", arguments=event.arguments)

    def _denied(self, call: Call, event: Event) -> Call:
        assert isinstance(event, Denied)
        return _refused(call, f"The user did not allow this call.{' ' + event.why if event.why else ''}")


_UNKNOWN_COST = (
    "The run has a cost limit, but this endpoint does not tell what an answer costs. Use a Naru gateway, or max_tokens."
)
_ACTIVE = frozenset({"approving", "running"})
_TRANSITIONS: Mapping[tuple[Stage, type], Callable[[Loop, Call, Event], Call]] = {
    ("running", Returned): Loop._returned,
    ("running", Failed): Loop._failed,
    ("approving", Approved): Loop._approved,
    ("approving", Denied): Loop._denied,
}


def decoded(arguments: str) -> Json | str:
    """A call's arguments, or what is wrong with them, for the model. Nothing at all stands for no arguments."""
    if not arguments.strip():
        return {}
    try:
        value: Any = msgspec.json.decode(arguments)
    except msgspec.DecodeError as error:
        return f"The arguments are no valid JSON ({error}). Write one JSON object."
    return value if isinstance(value, dict) else "The arguments have to be one JSON object."


def cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[:most]}\n[cut: the first {most:,} of {len(text):,} characters]"


def added(one: Usage, other: Usage) -> Usage:
    """Of several answers. What is counted in other units than tokens is not summed up."""
    names = ("input", "output", "cached", "cache_write", "cache_write_1h", "reasoning", "audio_input", "audio_output")
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return Usage(**sums, is_estimated=one.is_estimated or other.is_estimated)


def _object(arguments: str) -> Json:
    value = decoded(arguments)
    assert isinstance(value, dict), "checked when the call was made"
    return value


def _run(tool: Tool, left_s: float | None, place: int, call: Call) -> CallTool:
    timeout_s = tool.timeout_s if left_s is None else min(tool.timeout_s, left_s)
    return CallTool(place, call.id, call.name, _object(call.arguments), call.attempt, timeout_s)


def _refused(call: Call, why: str) -> Call:
    return replace(call, stage="done", result=why, is_error=True)


def _told(call: Call) -> Json:
    return {"role": "tool", "tool_call_id": call.id, "content": call.result}


def _is_active(state: State) -> bool:
    return any(call.stage in _ACTIVE for call in state.calls)


def _first(actions: tuple[Action, ...], step: Step) -> Step:
    return step[0], (*actions, *step[1])


def _ended(state: State, ending: Ending) -> Step:
    return replace(state, phase="over", ending=ending), (End(ending),)


def _expect(is_expected: bool, state: State, event: Event) -> None:
    if not is_expected:
        raise ValueError(f"{type(event).__name__} is not expected while {state.phase}: {event}")
