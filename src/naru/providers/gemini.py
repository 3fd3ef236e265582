"""Google's Gemini API. Facts: reference/providers.md A6; prices and models C3."""

from naru.protocol.dialect import Quirks
from naru.providers.base import Provider

_SAMPLING = frozenset({"temperature", "topP", "topK"})
_BUDGET = {
    # a budget of tokens; the efforts' sizes are the dialect's (A6.2)
    "thinking_style": "gemini_budget",
}
_NO_SAMPLING = {
    # refused from 3.6 on; a hint, not the form of an answer (A6.2)
    "drops": _SAMPLING,
}

PROVIDER = Provider(
    kind="gemini",
    label="Google Gemini",
    docs="https://ai.google.dev/api/generate-content",
    dialect="gemini",
    hosts={"global": "https://generativelanguage.googleapis.com/v1beta"},
    env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    # never as ?key=: it would stand in logs (A6.1)
    auth="x-goog-api-key",
    paths={
        "generate": "/models/{model}:generateContent",
        "generate_stream": "/models/{model}:streamGenerateContent?alt=sse",
        "embeddings_gemini": "/models/{model}:batchEmbedContents",
        "models": "/models",
    },
    quirks=Quirks(
        # a level, as with every model since 3 (A6.2)
        thinking_style="gemini_level",
        # from 3 on the first call of each step goes back with its signature, else 400 (A6.5)
        remembers_reasoning=True,
        # an address has to be a file of Google's own (A6.2)
        needs_image_data=True,
        # texts of one batchEmbedContents (reported)
        max_inputs=100,
    ),
    model_quirks=(
        (
            "gemini-[12].*",
            {
                # 2.0 and older know no thinkingConfig (unverified)
                "thinking_style": "none",
            },
        ),
        ("gemini-2.5-*", _BUDGET),
        (
            "gemini-2.5-pro*",
            {
                # cannot be switched off: 128 is the least (A6.2)
                "effort_values": (("none", "128"), ("minimal", "128")),
            },
        ),
        (
            "gemini-2.5-flash-lite*",
            {
                # its least budget, other than off (A6.2)
                "effort_values": (("minimal", "512"),),
            },
        ),
        (
            "gemini-3-pro*",
            {
                # low and high only (A6.2)
                "effort_values": (
                    ("none", "low"),
                    ("minimal", "low"),
                    ("medium", "high"),
                    ("xhigh", "high"),
                    ("max", "high"),
                ),
            },
        ),
        (
            "gemini-3.1-pro*",
            {
                # low, medium and high (A6.2)
                "effort_values": (("none", "low"), ("minimal", "low"), ("xhigh", "high"), ("max", "high")),
            },
        ),
        (
            "gemini-3*-flash*",
            {
                # minimal to high; 3.7 and 3.8 below (A6.2)
                "effort_values": (("xhigh", "high"), ("max", "high")),
            },
        ),
        (
            "gemini-3.[78]-flash*",
            {
                # no minimal (A6.2)
                "effort_values": (("none", "low"), ("minimal", "low"), ("xhigh", "high"), ("max", "high")),
            },
        ),
        ("gemini-3.5-flash-lite*", _NO_SAMPLING),
        ("gemini-3.[678]-flash*", _NO_SAMPLING),
    ),
)
