"""SGLang. Facts: reference/providers.md A7 and A7.2."""

from naru.protocol.dialect import Quirks
from naru.providers.base import HEAR_PATHS, TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="sglang",
    label="SGLang",
    docs="https://docs.sglang.ai/basic_usage/openai_api.html",
    hosts={"local": "http://127.0.0.1:30000/v1"},
    auth="optional_bearer",
    # transcriptions of speech-to-text models; no translations (its serving_transcription.py)
    paths={**TEXT_PATHS, "rerank": "/rerank", "transcription": HEAR_PATHS["transcription"]},
    quirks=Quirks(
        # not `reasoning` as in vLLM (A7)
        thinking_field="reasoning_content",
        # history is rendered by the chat template, which knows this name (unverified)
        thinking_replay_field="reasoning_content",
        # the model's own chat template holds the switch (A7)
        thinking_style="template_kwarg",
        # its requests have vLLM's flag (reported)
        prefill="continue_final",
    ),
    probe_path="//health",
    # with --enable-metrics (docs, references/production_metrics)
    load_path="//metrics",
    load_names=(("sglang:num_running_reqs",), ("sglang:num_queue_reqs",), ("sglang:token_usage",)),
    is_local=True,
)
