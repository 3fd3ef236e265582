"""A vocabulary of single bytes and a few tags, for tests of what happens to tokens: any text is a list of ids and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from naru.engine.vocabulary import Vocabulary, byte_letters

TAGS = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
END = 257
_IDS = dict(byte_letters().items()) | {tag: 256 + n for n, tag in enumerate(TAGS)}
_SPLIT = re.compile("|".join(map(re.escape, TAGS)))


def encode(text: str) -> list[int]:
    ids: list[int] = []
    at = 0
    for tag in _SPLIT.finditer(text):
        ids += text[at : tag.start()].encode()
        ids.append(_IDS[tag.group()])
        at = tag.end()
    return ids + list(text[at:].encode())


def decode(ids: Sequence[int]) -> str:
    return b"".join(bytes([n]) if n < 256 else TAGS[n - 256].encode() for n in ids).decode("utf-8", "replace")


VOCABULARY = Vocabulary(_IDS, TAGS, decode)
