"""The JSON of the Messages API: small typed structs for what is looked at in every event, raw layers for all else.

Facts: reference/providers.md A4 and B1; the official SDK's types where that is silent.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from naru.protocol.messages import FinishReason
from naru.protocol.wire import BAD_JSON, decode_fields, is_null, is_object, raw_of, text_of

NAME = "anthropic_messages"

#: A tool of ours that stands for the answer itself, where an upstream knows no output_config.format (`request_out`). A
#: call of it is text again before anybody sees it.
ANSWER_TOOL = "naru_structured_answer"
#: What a model wrote as arguments though it is no JSON object: `input` must be one, so the text travels under this name.
UNPARSED = "naru_unparsed_arguments"

#: providers.md A0.2. What is not here is taken as `stop`; the word itself stays in the choice's `extra`.
FINISH_OF: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "compaction": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STOP_REASON_OF: dict[str, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "error": "end_turn",
}


class Delta(Struct, gc=False):
    """The delta of a content block or of the message."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class StreamEvent(Struct, gc=False):
    type: str = ""
    index: int = -1
    delta: Delta | None = None
    content_block: Raw | UnsetType = UNSET
    message: Raw | UnsetType = UNSET
    usage: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


decode_event = msgspec.json.Decoder(StreamEvent).decode


def stop_reason_of(reason: str, stop_sequence: str | None) -> str:
    """Anthropic's word for a typed finish reason."""
    if reason == "stop" and stop_sequence is not None:
        return "stop_sequence"
    return STOP_REASON_OF.get(reason, "end_turn")


def is_input(text: str) -> bool:
    """Whether a text is the JSON object that a tool's `input` has to be."""
    try:
        decode_fields(text)
    except BAD_JSON:
        return False
    return True


def input_of(arguments: str) -> Raw:
    """Arguments as `input`. No arguments are {}; what is no object keeps its text under UNPARSED."""
    if not arguments.strip():
        return Raw(b"{}")
    if is_input(arguments):
        return Raw(arguments.encode())
    return raw_of({UNPARSED: arguments})


def arguments_of(value: Raw | None) -> str:
    """`input` as arguments: its JSON as it was written; undoes `input_of`."""
    if value is None or is_null(value):
        return "{}"
    if not is_object(value):  # some compatible servers write a string
        return text_of(value) or bytes(value).decode()
    if UNPARSED.encode() in bytes(value):
        fields = decode_fields(value)
        text = text_of(fields.get(UNPARSED))
        if text is not None and len(fields) == 1:
            return text
    return bytes(value).decode()
