"""The upstreams of the matrix: a dialect and the provider table that reaches an emulated one."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.dialect import Dialect
from naru.protocol.gemini import GEMINI
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES


class Wire(NamedTuple):
    """`kind` is the provider; `base` its path prefix. `dialect` None: no client speaks it, so the sandbox itself does.

    `model` is the provider's name for the one with a behaviour: its rules come before the dash, the behaviour after it.
    """

    dialect: Dialect | None
    kind: str
    base: str
    endpoint: str = ""
    model: Callable[[str], str] = str


def hcx(behaviour: str) -> str:
    """One model alone thinks and knows schemas, another alone sees pictures."""
    return f"HCX-007-{behaviour}" if behaviour in ("think", "json") else f"HCX-005-{behaviour}"


UPSTREAMS: dict[str, Wire] = {
    "openai_chat": Wire(OPENAI_CHAT, "custom", "/v1"),
    "openai_responses": Wire(OPENAI_RESPONSES, "custom", "/v1", endpoint="responses"),
    "anthropic_messages": Wire(ANTHROPIC_MESSAGES, "anthropic", "/v1"),
    "gemini": Wire(GEMINI, "gemini", "/v1beta"),
    "clova": Wire(None, "clova", "/v3", model=hcx),
    "bedrock": Wire(None, "bedrock", "", model=lambda behaviour: f"us.anthropic.claude-haiku-5-5-{behaviour}"),
}


#: The models that clients ask for, and the sandbox's behaviour behind each.
MODELS = {
    "echo": "echo",
    "tools": "tools",
    "think": "think",
    "json": "json",
    "throttled": "echo?status=429&retry_after=3",
    "cut": "echo?cut_after=2",
}

#: (feature, upstream) -> what an upstream cannot do. The cell is shown as refused, and its test proves that it is, by name.
LIMITS = {
    ("n", "bedrock"): "one answer a request; `n` above 1 is refused by name",
    ("n", "clova"): "one answer a request; `n` above 1 is refused by name",
    ("n", "anthropic_messages"): "one answer a request; `n` above 1 is refused by name",
    ("n", "openai_responses"): "one answer a request; `n` above 1 is refused by name",
    ("stop", "openai_responses"): "the Responses API has no stop sequences; `stop` is refused by name",
}


def provider_table(name: str, origin: str) -> str:
    """naru.toml with one provider, `up`, priced at 1 and 2 USD per million."""
    wire = UPSTREAMS[name]
    endpoint = f', endpoint = "{wire.endpoint}"' if wire.endpoint else ""
    return f"""
    [providers.up]
    kind = "{wire.kind}"
    base_url = "{origin}{wire.base}"
    api_key = "x"
    allow_private = true
    price = {{ input = 1, output = 2 }}
    """ + "".join(
        f"""
    [models.{model}]
    deployments = [{{ provider = "up", model = "{wire.model(upstream)}"{endpoint} }}]
    """
        for model, upstream in MODELS.items()
    )
