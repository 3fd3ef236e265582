"""Earlier turns as this upstream takes them: the developer role, and the reasoning of past answers.

Messages stay raw except for the few keys that change; a body that needs nothing is not decoded at all.
"""

from __future__ import annotations

from msgspec import Raw

from naru.protocol.dialect import Quirks
from naru.protocol.wire import BAD_JSON, Fields, decode_objects, is_null, raw_of, text_of

#: Where callers keep the reasoning of an earlier answer: DeepSeek's name, vLLM's and OpenRouter's.
_TEXTS = ("reasoning_content", "reasoning")
#: Its structured forms, which only a provider that wrote them can read.
_STRUCTURES = ("reasoning_details", "thinking_blocks")

_SYSTEM = Raw(b'"system"')
_SPACE = Raw(b'" "')


def rewrite_messages(messages: Raw, quirks: Quirks, has_tools: bool) -> tuple[Raw, list[str]]:
    """The messages, the same object where nothing changes, and the names of what was left out."""
    text = bytes(messages)
    renames_role = not quirks.has_developer_role and b'"developer"' in text
    moves_reasoning = b'"assistant"' in text and _moves_reasoning(text, quirks, has_tools)
    if not renames_role and not moves_reasoning:
        return messages, []
    try:
        decoded = decode_objects(messages)
    except BAD_JSON:  # not a list of objects: the upstream will say so better than a guess of ours
        return messages, []
    dropped: set[str] = set()
    for message in decoded:
        role = text_of(message.get("role"))
        if role == "developer" and renames_role:
            message["role"] = _SYSTEM
        elif role == "assistant" and moves_reasoning:
            dropped |= _move_reasoning(message, quirks, has_tools)
    return raw_of(decoded), sorted(f"messages.{name}" for name in dropped)


def _moves_reasoning(text: bytes, quirks: Quirks, has_tools: bool) -> bool:
    if quirks.thinking_replay_field is None:
        return b'"reasoning' in text or b'"thinking_blocks"' in text
    if has_tools and quirks.needs_reasoning_replay:
        return True
    return any(b'"%b"' % name.encode() in text for name in _TEXTS if name != quirks.thinking_replay_field)


def _move_reasoning(message: Fields, quirks: Quirks, has_tools: bool) -> set[str]:
    """Reasoning under the upstream's name, or away where it takes none. Returns the names that were removed."""
    given = {name: message.pop(name) for name in _TEXTS if name in message}
    wanted = quirks.thinking_replay_field
    if wanted is None:
        given |= {name: message.pop(name) for name in _STRUCTURES if name in message}
        return {name for name, raw in given.items() if not is_null(raw)}
    kept = next((raw for raw in given.values() if text_of(raw)), None)
    if kept is not None:
        message[wanted] = kept
    elif has_tools and quirks.needs_reasoning_replay and not text_of(message.get(wanted)):
        message[wanted] = _SPACE
    return set()
