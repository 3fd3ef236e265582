"""NAVER's OmniServe: HyperCLOVA X SEED open weights on own hardware. Facts: reference/providers.md A1.8.

Two tracks, each with its own path: /a/v1 answers as track_a_model (SEED-Think-32B), /b/v1 as track_b_model (SEED-Omni-8B).
Omni reads and writes pictures and sound by address only, so an `input_audio` holds the base64 of an address.
"""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, Provider

PROVIDER = Provider(
    kind="omniserve",
    label="HyperCLOVA X SEED on OmniServe",
    docs="https://github.com/NAVER-Cloud-HyperCLOVA-X/OmniServe",
    hosts={"a": "http://127.0.0.1:8000/a/v1", "b": "http://127.0.0.1:8000/b/v1"},
    auth="none",
    paths={"chat": CHAT_PATHS["chat"]},
    quirks=Quirks(
        # chat_template_kwargs.thinking and thinking_token_budget, of Think-32B (A1.8)
        thinking_style="template_kwarg",
    ),
    model_quirks=(
        (
            "track_b*",
            {
                # Omni's switch is skip_reasoning, which the caller writes in chat_template_kwargs (A1.8)
                "thinking_style": "none",
            },
        ),
    ),
    is_local=True,
)
