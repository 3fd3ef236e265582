"""Which formats a model writes, read off its template and its special tokens, and where its answer begins, read off the
prompt's tail. Never off the model's name: two releases of one name differ (local_serving.md 1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from naru.engine.parse import deepseek, grammars


class Format(Enum):
    THINK = "think"  # reasoning in <think>…</think>
    HERMES = "hermes"  # <tool_call>{"name": …}</tool_call>: Qwen2.5, Qwen3
    QWEN_XML = "qwen_xml"  # <tool_call><function=…><parameter=…>: Qwen3-Coder, Qwen3.5
    DEEPSEEK = "deepseek"  # <｜tool▁calls▁begin｜>: V3, R1, V3.1
    DSML = "dsml"  # <｜DSML｜invoke name=…>: V3.2, V4
    HYPERCLOVA_32B = "hyperclova_32b"  # <tool_call>NAME <arg_key>…
    HYPERCLOVA_14B = "hyperclova_14b"  # <|im_start|>assistant -> tool/function_call [{…}]
    JSON_LIST = (
        "json_list"  # a bare list of calls: only where a call is required, by a grammar or by tool_choice (rule 12)
    )


#: The marks of each format in a template.
_MARKS: tuple[tuple[Format, tuple[str, ...]], ...] = (
    (Format.THINK, ("</think>", "<think>")),
    (Format.QWEN_XML, ("<function=",)),
    (Format.HYPERCLOVA_32B, ("<arg_key>",)),
    (Format.DSML, ("｜DSML｜",)),
    (Format.DEEPSEEK, (deepseek.CALL_OPEN, deepseek.BLOCK_OPEN)),
    (Format.HYPERCLOVA_14B, ("-> tool/function_call",)),
)
_TOOL_CALL_TAG = frozenset({Format.QWEN_XML, Format.HYPERCLOVA_32B})


def detect(template: str, special_tokens: Iterable[str] = ()) -> frozenset[Format]:
    """The formats of a model with this template. Special tokens speak where the template is silent (DeepSeek V3.2 has none)."""
    tokens = frozenset(special_tokens)
    found = {format for format, marks in _MARKS if any(mark in template for mark in marks)}
    if not template:
        found |= {format for format, marks in _MARKS if any(mark in token for mark in marks for token in tokens)}
    if "<tool_call>" in template and not found & _TOOL_CALL_TAG:
        found.add(Format.HERMES)
    return frozenset(found)


#: Where the model's own turn begins: the tags that a user quoted before it mean nothing.
_TURNS = ("<|im_start|>assistant", "<｜Assistant｜>", "<|assistant|>")
_CALL_TAGS: dict[Format, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Format.HERMES: (("<tool_call>",), ("</tool_call>",)),
    Format.QWEN_XML: (("<tool_call>",), ("</tool_call>",)),
    Format.HYPERCLOVA_32B: (("<tool_call>",), ("</tool_call>",)),
    Format.DEEPSEEK: ((deepseek.CALL_OPEN, deepseek.BLOCK_OPEN), (deepseek.CALL_CLOSE, deepseek.BLOCK_CLOSE)),
    Format.DSML: (
        (*grammars.DSML.opens, *grammars.DSML.wrapper_opens),
        (*grammars.DSML.closes, *grammars.DSML.wrapper_closes),
    ),
    Format.HYPERCLOVA_14B: (("-> tool/function_call",), ()),
}
_OPEN_AT_END = re.compile(r"<think>\s*$")


@dataclass(frozen=True)
class Beginning:
    """Where a generation starts. `prefill` is the beginning of a call that stands in the prompt already."""

    is_reasoning: bool = False
    is_after_tag: bool = False  # blanks that come first belong to a tag in the prompt
    has_text: bool = False  # the answer itself has begun in the prompt
    prefill: str = ""


def beginning(tail: str, formats: frozenset[Format]) -> Beginning:
    """From the rendered prompt's tail. A long one is welcome; 1.2 gives the cases."""
    turn = max(((at, mark) for mark in _TURNS if (at := tail.rfind(mark)) >= 0), default=None)
    if turn is None:
        if _OPEN_AT_END.search(tail):
            return Beginning(is_reasoning=True)
        return Beginning(is_after_tag=tail.rstrip().endswith("</think>"))
    own = tail[turn[0] + len(turn[1]) :]
    opened = max(own.rfind("<think>") + len("<think>") if "<think>" in own else -1, _slash_think(own, formats))
    closed = own.rfind("</think>")
    if opened > closed:
        return Beginning(is_reasoning=True)
    rest = own[closed + len("</think>") :] if closed >= 0 else own
    if (prefill := _open_call(rest, formats)) is not None:
        return Beginning(prefill=prefill)
    return Beginning(is_after_tag=closed >= 0, has_text=bool(rest.strip()))


def _slash_think(own: str, formats: frozenset[Format]) -> int:
    """HyperCLOVA X 14B opens its reasoning with `/think` after the role."""
    return len("/think") if Format.HYPERCLOVA_14B in formats and own.startswith("/think") else -1


def _open_call(text: str, formats: frozenset[Format]) -> str | None:
    """From the first tag of a call that the prompt leaves open."""
    for format, (opens, closes) in _CALL_TAGS.items():
        if format in formats:
            last = max((text.rfind(tag) for tag in opens), default=-1)
            if last >= 0 and last > max((text.rfind(tag) for tag in closes), default=-1):
                return text[last:]
    return None
