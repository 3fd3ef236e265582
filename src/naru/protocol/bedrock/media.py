"""Pictures, sound and documents as Converse takes them: bytes in base64, or an object in S3. It fetches no addresses."""

from __future__ import annotations

import re
from typing import Any

from naru.errors import BadRequest
from naru.protocol.messages import Audio, File, Image

Out = dict[str, Any]

_IMAGE_FORMATS = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_IMAGE_ENDINGS = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "gif": "gif", "webp": "webp"}
_AUDIO_FORMATS = frozenset(
    {"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg", "mpga", "pcm", "webm"}
)
_DOCUMENT_FORMATS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_ENDINGS = frozenset(_DOCUMENT_FORMATS.values())
#: The base64 of `%PDF-`, cut to whole characters.
_PDF_START = "JVBERi"
#: A document's name has letters, digits, single blanks, hyphens, brackets.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9()\[\]-]+")
_MAX_NAME_CHARS = 180


def image_block(image: Image) -> Out:
    """Raises BadRequest for what Converse cannot look at."""
    if image.url.startswith("s3://"):
        ending = image.url.rpartition(".")[2].lower()
        if ending not in _IMAGE_ENDINGS:
            raise unsupported("an image in S3 whose name does not end in .png, .jpeg, .gif or .webp")
        return {"image": {"format": _IMAGE_ENDINGS[ending], "source": {"s3Location": {"uri": image.url}}}}
    if not image.url.startswith("data:"):
        raise unsupported("an image by its address; send it as data:…;base64,… or as s3://…")
    media_type, data = _data_uri(image.url)
    if media_type not in _IMAGE_FORMATS:
        raise unsupported(f"an image of the type `{media_type}`; it takes PNG, JPEG, GIF and WebP")
    return {"image": {"format": _IMAGE_FORMATS[media_type], "source": {"bytes": data}}}


def audio_block(audio: Audio) -> Out:
    if audio.format not in _AUDIO_FORMATS:
        raise unsupported(f"sound of the format `{audio.format}`")
    return {"audio": {"format": audio.format, "source": {"bytes": audio.data}}}


def document_block(file: File, number: int) -> Out:
    """`number` counts the request's documents: two of one name are refused."""
    if file.file_id is not None:
        raise unsupported("a file by its id; send it as base64")
    if file.url is not None and not file.url.startswith("s3://"):
        raise unsupported("a file by its address; send it as base64 or as s3://…")
    media_type, data = file.media_type or "", file.data or ""
    if data.startswith("data:"):
        media_type, data = _data_uri(data)
    if media_type in _IMAGE_FORMATS:
        return image_block(Image(f"data:{media_type};base64,{data}"))
    source: Out = {"bytes": data} if file.url is None else {"s3Location": {"uri": file.url}}
    name = f"{_stem(file)} {number}" if number > 1 else _stem(file)
    return {"document": {"format": _format_of(file, media_type, data), "name": name, "source": source}}


def _format_of(file: File, media_type: str, data: str) -> str:
    ending = (file.filename or file.url or "").rpartition(".")[2].lower()
    found = _DOCUMENT_FORMATS.get(media_type)
    if found is None and (ending in _ENDINGS or data.startswith(_PDF_START)):
        found = ending if ending in _ENDINGS else "pdf"
    if found is None:
        found = "txt" if media_type.startswith("text/") else None
    if found is None:
        raise unsupported(f"a file of the type `{media_type or 'unknown'}`; it takes {', '.join(sorted(_ENDINGS))}")
    return found


def _stem(file: File) -> str:
    name = (file.filename or "").rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    return " ".join(_NOT_IN_NAMES.sub(" ", stem).split())[:_MAX_NAME_CHARS] or "document"


def _data_uri(url: str) -> tuple[str, str]:
    head, comma, data = url[len("data:") :].partition(",")
    media_type, *options = head.split(";")
    if not comma or "base64" not in options:
        raise unsupported("a data: address that is not base64")
    return media_type.strip().lower(), data


def unsupported(what: str) -> BadRequest:
    return BadRequest(
        f"This model's API (Bedrock Converse) cannot take {what}. Leave it out, or choose another model.",
        code="unsupported_content",
        param="messages",
    )
