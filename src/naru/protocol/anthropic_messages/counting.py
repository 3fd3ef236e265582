"""POST /v1/messages/count_tokens, answered here: an estimate, for models whose provider counts nothing.

Claude Code asks before it compacts its history; half a dozen per cent either way serve that purpose.
"""

from __future__ import annotations

from typing import Any

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope
from naru.protocol.tokens import estimate_tokens
from naru.protocol.wire import BAD_JSON, decode_any, encode

#: providers.md B1.3: what an image costs at Anthropic's usual size; a document is taken as two pages of text.
IMAGE_TOKENS = 1_600
DOCUMENT_TOKENS = 3_000
_MESSAGE_TOKENS = 4
#: What Anthropic adds to a request that has tools; recorded between 260 and 700. A tool of its own brings instructions
#: with it; recorded 1,260 for memory.
_TOOLS_TOKENS = 300
_SERVER_TOOL_TOKENS = 1_200

_READ_BY_MODEL = ("system", "messages", "tools", "output_config")
_MEDIA = {"image": IMAGE_TOKENS, "document": DOCUMENT_TOKENS}
#: Marks for machines, not words for the model.
_SILENT = frozenset({"type", "cache_control", "signature", "id", "tool_use_id", "role", "data", "encrypted_content"})


def count_tokens(envelope: Envelope) -> bytes:
    """`{"input_tokens": n}` of what the model would read: system, messages, tools, schema."""
    count = _MESSAGE_TOKENS
    for name in _READ_BY_MODEL:
        raw = envelope.fields.get(name)
        if raw is None:
            continue
        try:
            value = decode_any(raw)
        except BAD_JSON:
            raise BadRequest(f"`{name}` holds a string that is no text.", code="invalid_json", param=name) from None
        count += _tokens(value)
        if isinstance(value, list):
            if name == "tools" and value:
                count += _TOOLS_TOKENS + _SERVER_TOOL_TOKENS * sum(map(_is_server_tool, value))
            count += _MESSAGE_TOKENS * len(value)
    return encode({"input_tokens": count})


def _is_server_tool(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type", "custom") != "custom"


def _tokens(value: Any) -> int:
    if isinstance(value, str):
        return estimate_tokens(value)
    if isinstance(value, list):
        return sum(map(_tokens, value))
    if not isinstance(value, dict):
        return 0 if value is None else 1
    media = _MEDIA.get(str(value.get("type"))) if "source" in value else None
    if media is not None:
        return media
    return sum(_tokens(inner) + _name_tokens(name) for name, inner in value.items() if name not in _SILENT)


def _name_tokens(name: str) -> int:
    """The keys of schemas and inputs are read too; those of the blocks themselves are not."""
    return 0 if name in ("text", "content", "input", "thinking", "name", "description") else 2 + len(name) // 8
