"""OpenAI. Facts: reference/providers.md A5."""

from naru.protocol.dialect import Quirks
from naru.providers.base import FOREIGN_FIELDS, MEDIA_PATHS, TEXT_PATHS, Provider

_REASONING_SERIES = {
    # o-series and gpt-5 on: max_tokens is answered with 400 unsupported_parameter (A5.3)
    "max_tokens_field": "max_completion_tokens",
    # reasoning_effort is this series' own switch (A5.3)
    "thinking_style": "openai_effort",
    # its reasoning comes encrypted from Responses, and makes the next step better (A5.3)
    "remembers_reasoning": True,
    # refused by the whole series (A5.3); `stop` and `logit_bias` change the answer: upstream refuses them by name
    "drops": frozenset({"presence_penalty", "frequency_penalty"}),
}

PROVIDER = Provider(
    kind="openai",
    label="OpenAI",
    docs="https://platform.openai.com/docs/api-reference",
    hosts={"us": "https://api.openai.com/v1"},
    env=("OPENAI_API_KEY",),
    paths={**TEXT_PATHS, **MEDIA_PATHS, "responses": "/responses"},
    # every later model is a chat model there, and its text completions are refused (docs)
    only={"completions": ("gpt-3.5-turbo-instruct*", "davinci-002", "babbage-002")},
    quirks=Quirks(
        # the one API that knows this role (A0.1)
        has_developer_role=True,
        # gpt-4 and older answer 400 to reasoning_effort (A5.2)
        thinking_style="none",
        # unknown body keys are answered with 400 "Unrecognized request argument supplied" (A5.2)
        drops=FOREIGN_FIELDS,
        # texts of one embeddings call (A5.6)
        max_inputs=2048,
    ),
    model_quirks=(
        ("gpt-[5-9]*", _REASONING_SERIES),
        ("o[1-9]*", _REASONING_SERIES),
    ),
)
