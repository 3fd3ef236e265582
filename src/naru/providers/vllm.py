"""vLLM. Facts: reference/providers.md A7 and A7.1."""

from naru.protocol.dialect import Quirks
from naru.providers.base import HEAR_PATHS, TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="vllm",
    label="vLLM",
    docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    hosts={"local": "http://127.0.0.1:8000/v1"},
    auth="optional_bearer",
    # of speech-to-text models (docs, speech_to_text)
    paths={**TEXT_PATHS, **HEAR_PATHS, "responses": "/responses", "rerank": "/rerank"},
    quirks=Quirks(
        # reasoning_content in older versions; decoders read both (A7.1)
        thinking_field="reasoning",
        # history goes back under the same name (A7.1)
        thinking_replay_field="reasoning",
        # the model's own chat template holds the switch (A7)
        thinking_style="template_kwarg",
        # continue_final_message with add_generation_prompt false (docs, openai_compatible_server)
        prefill="continue_final",
    ),
    probe_path="//health",
    load_path="//metrics",
    # docs, usage/metrics; gpu_cache_usage_perc is the older name
    load_names=(
        ("vllm:num_requests_running",),
        ("vllm:num_requests_waiting",),
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    is_local=True,
)
