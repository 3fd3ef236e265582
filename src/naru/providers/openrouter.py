"""OpenRouter, a reseller of many providers."""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, Provider

PROVIDER = Provider(
    kind="openrouter",
    label="OpenRouter",
    docs="https://openrouter.ai/docs/api-reference",
    hosts={"global": "https://openrouter.ai/api/v1"},
    env=("OPENROUTER_API_KEY",),
    paths={**EMBEDDING_PATHS, "rerank": "/rerank"},
    quirks=Quirks(
        # one name for every provider behind it, beside reasoning_details (recorded, docs)
        thinking_field="reasoning",
        # earlier thinking goes back under the same name (unverified)
        thinking_replay_field="reasoning",
        # reasoning: {effort | max_tokens | enabled} (docs)
        thinking_style="openrouter",
    ),
)
