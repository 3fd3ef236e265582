"""The JSON of the Responses API: one small struct for stream events, and helpers for layered raw JSON.

What the struct refuses is looked at as `dict[str, Raw]`: an event of a kind nobody knows may hold anything.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from naru.protocol.messages import Extra
from naru.protocol.wire import Fields, decode_fields, decode_list, is_list, is_object, text_of

NAME = "openai_responses"


class StreamEvent(Struct, gc=False):
    """The fields of all stream events that matter, as one event has them (providers.md B2.3)."""

    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    logprobs: Raw | UnsetType = UNSET
    item: Raw | UnsetType = UNSET
    part: Raw | UnsetType = UNSET
    response: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


decode_event = msgspec.json.Decoder(StreamEvent).decode


def items_of(raw: Raw | UnsetType | None) -> list[Fields]:
    """The objects of a list; nothing for null, for what is no list, and for members that are no objects."""
    if raw is None or raw is UNSET or not is_list(raw):
        return []
    return [decode_fields(item) for item in decode_list(raw) if is_object(item)]


def texts_of(raw: Raw | None) -> list[str]:
    """The texts of a list of parts, as in the `summary` and `content` of reasoning; empty ones left out."""
    return [text for part in items_of(raw) if (text := text_of(part.get("text")))]


def prefixed(fields: Extra, prefix: str) -> Extra:
    return {prefix + name: raw for name, raw in fields.items()}


def unprefixed(extra: Extra, prefix: str) -> Extra:
    """The fields of an `extra` that stood elsewhere, by their own names there."""
    return {name.removeprefix(prefix): raw for name, raw in extra.items() if name.startswith(prefix)}
