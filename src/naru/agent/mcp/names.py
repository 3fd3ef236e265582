"""Names of tools for models, out of servers' names and their tools' own."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

#: What OpenAI and Anthropic allow: ^[a-zA-Z0-9_-]{1,64}$.
MAX_NAME = 64
FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
DIGEST = 8


def tool_names(server: str, tools: Iterable[str]) -> dict[str, str]:
    """A tool's own name -> `server__tool`, whatever the order of `tools`.

    Letters that models may not use become `_`. Where that makes two names one, the ones that had such letters end in a digest
    of what they were, and so does every name that was cut to 64 characters.
    """
    plain = {tool: FOREIGN.sub("_", f"{server}__{tool}") for tool in tools}
    count = Counter(plain.values())
    return {tool: _fitting(f"{server}__{tool}", name, count[name]) for tool, name in plain.items()}


def _fitting(whole: str, name: str, count: int) -> str:
    is_changed = name != whole
    if len(name) <= MAX_NAME and not (is_changed and count > 1):
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST]
    return f"{name[: MAX_NAME - DIGEST - 1]}_{digest}"
