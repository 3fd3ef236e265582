"""One policy on thinking, many spellings: what the caller asked becomes the field this upstream has for it.

Callers may write `reasoning_effort`, `enable_thinking`, `thinking_budget` towards any model. Facts: providers.md A2.2
(DeepSeek), A3.2 (Qwen: never budget and effort together), A5.3 (OpenAI), A7 (templates); OpenRouter's `reasoning` object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.messages import ReasoningPolicy
from naru.protocol.reasoning import EXTENSIONS, is_count, is_on, names_of, read_extensions
from naru.protocol.wire import is_object, value_of

#: providers.md A3.2: suggested budgets. xhigh and max mean the model's own maximum: the field is left out.
_BUDGET_OF = {"minimal": 512, "low": 1_024, "medium": 4_096, "high": 16_384}

Out = dict[str, Any]


def map_thinking(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Replaces the extensions among `fields` by the upstream's own; returns the names of what it cannot express."""
    if (
        quirks.thinking_style == "openai_effort"
        and not quirks.effort_values
        and EXTENSIONS & fields.keys() == {"reasoning_effort"}
    ):
        return []
    given = {name: fields.pop(name) for name in EXTENSIONS & fields.keys()}
    policy = read_extensions(given)
    if policy == ReasoningPolicy():
        return []
    return write_policy(fields, policy, quirks)


def read_policy(fields: dict[str, Raw]) -> ReasoningPolicy:
    """The policy in any of the forms the field uses; what was understood is removed from `fields`, the rest stays."""
    policy = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    readers: tuple[tuple[str, Callable[[dict[str, Any]], ReasoningPolicy | None]], ...]
    readers = (("thinking", _from_thinking), ("reasoning", _from_reasoning))
    for name, reader in readers:
        if is_object(raw := fields.get(name)):
            value = value_of(raw)
            more = reader(value) if isinstance(value, dict) else None
            if more is not None:
                del fields[name]
                policy = _merged(policy, more)
    return policy


def write_policy(fields: dict[str, Any], policy: ReasoningPolicy, quirks: Quirks) -> list[str]:
    """Adds the upstream's fields; returns the names of what it cannot express."""
    dropped = ["reasoning.summary"] if policy.summary is not None and quirks.thinking_style != "openrouter" else []
    writer = _WRITERS.get(quirks.thinking_style)
    if writer is None:
        return dropped + names_of(policy)
    out, lost = writer(policy, _Spelling(quirks.effort_values))
    kwargs = out.pop("chat_template_kwargs", None)
    for name, value in out.items():
        fields.setdefault(name, value)
    if kwargs is not None:
        fields["chat_template_kwargs"] = _with_kwargs(fields.get("chat_template_kwargs"), kwargs)
    return dropped + lost


class _Spelling:
    def __init__(self, pairs: tuple[tuple[str, str], ...]) -> None:
        self._theirs = dict(pairs)

    def __call__(self, effort: str) -> str:
        return self._theirs.get(effort, effort)


def settle_conflicts(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Switches thinking off where this upstream refuses it beside something else that is asked; returns the names of what
    was asked of it. What a caller asked of thinking may stand in the upstream's own fields by now."""
    if quirks.thinking_excludes.isdisjoint(fields) or not any(
        _decides(name, fields[name]) for name in quirks.thinking_excludes & fields.keys()
    ):
        return []
    if is_off(fields):
        return []
    asked = [name for name in _OWN_FIELDS if name in fields]
    for name in asked:
        del fields[name]
    write_policy(fields, ReasoningPolicy(enabled=False), quirks)
    return asked


#: Every name under which an upstream of chat completions is told to think.
_OWN_FIELDS = (
    "thinking",
    "reasoning_effort",
    "enable_thinking",
    "thinking_budget",
    "thinking_token_budget",
    "reasoning",
)


def _decides(name: str, value: Any) -> bool:
    """Whether the field decides the form of the answer: a choice of `auto` or `none`, a format of `text` do not."""
    value = value_of(value) if isinstance(value, Raw) else value
    if name == "tool_choice":
        return value not in (None, "auto", "none")
    return isinstance(value, dict) and value.get("type") not in (None, "text")


def is_off(fields: dict[str, Any]) -> bool:
    """Whether thinking is switched off, in the words of DeepSeek or Qwen."""
    thinking = fields.get("thinking")
    thinking = value_of(thinking) if isinstance(thinking, Raw) else thinking
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        return True
    toggle = fields.get("enable_thinking")
    return toggle is False or (isinstance(toggle, Raw) and bytes(toggle) == b"false")


def _effort(policy: ReasoningPolicy) -> str | None:
    if policy.effort is not None and policy.effort != "none":
        return policy.effort
    if policy.budget_tokens is None:
        return None
    return next((effort for effort, budget in _BUDGET_OF.items() if policy.budget_tokens <= budget), "high")


def _lost_budget(policy: ReasoningPolicy) -> list[str]:
    return ["thinking_budget"] if policy.budget_tokens is not None and policy.effort is not None else []


def _openai_effort(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    return {"reasoning_effort": spell((_effort(policy) or "medium") if on else "none")}, _lost_budget(policy)


def _deepseek(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    out: Out = {"thinking": {"type": "enabled" if on else "disabled"}}
    if on and (effort := _effort(policy)) is not None:
        out["reasoning_effort"] = spell(effort)
    return out, _lost_budget(policy)


def _qwen_toggle(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    out: Out = {"enable_thinking": on}
    budget = policy.budget_tokens or _BUDGET_OF.get(policy.effort or "")
    if on and budget:
        out["thinking_budget"] = budget
    return out, []


def _qwen_effort(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    out: Out = {"enable_thinking": on}
    if on and policy.effort is not None and policy.effort != "none":
        out["reasoning_effort"] = spell(policy.effort)
        return out, _lost_budget(policy)
    if on and policy.budget_tokens:
        out["thinking_budget"] = policy.budget_tokens
    return out, []


def _template_kwarg(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    if on is None:
        return {}, []
    # Qwen's templates read `enable_thinking`, DeepSeek's read `thinking`; a template ignores what it does not read.
    out: Out = {"chat_template_kwargs": {"enable_thinking": on, "thinking": on}}
    if on and policy.effort is not None and policy.effort != "none":
        out["reasoning_effort"] = spell(policy.effort)
    if on and policy.budget_tokens:
        out["thinking_token_budget"] = policy.budget_tokens
    return out, []


def _openrouter(policy: ReasoningPolicy, spell: _Spelling) -> tuple[Out, list[str]]:
    on = is_on(policy)
    reasoning: Out = {}
    if policy.summary is not None:
        reasoning["summary"] = policy.summary
    if on is False:
        reasoning["enabled"] = False
    elif policy.effort is not None and policy.effort != "none":
        reasoning["effort"] = spell(policy.effort)
    elif policy.budget_tokens:
        reasoning["max_tokens"] = policy.budget_tokens
    elif on:
        reasoning["enabled"] = True
    return ({"reasoning": reasoning} if reasoning else {}), _lost_budget(policy)


_WRITERS: dict[str, Callable[[ReasoningPolicy, _Spelling], tuple[Out, list[str]]]] = {
    "openai_effort": _openai_effort,
    "deepseek": _deepseek,
    "qwen_toggle": _qwen_toggle,
    "qwen_effort": _qwen_effort,
    "template_kwarg": _template_kwarg,
    "openrouter": _openrouter,
}


def _with_kwargs(given: Any, kwargs: Out) -> Any:
    """The caller's own template arguments win: they name this very template."""
    if given is None or (isinstance(given, Raw) and not is_object(given)):
        return kwargs
    own = msgspec.json.decode(given, type=dict[str, Raw]) if isinstance(given, Raw) else given
    return {**kwargs, **own}


def _from_thinking(value: dict[str, Any]) -> ReasoningPolicy | None:
    """{"type": "enabled" | "disabled" | "adaptive", "budget_tokens"?}: DeepSeek, Z.ai, Anthropic's shape."""
    if not value.keys() <= {"type", "budget_tokens"} or value.get("type") not in ("enabled", "disabled", "adaptive"):
        return None
    budget = value.get("budget_tokens")
    if budget is not None and not is_count(budget):
        return None
    return ReasoningPolicy(enabled=value["type"] != "disabled", budget_tokens=budget)


def _from_reasoning(value: dict[str, Any]) -> ReasoningPolicy | None:
    """{"effort", "max_tokens", "enabled", "summary"}: OpenRouter's, and Responses' shape on a chat endpoint."""
    if not value.keys() <= {"effort", "max_tokens", "enabled", "summary"}:
        return None
    effort, budget, enabled, summary = (value.get(name) for name in ("effort", "max_tokens", "enabled", "summary"))
    is_sound = (
        (effort is None or isinstance(effort, str))
        and (budget is None or is_count(budget))
        and (enabled is None or isinstance(enabled, bool))
        and (summary is None or isinstance(summary, str))
    )
    return ReasoningPolicy(enabled, effort, budget, summary) if is_sound else None


def _merged(first: ReasoningPolicy, more: ReasoningPolicy) -> ReasoningPolicy:
    return ReasoningPolicy(
        first.enabled if first.enabled is not None else more.enabled,
        first.effort if first.effort is not None else more.effort,
        first.budget_tokens if first.budget_tokens is not None else more.budget_tokens,
        first.summary if first.summary is not None else more.summary,
    )
