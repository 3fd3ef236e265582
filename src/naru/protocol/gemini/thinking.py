"""One policy on thinking, Google's spellings: a token budget (Gemini 2.5) or a level (3 and later), never both.

`Quirks.thinking_style` says which: gemini_budget | gemini_level | none. `Quirks.effort_values` has a model's own words, or,
for budgets, its own numbers: 2.5 Pro cannot be switched off, so its `none` is 128. Facts: providers.md A6.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.gemini.wire import THINKING_NAMES, canonical, wrong
from naru.protocol.messages import ReasoningPolicy
from naru.protocol.reasoning import EXTENSIONS, names_of, read_extensions
from naru.protocol.reasoning import is_on as is_wanted
from naru.protocol.wire import BAD_JSON, Fields, decode_fields, is_object

T = TypeVar("T")

#: providers.md A6.2; the last two are the most that all 2.5 models take (unverified).
_BUDGETS = {"none": 0, "minimal": 1, "low": 1_024, "medium": 2_048, "high": 4_096, "xhigh": 24_576, "max": 24_576}
#: Gemini's levels, and what stands nearest to the efforts it has none for.
_LEVELS = {"none": "minimal", "max": "xhigh"}
#: Up to how many tokens a budget means which level.
_LEVEL_OF_BUDGET = ((512, "minimal"), (1_024, "low"), (4_096, "medium"))

_bool = msgspec.json.Decoder(bool | None).decode
_int = msgspec.json.Decoder(int | None).decode
_str = msgspec.json.Decoder(str | None).decode


def read_policy(fields: Fields, config: Fields) -> ReasoningPolicy:
    """Takes the extensions out of `fields` and thinkingConfig out of `config`. Raises BadRequest for wrong types.

    A budget of 0 is off, -1 leaves it to the model. What is in thinkingConfig beyond the three known fields stays there.
    """
    own = _take_own(config)
    given = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    return ReasoningPolicy(
        own.enabled if own.enabled is not None else given.enabled,
        own.effort or given.effort,
        own.budget_tokens if own.budget_tokens is not None else given.budget_tokens,
        own.summary,
    )


def _take_own(config: Fields) -> ReasoningPolicy:
    raw = config.pop("thinkingConfig", None)
    if not is_object(raw):
        return ReasoningPolicy()
    path = "generationConfig.thinkingConfig."
    given = canonical(decode_fields(raw), THINKING_NAMES)
    budget = _take(given, "thinkingBudget", _int, "a whole number of tokens", path)
    level = _take(given, "thinkingLevel", _str, "a string such as low or high", path)
    shows = _take(given, "includeThoughts", _bool, "true or false", path)
    if given:
        config["thinkingConfig"] = Raw(msgspec.json.encode(given))
    return ReasoningPolicy(
        enabled=None if budget not in (0, -1) else budget != 0,
        effort=level.lower() if level else None,
        budget_tokens=budget if budget is not None and budget > 0 else None,
        summary="auto" if shows else None,
    )


def _take(fields: Fields, name: str, decode: Callable[[Raw], T], what: str, path: str = "") -> T | None:
    raw = fields.pop(name, None)
    if raw is None:
        return None
    try:
        return decode(raw)
    except BAD_JSON:
        raise wrong(path + name, what) from None


def write_policy(policy: ReasoningPolicy, quirks: Quirks, owns: bool) -> tuple[dict[str, Any], list[str]]:
    """thinkingConfig, empty where nothing is asked for, and the names of what it cannot express.

    A Gemini caller sees thoughts if it asked for them; callers of other dialects expect to see them wherever they asked for
    thinking.
    """
    if policy == ReasoningPolicy():
        return {}, []
    if quirks.thinking_style not in ("gemini_budget", "gemini_level"):
        return {}, names_of(policy)
    is_on = is_wanted(policy)
    out: dict[str, Any] = {}
    lost: list[str] = []
    if is_on is not None:
        key, value = _amount(policy, is_on, quirks)
        if value is not None:
            out[key] = value
        if policy.budget_tokens is not None and policy.effort is not None and is_on:
            lost.append("reasoning_effort" if key == "thinkingBudget" else "thinking_budget")
    if policy.summary is not None or (is_on and not owns):
        out["includeThoughts"] = True
    elif is_on is False and quirks.thinking_style == "gemini_level":
        out["includeThoughts"] = False  # the lowest level still thinks; who switched it off is not shown it
    return out, lost


def _amount(policy: ReasoningPolicy, is_on: bool, quirks: Quirks) -> tuple[str, int | str | None]:
    theirs = dict(quirks.effort_values)
    effort = policy.effort if is_on else "none"
    if quirks.thinking_style == "gemini_budget":
        if is_on and policy.budget_tokens:
            return "thinkingBudget", policy.budget_tokens
        if effort is None or (is_on and effort == "none"):
            return "thinkingBudget", -1
        own = theirs.get(effort, "")
        return "thinkingBudget", int(own) if own else _BUDGETS.get(effort, -1)
    if is_on and (effort is None or effort == "none"):
        effort = _level_of(policy.budget_tokens)
    if effort is None:
        return "thinkingLevel", None
    return "thinkingLevel", theirs.get(effort) or _LEVELS.get(effort, effort)


def _level_of(budget: int | None) -> str | None:
    if not budget:
        return None
    return next((level for tokens, level in _LEVEL_OF_BUDGET if budget <= tokens), "high")


def map_extensions(fields: Fields, quirks: Quirks) -> list[str]:
    """Same dialect: the extensions become thinkingConfig, unless the caller gave that too. Returns what was left out."""
    given = {name: fields.pop(name) for name in EXTENSIONS & fields.keys()}
    policy = read_policy(dict(given), {})
    config = decode_fields(raw) if is_object(raw := fields.get("generationConfig")) else {}
    if "thinkingConfig" in config:
        return sorted(given)
    out, lost = write_policy(policy, quirks, owns=False)
    if out:
        fields["generationConfig"] = Raw(msgspec.json.encode({**config, "thinkingConfig": out}))
    return lost
