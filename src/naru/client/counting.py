"""How many tokens a chat-completions body is before anyone has read it: an estimate, for pacing and for trimming. Pure.

The provider's own count may differ by a third (protocol/tokens.py); leave that much room where it matters.
"""

from __future__ import annotations

from typing import Any

import msgspec

from naru.client.reply import Json
from naru.protocol.tokens import estimate_tokens, estimate_tokens_bytes

#: What a model's template puts around a message, and around all of them.
MESSAGE_TOKENS = 4
#: OpenAI's high detail at 1024 x 1024; two pages; a quarter of a minute (protocol/counting.py).
PART_TOKENS = {"image_url": 765, "file": 3_000, "input_audio": 500}


def count_message(message: Json) -> int:
    """Tokens of one message: its texts, tool calls, and what stands around them."""
    count = MESSAGE_TOKENS + _content(message.get("content"))
    for name in ("reasoning_content", "reasoning", "name", "refusal"):
        count += _text(message.get(name))
    for call in message.get("tool_calls") or ():
        count += estimate_tokens(_json(call.get("function") or call.get("custom") or call))
    return count


def count_body(body: Json) -> int:
    """Tokens of what the model would read: messages, tools and the answer's schema."""
    count = sum(count_message(message) for message in body.get("messages") or ())
    for name in ("tools", "response_format"):
        if body.get(name):
            count += estimate_tokens(_json(body[name]))
    return count


def most_output(body: Json) -> int | None:
    """The most tokens that the body lets the model write; None where it does not say."""
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(body.get(name), int):
            return int(body[name]) * int(body.get("n") or 1)
    return None


def _content(content: Any) -> int:
    if not isinstance(content, list):
        return _text(content)
    return sum(_part(part) for part in content)


def _part(part: Any) -> int:
    if not isinstance(part, dict):
        return _text(part)
    if isinstance(part.get("text"), str):
        return estimate_tokens(part["text"])
    return PART_TOKENS.get(str(part.get("type"))) or estimate_tokens_bytes(len(_json(part)))


def _text(value: Any) -> int:
    return estimate_tokens(value) if isinstance(value, str) else 0


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
