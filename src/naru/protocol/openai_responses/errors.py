"""Errors of the Responses API: chat's shape for whole answers, events of their own inside a stream (providers.md B2.3)."""

from __future__ import annotations

from msgspec import UNSET, Raw, UnsetType

from naru.errors import NaruError, UpstreamError
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat.errors import encode_error, error_inside
from naru.protocol.sse import write_event
from naru.protocol.wire import Fields, decode_fields, encode, is_null, is_object, raw_of, text_of

#: What `response.error.code` says of the request itself (SDK 3.52, ResponseError); the others are the server's fault.
_CALLER_CODES = frozenset({"invalid_prompt", "data_residency_mismatch", "bio_policy", "misalignment_policy_violation"})
_CALLER_CODES |= {"failed_to_download_image", "empty_image_file", "unsupported_image_media_type"}
_IMAGE_PREFIXES = ("invalid_image", "invalid_base64_image", "image_")

#: How an event writes its own fields; the error's stand beside them.
_EVENT_KEYS = frozenset({"type", "sequence_number"})


def failure(error: Raw | UnsetType | None, quirks: Quirks) -> UpstreamError:
    """The error of a response whose status is failed."""
    fields = decode_fields(error) if error is not None and error is not UNSET and is_object(error) else {}
    code = text_of(fields.get("code")) or ""
    if code in _CALLER_CODES or code.startswith(_IMAGE_PREFIXES):
        fields["type"] = raw_of("invalid_request_error")
    elif not fields:
        fields = {"code": raw_of("server_error"), "message": raw_of("The provider failed without saying why.")}
    return error_inside(encode({"error": fields}), quirks)


def event_error(fields: Fields, quirks: Quirks) -> UpstreamError:
    """The error of an `error` event: under `error`, as OpenAI sends it, or flat, as OpenAI documents it."""
    inner = fields.get("error")
    if is_null(inner):
        inner = raw_of({name: raw for name, raw in fields.items() if name not in _EVENT_KEYS})
    return failure(inner, quirks) if is_object(inner) else error_inside(encode({"error": inner}), quirks)


def shown(error: NaruError) -> Fields:
    """An error's four fields as a caller may see them."""
    return decode_fields(decode_fields(encode_error(error)[1])["error"])


def encode_stream_error(error: NaruError) -> bytes:
    """The error as the last event of a stream. Flat as documented, and under `error`, on which the OpenAI clients raise.

    The stream's own count is not known here, so `sequence_number` is 0; no client reads it of an error.
    """
    fields = shown(error)
    flat = {name: fields[name] for name in ("code", "message", "param")}
    return write_event(encode({"type": "error", "sequence_number": 0, **flat, "error": fields}), b"error")


def failed_error(error: NaruError) -> dict[str, object]:
    """`error` of a failed response: Codex decides by its code what to do next (providers.md B2.4)."""
    fields = shown(error)
    code = fields["code"] if text_of(fields["code"]) else raw_of("server_error")
    return {"code": code, "message": fields["message"]}
