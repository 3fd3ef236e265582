"""Hugging Face's router to inference providers. Model ids may end in `:provider`; only then is the price known."""

from naru.protocol.dialect import Quirks
from naru.providers.base import Provider

PROVIDER = Provider(
    kind="huggingface",
    label="Hugging Face router",
    docs="https://huggingface.co/docs/inference-providers",
    hosts={"global": "https://router.huggingface.co/v1"},
    env=("HF_TOKEN", "HUGGINGFACE_API_KEY"),
    quirks=Quirks(
        # some of the providers behind it leave the tags in the content (recorded)
        think_tag="inline",
        # the older name is the one that all of them know (unverified)
        max_tokens_field="max_tokens",
    ),
)
