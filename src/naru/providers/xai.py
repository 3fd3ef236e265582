"""xAI. Its reasoning models refuse both penalties and `stop` by name (docs); those are the caller's to leave out."""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, FOREIGN_FIELDS, IMAGE_PATHS, Provider

PROVIDER = Provider(
    kind="xai",
    label="xAI",
    docs="https://docs.x.ai/docs/guides/reasoning",
    hosts={"us": "https://api.x.ai/v1"},
    env=("XAI_API_KEY",),
    # images.generate; `quality`, `size` and `style` are not supported, and edits are JSON of its own (docs, reported)
    paths={**CHAT_PATHS, "images": IMAGE_PATHS["images"]},
    quirks=Quirks(
        # grok-3-mini returns it here, later models return none (docs)
        thinking_field="reasoning_content",
        # xAI has none of these; whether it refuses or ignores them is open (unverified)
        drops=FOREIGN_FIELDS,
    ),
    model_quirks=(
        # reasoning_effort is an error (docs, reported)
        ("grok-3*", {"thinking_style": "none"}),
        # reasoning_effort is an error (docs, reported)
        ("grok-4", {"thinking_style": "none"}),
        # grok-4-0709, -latest, -fast-…, -1-fast-…: reasoning_effort is an error (docs, reported)
        ("grok-4-*", {"thinking_style": "none"}),
        # an error, and on the multi-agent model it means the number of agents (docs)
        ("grok-4.20*", {"thinking_style": "none"}),
        # reasoning_effort is an error (reported)
        ("grok-code*", {"thinking_style": "none"}),
        # the one of its generation that takes reasoning_effort (docs)
        ("grok-3-mini*", {"thinking_style": "openai_effort"}),
    ),
)
