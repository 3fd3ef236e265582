"""Parts that both sides write and read alike: media, signatures, calls.

Google's own `thoughtSignature` stands in the `extra` of the part or call it came with, and goes back in the same place. The
signature of somebody else's thinking (Anthropic's, OpenAI's encrypted reasoning) is wrapped on its way to a Gemini client,
whose SDK takes nothing but base64 there, and unwrapped when it comes back.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64encode, urlsafe_b64decode
from typing import Any

import msgspec
from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.gemini.wire import BLOB_NAMES, canonical, compact, nest, prefixed
from naru.protocol.messages import Audio, Extra, File, Image, Reasoning, ToolCall
from naru.protocol.wire import Fields, decode_any, decode_fields, encode, is_object, text_of

Out = dict[str, Any]

_WRAP = b"naru:["
#: What every wrapped signature starts with, once in base64.
WRAPPED = b64encode(_WRAP)

_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]+)*?)(;base64)?,(.*)", re.DOTALL)
_TO_STANDARD = str.maketrans("-_", "+/")

_FORMATS = {"audio/wav": "wav", "audio/mp3": "mp3"}
_MORE_FORMATS = {"audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3"}

#: By the end of a name or address. Google needs the type of what is sent; of an address it may find out itself.
_MIME_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown",
    "csv": "text/csv", "html": "text/html", "json": "application/json", "xml": "text/xml", "mp4": "video/mp4",
    "mov": "video/quicktime", "webm": "video/webm", "mp3": "audio/mp3", "wav": "audio/wav", "flac": "audio/flac",
    "ogg": "audio/ogg",
}  # fmt: skip

#: Kinds of parts that are typed.
KINDS = ("text", "functionCall", "functionResponse", "inlineData", "fileData")
#: What may stand beside any part.
_MODIFIERS = frozenset({"thought", "thoughtSignature", "videoMetadata", "partMetadata", "mediaResolution"})


def kind_of(fields: Fields) -> str | None:
    """The field that says what a part is, one we know before any other; None where only its modifiers are there."""
    for name in KINDS:
        if name in fields:
            return name
    return next((name for name in fields if name not in _MODIFIERS), None)


# --- Media ----------------------------------------------------------------------------------------------------------


def media_of(fields: Fields, kind: str) -> Image | Audio | File:
    """`inlineData` or `fileData` of a part. Raises one of BAD_JSON."""
    raw = fields.pop(kind)
    blob = canonical(decode_fields(raw), BLOB_NAMES) if is_object(raw) else {}
    mime = text_of(blob.pop("mimeType", None)) or ""
    extra: Extra = {**fields}
    if kind == "fileData":
        url = text_of(blob.pop("fileUri", None)) or ""
        extra |= nest(blob, "fileData.")
        if mime.startswith("image/"):
            if mime != mime_type_of(url):
                extra["fileData.mimeType"] = Raw(encode(mime))
            return Image(url, None, extra)
        return File(url=url, media_type=mime or None, extra=extra)
    data = (text_of(blob.pop("data", None)) or "").translate(_TO_STANDARD)
    name = text_of(blob.pop("displayName", None))
    extra |= nest(blob, "inlineData.")
    if mime.startswith("image/"):
        if name is not None:
            extra["inlineData.displayName"] = Raw(encode(name))
        return Image(f"data:{mime};base64,{data}", None, extra)
    sound = _FORMATS.get(mime) or _MORE_FORMATS.get(mime)
    if sound is not None or mime.startswith("audio/"):
        if mime not in _FORMATS and sound is not None:
            extra["inlineData.mimeType"] = Raw(encode(mime))
        if name is not None:
            extra["inlineData.displayName"] = Raw(encode(name))
        return Audio(data, sound or mime.removeprefix("audio/"), extra)
    return File(data=data, filename=name, media_type=mime or None, extra=extra)


def media_fields(part: Image | Audio | File, owns_extra: bool) -> Out:
    """Raises BadRequest for what cannot be sent, by name."""
    if isinstance(part, Image):
        out = _addressed(part.url, None)
    elif isinstance(part, Audio):
        mime = next((mime for mime, name in _FORMATS.items() if name == part.format), f"audio/{part.format}")
        out = {"inlineData": {"mimeType": mime, "data": part.data}}
    else:
        out = _file_fields(part, owns_extra)
    return with_extra(out, part.extra, owns_extra)


def _file_fields(part: File, owns_extra: bool) -> Out:
    # Gemini takes a display name only beside tools of its own, so nobody else's file name is sent.
    name = part.filename
    if part.data is not None:
        if part.data.startswith("data:"):
            out = _addressed(part.data, part.media_type)
        else:
            mime = part.media_type or mime_type_of(name or "")
            if mime is None:
                raise unsupported("a file of unknown type: give its media type, or a file name that tells it")
            out = {"inlineData": {"mimeType": mime, "data": part.data}}
        if name is not None and owns_extra:
            out["inlineData"]["displayName"] = name
        return out
    url = part.url or part.file_id or ""
    if "://" not in url and not url.startswith("files/"):
        raise unsupported("a file by the id of another provider; send its content or address")
    return _addressed(url, part.media_type)


def _addressed(url: str, mime: str | None) -> Out:
    found = _DATA_URI.fullmatch(url) if url.startswith("data:") else None
    if found is not None:
        if found[3] is None:
            raise unsupported("a data: address that is not base64")
        return {"inlineData": {"mimeType": found[1] or mime or "application/octet-stream", "data": found[4]}}
    # An address goes on as it is: the gateway fetches nothing. What the model's provider cannot reach, it refuses.
    blob = {"fileUri": url}
    known = mime or mime_type_of(url)
    return {"fileData": {"mimeType": known, **blob} if known else blob}


def mime_type_of(name: str) -> str | None:
    return _MIME_TYPES.get(name.partition("?")[0].rpartition(".")[2].lower())


def unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (Gemini) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="contents",
    )


def with_extra(fields: Out, extra: Extra, owns_extra: bool) -> Out:
    """`fields` with what stood beside and (under `kind.`) inside them. Typed fields win over extras of the same name."""
    if not owns_extra or not extra:
        return fields
    kinds = [kind for kind, inner in fields.items() if isinstance(inner, dict)]
    for kind in kinds:
        fields[kind] = {**prefixed(extra, f"{kind}."), **fields[kind]}
        if f"{kind}.mimeType" in extra:
            fields[kind]["mimeType"] = extra[f"{kind}.mimeType"]
    inside = tuple(f"{kind}." for kind in kinds)
    return {**{name: raw for name, raw in extra.items() if not name.startswith(inside)}, **fields}


# --- Calls ----------------------------------------------------------------------------------------------------------


def arguments_of(raw: Raw | None) -> str:
    """`args` as JSON text; they may be absent."""
    return compact(raw) if raw is not None and bytes(raw) != b"null" else "{}"


def args_fields(call: ToolCall) -> Raw | Out | None:
    """Arguments as the object Gemini needs; None for text that is no JSON object. Free text stands under `input`."""
    if call.kind == "custom":
        return {"input": call.arguments}
    text = call.arguments.strip()
    if not text:
        return {}
    try:
        data = text.encode()
        if not isinstance(decode_any(data), dict):
            return None
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return Raw(data)


def call_fields(call: ToolCall, args: Raw | Out, owns_extra: bool) -> Out:
    inner: Out = {"id": call.id} if call.id else {}
    out = with_extra({"functionCall": {**inner, "name": call.name, "args": args}}, call.extra, owns_extra)
    if call.signature is not None:
        out["thoughtSignature"] = call.signature
    return out


def split_call(fields: Fields, given: Fields) -> tuple[str | None, Extra]:
    """The signature, and what else stood beside a call, and inside it under `functionCall.`."""
    known = ("name", "args", "id")
    inner = {name: raw for name, raw in given.items() if name not in known}
    signature = text_of(fields.get("thoughtSignature"))
    beside = {name: raw for name, raw in fields.items() if signature is None or name != "thoughtSignature"}
    return signature, {**beside, **nest(inner, "functionCall.")}


# --- Thinking -------------------------------------------------------------------------------------------------------


def wrapped_signature(part: Reasoning) -> str | None:
    """Somebody else's signature and encrypted form, in the base64 that a Gemini client can carry."""
    if part.signature is None and part.encrypted is None:
        return None
    return b64encode(_WRAP[:-1] + encode([part.signature, part.encrypted])).decode()


def unwrapped(raw: Raw | None) -> tuple[str | None, str | None] | None:
    """(signature, encrypted) of a wrapped one; None for Google's own and anything else."""
    text = text_of(raw)
    if text is None or not text.startswith("bmFydT"):
        return None
    try:
        data = urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))
        pair = msgspec.json.decode(data[len(_WRAP) - 1 :], type=tuple[str | None, str | None])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    return pair if data.startswith(_WRAP) else None


def thought_fields(part: Reasoning, owns_extra: bool) -> Out:
    out: Out = {"text": part.text, "thought": True}
    signature = wrapped_signature(part)
    if signature is not None:
        out["thoughtSignature"] = signature
    return with_extra(out, part.extra, owns_extra)
