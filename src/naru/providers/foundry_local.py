"""Microsoft Foundry Local. The service picks a free port at each start (`foundry service status` prints it)."""

from naru.protocol.dialect import Quirks
from naru.providers.base import CHAT_PATHS, Provider

PROVIDER = Provider(
    kind="foundry_local",
    label="Foundry Local",
    docs="https://learn.microsoft.com/azure/ai-foundry/foundry-local/",
    auth="none",
    paths=CHAT_PATHS,
    quirks=Quirks(
        # ONNX models answer with the tags in the content (unverified)
        think_tag="inline",
        # the older name (unverified)
        max_tokens_field="max_tokens",
        # one choice only (unverified)
        has_n=False,
        # no switch is known (unverified)
        thinking_style="none",
    ),
    is_local=True,
)
