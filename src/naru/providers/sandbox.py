"""The built-in sandbox: a deterministic upstream without inference. Its address is given when it starts."""

from naru.providers.base import EMBEDDING_PATHS, MEDIA_PATHS, Provider

PROVIDER = Provider(
    kind="sandbox",
    label="Naru sandbox (no inference, play money)",
    docs="https://platform.openai.com/docs/api-reference/chat",
    auth="none",
    paths={**EMBEDDING_PATHS, **MEDIA_PATHS, "rerank": "/rerank"},
    is_local=True,
    is_catalogued=True,
)
