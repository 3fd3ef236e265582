"""DeepSeek. Facts: reference/providers.md A2. The ids retired on 2026-07-24 are mapped in the catalogue, not here."""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, Provider

PROVIDER = Provider(
    kind="deepseek",
    label="DeepSeek",
    docs="https://api-docs.deepseek.com",
    hosts={"cn": "https://api.deepseek.com/v1"},
    env=("DEEPSEEK_API_KEY",),
    paths={**CHAT_PATHS, "responses": "/responses"},
    quirks=Quirks(
        # thinking before the answer comes in this field, in messages and deltas (A2.3)
        thinking_field="reasoning_content",
        # a request with tools must carry all earlier thinking back, else 400 (A2.3)
        thinking_replay_field="reasoning_content",
        # where neither the caller nor we kept it, a single space is taken (A2.3)
        needs_reasoning_replay=True,
        # OpenAI clients drop it (A2.3)
        remembers_reasoning=True,
        # thinking and a forced choice of tools together get a 400 (A2.2)
        thinking_excludes=frozenset({"tool_choice"}),
        # thinking: {"type": enabled | disabled} plus reasoning_effort; there is no token budget (A2.2)
        thinking_style="deepseek",
        # the schema has low, high and max; the server itself reads the others so (A2.2)
        effort_values=(("minimal", "low"), ("medium", "high"), ("xhigh", "high"), ("ultra", "max")),
        # the schema has max_tokens alone; it includes the thinking (A2.2)
        max_tokens_field="max_tokens",
        # one choice only (A2.2)
        has_n=False,
        # seed and parallel_tool_calls are not in the schema, the penalties are deprecated without effect, `user` is
        # user_id here and must hold no personal data, the rest is another vendor's spelling of thinking (A2.2)
        drops=frozenset(
            {
                "seed",
                "parallel_tool_calls",
                "presence_penalty",
                "frequency_penalty",
                "user",
                "enable_thinking",
                "thinking_budget",
                "chat_template_kwargs",
            }
        ),
    ),
)
