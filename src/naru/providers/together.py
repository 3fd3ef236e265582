"""Together AI."""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, HEAR_PATHS, IMAGE_PATHS, SPEAK_PATHS, Provider

PROVIDER = Provider(
    kind="together",
    label="Together AI",
    docs="https://docs.together.ai/reference/chat-completions-1",
    hosts={"us": "https://api.together.xyz/v1"},
    env=("TOGETHER_API_KEY",),
    paths={
        **EMBEDDING_PATHS,
        "rerank": "/rerank",
        # sound in and out, and images.generate; no images.edit (docs, openai-compatibility)
        **HEAR_PATHS,
        **SPEAK_PATHS,
        "images": IMAGE_PATHS["images"],
    },
    quirks=Quirks(
        # the older name is the one every one of its models knows (unverified)
        max_tokens_field="max_tokens",
        # the chat template holds the switch, as in vLLM (unverified)
        thinking_style="template_kwarg",
        # DeepSeek R1 behind it answers with the tags in the content (recorded, through the Hugging Face router)
        think_tag="inline",
    ),
)
