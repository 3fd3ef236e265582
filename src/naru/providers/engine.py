"""Naru's own worker for local models (`naru engine serve`). Facts: engine/, and reference/local_serving.md 1.5."""

from naru.protocol.dialect import Quirks
from naru.providers.base import TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="engine",
    label="Naru's own engine",
    docs="https://platform.openai.com/docs/api-reference/chat",
    auth="none",
    # what the model is made for; the worker refuses the rest by name
    paths={**TEXT_PATHS, "rerank": "/rerank"},
    quirks=Quirks(
        # the worker's own choice, and the one that most clients know
        thinking_field="reasoning_content",
        # history is rendered by the model's chat template, which knows this name (1.5)
        thinking_replay_field="reasoning_content",
        # a switch and a budget in tokens, as Qwen's own service has them; an effort becomes a budget (1.5)
        thinking_style="qwen_toggle",
        # continue_final_message, as vLLM calls it
        prefill="continue_final",
    ),
    probe_path="//health",
    load_path="//metrics",
    # the worker's own names
    load_names=(
        ("naru_engine_requests_running",),
        ("naru_engine_requests_waiting",),
        ("naru_engine_kv_cache_usage_ratio",),
    ),
    is_local=True,
)
