"""What each sandbox model says. Pure: a request in, the tokens of one choice out, the same every time."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from naru.errors import BadRequest
from naru.testing.sandbox.behaviour import Behaviour
from naru.testing.sandbox.request import ChatRequest, Message, ToolSpec
from naru.testing.sandbox.schema import Filler, Unfillable
from naru.testing.sandbox.talk import Talk, is_place, read_talk
from naru.testing.sandbox.tokens import count, split

NOTHING_TO_REPEAT = "There is no user text to repeat."
MAX_CALLS = 64
MAX_QUOTED_CHARS = 300
DEFAULT_THINK_TOKENS = 16
EFFORT_TOKENS = {"none": 0, "minimal": 4, "low": 8, "medium": 16, "high": 32, "xhigh": 64, "max": 64}


class Call(msgspec.Struct):
    """One tool call. `kind` is function (arguments are JSON) or custom (a bare text)."""

    kind: str
    name: str
    arguments: list[str]

    @property
    def tokens(self) -> int:
        return count(self.name) + len(self.arguments)


class Answer(msgspec.Struct):
    """One choice, as tokens. `finish` is OpenAI's finish_reason."""

    reasoning: list[str] = []
    content: list[str] = []
    calls: list[Call] = []
    finish: str = "stop"

    @property
    def tokens(self) -> int:
        return len(self.reasoning) + len(self.content) + sum(call.tokens for call in self.calls)


def answer(name: str, behaviour: Behaviour, request: ChatRequest) -> Answer:
    """Raises BadRequest when a tool's or the response's schema cannot be filled."""
    try:
        return _answer(name, behaviour, request)
    except RecursionError as error:
        raise BadRequest("A schema of this request is nested too deep.") from error


def _answer(name: str, behaviour: Behaviour, request: ChatRequest) -> Answer:
    made = Answer()
    if name == "tools":
        made.calls = _calls(behaviour, request)
    if name == "think":
        made.reasoning = _reasoning(behaviour, request)
    if not made.calls:
        text = _text(name, behaviour, request)
        made.content = split(_stopped(text, request.stops))
        if behaviour.tokens is not None:
            made.content = _stretched(made.content, behaviour.tokens)
    made.finish = "tool_calls" if made.calls else "stop"
    _limit(made, request.limit)
    if behaviour.finish is not None:
        made.finish = behaviour.finish
    return made


def _text(name: str, behaviour: Behaviour, request: ChatRequest) -> str:
    form = request.response_format
    if name in ("json", "tools") and form is not None and form.type != "text":
        return _json_text(behaviour.arguments, request)
    if name == "tools" and request.messages[-1].role == "tool":
        return _summary(request.messages, request.user_text)
    return request.user_text or NOTHING_TO_REPEAT


def _json_text(given: dict[str, Any] | None, request: ChatRequest) -> str:
    """`given` are values that the model's query names; the rest is made."""
    form = request.response_format
    assert form is not None
    if form.type == "json_object":
        return _dumped({"text": request.user_text} if given is None else given)
    if form.json_schema is None or form.json_schema.schema is None:
        raise BadRequest(
            "response_format of type 'json_schema' needs 'json_schema.schema'.", param="response_format.json_schema"
        )
    made = _filled(form.json_schema.schema, read_talk(request.user_text), "response_format.json_schema", True)
    return _dumped({**made, **given} if given is not None and isinstance(made, dict) else made)


def _filled(schema: Any, talk: Talk, param: str, fills_all: bool) -> Any:
    """With what the talk offers if that fits, else without."""
    try:
        return Filler(schema, talk, fills_all=fills_all).fill()
    except Unfillable:
        pass
    try:
        return Filler(schema, Talk(), fills_all=fills_all).fill()
    except Unfillable as error:
        raise BadRequest(f"The sandbox cannot fill this schema: {error}.", param=param) from error


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


# --- tools ------------------------------------------------------------------------------------------------------------


def _calls(behaviour: Behaviour, request: ChatRequest) -> list[Call]:
    """Every offered tool once, a tool that wants a place once for each place; none when results have just come in.

    `only` leaves out all others; with `args` each is called once."""
    offered, is_forced = _offered(request)
    if request.messages[-1].role == "tool" and not is_forced:
        return []
    if behaviour.called_tools is not None:
        offered = _named(offered, behaviour.called_tools)
    talk = read_talk(request.user_text)
    given = behaviour.arguments
    calls = [call for index, tool in offered for call in _calls_of(tool, talk, given, f"tools[{index}]")]
    return calls[: 1 if request.parallel_tool_calls is False else MAX_CALLS]


def _offered(request: ChatRequest) -> tuple[list[tuple[int, ToolSpec]], bool]:
    """The tools that tool_choice leaves, with their places in the request, and whether one of them must be called."""
    tools = list(enumerate(request.tools or ()))
    choice = request.tool_choice
    mode: Any = choice
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        wanted = allowed.get("tools") if isinstance(allowed, dict) else [choice]
        mode = allowed.get("mode", "auto") if isinstance(allowed, dict) else "required"
        if not isinstance(wanted, list):
            raise BadRequest("tool_choice's allowed_tools has no list of tools.", param="tool_choice")
        names = {_chosen_name(one) for one in wanted}
        unknown = names - {tool.name for _, tool in tools}
        if unknown:
            raise BadRequest(f"tool_choice names a tool that is not offered: {unknown.pop()}.", param="tool_choice")
        tools = [(index, tool) for index, tool in tools if tool.name in names]
    if mode not in (None, "auto", "none", "required"):
        raise BadRequest("tool_choice is 'auto', 'none', 'required' or one tool.", param="tool_choice")
    if mode == "required" and not tools:
        raise BadRequest("tool_choice asks for a call but no tool is offered.", param="tool_choice")
    return ([] if mode == "none" else tools), mode == "required"


def _named(offered: list[tuple[int, ToolSpec]], names: tuple[str, ...]) -> list[tuple[int, ToolSpec]]:
    """Those of the names. A request without any tool is no mistake: agents ask for titles and summaries in between."""
    known = [tool.name for _, tool in offered]
    missing = [name for name in names if name not in known]
    if known and missing:
        raise BadRequest(
            f"The model's query asks for a call of '{missing[0][:100]}', which is not offered. "
            f"Offered: {', '.join(known)[:2000]}.",
            code="invalid_sandbox_query",
            param="model",
        )
    return [(index, tool) for index, tool in offered if tool.name in names]


def _chosen_name(choice: Any) -> str:
    for kind in ("function", "custom"):
        named = choice.get(kind) if isinstance(choice, dict) else None
        if isinstance(named, dict) and isinstance(named.get("name"), str):
            return str(named["name"])
    raise BadRequest("tool_choice names no tool.", param="tool_choice")


def _calls_of(tool: ToolSpec, talk: Talk, given: dict[str, Any] | None, param: str) -> list[Call]:
    if tool.function is None:
        return [Call("custom", tool.name, split(str((given or {}).get("input", talk.text))))]
    schema = tool.function.parameters or {"type": "object", "properties": {}}
    calls: list[Call] = []
    for part in [talk] if given is not None else _talks(schema, talk):
        arguments = _filled(schema, part, f"{param}.function.parameters", False)
        if not isinstance(arguments, dict):
            raise BadRequest("A tool's parameters must be an object.", param=f"{param}.function.parameters")
        calls.append(Call("function", tool.name, split(_dumped({**arguments, **(given or {})}))))
    return calls


def _talks(schema: dict[str, Any], talk: Talk) -> list[Talk]:
    """The talk once for each call: with one place property, a call for each place; with two (from, to), each pair."""
    properties = schema.get("properties")
    described = properties.items() if isinstance(properties, dict) else ()
    slots = sum(_is_place_slot(name, part) for name, part in described)
    if slots == 0 or len(talk.places) <= slots:
        return [talk]
    groups = [talk.places[start : start + slots] for start in range(0, len(talk.places), slots)]
    return [msgspec.structs.replace(talk, places=group) for group in groups]


def _is_place_slot(name: str, part: Any) -> bool:
    if not isinstance(part, dict) or part.get("type") in ("array", "object", "number", "integer", "boolean"):
        return False
    return "enum" not in part and is_place(name, part.get("description"))


def _summary(messages: list[Message], user_text: str) -> str:
    """The results that have just come in, each under its tool's name and argument values."""
    calls = {call.id: call for message in messages for call in message.tool_calls or ()}
    results: list[Message] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results.insert(0, message)
    lines = ["도구 결과입니다." if read_talk(user_text).is_korean else "These are the results."]
    for result in results:
        call = calls[result.tool_call_id or ""]
        said = result.words()
        quoted = said if len(said) <= MAX_QUOTED_CHARS else said[:MAX_QUOTED_CHARS] + "…"
        lines.append(f"- {call.name}({_values(call.input)}): {quoted}")
    return "\n".join(lines)


def _values(arguments: str) -> str:
    try:
        tree = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    said = ", ".join(str(value) for value in tree.values()) if isinstance(tree, dict) else str(tree)
    return said.encode("utf-8", "replace").decode()  # JSON's escapes can spell half a character


# --- lengths ----------------------------------------------------------------------------------------------------------


def _reasoning(behaviour: Behaviour, request: ChatRequest) -> list[str]:
    """As many tokens as the smallest of what the model, the effort and the budget allow; none when thinking is off."""
    template = request.chat_template_kwargs or {}
    is_off = request.enable_thinking is False or template.get("enable_thinking") is False
    if is_off or (request.thinking is not None and request.thinking.type == "disabled"):
        return []
    wanted = DEFAULT_THINK_TOKENS if behaviour.think is None else behaviour.think
    if request.reasoning_effort is not None:
        if request.reasoning_effort not in EFFORT_TOKENS:
            raise BadRequest(f"reasoning_effort is one of {', '.join(EFFORT_TOKENS)}.", param="reasoning_effort")
        wanted = EFFORT_TOKENS[request.reasoning_effort]
    budget = request.thinking.budget_tokens if request.thinking is not None else None
    for most in (request.thinking_budget, budget):
        wanted = wanted if most is None else min(wanted, max(0, most))
    thought = f"The user says: {request.user_text or 'nothing'}. I will repeat it, for I am a sandbox and do not infer."
    return _stretched(split(thought), wanted)


def _stretched(tokens: list[str], length: int) -> list[str]:
    """Exactly `length` tokens: cut, or said again from the start."""
    again = [tokens[0] if tokens[0][:1].isspace() else f" {tokens[0]}", *tokens[1:]] if tokens else [" sandbox"]
    made = list(tokens)
    while len(made) < length:
        made.extend(again)
    return made[:length]


def _stopped(text: str, stops: list[str]) -> str:
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


def _limit(made: Answer, limit: int | None) -> None:
    """Cuts to `limit` tokens, reasoning first, as a real model runs out: in the middle of an argument if it must."""
    if limit is None or made.tokens <= limit:
        return
    made.finish = "length"
    made.reasoning = made.reasoning[:limit]
    left = limit - len(made.reasoning)
    made.content = made.content[:left]
    calls, made.calls = made.calls, []
    for call in calls:
        name = count(call.name)
        if left <= name:
            break
        call.arguments = call.arguments[: left - name]
        made.calls.append(call)
        left -= call.tokens
