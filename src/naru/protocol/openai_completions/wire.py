"""The JSON of text completions: one text a choice, in answers and in chunks alike (`object` is text_completion in both)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat.repair import object_fields, repair_reason
from naru.protocol.openai_chat.usage import is_sane, repair_usage
from naru.protocol.openai_chat.whole import check_bare_error, check_error
from naru.protocol.openai_chat.wire import STANDARD_REASONS, WireUsage
from naru.protocol.wire import BAD_JSON, NULL, decode_objects, encode, is_list, is_null, raw_of, unreadable

NAME = "openai_completions"
OBJECT = "text_completion"


class TextChoice(Struct, gc=False):
    text: str | None = None
    index: int = 0
    finish_reason: str | None = None


class TextAnswer(Struct, gc=False):
    choices: list[TextChoice]
    usage: WireUsage | None = None
    error: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(TextAnswer).decode


def read_answer(body: bytes, quirks: Quirks) -> tuple[bytes, TextAnswer]:
    """An answer or a chunk, and its bytes: the same object where nothing had to be put right.

    Raises UpstreamError for garbage, and for an error reported in it.
    """
    try:
        if not body.isascii():
            body.decode()  # msgspec does not look into the strings that it skips
        answer = _decode(body)
    except msgspec.ValidationError:
        return _read_repaired(body, quirks)
    except BAD_JSON:
        raise unreadable("it is not JSON") from None
    check_error(answer.error, quirks)
    if _is_clean(answer):
        return body, answer
    return _read_repaired(body, quirks)


def _is_clean(answer: TextAnswer) -> bool:
    return (answer.usage is None or is_sane(answer.usage)) and all(
        choice.finish_reason is None or choice.finish_reason in STANDARD_REASONS for choice in answer.choices
    )


def _read_repaired(body: bytes, quirks: Quirks) -> tuple[bytes, TextAnswer]:
    fields = object_fields(body)
    check_error(fields.get("error", UNSET), quirks)
    check_bare_error(fields, quirks)
    try:
        if not is_list(fields.get("choices")):
            raise unreadable("it has no choices")
        choices = decode_objects(fields["choices"])
        for choice in choices:
            repair_reason(choice, False)
        fields["choices"] = raw_of(choices)
        if (usage := fields.get("usage")) is not None and not is_null(usage):
            fields["usage"] = repair_usage(usage) or NULL
        body = encode(fields)
        return body, _decode(body)
    except BAD_JSON:
        raise unreadable("its fields have types that text completions do not know") from None
