"""Mistral AI."""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, FOREIGN_FIELDS, Provider

PROVIDER = Provider(
    kind="mistral",
    label="Mistral AI",
    docs="https://docs.mistral.ai/api/",
    hosts={"eu": "https://api.mistral.ai/v1"},
    env=("MISTRAL_API_KEY",),
    paths=EMBEDDING_PATHS,
    quirks=Quirks(
        # a thinking model's content is a list of thinking and text chunks (recorded)
        has_list_content=True,
        # stream_options is answered with 422 extra_forbidden; usage comes without being asked for (reported)
        has_stream_usage=False,
        # max_completion_tokens is answered with 422 extra_forbidden (reported)
        max_tokens_field="max_tokens",
        # Mistral's names for them (docs of its clients; docs)
        renames=(("seed", "random_seed"), ("dimensions", "output_dimension")),
        # only some models have a switch, see below (docs)
        thinking_style="none",
        # prefix: true on the last message (docs, prefix)
        prefill="prefix",
        # closed schema: unknown keys are answered with 422 extra_forbidden (reported); which of OpenAI's bookkeeping
        # fields it knows is open (unverified)
        drops=FOREIGN_FIELDS | {"user", "store", "service_tier"},
    ),
    model_quirks=(
        # adjustable through reasoning_effort (docs)
        ("mistral-small-latest", {"thinking_style": "openai_effort"}),
        # adjustable through reasoning_effort (docs)
        ("mistral-medium-3-5*", {"thinking_style": "openai_effort"}),
    ),
)
