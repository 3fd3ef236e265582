"""Errors between the Messages API and Naru's tree (providers.md A4.6, B1.3). Nothing sent as an error can crash this."""

from __future__ import annotations

from typing import Any

import msgspec

from naru.errors import NaruError, UpstreamError, UpstreamRefused
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat.errors import decode_error as decode_any_error
from naru.protocol.openai_chat.errors import error_inside as any_error_inside
from naru.protocol.sse import write_event
from naru.protocol.wire import BAD_JSON, decode_any, encode

_STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TYPE_OF = {status: kind for kind, status in _STATUS_OF.items()} | {503: "overloaded_error"}
#: error.details.error_code: a limit on money, not on rate; waiting does not help.
_SPENT = frozenset({"enforced_spend_limit_reached"})


def decode_error(status: int, body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer with a failing status. Never raises."""
    value = _loose_json(body)
    if code := _error_code(value):
        # Below `type` only this tells the causes apart; clients act on it (a lost thread is sent again as a whole).
        body = encode({"error": {**value["error"], "code": "insufficient_quota" if code in _SPENT else code}})
    return decode_any_error(status, body, quirks)


def error_inside(body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer of 200 or in a stream, whose status is told by its type."""
    value = _loose_json(body)
    inner = value.get("error") if isinstance(value, dict) else None
    kind = inner.get("type") if isinstance(inner, dict) else None
    status = _STATUS_OF.get(kind) if isinstance(kind, str) else None
    return any_error_inside(body, quirks) if status is None else decode_error(status, body, quirks)


def encode_error(error: NaruError) -> tuple[int, bytes]:
    """Status and body for the caller. The id of the request goes in a header."""
    status, fields = _shown(error)
    return status, encode({"type": "error", "error": fields, "request_id": None})


def encode_stream_error(error: NaruError) -> bytes:
    """The error as an event of the stream, after which nothing follows: the clients raise on it."""
    return write_event(encode({"type": "error", "error": _shown(error)[1], "request_id": None}), b"error")


def _shown(error: NaruError) -> tuple[int, dict[str, Any]]:
    # The gateway's empty account must not look like the caller's (providers.md A0.5).
    if isinstance(error, UpstreamRefused) and (error.status == 402 or error.code == "insufficient_quota"):
        message = "The gateway's account with the provider is out of credit. Ask the operator; your own budget is fine."
        return 503, {"type": "api_error", "message": message}
    kind = _TYPE_OF.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    message = error.message
    if error.code == "context_length_exceeded" and "prompt is too long" not in message:
        message = f"prompt is too long: {message}"  # the words at which Claude Code compacts its history
    fields: dict[str, Any] = {"type": kind, "message": message}
    if error.code is not None:
        fields["details"] = {"error_code": error.code}
    return error.status, fields


def _loose_json(body: bytes) -> Any:
    try:
        return decode_any(body)
    except (*BAD_JSON, msgspec.ValidationError):
        return None


def _error_code(value: Any) -> str:
    for name in ("error", "details", "error_code"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
