"""What a tool of an MCP server answered, as text for a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

NOTHING = "(The tool answered with nothing.)"


def result_text(result: CallToolResult) -> str:
    """Texts as they are, one under the other; structured content as JSON, unless the texts are the same (the specification asks
    servers to say it twice); what is no text is named, so that the model does not think that there was none."""
    parts = [block_text(block) for block in result.content]
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    structured = result.structured_content
    if structured is not None and not _says(texts, structured):
        parts.append(json.dumps(structured, ensure_ascii=False))
    return "\n".join(parts) or NOTHING


def block_text(block: ContentBlock) -> str:
    if isinstance(block, TextContent):
        return block.text
    if isinstance(block, ImageContent | AudioContent):
        return f"[{_kind(block.mime_type)}, {size(block.data)}: only text can be passed on here]"
    if isinstance(block, ResourceLink):
        about = "; ".join(text for text in (block.mime_type, block.description) if text)
        return f"[resource {block.name}: {block.uri}{f' ({about})' if about else ''}]"
    assert isinstance(block, EmbeddedResource)
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        return f"[resource {resource.uri}: {_kind(resource.mime_type)}, {size(resource.blob)}: only text can be passed on here]"
    return f"[resource {resource.uri}]\n{resource.text}"


def size(data: str) -> str:
    """Of base64 text, decoded, in words."""
    count = len(data) * 3 // 4
    return f"{count / 1024:.0f} KiB" if count >= 1024 else f"{count} bytes"


def _kind(mime_type: str | None) -> str:
    return mime_type or "a file of an unknown kind"


def _says(texts: Sequence[str], structured: Any) -> bool:
    """Whether the texts hold the same as `structured`: as one JSON text, or a list's items one by one. Servers put what is no
    object under `result`."""
    inner = structured["result"] if isinstance(structured, dict) and set(structured) == {"result"} else structured
    values = [_decoded(text) for text in texts]
    wanted: tuple[Any, ...] = (structured, inner)
    return values in [[value] for value in wanted] or list(texts) == [inner] or (values == inner and bool(texts))


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
