"""Which parsers vLLM and SGLang need for a family of models: what they write tool calls and thoughts in.

Sources: docs.vllm.ai, features/tool_calling and features/reasoning_outputs; docs.sglang.io, advanced_features/tool_parser and
separate_reasoning; reference/local_serving.md 1.6 and 1.10 for what each family writes. HyperCLOVA X has no parser in either
(1.10). An unknown family gets none: without one the text comes as it is.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct


class Parsers(Struct, frozen=True):
    """Names as the server has them; "": none."""

    tools: str = ""
    reasoning: str = ""


NONE = Parsers()
#: (pattern of the model's name in small letters, vLLM's, SGLang's); the first that fits holds.
FAMILIES: tuple[tuple[str, Parsers, Parsers], ...] = (
    ("*qwen3*embedding*", NONE, NONE),
    ("*qwen3*reranker*", NONE, NONE),
    ("*qwen3-coder*", Parsers("qwen3_coder"), Parsers("qwen3_coder")),
    ("*qwen3.[5-9]*", Parsers("qwen3_coder", "qwen3"), Parsers("qwen3_coder", "qwen3")),
    ("*qwen3*instruct*", Parsers("hermes"), Parsers("qwen25")),
    ("*qwen3*", Parsers("hermes", "qwen3"), Parsers("qwen25", "qwen3")),
    ("*qwq*", Parsers("hermes", "deepseek_r1"), Parsers("qwen25", "deepseek-r1")),
    ("*qwen2.5*", Parsers("hermes"), Parsers("qwen25")),
    ("*deepseek-r1-distill*", Parsers("", "deepseek_r1"), Parsers("", "deepseek-r1")),
    ("*deepseek-r1*", Parsers("deepseek_v3", "deepseek_r1"), Parsers("deepseekv3", "deepseek-r1")),
    ("*deepseek-v3.2*", Parsers("deepseek_v32", "deepseek_v3"), Parsers("deepseekv32", "deepseek-v3")),
    ("*deepseek-v3.1*", Parsers("deepseek_v31", "deepseek_v3"), Parsers("deepseekv31", "deepseek-v3")),
    ("*deepseek-v3*", Parsers("deepseek_v3"), Parsers("deepseekv3")),
)


def parsers_of(model: str) -> tuple[Parsers, Parsers]:
    """(vLLM's, SGLang's) for a Hub id or a folder of that name."""
    name = model.lower()
    return next(((vllm, sglang) for pattern, vllm, sglang in FAMILIES if fnmatchcase(name, pattern)), (NONE, NONE))
