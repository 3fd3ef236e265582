"""HolySheep AI, the reseller of the seed documents: one OpenAI-compatible address for many models."""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, Provider

PROVIDER = Provider(
    kind="holysheep",
    label="HolySheep AI",
    docs="https://www.holysheep.ai",
    hosts={"global": "https://api.holysheep.ai/v1"},
    # the second is what code copied from the seed documents reads
    env=("HOLYSHEEP_API_KEY", "YOUR_HOLYSHEEP_API_KEY"),
    paths=EMBEDDING_PATHS,
    quirks=Quirks(
        # many vendors behind one address: thinking tags in the content are taken out (A7.6)
        think_tag="inline",
    ),
)
