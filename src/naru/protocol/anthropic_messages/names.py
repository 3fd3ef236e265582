"""Names that have to pass through Anthropic's rules and come back as they were. No state is kept.

Anthropic takes `[a-zA-Z0-9_-]` in tool ids and names, up to 128 characters (providers.md A4.3, B1.3).
"""

from __future__ import annotations

import re
from hashlib import blake2b

MAX_NAME_CHARS = 128

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_TO_ESCAPE = re.compile(r"[^a-zA-Z0-9_-]|_(?=_u)")
_ESCAPED = re.compile(r"__u([0-9a-f]{4,6})__")


def tool_id(given: str) -> str:
    """The id as Anthropic takes it: itself where it can be, else one that the same id always gives."""
    if given and _FOREIGN.search(given) is None:
        return given
    digest = blake2b(given.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{_FOREIGN.sub('_', given)[:40] or 'toolu'}_{digest}"


def tool_name(given: str) -> str:
    """The name with every other character spelled out, `__u002e__` for a dot; `original_name` undoes it."""
    return _TO_ESCAPE.sub(lambda found: f"__u{ord(found.group()):04x}__", given)


def original_name(name: str) -> str:
    return _ESCAPED.sub(_char, name) if "__u" in name else name


def _char(found: re.Match[str]) -> str:
    code = int(found.group(1), 16)
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else found.group()
