"""How calls are spelled that give each parameter a tag of its own. Data only; tagged.py reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

#: How a value is read: streamed as a string, by JSON, by the schema (else a string), by the schema (else JSON, else a string).
Reading = Literal["string", "json", "schema", "guess"]


@dataclass(frozen=True)
class Grammar:
    """`opens` begin a call; its name ends at `name_end`. `ends` close it for certain where a value is not open.

    `lines` are tags that close an open value when they begin a line: a model forgot to close it (T51).
    """

    opens: tuple[str, ...]
    name_end: str
    parameters: tuple[str, ...]
    key_end: str
    value_opens: tuple[str, ...]
    value_closes: tuple[str, ...]
    closes: tuple[str, ...]
    wrapper_opens: tuple[str, ...]
    wrapper_closes: tuple[str, ...]
    lines: tuple[str, ...]
    reading: Reading
    trims_line: bool = False
    header: re.Pattern[str] = field(default=re.compile(r"(?P<name>.*)", re.DOTALL))


_WRAPPERS = ("tool_calls", "toolcalls", "tool", "function_calls", "calls")  # T62


def _dsml(*names: str, slash: str = "") -> tuple[str, ...]:
    """V3.2 and V4 write `<｜DSML｜name`, V4.1 a space before the name."""
    return tuple(f"<{slash}｜DSML｜{space}{name}" for name in names for space in ("", " "))


#: Qwen3-Coder, Qwen3.5: local_serving.md 1.6.
XML = Grammar(
    opens=("<function=",),
    name_end=">",
    parameters=("<parameter=",),
    key_end=">",
    value_opens=(),
    value_closes=("</parameter>",),
    closes=("</function>",),
    wrapper_opens=("<tool_call>",),
    wrapper_closes=("</tool_call>",),
    lines=("<parameter=", "</tool_call>"),
    reading="schema",
    trims_line=True,
)

#: HyperCLOVA X SEED Think 32B (and GLM): 1.10.
ARG_KEYS = Grammar(
    opens=("<tool_call>",),
    name_end="\n",
    parameters=("<arg_key>",),
    key_end="</arg_key>",
    value_opens=("<arg_value>",),
    value_closes=("</arg_value>",),
    closes=("</tool_call>",),
    wrapper_opens=(),
    wrapper_closes=(),
    lines=("<arg_key>",),
    reading="guess",
)

#: DeepSeek V3.2, V4, V4.1: 1.10. `string` says how to read a value; without it JSON is tried first.
DSML = Grammar(
    opens=_dsml('invoke name="'),
    name_end=">",
    parameters=_dsml('parameter name="'),
    key_end=">",
    value_opens=(),
    value_closes=_dsml("parameter>", slash="/"),
    closes=_dsml("invoke>", slash="/"),
    wrapper_opens=_dsml(*(f"{name}>" for name in _WRAPPERS)),
    wrapper_closes=_dsml(*(f"{name}>" for name in _WRAPPERS), slash="/"),
    lines=(),
    reading="guess",
    header=re.compile(r'(?P<name>[^"]*)"(?:\s+string="(?P<string>true|false)")?\s*'),
)
