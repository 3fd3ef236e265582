"""From token ids to text without asking the tokenizer: a byte-level BPE token is a fixed piece of bytes.

All families that Naru names (Qwen, DeepSeek, HyperCLOVA X, Llama 3) are byte-level; for others the tokenizer is asked for every
token (text.TokenFeeder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Protocol

from naru.engine.parse.text import TokenFeeder, Utf8Feeder

Decode = Callable[[Sequence[int]], str]


class Feeder(Protocol):
    """The text of one answer, token by token. Characters are given whole."""

    def feed(self, token: int) -> str: ...
    def close(self) -> str: ...


class Vocabulary:
    """`tokens` are as the tokenizer's file has them, by id; `added` those that stand for their own text (`<think>`)."""

    def __init__(self, tokens: Mapping[str, int], added: Iterable[str], decode: Decode) -> None:
        self._ids = dict(tokens)
        self._decode = decode
        self._bytes = _byte_table(tokens, frozenset(added))
        self.is_byte_level = self._bytes is not None

    @classmethod
    def of_pieces(cls, pieces: Sequence[bytes], decode: Decode) -> Vocabulary:
        """From what each token stands for, by its id. Where not every byte is a token, pieces are not the whole truth
        (SentencePiece puts blanks between words): then `decode` is asked."""
        made = cls({}, (), decode)
        made._ids = {piece.decode("utf-8", "replace"): number for number, piece in enumerate(pieces)}
        if len({piece for piece in pieces if len(piece) == 1}) == 256:
            made._bytes, made.is_byte_level = dict(enumerate(pieces)), True
        return made

    def __len__(self) -> int:
        return len(self._ids)

    def id_of(self, token: str) -> int | None:
        """Of a token that has a text of its own, such as `</think>`."""
        return self._ids.get(token)

    def feeder(self) -> Feeder:
        return _ByteFeeder(self._bytes) if self._bytes is not None else TokenFeeder(self._decode)

    def text_of(self, token: int) -> bytes:
        """One token's bytes, which need not be whole characters."""
        if self._bytes is not None:
            return self._bytes.get(token, b"")
        return self._decode([token]).encode()


class _ByteFeeder:
    __slots__ = ("_bytes", "_utf8")

    def __init__(self, table: Mapping[int, bytes]) -> None:
        self._bytes = table
        self._utf8 = Utf8Feeder()

    def feed(self, token: int) -> str:
        return self._utf8.feed(self._bytes.get(token, b""))

    def close(self) -> str:
        return self._utf8.close()


def _byte_table(tokens: Mapping[str, int], added: frozenset[str]) -> dict[int, bytes] | None:
    """None where a token is not written in GPT-2's letters for bytes: then the tokenizer is no byte-level one."""
    letters = byte_letters()
    if not all(letter in tokens for letter in letters):
        return None
    table: dict[int, bytes] = {}
    for token, number in tokens.items():
        if token in added:
            table[number] = token.encode()
        elif all(letter in letters for letter in token):
            table[number] = bytes(letters[letter] for letter in token)
        else:
            table[number] = token.encode()  # added without being named as such: `<｜tool▁sep｜>`
    return table


@cache
def byte_letters() -> Mapping[str, int]:
    """GPT-2's printable letter for each byte: a byte that is printable in Latin-1 is itself, the rest follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    pairs = [(chr(byte), byte) for byte in printable] + [(chr(256 + n), byte) for n, byte in enumerate(rest)]
    return dict(pairs)
