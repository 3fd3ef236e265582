"""Pictures by address in a request, and the same request with their content in place of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import urlsplit

from msgspec.structs import replace

from naru.protocol.dialect import CHAT, ClientSide, Dialect, Envelope, family_of
from naru.protocol.messages import Image, Message, Part, Request, ToolResult


def image_urls(request: Request) -> Iterator[str]:
    """The http(s) addresses of its pictures, those in tool results too."""
    for message in request.messages:
        for part in message.parts:
            for inner in part.parts if isinstance(part, ToolResult) else (part,):
                if isinstance(inner, Image) and inner.url.startswith(("http://", "https://")):
                    yield inner.url


def addresses(dialect: ClientSide, envelope: Envelope) -> list[str]:
    """The same of a request that was only read, in the order they stand; none outside conversations."""
    if family_of(dialect.name) != CHAT:
        return []
    return list(dict.fromkeys(image_urls(cast(Dialect, dialect).decode_request(envelope))))


def with_images(request: Request, images: Mapping[str, str]) -> Request:
    """`images`: address -> data: URI."""
    return replace(request, messages=tuple(_with_images(message, images) for message in request.messages))


def _with_images(message: Message, images: Mapping[str, str]) -> Message:
    return replace(message, parts=tuple(_filled(part, images) for part in message.parts))


def _filled(part: Part, images: Mapping[str, str]) -> Part:
    if isinstance(part, Image) and part.url in images:
        return replace(part, url=images[part.url])
    if isinstance(part, ToolResult):
        inner = tuple(
            replace(each, url=images[each.url]) if isinstance(each, Image) and each.url in images else each
            for each in part.parts
        )
        return replace(part, parts=inner)
    return part


def place_of(url: str) -> str:
    """Its host, and its port where it names one; empty where there is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:  # brackets that do not close
        return ""
