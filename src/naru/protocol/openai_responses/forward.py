"""Same dialect on both sides: the caller's own body, with the model's name and the policy fields changed, encoded once."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope, Forwarded, Quirks
from naru.protocol.openai_chat.forward import drop_and_rename
from naru.protocol.openai_responses.parts import ENCRYPTED
from naru.protocol.openai_responses.request_out import reasoning_of
from naru.protocol.reasoning import EXTENSIONS, read_extensions
from naru.protocol.seal import MARK, unseal
from naru.protocol.wire import (
    BAD_JSON,
    TRUE,
    Fields,
    decode_fields,
    decode_list,
    encode,
    is_list,
    is_null,
    is_object,
    raw_of,
    text_of,
)

_SYSTEM = Raw(b'"system"')


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """Raises BadRequest for extensions of the wrong type. The envelope stays as it is for the next attempt."""
    fields: dict[str, Any] = envelope.fields.copy()
    fields["model"] = model
    if fields.get("background") == TRUE:
        # What is generated after the answer would never reach the ledger.
        raise BadRequest(
            "Background responses are not possible here: what they cost is known only later. Send the request without "
            "`background`, streamed if it is long.",
            code="unsupported_parameter",
            param="background",
        )
    dropped: list[str] = []
    if not EXTENSIONS.isdisjoint(fields):
        dropped += _map_extensions(fields, quirks)
    if quirks.effort_values and is_object(fields.get("reasoning")):
        fields["reasoning"] = _spelled(fields["reasoning"], dict(quirks.effort_values))
    if is_list(items := envelope.fields.get("input")):
        fields["input"], names = _rewritten(items, quirks)
        dropped += names
    if quirks.is_stream_only:
        fields["stream"] = TRUE
    if quirks.drops or quirks.renames:
        dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def _map_extensions(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """The extensions become `reasoning`, whose own fields win."""
    policy = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    reasoning, dropped = reasoning_of(policy, quirks)
    given = fields.get("reasoning")
    if reasoning and (is_null(given) or is_object(given)):
        own = decode_fields(given) if is_object(given) else {}
        fields["reasoning"] = raw_of({**reasoning, **{name: raw for name, raw in own.items() if not is_null(raw)}})
    return dropped


def _spelled(reasoning: Raw, theirs: dict[str, str]) -> Raw:
    given = decode_fields(reasoning)
    try:
        effort = text_of(given.get("effort"))
    except BAD_JSON:  # a string that is no text: the upstream will say so
        return reasoning
    if effort not in theirs:
        return reasoning
    return raw_of({**given, "effort": theirs[effort]})


def _rewritten(items: Raw, quirks: Quirks) -> tuple[Raw, list[str]]:
    """The input without what this upstream cannot take; the same object where nothing changes."""
    text = bytes(items)
    renames_role = not quirks.has_developer_role and b'"developer"' in text
    if not renames_role and MARK.encode() not in text:
        return items, []
    kept: list[Raw | Fields] = []
    dropped: list[str] = []
    try:
        for raw in decode_list(items):
            fields = decode_fields(raw) if is_object(raw) else {}
            if renames_role and text_of(fields.get("role")) == "developer":
                kept.append({**fields, "role": _SYSTEM})
            elif unseal(text_of(fields.get(ENCRYPTED)) or "") is not None:
                dropped = ["input.reasoning"]  # of another provider, which this one would refuse (providers.md B2.4)
            else:
                kept.append(raw)
    except BAD_JSON:  # a string that is no text: the upstream will say so better than a guess of ours
        return items, []
    return raw_of(kept), dropped
