"""Any other server that speaks OpenAI's chat completions. `base_url` is required; a key is sent when there is one."""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, MEDIA_PATHS, Provider

PROVIDER = Provider(
    kind="custom",
    label="Any OpenAI-compatible server",
    docs="https://platform.openai.com/docs/api-reference/chat",
    auth="optional_bearer",
    paths={**EMBEDDING_PATHS, **MEDIA_PATHS, "responses": "/responses", "rerank": "/rerank"},
    quirks=Quirks(
        # unknown servers get what the caller wrote, and thinking tags in the content are taken out (A7.6)
        think_tag="inline",
    ),
)
