"""llama.cpp's llama-server. Facts: reference/providers.md A7 and A7.4. It answers 503 while a model loads."""

from naru.protocol.dialect import Quirks
from naru.providers.base import HEAR_PATHS, TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="llamacpp",
    label="llama.cpp server",
    docs="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
    hosts={"local": "http://127.0.0.1:8080/v1"},
    auth="optional_bearer",
    paths={
        **TEXT_PATHS,
        "responses": "/responses",
        "rerank": "/rerank",
        # of models that hear (its server.cpp)
        "transcription": HEAR_PATHS["transcription"],
    },
    quirks=Quirks(
        # the server's default reasoning_format (A7)
        thinking_field="reasoning_content",
        # history is rendered by the chat template, which knows this name (unverified)
        thinking_replay_field="reasoning_content",
        # chat_template_kwargs; reasoning_effort knows only `none` (A7)
        thinking_style="template_kwarg",
        # --prefill-assistant, on unless switched off (docs, server README)
        prefill="plain",
        # llama-server's own name for it (unverified)
        renames=(("repetition_penalty", "repeat_penalty"),),
    ),
    probe_path="//health",
    # with --metrics (docs, server README); newer versions tell nothing of the KV memory
    load_path="//metrics",
    load_names=(("llamacpp:requests_processing",), ("llamacpp:requests_deferred",), ("llamacpp:kv_cache_usage_ratio",)),
    is_local=True,
)
