"""One policy on thinking and Anthropic's three forms of it: a budget, adaptive with an effort, or a plain switch.

Which of them an upstream takes is its `thinking_style` (providers.md A4.2, A4.3, A2.6):

    anthropic_adaptive   adaptive, effort in output_config; may be switched off
    anthropic_always     the same, and thinks whatever is asked
    anthropic_budget     enabled with budget_tokens; no effort
    anthropic_toggle     enabled or disabled, effort in output_config; no budget (DeepSeek)
    none                 no thinking
    anything else        the form in which it was asked: a budget as a budget, an effort as adaptive
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from naru.protocol.dialect import Quirks
from naru.protocol.messages import ReasoningPolicy
from naru.protocol.reasoning import EXTENSIONS, is_on, names_of, read_extensions
from naru.protocol.wire import Fields, decode_any, decode_fields, is_object, raw_of, text_of

#: providers.md A4.3: suggested budgets, and the least that Anthropic takes.
_BUDGET_OF = {"minimal": 1_024, "low": 1_024, "medium": 2_048, "high": 4_096, "xhigh": 8_192, "max": 16_384}
MIN_BUDGET = 1_024
#: providers.md B1.2: the effort that a budget amounts to.
_EFFORT_UP_TO = ((2_048, "low"), (8_192, "medium"))

Out = dict[str, Any]
_ADAPTIVE: Out = {"type": "adaptive", "display": "summarized"}  # without `display` newer models send blank thinking


def read_policy(fields: Fields) -> ReasoningPolicy:
    """The policy in Anthropic's form or in Naru's own extensions; what was understood is removed from `fields`."""
    extensions = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    enabled, budget = _read_thinking(fields)
    effort = _read_effort(fields)
    return ReasoningPolicy(
        enabled=enabled if enabled is not None else extensions.enabled,
        effort=effort or extensions.effort,
        budget_tokens=budget if budget is not None else extensions.budget_tokens,
    )


def _read_thinking(fields: Fields) -> tuple[bool | None, int | None]:
    """Whether, and the budget. A form that the policy cannot repeat stays in `fields` for Anthropic's own encoder."""
    raw = fields.get("thinking")
    if not is_object(raw):
        return None, None
    thinking = decode_any(raw)
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 0:
        budget = None
    canonical = {"type": kind} if budget is None else {"type": "enabled", "budget_tokens": budget}
    if thinking == canonical and (kind in ("disabled", "adaptive") or budget is not None):
        del fields["thinking"]
    return (None if not isinstance(kind, str) else kind != "disabled"), budget


def _read_effort(fields: Fields) -> str | None:
    raw = fields.get("output_config")
    if not is_object(raw):
        return None
    config = decode_fields(raw)
    effort = text_of(config.get("effort"))
    if effort is not None:
        del config["effort"]
        if config:
            fields["output_config"] = raw_of(config)
        else:
            del fields["output_config"]
    return effort


def write_policy(policy: ReasoningPolicy, quirks: Quirks, owns_extra: bool) -> tuple[Out, list[str]]:
    """`thinking` and `effort` as far as this upstream has them, and the names of what it cannot express.

    `owns_extra`: the caller wrote Anthropic's form, where an effort alone does not ask for thinking.
    """
    writer = _WRITERS.get(quirks.thinking_style)
    if writer is None:
        out, lost = _as_asked(policy, owns_extra)
    else:
        out, lost = writer(policy)
    effort = out.get("effort")
    if effort is not None:
        out["effort"] = dict(quirks.effort_values).get(effort, effort)
    return out, lost


def _effort(policy: ReasoningPolicy) -> Out:
    """Anthropic has low, medium, high, xhigh and max."""
    effort = policy.effort
    if effort is None and policy.budget_tokens:
        effort = next((name for limit, name in _EFFORT_UP_TO if policy.budget_tokens <= limit), "high")
    if effort is None or effort == "none":
        return {}
    return {"effort": "low" if effort == "minimal" else effort}


def _as_asked(policy: ReasoningPolicy, owns_extra: bool) -> tuple[Out, list[str]]:
    on = policy.enabled if owns_extra else is_on(policy)
    # An effort says how much work an answer is worth, thought of or not; `none` is no word of Anthropic's.
    out = {} if policy.effort is None or policy.effort == "none" else _effort(policy)
    if on is False:
        out["thinking"] = {"type": "disabled"}
    elif on and policy.budget_tokens:
        out["thinking"] = {"type": "enabled", "budget_tokens": policy.budget_tokens}
    elif on:
        out["thinking"] = {"type": "adaptive"} if owns_extra else _ADAPTIVE
    return out, []


def _adaptive(policy: ReasoningPolicy) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    return ({"thinking": _ADAPTIVE, **_effort(policy)} if on else {"thinking": {"type": "disabled"}}), []


def _always(policy: ReasoningPolicy) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is False:  # the nearest there is
        return {"effort": "low"}, ["enable_thinking"]
    return ({"thinking": _ADAPTIVE, **_effort(policy)} if on else {}), []


def _budget(policy: ReasoningPolicy) -> tuple[Out, list[str]]:
    if not is_on(policy):
        return {}, []  # off is the default of these models
    budget = policy.budget_tokens or _BUDGET_OF.get(policy.effort or "medium", _BUDGET_OF["high"])
    return {"thinking": {"type": "enabled", "budget_tokens": max(budget, MIN_BUDGET)}}, []


def _toggle(policy: ReasoningPolicy) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    return {"thinking": {"type": "enabled" if on else "disabled"}, **(_effort(policy) if on else {})}, []


def _none(policy: ReasoningPolicy) -> tuple[Out, list[str]]:
    return {}, names_of(policy)


_WRITERS: dict[str, Callable[[ReasoningPolicy], tuple[Out, list[str]]]] = {
    "anthropic_adaptive": _adaptive,
    "anthropic_always": _always,
    "anthropic_budget": _budget,
    "anthropic_toggle": _toggle,
    "none": _none,
}
