"""The parser's transitions: in each state, what each tag does. Built for the formats of one model; data, no behaviour."""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto

from naru.engine.parse import deepseek
from naru.engine.parse.formats import Format
from naru.engine.parse.grammars import DSML
from naru.engine.parse.lexer import Terminals


class State(Enum):
    THINK_FRESH = auto()  # in reasoning, nothing but blanks so far
    THINKING = auto()
    FRESH = auto()  # in the answer, nothing but blanks so far or since a tag
    TEXT = auto()
    OPENED = auto()  # behind <tool_call>: what follows says which kind of call it is
    BODY = auto()  # in a call


class Act(Enum):
    THINK = auto()
    UNTHINK = auto()
    ORPHAN_UNTHINK = (
        auto()
    )  # </think> in the text: markup if nothing was ever opened, otherwise a word about tags (T36)
    ABSORB = auto()  # markup that says nothing (rule 10)
    OPEN = auto()  # <tool_call>
    FUNCTION = auto()
    INVOKE = auto()
    DEEPSEEK = auto()
    LIST = auto()  # 14B's header of a list of calls
    BARE = auto()  # a list or an object of calls without any tag
    BARE_KNOWN = auto()  # the same, if it names a tool that was offered


Table = dict[str, Act]

#: Ends of turns that leak when special tokens are not skipped.
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|endofturn|>", "<|stop|>", "<｜end▁of▁sentence｜>")
#: Formats whose tags are special tokens or prove themselves at once: they end reasoning that was left open (T37).
ENDS_REASONING = frozenset({Format.QWEN_XML, Format.DEEPSEEK, Format.DSML, Format.HYPERCLOVA_14B})
_FRESH, _TEXT, _THINKING, _THINK_FRESH = State.FRESH, State.TEXT, State.THINKING, State.THINK_FRESH
_ANSWER = (_FRESH, _TEXT)
_THOUGHT = (_THINK_FRESH, _THINKING)
_ALL = (*_ANSWER, *_THOUGHT)

#: (states, tags, act) for each format; those that make calls are left out when no tools were offered.
_Row = tuple[tuple[State, ...], tuple[str, ...], Act]
_Rows = tuple[_Row, ...]
_THINK_ROWS: _Rows = (
    ((_FRESH, _THINK_FRESH), ("<think>",), Act.THINK),
    ((_FRESH,), ("</think>",), Act.ABSORB),  # T35, T39: closed twice
    ((_TEXT,), ("</think>",), Act.ORPHAN_UNTHINK),
    (_THOUGHT, ("</think>",), Act.UNTHINK),
)
_HYPERCLOVA_14B_ROWS: _Rows = (
    (_ANSWER, ("<|im_start|>assistant",), Act.ABSORB),  # T73: reasoning ends with <|im_end|> and a new turn
    ((_FRESH,), ("/think\n",), Act.THINK),
)
_CALL_ROWS: dict[Format, _Rows] = {
    Format.HERMES: (
        (_ANSWER, ("<tool_call>",), Act.OPEN),
        ((_FRESH,), ("</tool_call>",), Act.ABSORB),
    ),
    Format.QWEN_XML: (
        (_ALL, ("<tool_call>",), Act.OPEN),
        (_ANSWER, ("<function=",), Act.FUNCTION),
        ((_FRESH,), ("</tool_call>", "</function>", "</parameter>"), Act.ABSORB),
    ),
    Format.HYPERCLOVA_32B: (
        (_ANSWER, ("<tool_call>",), Act.OPEN),
        ((_FRESH,), ("</tool_call>", "</arg_value>"), Act.ABSORB),
    ),
    Format.DEEPSEEK: (
        (_ALL, (deepseek.CALL_OPEN,), Act.DEEPSEEK),
        (_ALL, (deepseek.BLOCK_OPEN,), Act.ABSORB),
        (_ANSWER, (deepseek.CALL_CLOSE, deepseek.BLOCK_CLOSE), Act.ABSORB),
    ),
    Format.DSML: (
        (_ALL, DSML.opens, Act.INVOKE),
        (_ALL, DSML.wrapper_opens, Act.ABSORB),
        (_ANSWER, (*DSML.wrapper_closes, *DSML.closes, *DSML.value_closes), Act.ABSORB),  # T64
    ),
    Format.HYPERCLOVA_14B: (
        ((_FRESH,), ("-> tool/function_call",), Act.LIST),
        (_ALL, ("assistant -> tool/function_call",), Act.LIST),  # T72: the special tokens were stripped
        ((_FRESH,), ("[",), Act.BARE_KNOWN),
    ),
    Format.JSON_LIST: (((_FRESH, _THINK_FRESH), ("[", "{"), Act.BARE),),
}


def tables(formats: Collection[Format], has_tools: bool, end_tokens: tuple[str, ...]) -> dict[State, Table]:
    """In each state that reads text: the tags that count there, and what they do."""
    rows: list[_Row] = [(_ALL, end_tokens, Act.ABSORB)]
    rows += _THINK_ROWS if Format.THINK in formats else ()
    rows += _HYPERCLOVA_14B_ROWS if Format.HYPERCLOVA_14B in formats else ()
    for format, more in _CALL_ROWS.items():
        rows += more if format in formats and has_tools else ()
    built: dict[State, Table] = {state: {} for state in _ALL}
    for states, tags, act in rows:
        for state in states:
            built[state].update(dict.fromkeys(tags, act))
    return built


def terminals(built: dict[State, Table]) -> dict[State, Terminals]:
    return {state: Terminals(table) for state, table in built.items()}
