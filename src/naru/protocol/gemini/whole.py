"""Whole answers: read, passed on, written."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from naru.errors import UpstreamBroken
from naru.protocol.accumulate import accumulate
from naru.protocol.dialect import Quirks, WholeAnswer
from naru.protocol.gemini.answers import AnswerReader
from naru.protocol.gemini.candidates import finish_fields, malformed_fields, part_fields
from naru.protocol.gemini.usage import usage_fields
from naru.protocol.gemini.wire import NAME, rfc3339
from naru.protocol.messages import Choice, Event, Response, ToolCall
from naru.protocol.wire import BAD_JSON, decode_list, encode, unreadable

Out = dict[str, Any]


def decode_response(body: bytes, quirks: Quirks) -> Response:
    """Raises UpstreamError for garbage and for an error in an answer of 200."""
    return accumulate(_read(body, quirks)[1])


def relay_whole(body: bytes, quirks: Quirks) -> WholeAnswer:
    """Same dialect: the upstream's own bytes, once they have been read."""
    reader, _ = _read(body, quirks)
    return WholeAnswer(body, reader.usage, reader.output_chars)


def _read(body: bytes, quirks: Quirks) -> tuple[AnswerReader, list[Event]]:
    reader = AnswerReader(quirks)
    pieces: list[bytes] | list[Raw] = [body]
    if body.lstrip().startswith(b"["):  # a stream without alt=sse is a list of pieces (A6.1)
        try:
            body.decode()
            pieces = decode_list(body)
        except BAD_JSON:
            raise unreadable("it is not JSON") from None
    events = [event for piece in pieces for event in reader.read(piece)]
    if not reader.has_candidates and not reader.is_blocked:
        raise unreadable("it has no candidates")
    return reader, events


def cut_off() -> UpstreamBroken:
    return UpstreamBroken(
        "The provider's stream ended before the answer did. What was received is incomplete; try again.",
        code="upstream_incomplete",
    )


def encode_response(response: Response) -> bytes:
    """Parts that Gemini has no place for (another dialect's own) are left out."""
    owns_extra = response.dialect == NAME
    fields: Out = {}
    is_blocked = owns_extra and "promptFeedback" in response.extra and not any(c.parts for c in response.choices)
    if response.choices and not is_blocked:
        fields["candidates"] = [_candidate(choice, owns_extra) for choice in response.choices]
    if response.usage is not None:
        fields["usageMetadata"] = usage_fields(response.usage, response.service_tier)
    fields["modelVersion"] = response.model
    fields["responseId"] = response.id
    made = rfc3339(response.created)
    if made is not None:
        fields["createTime"] = made
    return encode({**fields, **response.extra} if owns_extra else fields)


def _candidate(choice: Choice, owns_extra: bool) -> Out:
    parts: list[Any] = []
    malformed: list[ToolCall] = []
    for part in choice.parts:
        out = part_fields(part, owns_extra)
        if out is not None:
            parts.append(out)
        elif isinstance(part, ToolCall):
            malformed.append(part)
    fields: Out = {"content": {"parts": parts, "role": "model"}, "index": choice.index}
    return {**fields, **finish_fields(choice, owns_extra), **malformed_fields(malformed)}
