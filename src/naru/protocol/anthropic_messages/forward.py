"""Same dialect on both sides: the caller's own body, with the model's name and the policy fields changed, encoded once."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import BadRequest
from naru.protocol.anthropic_messages.messages_in import BILLING_HEADER
from naru.protocol.anthropic_messages.thinking import write_policy
from naru.protocol.dialect import Envelope, Forwarded, Quirks
from naru.protocol.messages import ReasoningPolicy
from naru.protocol.reasoning import EXTENSIONS, read_extensions
from naru.protocol.wire import BAD_JSON, TRUE, decode_fields, decode_list, encode, is_list, is_object, raw_of, text_of

#: Names in Quirks.drops that reach deeper than the top level. `tools.<field>` is taken out of every tool: DeepSeek's
#: Anthropic endpoint refuses `type: custom` (providers.md A2.6). `system.billing` is Claude Code's billing block, which
#: would keep every prefix cache but Anthropic's own from hitting (B1.1).
TOOLS_PREFIX = "tools."
BILLING = "system.billing"
_FORMAT = "output_config.format"


def forward(envelope: Envelope, model: str, quirks: Quirks) -> Forwarded:
    """Raises BadRequest where the upstream cannot do what is asked. The envelope stays as it is for the next attempt."""
    fields: dict[str, Any] = envelope.fields.copy()
    fields["model"] = model
    dropped: list[str] = []
    if not EXTENSIONS.isdisjoint(fields):
        dropped += _map_thinking(fields, quirks)
    if quirks.is_stream_only:
        fields["stream"] = TRUE
    if quirks.drops or quirks.renames:
        try:
            _check_format(fields, quirks)
            dropped += drop_and_rename(fields, quirks)
        except BAD_JSON:
            raise BadRequest("The request holds a string that is no text.", code="invalid_json") from None
    return Forwarded(encode(fields), tuple(dropped))


def _map_thinking(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Naru's extensions as Anthropic's own fields; what the caller wrote in Anthropic's form wins."""
    policy = read_extensions({name: fields.pop(name) for name in EXTENSIONS & fields.keys()})
    if policy == ReasoningPolicy():
        return []
    out, lost = write_policy(policy, quirks, owns_extra=False)
    if "thinking" in out:
        fields.setdefault("thinking", out["thinking"])
    if "effort" in out:
        config = fields.get("output_config")
        fields["output_config"] = {"effort": out["effort"], **(decode_fields(config) if is_object(config) else {})}
    return lost


def _check_format(fields: dict[str, Any], quirks: Quirks) -> None:
    config = fields.get("output_config")
    if _FORMAT in quirks.drops and is_object(config) and is_object(decode_fields(config).get("format")):
        raise BadRequest(
            "This model's provider has no structured output in the Messages API: leave `output_config.format` out, "
            "use a tool with that schema, or choose another model.",
            code="unsupported_parameter",
            param=_FORMAT,
        )


def drop_and_rename(fields: dict[str, Any], quirks: Quirks) -> list[str]:
    """Removes what the upstream rejects and renames the rest; returns the names of what was removed."""
    dropped = sorted(quirks.drops & fields.keys())
    for name in dropped:
        del fields[name]
    tool_fields = {name[len(TOOLS_PREFIX) :] for name in quirks.drops if name.startswith(TOOLS_PREFIX)}
    if tool_fields and "tools" in fields:
        _strip_tools(fields, tool_fields)
    if BILLING in quirks.drops and "system" in fields:
        _strip_billing(fields)
    for ours, theirs in quirks.renames:
        if ours in fields:
            value = fields.pop(ours)
            fields.setdefault(theirs, value)
    return dropped


def _strip_tools(fields: dict[str, Any], names: set[str]) -> None:
    """Only the client's own tools: of a server tool the type is all that there is."""
    raw = raw_of(fields["tools"])
    if not is_list(raw):
        return
    tools: list[Any] = []
    for item in decode_list(raw):
        tool: dict[str, Raw] = decode_fields(item) if is_object(item) else {}
        is_own = tool and text_of(tool.get("type")) in (None, "custom")
        tools.append({key: value for key, value in tool.items() if key not in names} if is_own else item)
    fields["tools"] = tools


def _strip_billing(fields: dict[str, Any]) -> None:
    raw = raw_of(fields["system"])
    if not is_list(raw) or BILLING_HEADER.encode() not in bytes(raw):
        return
    kept = [
        item
        for item in decode_list(raw)
        if not (is_object(item) and (text_of(decode_fields(item).get("text")) or "").startswith(BILLING_HEADER))
    ]
    if kept:
        fields["system"] = kept
    else:
        del fields["system"]
