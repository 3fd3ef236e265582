"""Z.ai (Zhipu), the international host."""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, HEAR_PATHS, IMAGE_PATHS, Provider

PROVIDER = Provider(
    kind="zai",
    label="Z.ai",
    docs="https://docs.z.ai/api-reference",
    hosts={"global": "https://api.z.ai/api/paas/v4"},
    env=("ZAI_API_KEY",),
    # both are in its API reference (docs); how far their fields are OpenAI's is open (unverified)
    paths={**CHAT_PATHS, "images": IMAGE_PATHS["images"], "transcription": HEAR_PATHS["transcription"]},
    quirks=Quirks(
        # message.reasoning_content (recorded)
        thinking_field="reasoning_content",
        # earlier thinking is kept under the same name with clear_thinking: false (the field is recorded, the rule unverified)
        thinking_replay_field="reasoning_content",
        # thinking: {"type": enabled | disabled} beside reasoning_effort, the same shape as DeepSeek's (recorded)
        thinking_style="deepseek",
        # the older name (unverified)
        max_tokens_field="max_tokens",
        # one choice only (unverified)
        has_n=False,
        # other vendors' ways to switch thinking
        drops=frozenset({"enable_thinking", "thinking_budget", "chat_template_kwargs"}),
    ),
)
