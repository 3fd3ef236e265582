"""Same dialect on both sides: the caller's own body, with the model's name and the policy fields changed, encoded once."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope, Forwarded, Quirks
from naru.protocol.openai_chat.history import rewrite_messages
from naru.protocol.openai_chat.thinking import is_off, map_thinking, settle_conflicts
from naru.protocol.reasoning import EXTENSIONS
from naru.protocol.wire import TRUE, decode_fields, encode, is_object

_WITH_USAGE = Raw(b'{"include_usage":true}')
_MAX_TOKENS = ("max_completion_tokens", "max_tokens")  # the first wins (providers.md A0.1)


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """Raises BadRequest where the upstream cannot do what is asked. The envelope stays as it is for the next attempt."""
    fields: dict[str, Any] = envelope.fields.copy()
    fields["model"] = model
    dropped: list[str] = []
    if not EXTENSIONS.isdisjoint(fields):
        dropped += map_thinking(fields, quirks)
    if quirks.thinking_excludes:
        dropped += settle_conflicts(fields, quirks)
    messages, names = rewrite_messages(envelope.fields["messages"], quirks, "tools" in fields and not is_off(fields))
    fields["messages"] = messages
    dropped += names
    if envelope.is_stream or quirks.is_stream_only or "stream_options" in fields:
        _ask_for_usage(fields, envelope, quirks)
    if quirks.max_tokens_field is not None:
        name_max_tokens(fields, quirks.max_tokens_field)
    if envelope.n > 1 and not quirks.has_n:
        raise refuses_n()
    if quirks.drops or quirks.renames or not quirks.has_n:
        dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def refuses_n() -> BadRequest:
    return BadRequest(
        "This model's provider gives one choice a request: `n` above 1 is not possible. Send several requests.",
        code="unsupported_value",
        param="n",
    )


def _ask_for_usage(fields: dict[str, Any], envelope: Envelope, quirks: Quirks) -> None:
    """Money needs the usage of every stream, asked for or not; the relay hides the chunk from who did not ask."""
    if quirks.is_stream_only:
        fields["stream"] = True
    if not quirks.has_stream_usage:
        fields.pop("stream_options", None)  # the relay writes the usage chunk itself
    elif (envelope.is_stream or quirks.is_stream_only) and not envelope.wants_usage:
        options = fields.get("stream_options")
        if is_object(options):
            fields["stream_options"] = {**decode_fields(options), "include_usage": TRUE}
        else:
            fields["stream_options"] = _WITH_USAGE


def name_max_tokens(fields: dict[str, Any], name: str) -> None:
    """The caller's limit under the one name that this upstream knows."""
    given = [fields.pop(ours) for ours in _MAX_TOKENS if ours in fields]
    limit = next((value for value in given if value is not None and _is_set(value)), None)
    if limit is not None:
        fields[name] = limit


def _is_set(value: Any) -> bool:
    return not isinstance(value, Raw) or bytes(value) != b"null"


def drop_and_rename(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Removes what the upstream rejects and renames the rest; returns the names of what was removed."""
    dropped = sorted(quirks.drops & fields.keys())
    for name in dropped:
        del fields[name]
    if not quirks.has_n:
        fields.pop("n", None)  # it can only be 1 here
    for ours, theirs in quirks.renames:
        if ours in fields:
            value = fields.pop(ours)
            fields.setdefault(theirs, value)
    return dropped
