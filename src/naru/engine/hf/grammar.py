"""Grammars as masks on the logits, by xgrammar."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import torch
import xgrammar
from msgspec import Struct

from naru.engine.port import Grammar
from naru.errors import BadRequest

#: Between two tokens of JSON. Without a bound a small model may write blanks until its last token.
_MAX_WHITESPACE = 16
_COMPILER_THREADS = 1
_CACHE_BYTES = 128 << 20


class Compiled(Struct, frozen=True):
    grammar: Any
    is_json: bool


class Grammars:
    """Compiles, and remembers what it compiled."""

    def __init__(self, tokenizer: Any, vocabulary: int, end_ids: Collection[int]) -> None:
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocabulary, stop_token_ids=sorted(end_ids) or None
        )
        self._vocabulary = vocabulary
        self._controls = torch.tensor([token for token, text in enumerate(info.decoded_vocab) if _has_control(text)])
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=_COMPILER_THREADS, cache_limit_bytes=_CACHE_BYTES)

    def compile(self, grammar: Grammar) -> Compiled:
        """Blocks, for a large schema for seconds. Raises BadRequest."""
        try:
            return Compiled(self._compile(grammar), grammar.kind == "json_schema")
        except Exception as error:  # the library's own classes are not all public
            raise BadRequest(f"The {grammar.kind} cannot be followed: {_first_line(error)}") from error

    def _compile(self, grammar: Grammar) -> Any:
        match grammar.kind:
            case "json_schema":
                return self._compiler.compile_json_schema(grammar.text, max_whitespace_cnt=_MAX_WHITESPACE)
            case "regex":
                return self._compiler.compile_regex(grammar.text)
            case "ebnf":
                return self._compiler.compile_grammar(grammar.text)
            case "structural_tag":
                return self._compiler.compile_structural_tag(json.dumps(_bounded(json.loads(grammar.text))))

    def follow(self, compiled: Compiled) -> GrammarMask:
        return GrammarMask(compiled.grammar, self._vocabulary, self._controls if compiled.is_json else None)


class GrammarMask:
    """Where one request stands in its grammar: sampling.Mask."""

    def __init__(self, compiled: Any, vocabulary: int, forbidden: Any = None) -> None:
        self._forbidden = forbidden
        self._matcher = xgrammar.GrammarMatcher(compiled)
        self._bits = xgrammar.allocate_token_bitmask(1, vocabulary)

    def apply(self, logits: Any) -> None:
        if self._matcher.fill_next_token_bitmask(self._bits):
            xgrammar.apply_token_bitmask_inplace(logits.unsqueeze(0), self._bits)
        if self._forbidden is not None:
            logits[self._forbidden] = float("-inf")

    def accept(self, token: int) -> None:
        if not self._matcher.accept_token(token):
            raise ValueError("The grammar does not allow the token that was chosen.")

    @property
    def has_ended(self) -> bool:
        return bool(self._matcher.is_terminated())


def _has_control(text: bytes) -> bool:
    """xgrammar lets a tab and most other control characters into a string of bounded length, where JSON has none (0.2.8).
    Between its tokens JSON needs none but line ends."""
    return any(byte < 0x20 and byte not in b"\r\n" for byte in text)


def _bounded(format: Any) -> Any:
    """A structural tag whose JSON has bounded blanks too. What a schema says is not touched."""
    if isinstance(format, list):
        return [_bounded(part) for part in format]
    if not isinstance(format, dict):
        return format
    if format.get("type") == "json_schema":
        return {"max_whitespace_cnt": _MAX_WHITESPACE, **format} if format.get("style", "json") == "json" else format
    return {key: _bounded(part) for key, part in format.items()}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
