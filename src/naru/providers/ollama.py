"""Ollama. Facts: reference/providers.md A7 and A7.3. It cuts long prompts silently at the server's num_ctx."""

from naru.protocol.dialect import Quirks
from naru.providers.base import TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="ollama",
    label="Ollama",
    docs="https://docs.ollama.com/api/openai-compatibility",
    hosts={"local": "http://127.0.0.1:11434/v1"},
    auth="optional_bearer",
    paths={**TEXT_PATHS, "responses": "/responses"},
    quirks=Quirks(
        # message.reasoning and delta.reasoning (A7, recorded)
        thinking_field="reasoning",
        # accepted in history under the same name (unverified)
        thinking_replay_field="reasoning",
        # the older name alone is known, so a limit under the newer one would be lost (A7)
        max_tokens_field="max_tokens",
        # n is ignored, so a caller would get one choice in place of several (A7.3)
        has_n=False,
        # pictures as base64 data URIs only (A7.3)
        needs_image_data=True,
    ),
    probe_path="//api/version",
    is_local=True,
)
