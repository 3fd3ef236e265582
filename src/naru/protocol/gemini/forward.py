"""Same dialect on both sides: the caller's own body with the policy fields changed, encoded once. The path has the model."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.dialect import Envelope, Forwarded, Quirks
from naru.protocol.gemini.parts import WRAPPED, unwrapped
from naru.protocol.gemini.thinking import map_extensions
from naru.protocol.gemini.wire import PART_NAMES, canonical, items_of
from naru.protocol.reasoning import EXTENSIONS
from naru.protocol.wire import BAD_JSON, decode_any, decode_fields, encode, is_list, is_object, raw_of


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """Raises BadRequest where the upstream cannot do what is asked. The envelope stays as it is for the next attempt."""
    fields: dict[str, Any] = envelope.fields.copy()
    dropped: list[str] = []
    if envelope.n > 1 and not quirks.has_n:
        raise refuses_n("generationConfig.candidateCount")
    if not fields.keys().isdisjoint(EXTENSIONS):
        dropped += map_extensions(fields, quirks)
    contents = fields.get("contents")
    if isinstance(contents, Raw) and WRAPPED in bytes(contents):
        fields["contents"] = _without_foreign_signatures(contents)
        dropped.append("contents.thoughtSignature")
    if quirks.drops or quirks.renames or not quirks.has_n:
        dropped += drop_and_rename(fields, quirks)
    return Forwarded(encode(fields), tuple(dropped))


def refuses_n(param: str) -> BadRequest:
    return BadRequest(
        f"This model gives one answer a request: `{param}` above 1 is not possible. Send several requests.",
        code="unsupported_value",
        param=param,
    )


def drop_and_rename(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Removes what the upstream rejects, of the body and of its generationConfig, and returns the names."""
    dropped = sorted(quirks.drops & fields.keys())
    for name in dropped:
        del fields[name]
    given = fields.get("generationConfig")
    config: dict[str, Any]
    if isinstance(given, dict):
        config = given
    elif is_object(given):
        config = decode_fields(given)
    else:
        return dropped
    inner = sorted(quirks.drops & config.keys())
    if not quirks.has_n:
        config.pop("candidateCount", None)  # it can only be 1 here
    for name in inner:
        del config[name]
    for ours, theirs in quirks.renames:
        if ours in config:
            config.setdefault(theirs, config.pop(ours))
    fields["generationConfig"] = config
    return dropped + inner


def _without_foreign_signatures(contents: Raw) -> Raw:
    """Thoughts of another model, shown to this caller earlier, go without the signature that only their maker can read."""
    try:
        rewritten: list[Any] = []
        for raw in items_of(contents):
            content = decode_fields(raw) if is_object(raw) else {}
            parts = content.get("parts")
            if parts is not None and (is_list(parts) or is_object(parts)) and WRAPPED in bytes(parts):
                content["parts"] = raw_of([_stripped(part) for part in items_of(parts)])
                rewritten.append(content)
            else:
                rewritten.append(raw)
        return raw_of(rewritten)
    except BAD_JSON:  # not as the API describes it: the upstream will say so better than a guess of ours
        return contents


def _stripped(raw: Raw) -> Any:
    if not is_object(raw):
        return decode_any(raw)
    fields = canonical(decode_fields(raw), PART_NAMES)
    if unwrapped(fields.get("thoughtSignature")) is not None:
        del fields["thoughtSignature"]
    return fields
