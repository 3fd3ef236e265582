"""Amazon Bedrock: the Converse API, one form for every model there.

Models are named as AWS names them: bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0, or an ARN. With an API key for Bedrock
requests carry it; with an access key they are signed. Regions without a host here: give base_url and region.
"""

from naru.protocol.dialect import Quirks
from naru.providers.anthropic import PROVIDER as ANTHROPIC
from naru.providers.base import Provider

_REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-gov-west-1",
)
_NO_FORMAT = frozenset({"outputConfig.textFormat"})
_NO_CACHE = frozenset({"cachePoint"})

PROVIDER = Provider(
    kind="bedrock",
    label="Amazon Bedrock",
    docs="https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html",
    dialect="bedrock_converse",
    hosts={region: f"https://bedrock-runtime.{region}.amazonaws.com" for region in _REGIONS},
    env=("AWS_BEARER_TOKEN_BEDROCK",),
    signs_as="bedrock",
    paths={"converse": "/model/{model}/converse", "converse_stream": "/model/{model}/converse-stream"},
    quirks=Quirks(
        # only Claude's models have a switch that is known here, see below
        thinking_style="none",
        # one answer a request (docs)
        has_n=False,
        # a picture is bytes, or an object in S3 (docs)
        needs_image_data=True,
    ),
    model_quirks=(
        (
            "*anthropic.claude-*",
            {
                # the form of every model since 4.6 (A4.2)
                "thinking_style": "anthropic_adaptive",
                # among the model's own fields, under Anthropic's name (docs)
                "renames": (("top_k", "top_k"),),
            },
        ),
        # the same models behind another door: forms of thinking, sampling that is refused
        *((f"*anthropic.{pattern}", changes) for pattern, changes in ANTHROPIC.model_quirks),
        # structured output begins with 4.5 (docs): before it a tool stands for the answer
        ("*anthropic.claude-3-*", {"drops": _NO_FORMAT}),
        # as above (docs)
        ("*anthropic.claude-*-4-20*", {"drops": _NO_FORMAT}),
        # as above (docs)
        ("*anthropic.claude-*-4-1-*", {"drops": _NO_FORMAT}),
        # a tool stands for the answer: no structured output (docs)
        ("*amazon.nova*", {"drops": _NO_FORMAT}),
        # neither structured output nor cache points (docs)
        ("*meta.llama*", {"drops": _NO_FORMAT | _NO_CACHE}),
        # no cache points (docs)
        ("*mistral.*", {"drops": _NO_CACHE}),
        # no cache points (docs)
        ("*deepseek.*", {"drops": _NO_CACHE}),
        # no cache points (docs)
        ("*qwen.*", {"drops": _NO_CACHE}),
        (
            "*openai.*",
            {
                # no cache points: it caches by itself (docs)
                "drops": _NO_CACHE,
                # 4,995 input tokens of which 4,993 cached in a stream, 2 in the whole answer (reported)
                "stream_input_has_cache": True,
            },
        ),
    ),
)
