"""The built-in sandbox: a deterministic upstream without inference. Its address is given when it starts."""

from naru.providers.base import CHAT_PATHS, Provider

PROVIDER = Provider(
    kind="sandbox",
    label="Naru sandbox (no inference, play money)",
    docs="https://platform.openai.com/docs/api-reference/chat",
    auth="none",
    paths=CHAT_PATHS,
    is_local=True,
    is_catalogued=True,
)
