"""Alibaba Cloud Model Studio (DashScope), compatible mode. Facts: reference/providers.md A3.

Keys are bound to their region; a key of another region gets 401. Workspace hosts (https://{WorkspaceId}.…) need the id
of the workspace, so only the classic hosts are listed; Tokyo and Frankfurt have no classic host. Rerank lies outside
the base path: qwen3-rerank has a compatible endpoint, the other rerank models the native one alone (docs, text-rerank-api).
The default is Singapore, whose prices are known.
"""

from naru.protocol.dialect import Quirks
from naru.providers.base import EMBEDDING_PATHS, Provider

PROVIDER = Provider(
    kind="dashscope",
    label="Alibaba Model Studio",
    docs="https://www.alibabacloud.com/help/en/model-studio/",
    hosts={
        "sg": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "cn": "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "us": "https://dashscope-us.aliyuncs.com/compatible-mode/v1",
        "hk": "https://cn-hongkong.dashscope.aliyuncs.com/compatible-mode/v1",
    },
    no_hosts={
        "jp": "only workspace hosts: base_url = https://{WorkspaceId}.ap-northeast-1.maas.aliyuncs.com/compatible-mode/v1",
        "eu": "only workspace hosts: base_url = https://{WorkspaceId}.eu-central-1.maas.aliyuncs.com/compatible-mode/v1",
    },
    env=("DASHSCOPE_API_KEY",),
    paths={
        **EMBEDDING_PATHS,
        "responses": "/responses",
        "rerank": "//compatible-api/v1/reranks",
        "rerank_dashscope": "//api/v1/services/rerank/text-rerank/text-rerank",
    },
    only={"rerank": ("qwen3-rerank*",)},
    quirks=Quirks(
        # reasoning comes back in this field (A3.2)
        thinking_field="reasoning_content",
        # enable_thinking and thinking_budget at the top level (A3.2)
        thinking_style="qwen_toggle",
        # thinking is refused in a plain call, beside a forced tool and in JSON mode (A3.2)
        thinks_only_streamed=True,
        thinking_excludes=frozenset({"tool_choice", "response_format"}),
        # max_completion_tokens is known to qwen3.8-max alone (A3.2)
        max_tokens_field="max_tokens",
        # limit on tokens per minute, not an empty account as with OpenAI (A3.5)
        is_quota_retryable=True,
        # other vendors' ways to switch thinking
        drops=frozenset({"chat_template_kwargs", "thinking"}),
    ),
    model_quirks=(
        # texts of one call (A3.4)
        ("text-embedding-v[34]*", {"max_inputs": 10}),
        # documents of one call (docs, text-rerank-api)
        ("*rerank*", {"max_inputs": 500}),
        ("qwen3-vl-rerank*", {"max_inputs": 100}),
        # think unless told not to, so that a plain call is refused (A3.2)
        ("qwen3-*[0-9]b*", {"is_stream_only": True}),
        ("qwen3.[5-9]*", {"is_stream_only": True}),
        # always thinking, answered as a stream only (A3.2)
        ("*-thinking*", {"is_stream_only": True, "thinking_excludes": frozenset()}),
        ("qwq*", {"is_stream_only": True, "thinking_excludes": frozenset()}),
        ("qvq*", {"is_stream_only": True, "thinking_excludes": frozenset()}),
        # omni models answer a plain call with 500 internal_error (A3.2, A3.5)
        ("*omni*", {"is_stream_only": True}),
        # this model's limit covers thinking and answer under the newer name (A3.2)
        ("qwen3.8-max*", {"max_tokens_field": "max_completion_tokens"}),
        # never thinking; the switch is ignored at best (A3.2)
        ("*-instruct*", {"thinking_style": "none", "is_stream_only": False, "thinks_only_streamed": False}),
        ("qwen3-coder*", {"thinking_style": "none", "is_stream_only": False, "thinks_only_streamed": False}),
    ),
)
