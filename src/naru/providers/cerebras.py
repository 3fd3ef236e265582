"""Cerebras."""

from naru.protocol.dialect import Quirks
from naru.providers.base import FOREIGN_FIELDS, Provider

PROVIDER = Provider(
    kind="cerebras",
    label="Cerebras",
    docs="https://inference-docs.cerebras.ai/resources/openai",
    hosts={"us": "https://api.cerebras.ai/v1"},
    env=("CEREBRAS_API_KEY",),
    quirks=Quirks(
        # message.reasoning (recorded)
        thinking_field="reasoning",
        # the newer name is its own (reliability.md, on its rate limits)
        max_tokens_field="max_completion_tokens",
        # answered with 400, as is logit_bias, which decides the answer and so is left to be refused (reported)
        drops=FOREIGN_FIELDS | {"frequency_penalty", "presence_penalty", "parallel_tool_calls", "service_tier"},
    ),
    model_quirks=(
        # reasoning_format is raw by default: the tags stand in the content (docs)
        ("qwen*", {"think_tag": "inline"}),
    ),
)
