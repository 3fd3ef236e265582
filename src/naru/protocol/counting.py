"""How many tokens a conversation is before anyone has read it: an estimate for the counting endpoints of OpenAI and Google.

Clients ask before they compact a history or refuse a document; ten per cent either way serve that purpose. Nothing is sent
to a provider, which may not be the one that the endpoint comes from. (Anthropic's own endpoint counts in its own way:
anthropic_messages/counting.py.)
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw

from naru.protocol.messages import (
    Audio,
    File,
    Image,
    Opaque,
    OpaqueTool,
    Part,
    Reasoning,
    Refusal,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from naru.protocol.tokens import estimate_tokens, estimate_tokens_bytes

#: A document is taken as two pages of text, a sound as a quarter of a minute.
FILE_TOKENS = 3_000
AUDIO_TOKENS = 500


class Rates(NamedTuple):
    """What a provider adds to the words. `once` is for the request, `message` for each message or tool, `image` for an image."""

    once: int
    message: int
    image: int


def count_input(request: Request, rates: Rates) -> int:
    """Tokens of what the model would read: messages, tools and the schema of the answer."""
    count = rates.once
    for message in request.messages:
        count += rates.message + sum(_part(part, rates) for part in message.parts)
    for tool in request.tools:
        count += rates.message + _tool(tool)
    form = request.response_format
    return count + (_json(form.schema) if form is not None else 0)


def _part(part: Part, rates: Rates) -> int:
    if isinstance(part, Text | Reasoning | Refusal):
        return estimate_tokens(part.text)
    if isinstance(part, ToolCall):
        return estimate_tokens(part.name) + estimate_tokens(part.arguments)
    if isinstance(part, ToolResult):
        return sum(_part(inner, rates) for inner in part.parts)
    if isinstance(part, Image):
        return rates.image
    if isinstance(part, Opaque):
        return estimate_tokens_bytes(len(part.raw))
    return {File: FILE_TOKENS, Audio: AUDIO_TOKENS}[type(part)]


def _tool(tool: Tool | OpaqueTool) -> int:
    if isinstance(tool, OpaqueTool):
        return estimate_tokens_bytes(len(tool.raw))
    return estimate_tokens(tool.name) + estimate_tokens(tool.description or "") + _json(tool.parameters)


def _json(raw: Raw | None) -> int:
    return 0 if raw is None else estimate_tokens(bytes(raw).decode())
