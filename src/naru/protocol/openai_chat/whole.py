"""Same dialect: a whole answer passed on, its own bytes wherever it keeps to the dialect. See wire.py for the method."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from naru.protocol.dialect import Quirks, WholeAnswer
from naru.protocol.messages import Usage
from naru.protocol.openai_chat.errors import error_inside
from naru.protocol.openai_chat.repair import object_fields, repair_choice
from naru.protocol.openai_chat.usage import is_sane, repair_usage, usage_of
from naru.protocol.openai_chat.wire import STANDARD_REASONS, WholeAnswerProbe, WholeChoice, decode_whole
from naru.protocol.service import tier_of
from naru.protocol.wire import (
    BAD_JSON,
    NULL,
    Fields,
    decode_list,
    encode,
    is_list,
    is_null,
    raw_of,
    text_of,
    unreadable,
    value_of,
)

_BLANKS = b" \t\r\n"
#: No tier, as nearly every answer says it.
_USUAL = frozenset({b"null", b'"default"', b'"auto"'})


def relay_whole(body: bytes, quirks: Quirks) -> WholeAnswer:
    """Raises UpstreamError for garbage, and for an error reported with a status of 200 (reliability.md A18)."""
    if body[:1].isspace():  # DeepSeek keeps a waiting connection open with blank lines
        body = body.lstrip(_BLANKS)
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        probe = decode_whole(body)
    except msgspec.ValidationError:
        return _relay_repaired(body, quirks)
    except BAD_JSON:
        raise unreadable("it is not JSON") from None
    check_error(probe.error, quirks)
    if not _is_clean(probe, quirks):
        return _relay_repaired(body, quirks)
    return WholeAnswer(body, _usage(probe), _count(probe.choices))


def _usage(probe: WholeAnswerProbe) -> Usage | None:
    if probe.usage is None:
        return None
    raw = probe.service_tier
    if raw is UNSET or bytes(raw) in _USUAL:
        return usage_of(probe.usage)
    tier = value_of(raw)
    return usage_of(probe.usage, tier_of(tier) if isinstance(tier, str) else "")


def check_error(error: Raw | UnsetType, quirks: Quirks) -> None:
    if error is UNSET:
        return
    if bytes(error) not in (b"null", b"false", b'""', b"{}", b"[]"):
        raise error_inside(b'{"error":%b}' % bytes(error), quirks)


def check_bare_error(fields: Fields, quirks: Quirks) -> None:
    """An error whose fields stand at the top level: old vLLM, SGLang, DashScope's own shape."""
    if is_list(fields.get("choices")):
        return
    is_named = text_of(fields.get("object")) == "error"
    if is_named or ("message" in fields and ("code" in fields or "type" in fields)) or "detail" in fields:
        raise error_inside(encode(fields), quirks)


def _is_clean(probe: WholeAnswerProbe, quirks: Quirks) -> bool:
    if probe.usage is not None and not is_sane(probe.usage):
        return False
    if quirks.think_tag == "open_implied" or quirks.thinking_field not in ("reasoning_content", "reasoning"):
        return False
    for choice in probe.choices:
        message, reason = choice.message, choice.finish_reason
        if reason not in STANDARD_REASONS and reason is not None:
            return False
        if message.reasoning is not None and message.reasoning_content is None:
            return False
        if quirks.think_tag == "inline" and message.content and message.content.lstrip().startswith("<think>"):
            return False
        if message.tool_calls and not _are_calls_clean(choice):
            return False
    return bool(probe.choices)


def _are_calls_clean(choice: WholeChoice) -> bool:
    calls = choice.message.tool_calls or []
    return (
        choice.finish_reason not in ("stop", "function_call")
        and all(call.id and call.type and (call.function or call.custom) for call in calls)
        and len({call.id for call in calls}) == len(calls)
    )


def _relay_repaired(body: bytes, quirks: Quirks) -> WholeAnswer:
    fields = object_fields(body)
    check_error(fields.get("error", UNSET), quirks)
    check_bare_error(fields, quirks)
    raw_choices = fields.get("choices")
    if not is_list(raw_choices) or not (choices := decode_list(raw_choices)):
        raise unreadable("it has no choices")
    answer_id = text_of(fields.get("id")) or ""
    try:
        repaired = [repair_choice(raw, place, answer_id, quirks) for place, raw in enumerate(choices)]
        fields["choices"] = raw_of(repaired)
        if not is_null(usage := fields.get("usage")) and usage is not None:
            fields["usage"] = repair_usage(usage) or NULL
        body = encode(fields)
        probe = decode_whole(body)
    except BAD_JSON:
        raise unreadable("its fields have types that chat completions do not know") from None
    return WholeAnswer(body, _usage(probe), _count(probe.choices))


def _count(choices: list[WholeChoice]) -> int:
    """Characters the model wrote: text, reasoning, refusals and tool arguments."""
    count = 0
    for choice in choices:
        message = choice.message
        for text in (message.content, message.reasoning_content, message.refusal):
            if text:
                count += len(text)
        for call in message.tool_calls or ():
            count += len(call.function.arguments) if call.function else len(call.custom.input) if call.custom else 0
        if message.function_call is not None:
            count += len(message.function_call.arguments)
    return count
