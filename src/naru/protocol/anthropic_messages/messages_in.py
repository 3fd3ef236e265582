"""`system` and `messages` of a caller's request to typed messages.

A message keeps its role and its blocks in their order: tool results stay where they stood, in a user message.
"""

from __future__ import annotations

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.blocks import BlockError, read_block
from naru.protocol.messages import Message, Part, Role, Text
from naru.protocol.wire import (
    BAD_JSON,
    Fields,
    decode_fields,
    decode_list,
    is_list,
    is_null,
    is_object,
    rest_of,
    text_of,
)

_MESSAGE_KEYS = frozenset({"role", "content"})
_ROLES: dict[str, Role] = {"user": "user", "assistant": "assistant", "system": "system"}

#: Claude Code's first system block. It changes with every request, so that no other provider's prefix cache would ever
#: hit (providers.md B1.1), and it says nothing to a model.
BILLING_HEADER = "x-anthropic-billing-header:"


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The system prompt first. Raises BadRequest, with the path of the block at fault as `param`."""
    system = tuple(part for part in _content(fields.get("system"), "system") if not is_billing(part))
    messages = tuple(_message(raw, f"messages[{place}]") for place, raw in enumerate(decode_list(fields["messages"])))
    return (Message("system", system), *messages) if system else messages


def is_billing(part: Part) -> bool:
    return isinstance(part, Text) and part.text.startswith(BILLING_HEADER)


def wrong(path: str, what: str) -> BadRequest:
    return BadRequest(f"`{path}` {what}.", code="invalid_value", param=path)


def _message(raw: Raw, path: str) -> Message:
    if not is_object(raw):
        raise wrong(path, "must be an object with `role` and `content`")
    try:
        fields = decode_fields(raw)
        role = _ROLES.get(text_of(fields.get("role")) or "")
    except BAD_JSON:
        raise wrong(path, "holds a string that is no text") from None
    if role is None:
        raise wrong(f"{path}.role", "must be user, assistant or system")
    if is_null(fields.get("content")):
        raise wrong(f"{path}.content", "must be a string or a list of blocks")
    return Message(role, _content(fields["content"], f"{path}.content"), extra=rest_of(fields, _MESSAGE_KEYS))


def _content(raw: Raw | None, path: str) -> tuple[Part, ...]:
    if raw is None or is_null(raw):
        return ()
    parts: list[Part] = []
    place = path
    try:
        text = text_of(raw)
        if text is not None:
            return (Text(text),)
        if not is_list(raw):
            raise wrong(path, "must be a string or a list of blocks")
        for index, item in enumerate(decode_list(raw)):
            place = f"{path}[{index}]"
            parts.append(read_block(item))
    except BlockError as error:
        raise wrong(place + error.field, error.what) from None
    except BAD_JSON:
        raise wrong(place, "holds a string that is no text") from None
    return tuple(parts)
