"""Content blocks and typed parts, both ways. Requests and answers share them.

Fields without a type of their own travel in the part's `extra` under their own names (cache_control, citations, caller).
A block nobody else could understand, server tools above all, stays whole as Opaque.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.wire import NAME, arguments_of
from naru.protocol.messages import File, Image, Opaque, Part, Reasoning, Text, ToolCall, ToolResult
from naru.protocol.seal import unseal
from naru.protocol.wire import Fields, decode_fields, decode_list, is_list, is_null, is_object, raw_of, rest_of, text_of

#: The block's own fields, by its type.
TEXT_KEYS = frozenset({"type", "text"})
TOOL_USE_KEYS = frozenset({"type", "id", "name", "input"})
THINKING_KEYS = frozenset({"type", "thinking", "signature"})
REDACTED_KEYS = frozenset({"type", "data"})
_SOURCE_KEYS = frozenset({"type", "source"})
_DOCUMENT_KEYS = frozenset({"type", "source", "title"})
_RESULT_KEYS = frozenset({"type", "tool_use_id", "content", "is_error"})

#: Whose signature a part carries, in the `extra` of a part that a client sent back: see names.seal.
SIGNED_BY = "signed_by"

_IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_PDF = "application/pdf"
#: The base64 of `%PDF-`, cut to whole characters.
_PDF_START = "JVBERi"


class BlockError(Exception):
    """A block that is not as the API describes it: `field` is what is wrong inside it, `what` the rule."""

    def __init__(self, field: str, what: str) -> None:
        super().__init__(field, what)
        self.field = field
        self.what = what


# --- In -----------------------------------------------------------------------------------------------------------


def read_block(raw: Raw) -> Part:
    """Raises BlockError, or one of BAD_JSON for strings that are no text."""
    if not is_object(raw):
        raise BlockError("", "must be an object with a `type`")
    fields = decode_fields(raw)
    kind = text_of(fields.get("type"))
    if not kind:
        raise BlockError(".type", "must say what kind of block it is, such as text or image")
    reader = _READERS.get(kind)
    return Opaque(NAME, kind, raw) if reader is None else reader(fields, raw)


def _string(fields: Fields, name: str) -> str:
    text = text_of(fields.get(name))
    if text is None:
        raise BlockError(f".{name}", "must be a string")
    return text


def _text(fields: Fields, raw: Raw) -> Part:
    extra = rest_of(fields, TEXT_KEYS)
    if is_list(raw_citations := extra.get("citations")):
        citations = decode_list(raw_citations)
        extra["citations"] = raw_of(citations)  # in one form, whole or streamed
        if not citations:
            del extra["citations"]
    return Text(_string(fields, "text"), extra)


def _source(fields: Fields) -> dict[str, str]:
    """The source's fields as far as they are strings; one with others is left to Anthropic."""
    if not is_object(source := fields.get("source")):
        raise BlockError(".source", "must be an object with a `type`")
    return {name: text_of(raw) or "" for name, raw in decode_fields(source).items()}


def _image(fields: Fields, raw: Raw) -> Part:
    extra = rest_of(fields, _SOURCE_KEYS)
    match _source(fields):
        case {"type": "base64", "media_type": media_type, "data": data, **more} if not more:
            return Image(f"data:{media_type};base64,{data}", extra=extra)
        case {"type": "url", "url": url, **more} if not more:
            return Image(url, extra=extra)
    return Opaque(NAME, "image", raw)


def _document(fields: Fields, raw: Raw) -> Part:
    extra = rest_of(fields, _DOCUMENT_KEYS)
    title = text_of(fields.get("title"))
    match _source(fields):
        case {"type": "base64", "media_type": media_type, "data": data, **more} if not more:
            return File(data=data, media_type=media_type, filename=title, extra=extra)
        case {"type": "text", "media_type": media_type, "data": data, **more} if not more:
            return File(data=b64encode(data.encode()).decode(), media_type=media_type, filename=title, extra=extra)
        case {"type": "url", "url": url, **more} if not more:
            return File(url=url, filename=title, extra=extra)
        case {"type": "file", "file_id": file_id, **more} if not more:
            return File(file_id=file_id, filename=title, extra=extra)
    return Opaque(NAME, "document", raw)


def _tool_use(fields: Fields, raw: Raw) -> Part:
    call_id, name = _string(fields, "id"), _string(fields, "name")
    return ToolCall(call_id, name, arguments_of(fields.get("input")), extra=rest_of(fields, TOOL_USE_KEYS))


def _tool_result(fields: Fields, raw: Raw) -> Part:
    extra = rest_of(fields, _RESULT_KEYS)
    parts: list[Text | Image | File] = []
    content = fields.get("content")
    text = text_of(content)
    if text is not None:
        parts.append(Text(text))
    elif is_list(content):
        blocks = [read_block(item) for item in decode_list(content)]
        readable = [_in_words(block) for block in blocks]
        parts = [block for block in readable if isinstance(block, Text | Image | File)]
        if readable != blocks or len(parts) < len(blocks):  # Anthropic's own encoder writes the blocks back
            extra["content"] = content
    elif not is_null(content):
        raise BlockError(".content", "must be a string or a list of blocks")
    is_error = bytes(fields.get("is_error", b"")) == b"true"
    return ToolResult(_string(fields, "tool_use_id"), tuple(parts), is_error=is_error, extra=extra)


def _in_words(part: Part) -> Part:
    """What a search result or a tool reference says, for models that know no such block: without it Claude Code's
    ToolSearch has an empty answer."""
    if not isinstance(part, Opaque):
        return part
    fields = decode_fields(part.raw)
    if part.kind == "tool_reference" and (name := text_of(fields.get("tool_name"))):
        return Text(f"The tool {name} can be called now.")
    if part.kind == "search_result" and is_list(content := fields.get("content")):
        inner = [text_of(decode_fields(item).get("text")) for item in decode_list(content) if is_object(item)]
        told = [text_of(fields.get("title")), text_of(fields.get("source")), *inner]
        return Text("\n".join(text for text in told if text))
    return part


def _thinking(fields: Fields, raw: Raw) -> Part:
    extra = rest_of(fields, THINKING_KEYS)
    signature = text_of(fields.get("signature")) or None
    sealed = unseal(signature) if signature is not None else None
    if sealed is None:
        return Reasoning(_string(fields, "thinking"), signature, extra=extra)
    extra[SIGNED_BY] = raw_of(sealed.dialect)
    return Reasoning(_string(fields, "thinking"), sealed.signature, sealed.encrypted, extra)


def _redacted(fields: Fields, raw: Raw) -> Part:
    return Reasoning("", encrypted=_string(fields, "data"), extra=rest_of(fields, REDACTED_KEYS))


_READERS: dict[str, Callable[[Fields, Raw], Part]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
}


# --- Out ----------------------------------------------------------------------------------------------------------


def image_block(image: Image) -> dict[str, Any]:
    """Raises BadRequest for what Anthropic cannot look at."""
    if image.url.startswith("data:"):
        media_type, data = _data_uri(image.url)
        media_type = "image/jpeg" if media_type == "image/jpg" else media_type
        if media_type not in _IMAGE_TYPES:
            raise unsupported(f"an image of the type `{media_type}`; it takes JPEG, PNG, GIF and WebP")
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if not image.url.startswith(("https://", "http://")):
        raise unsupported("an image whose address is neither https://… nor data:…")
    return {"type": "image", "source": {"type": "url", "url": image.url}}


def file_block(file: File) -> dict[str, Any]:
    """Raises BadRequest for what is neither a PDF nor text."""
    title = {} if file.filename is None else {"title": file.filename}
    if file.url is not None:
        return {"type": "document", "source": {"type": "url", "url": file.url}, **title}
    if file.file_id is not None:
        return {"type": "document", "source": {"type": "file", "file_id": file.file_id}, **title}
    media_type, data = file.media_type or "", file.data or ""
    if data.startswith("data:"):
        media_type, data = _data_uri(data)
    if not media_type and (data.startswith(_PDF_START) or (file.filename or "").lower().endswith(".pdf")):
        media_type = _PDF
    if media_type in _IMAGE_TYPES:
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    if media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _plain_text(data)}
    elif media_type == _PDF:
        source = {"type": "base64", "media_type": _PDF, "data": data}
    else:
        raise unsupported(f"a file of the type `{media_type or 'unknown'}`; it takes PDF and plain text")
    return {"type": "document", "source": source, **title}


def _data_uri(url: str) -> tuple[str, str]:
    head, comma, data = url[len("data:") :].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        raise unsupported("a data: address that is not base64")
    return media_type.strip().lower(), data


def _plain_text(data: str) -> str:
    try:
        return b64decode(data, validate=True).decode()
    except (Base64Error, ValueError):
        raise unsupported("a text file that is not UTF-8 in base64") from None


def unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (Anthropic Messages) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="messages",
    )
