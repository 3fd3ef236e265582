"""OpenAI's models on Microsoft Azure: the v1 API, whose requests name the deployment where OpenAI's name the model.

A deployment's name is the operator's. Where it is the model's name too, quirks and list prices are that model's; else it needs
`price`, and the answer's form follows what the caller wrote. Signing in with Microsoft Entra ID is not Naru's business: such a
token goes into headers = { authorization = "Bearer …" }.
"""

from naru.protocol.dialect import Quirks
from naru.providers.base import TEXT_PATHS, Provider
from naru.providers.openai import PROVIDER as OPENAI

PROVIDER = Provider(
    kind="azure-openai",
    label="OpenAI on Microsoft Azure",
    docs="https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle",
    env=("AZURE_OPENAI_API_KEY",),
    auth="api-key",
    # https://{resource}.openai.azure.com is what the portal shows; the API begins below it (recorded)
    address_env="AZURE_OPENAI_ENDPOINT",
    address_path="/openai/v1",
    priced_as="openai",
    paths={**TEXT_PATHS, "responses": "/responses"},
    only=OPENAI.only,
    quirks=Quirks(
        # the same service behind another door (recorded, for Responses)
        has_developer_role=True,
        # as OpenAI's: older models refuse the switch (A5.2)
        thinking_style="none",
        # unknown body keys are refused (A5.2)
        drops=OPENAI.quirks.drops,
        # texts of one embeddings call (A5.6)
        max_inputs=2048,
    ),
    model_quirks=OPENAI.model_quirks,
)
