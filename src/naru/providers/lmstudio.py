"""LM Studio. Facts: reference/providers.md A7 and A7.5."""

from naru.protocol.dialect import Quirks
from naru.providers.base import TEXT_PATHS, Provider

PROVIDER = Provider(
    kind="lmstudio",
    label="LM Studio",
    docs="https://lmstudio.ai/docs/developer/openai-compat",
    hosts={"local": "http://127.0.0.1:1234/v1"},
    auth="optional_bearer",
    paths={**TEXT_PATHS, "responses": "/responses"},
    quirks=Quirks(
        # the separate field needs a developer setting; without it the tags stand in the content (A7)
        think_tag="inline",
        # the schema has max_tokens alone (A7)
        max_tokens_field="max_tokens",
        # one choice only (A7)
        has_n=False,
        # a picture's address gets a 400: "'url' field must be a base64 encoded image" (reported)
        needs_image_data=True,
        # the switch is on /responses alone (A7)
        thinking_style="none",
        # the server calls it so (A7)
        renames=(("repetition_penalty", "repeat_penalty"),),
    ),
    is_local=True,
)
