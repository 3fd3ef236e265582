"""Groq."""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, FOREIGN_FIELDS, HEAR_PATHS, SPEAK_PATHS, Provider

PROVIDER = Provider(
    kind="groq",
    label="Groq",
    docs="https://console.groq.com/docs/openai",
    hosts={"us": "https://api.groq.com/openai/v1"},
    env=("GROQ_API_KEY",),
    # sound in and out, no images (docs, speech-to-text and text-to-speech)
    paths={**CHAT_PATHS, **HEAR_PATHS, **SPEAK_PATHS, "responses": "/responses"},
    quirks=Quirks(
        # message.reasoning and delta.reasoning (recorded)
        thinking_field="reasoning",
        # n must be 1, else 400 (docs)
        has_n=False,
        # Groq has none of these; whether it refuses or ignores them is open (unverified)
        drops=FOREIGN_FIELDS,
    ),
    model_quirks=(
        # reasoning_format is raw unless tools or JSON are asked for: the tags stand in the content (docs)
        ("qwen*", {"think_tag": "inline"}),
        # recorded so: deepseek-r1-distill-llama-70b with the default reasoning_format
        ("deepseek-r1*", {"think_tag": "inline"}),
        # these do not think, and reasoning_effort is for models that do (docs list them; the 400 is unverified)
        ("llama*", {"thinking_style": "none"}),
        # the same family under its other prefix (unverified)
        ("meta-llama/*", {"thinking_style": "none"}),
    ),
)
