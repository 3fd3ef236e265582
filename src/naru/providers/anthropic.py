"""Anthropic. Facts: reference/providers.md A4; the table of models is A4.2."""

from naru.protocol.dialect import Quirks
from naru.providers.base import Provider

_SAMPLING = frozenset({"temperature", "top_p", "top_k"})

_BUDGET = {
    # thinks by a budget of tokens, and knows no adaptive form (A4.2)
    "thinking_style": "anthropic_budget",
}
_NO_SAMPLING = {
    # refused from Opus 4.7 and the fifth generation on; a hint, not the form of an answer (A4.1)
    "drops": _SAMPLING,
}
_ALWAYS = {
    # thinks whatever is asked; `disabled` is refused (A4.2)
    "thinking_style": "anthropic_always",
    # as all of the newer models (A4.1)
    "drops": _SAMPLING,
}

PROVIDER = Provider(
    kind="anthropic",
    label="Anthropic",
    docs="https://platform.claude.com/docs/en/api/overview",
    dialect="anthropic_messages",
    hosts={"us": "https://api.anthropic.com/v1"},
    env=("ANTHROPIC_API_KEY",),
    auth="x-api-key",
    headers=(("anthropic-version", "2023-06-01"),),
    paths={"messages": "/messages", "count_tokens": "/messages/count_tokens", "models": "/models"},
    quirks=Quirks(
        # the form of every model since 4.6 (A4.2)
        thinking_style="anthropic_adaptive",
        # signed thinking goes back before the calls it led to (A4.4)
        remembers_reasoning=True,
        # one answer a request (A4.3)
        has_n=False,
    ),
    model_quirks=(
        ("claude-3-*", _BUDGET),
        ("claude-*-4-[0-5]*", _BUDGET),
        ("claude-*-4-20*", _BUDGET),
        (
            "claude-*-4-6*",
            {
                # "Supported levels: high, low, max, medium" (recorded)
                "effort_values": (("xhigh", "high"),),
            },
        ),
        ("claude-opus-4-[78]*", _NO_SAMPLING),
        ("claude-haiku-5*", _NO_SAMPLING),
        ("claude-sonnet-5*", _NO_SAMPLING),
        ("claude-opus-5*", _NO_SAMPLING),
        ("claude-sonnet-5-5*", _ALWAYS),
        ("claude-opus-5-5*", _ALWAYS),
        ("claude-fable-*", _ALWAYS),
        ("claude-mythos-*", _ALWAYS),
    ),
)
