"""The sandbox's own tokenizer: simple enough to count by eye, so that a test can state the bill beforehand.

A token is a word with the white space before it; a word longer than 12 characters is one token for each 12 or part of
12. White space that ends a text is one token. Joined, the tokens are the text again.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\s*\S{1,12}|\s+")

#: Fixed counts for what is not text.
IMAGE_TOKENS = 85
AUDIO_TOKENS = 50
FILE_TOKENS = 200
#: Added for each message (its role and separators), and once for the start of the answer.
MESSAGE_TOKENS = 3
PRIMER_TOKENS = 3


def split(text: str) -> list[str]:
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(split(text))
