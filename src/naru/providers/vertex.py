"""Gemini on Google Cloud's Vertex AI. Facts: reference/providers.md A6; hosts and paths as recorded.

Express mode, an API key in `x-goog-api-key`, is what stands here. With a project instead, give its address as base_url,
https://{region}-aiplatform.googleapis.com/v1/projects/{project}/locations/{region}/publishers/google, and an OAuth access
token as a header: headers = { authorization = "Bearer …" }. Such a token lives an hour: signing in as a service account is
not Naru's business, so whoever runs the gateway renews it.
"""

from naru.providers.base import Provider
from naru.providers.gemini import PROVIDER as GEMINI

PROVIDER = Provider(
    kind="vertex",
    label="Google Vertex AI",
    docs="https://cloud.google.com/vertex-ai/generative-ai/docs/start/express-mode/overview",
    dialect="gemini",
    hosts={"global": "https://aiplatform.googleapis.com/v1/publishers/google"},
    env=("VERTEX_API_KEY",),
    auth="x-goog-api-key",
    paths={
        "generate": "/models/{model}:generateContent",
        "generate_stream": "/models/{model}:streamGenerateContent?alt=sse",
    },
    # the same models behind another door
    quirks=GEMINI.quirks,
    model_quirks=GEMINI.model_quirks,
)
