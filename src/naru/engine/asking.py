"""From a caller's request to what the engine is asked: the prompt, how tokens are chosen, how the answer is read. Pure.

Thinking: the caller's policy becomes the template's switches and a budget in tokens. Budgets by effort are those that the
gateway maps for others (providers.md A3.2). With an answer limit that the budget would eat up, a quarter of it is kept free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Raw, Struct

from naru.engine import constraints
from naru.engine.history import prepare
from naru.engine.parse.formats import Format, beginning
from naru.engine.pictures import pictures_of, sounds_of
from naru.engine.port import Decoding, Facts, Grammar, Prompt
from naru.engine.template import Templates, Turn
from naru.errors import BadRequest
from naru.protocol.messages import OpaqueTool, ReasoningPolicy, Request, Tool
from naru.protocol.reasoning import is_on

Json = dict[str, Any]

BUDGET_OF = {"minimal": 512, "low": 1_024, "medium": 4_096, "high": 16_384}
#: How templates call the switch: Qwen and most, DeepSeek and HyperCLOVA X 32B, HyperCLOVA X 14B.
_SWITCH_ON = {"enable_thinking": True, "thinking": True, "force_reasoning": True}
_SWITCH_OFF = {"enable_thinking": False, "thinking": False, "skip_reasoning": True}
MAX_STOPS = 16


class Defaults(Struct, frozen=True):
    """From generation_config.json; what a caller does not say is taken from here. None: the file does not say either."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Defaults:
        """`do_sample` false means greedy, whatever else the file says."""
        if config.get("do_sample") is False:
            return cls(temperature=0.0)
        known = {name: config[name] for name in cls.__struct_fields__ if isinstance(config.get(name), int | float)}
        return cls(**known)


class Plan(Struct, frozen=True):
    """`later` is the grammar of what follows the reasoning, where the answer begins in it. `budget` is in tokens of reasoning,
    None without a bound."""

    prompt: Prompt
    tail: str
    decoding: Decoding
    formats: frozenset[Format]
    tools: tuple[Tool | OpaqueTool, ...] = ()
    later: Grammar | None = None
    budget: int | None = None
    stops: tuple[str, ...] = ()
    choices: int = 1


class Rules(Struct, frozen=True):
    """What a plan needs to know of the model. `formats` are those that its templates make it write."""

    templates: Templates
    formats: frozenset[Format]
    defaults: Defaults
    facts: Facts


def plan_chat(
    request: Request, messages: Sequence[Json], tools: Sequence[Json], rules: Rules, now: datetime
) -> Rendered:
    """`messages` and `tools` as the caller wrote them, for the template. Raises BadRequest."""
    _refuse_unknown(request)
    kwargs = _kwargs(request.extra.get("chat_template_kwargs"))
    thinks = is_on(request.reasoning)
    if thinks is None:
        thinks = next(
            (kwargs[name] for name in ("enable_thinking", "thinking") if isinstance(kwargs.get(name), bool)), None
        )
    switches = {} if thinks is None else _SWITCH_ON if thinks else _SWITCH_OFF
    choice = request.tool_choice
    has_calls = bool(tools) and (choice is None or choice.mode != "none")
    offered = {tool.name for tool in constraints.callable_tools(choice, request.tools)} if has_calls else set()
    shown = [tool for tool in tools if has_calls and _name_of(tool) in offered]
    prepared = prepare(messages)
    continues = _flag(request.extra.get("continue_final_message"))
    turn = Turn(
        prepared, now, shown,
        add_generation_prompt=not continues,
        continue_final_message=continues,
        enable_thinking=thinks,
        kwargs={**{name: value for name, value in switches.items() if name != "enable_thinking"}, **kwargs},
    )  # fmt: skip
    template = rules.templates.choose(None, bool(shown))
    text = template.render(turn)
    bound, more = constraints.of_choice(choice, request.tools, rules.formats, request.parallel_tool_calls is not False)
    grammar = bound or constraints.of_format(request.response_format)
    if grammar is not None and not rules.facts.has_grammars:
        raise BadRequest(f"{rules.facts.library} cannot hold an answer to a grammar.", code="unsupported_parameter")
    formats = rules.formats | more
    if grammar is not None and thinks and Format.THINK in formats and not beginning(text[-4096:], formats).is_reasoning:
        text += "<think>\n"  # what the model would write by itself, were it not for the grammar
    return Rendered(
        text, formats, request.tools if shown else (), grammar, _budget(request.reasoning, thinks), prepared
    )


class Rendered(Struct, frozen=True):
    """A plan before its tokens are counted. `thinks`: None leaves it to the model."""

    text: str
    formats: frozenset[Format]
    tools: tuple[Tool | OpaqueTool, ...] = ()
    grammar: Grammar | None = None
    budget: int | None = None
    messages: Sequence[Json] = ()


def plan(rendered: Rendered, ids: Sequence[int], request: Request, rules: Rules, adapter: str = "") -> Plan:
    """Raises BadRequest, with the numbers, for a prompt that does not fit."""
    room = rules.facts.context - len(ids)
    if room < 1:
        raise BadRequest(
            f"The prompt has {len(ids)} tokens, and this model's context is {rules.facts.context}. Shorten the messages, or "
            "serve the model with a larger context.",
            code="context_length_exceeded",
            param="messages",
        )
    wanted = request.max_output_tokens
    most = room if wanted is None else min(wanted, room)
    tail = rendered.text[-4096:]
    waits = rendered.grammar is not None and beginning(tail, rendered.formats).is_reasoning
    budget = rendered.budget
    if budget is not None and most <= budget:
        budget = max(0, most - max(1, most // 4))
    if len(request.stop) > MAX_STOPS:
        raise BadRequest(f"`stop` has {len(request.stop)} texts; {MAX_STOPS} are taken.", param="stop")
    return Plan(
        prompt=Prompt(
            ids, rendered.text, pictures_of(rendered.messages, rules.facts), sounds_of(rendered.messages, rules.facts)
        ),
        tail=tail,
        decoding=_decoding(request, rules, most, None if waits else rendered.grammar, adapter),
        formats=rendered.formats,
        tools=rendered.tools,
        later=rendered.grammar if waits else None,
        budget=budget,
        stops=request.stop,
        choices=request.n or 1,
    )


def _decoding(request: Request, rules: Rules, most: int, grammar: Grammar | None, adapter: str) -> Decoding:
    asked, usual = request.sampling, rules.defaults

    def value(name: str, otherwise: float) -> Any:
        given = getattr(asked, name)
        return (
            given
            if given is not None
            else getattr(usual, name, None)
            if getattr(usual, name, None) is not None
            else otherwise
        )

    temperature = value("temperature", 1.0)
    if not 0 <= temperature <= 10:
        raise BadRequest("`temperature` must be from 0 to 10.", param="temperature")
    top_p = value("top_p", 1.0)
    if not 0 < top_p <= 1:
        raise BadRequest("`top_p` must be above 0 and at most 1.", param="top_p")
    return Decoding(
        max_tokens=most,
        temperature=temperature,
        top_p=top_p,
        top_k=max(0, value("top_k", 0)),
        min_p=value("min_p", 0.0),
        presence_penalty=asked.presence_penalty or 0.0,
        frequency_penalty=asked.frequency_penalty or 0.0,
        repetition_penalty=value("repetition_penalty", 1.0),
        seed=asked.seed,
        logprobs=_logprobs(request, rules.facts),
        ignores_end=_flag(request.extra.get("ignore_eos")),
        grammar=grammar,
        adapter=adapter,
    )


def _logprobs(request: Request, facts: Facts) -> int | None:
    if not request.logprobs:
        return None
    wanted = request.top_logprobs or 0
    if wanted > facts.most_logprobs:
        raise BadRequest(
            f"{facts.library} tells the logprobs of {facts.most_logprobs or 'no'} other tokens; ask for `top_logprobs` of at "
            f"most {facts.most_logprobs}.",
            param="top_logprobs",
        )
    return wanted


def _budget(policy: ReasoningPolicy, thinks: bool | None) -> int | None:
    """In tokens. Nothing to bound where thinking is off; the model may still open a block, which is then cut at once."""
    if thinks is False:
        return None
    if policy.budget_tokens is not None:
        return policy.budget_tokens
    return BUDGET_OF.get(policy.effort or "")


#: Fields of chat completions that would change the answer, and that no local engine has. Others are read or have no effect.
_UNSUPPORTED = frozenset({"logit_bias", "audio", "web_search_options"})


def _refuse_unknown(request: Request) -> None:
    for name in request.extra:
        if name in _UNSUPPORTED:
            raise BadRequest(f"`{name}` is not supported by local engines.", code="unsupported_parameter", param=name)


def _kwargs(raw: Raw | None) -> Json:
    if raw is None:
        return {}
    value = msgspec.json.decode(raw)
    if not isinstance(value, dict):
        raise BadRequest("`chat_template_kwargs` must be an object.", param="chat_template_kwargs")
    return value


def _flag(raw: Raw | None) -> bool:
    return raw is not None and bytes(raw).strip() == b"true"


def _name_of(tool: Json) -> str:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else ""
