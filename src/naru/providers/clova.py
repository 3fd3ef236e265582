"""NAVER CLOVA Studio: HyperCLOVA X over its native API. Facts: reference/providers.md A1; prices C6.

Native, because the compatible endpoint cannot be asked for a stream's usage (A1.2). The government cloud's paths have a
prefix, serviceapp or testapp; its older v1 models are not reachable here.
"""

from naru.protocol.dialect import Quirks
from naru.providers.base import Provider

_V1 = {
    # v1's names (A1.6)
    "renames": (("repetitionPenalty", "repeatPenalty"), ("stop", "stopBefore")),
}

PROVIDER = Provider(
    kind="clova",
    label="NAVER CLOVA Studio",
    docs="https://api.ncloud-docs.com/docs/ai-naver-clovastudio-summary",
    dialect="clova",
    hosts={
        "kr": "https://clovastudio.stream.ntruss.com/v3",
        "kr-gov": "https://clovastudio.stream.gov-ntruss.com/serviceapp/v3",
    },
    env=("CLOVASTUDIO_API_KEY",),
    paths={
        "clova_v3": "/chat-completions/{model}",
        "clova_v1": "//v1/chat-completions/{model}",
        "embeddings_clova": "//v1/api-tools/embedding/v2",
        "rerank_clova": "//v1/api-tools/reranker",
        "models": "//v1/openai/models",
    },
    only={
        "clova_v3": ("hcx-00[5-9]*", "hcx-dash-00[2-9]*"),
        "clova_v1": ("hcx-003*", "hcx-dash-001*"),
        "embeddings_clova": ("bge-m3*",),
        "rerank_clova": ("*rerank*",),
    },
    quirks=Quirks(
        # one model alone thinks (A1.3)
        thinking_style="none",
        # the limit's name on models that do not think (A1.3)
        max_tokens_field="maxTokens",
        # one choice only (A1.3)
        has_n=False,
    ),
    model_quirks=(
        # the most that an answer may have (A1.1)
        ("hcx-*", {"max_output": 4_096}),
        (
            "hcx-007*",
            {
                # thinking and answer together (A1.1)
                "max_output": 32_768,
                # thinking: {"effort": none | low | medium | high}, low unless it is said (A1.3)
                "thinking_style": "clova_effort",
                # covers thinking and answer; maxTokens is refused while it thinks (A1.3)
                "max_tokens_field": "maxCompletionTokens",
            },
        ),
        ("hcx-003*", _V1),
        ("hcx-dash-001*", _V1),
    ),
)
