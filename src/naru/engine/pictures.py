"""Pictures and sound in a conversation: taken out of the messages as bytes, for engines that see and hear. Pure.

Addresses are not fetched here: the gateway does that where its operator allows it, and sends data.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

from naru.engine.port import Facts
from naru.errors import BadRequest

Json = dict[str, Any]


def pictures_of(messages: Sequence[Json], facts: Facts) -> tuple[bytes, ...]:
    """In the order in which they stand. Raises BadRequest where the model has no eyes, or the data is not base64."""
    found = tuple(_picture(part) for part in _parts(messages, ("image_url", "image")))
    if found and not facts.takes_images:
        raise BadRequest(
            "This model takes no pictures; send it text alone.", code="unsupported_content", param="messages"
        )
    return found


def sounds_of(messages: Sequence[Json], facts: Facts) -> tuple[bytes, ...]:
    found = tuple(_sound(part) for part in _parts(messages, ("input_audio", "audio")))
    if found and not facts.takes_audio:
        raise BadRequest("This model takes no sound; send it text alone.", code="unsupported_content", param="messages")
    return found


def _parts(messages: Sequence[Json], kinds: tuple[str, ...]) -> Iterator[Json]:
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") in kinds:
                yield part


def _picture(part: Json) -> bytes:
    value = part.get("image_url", part.get("image"))
    url = value.get("url") if isinstance(value, dict) else value
    head, comma, data = str(url).partition(",")
    if not head.startswith("data:") or not comma or not head.endswith(";base64"):
        raise BadRequest(
            "A local engine takes a picture as data (data:image/png;base64,…), not as an address. The gateway fetches addresses "
            "where server.fetch_images allows it.",
            code="unsupported_content",
            param="messages",
        )
    return _decoded(data)


def _sound(part: Json) -> bytes:
    value = part.get("input_audio", part.get("audio"))
    return _decoded(str(value.get("data") if isinstance(value, dict) else value))


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A picture or sound is not valid base64.", code="invalid_value", param="messages") from None
