"""Errors between the wire and Naru's tree, in Google's shape: {"error": {code, message, status, details}} (A6.6).

Seen as well: the same in a list, the Interactions API's string codes, pages from a proxy. Nothing a provider sends as an
error can crash this, and no page is relayed.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from naru.errors import NaruError, UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.dialect import Quirks
from naru.protocol.retry_after import duration_s, retry_after_in_text
from naru.protocol.wire import BAD_JSON, decode_any, encode

#: A provider may echo the whole prompt in its message.
MAX_MESSAGE_CHARS = 2_000

_AUTH_REASONS = frozenset(
    {"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING", "SERVICE_DISABLED"}
)
_AUTH_TEXT = re.compile(r"api key (?:not valid|expired|not found)|invalid authentication credentials", re.IGNORECASE)
_CONTEXT_TEXT = re.compile(
    r"input token count.{0,40}exceeds the maximum|exceeds the maximum number of tokens", re.IGNORECASE
)
_STATUS_OF = {
    "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403, "NOT_FOUND": 404, "ABORTED": 409, "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499,
    "INTERNAL": 500, "UNKNOWN": 500, "DATA_LOSS": 500, "UNIMPLEMENTED": 501, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip
_TYPES = {404: "not_found_error", 429: "rate_limit_error"}

#: google.rpc.Code by HTTP status, for our own errors.
_STATUS_NAMES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 402: "FAILED_PRECONDITION", 403: "PERMISSION_DENIED",
    404: "NOT_FOUND", 405: "NOT_FOUND", 408: "DEADLINE_EXCEEDED", 409: "ABORTED", 413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 502: "UNAVAILABLE",
    503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED", 529: "UNAVAILABLE",
}  # fmt: skip
_RPC = "type.googleapis.com/google.rpc."


class _Said(Struct):
    """What could be read of a provider's error. `status` is 0 where none is said."""

    message: str = ""
    name: str = ""
    status: int = 0
    reason: str = ""
    retry_after_s: float | None = None


# --- From the upstream ----------------------------------------------------------------------------------------------


def decode_error(status: int, body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer with a failing status. Never raises."""
    return _error_from(_read(_loose_json(body)), status)


def error_inside(body: bytes | msgspec.Raw, quirks: Quirks) -> UpstreamError:
    """The error in an answer of 200 or in a stream, whose status stands in its own words."""
    said = _read(_loose_json(body))
    return _error_from(said, said.status or _STATUS_OF.get(said.name, 502))


def _error_from(said: _Said, status: int) -> UpstreamError:
    if status < 400:
        return UpstreamBroken(f"The provider answered with status {status}, which is neither an answer nor an error.")
    if status >= 600:
        status = 502
    if status in (401, 403) or said.reason in _AUTH_REASONS or (status == 400 and _AUTH_TEXT.search(said.message)):
        return UpstreamAuth(status)
    if status == 429:
        return UpstreamRefused(
            said.message or "The provider limits the rate of requests.",
            status=429,
            type="rate_limit_error",
            code="rate_limit_exceeded",
            retry_after_s=said.retry_after_s,
        )
    message = said.message or f"The provider answered with status {status} and no readable message."
    code = said.reason.lower() or said.name.lower() or None
    if status == 400 and said.name == "FAILED_PRECONDITION":
        # The region or the billing of the gateway's own project: another deployment may answer.
        return UpstreamRefused(message, status=503, type="server_error", code=code)
    if status < 500 and _CONTEXT_TEXT.search(message):
        status, code = 400, "context_length_exceeded"
    if status == 499:
        status = 503  # cancelled on their side, not by this caller
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return UpstreamRefused(message, status=status, type=kind, code=code, retry_after_s=said.retry_after_s)


def _loose_json(body: bytes | msgspec.Raw) -> Any:
    try:
        return decode_any(body)
    except BAD_JSON:
        return None


def _read(value: Any) -> _Said:
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        value = value.get("error", value)
    if isinstance(value, str):
        return _Said(message=_clean(value))
    if not isinstance(value, dict):
        return _Said()
    said = _Said(message=_clean(value.get("message")), name=_word(value.get("status")))
    code = value.get("code")
    if isinstance(code, str):
        said.name = said.name or _word(code).upper()
    elif isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600:
        said.status = code
    details = value.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict):
            said.reason = said.reason or _word(detail.get("reason"))
            if said.retry_after_s is None and isinstance(detail.get("retryDelay"), str):
                said.retry_after_s = duration_s(detail["retryDelay"])
    if said.retry_after_s is None:
        said.retry_after_s = retry_after_in_text(said.message)
    return said


def _clean(value: Any) -> str:
    """Never a page: markup says nothing to an API's caller and may hold the provider's insides."""
    text = value.strip() if isinstance(value, str) else ""
    lowered = text[:2_000].lower()
    if lowered.startswith("<") or "<html" in lowered or "<!doctype" in lowered:
        return ""
    return text[:MAX_MESSAGE_CHARS]


def _word(value: Any) -> str:
    return value[:100] if isinstance(value, str) else ""


# --- To the client --------------------------------------------------------------------------------------------------


def encode_error(error: NaruError) -> tuple[int, bytes]:
    status, fields = _shown(error)
    return status, encode({"error": fields})


def encode_stream_error(error: NaruError) -> bytes:
    """The error as an event of the stream: Google's SDK raises on an event that starts with the key `error`."""
    return b"data: %b\n\n" % encode({"error": _shown(error)[1]})


def _shown(error: NaruError) -> tuple[int, dict[str, Any]]:
    # The gateway's empty account must not look like the caller's (providers.md A0.5).
    if isinstance(error, UpstreamRefused) and (error.status == 402 or error.code == "insufficient_quota"):
        message = "The gateway's account with the provider is out of credit. Ask the operator; your own budget is fine."
        return 503, _fields(503, message, [_info("upstream_quota")])
    details: list[dict[str, Any]] = [_info(error.code)] if error.code else []
    if error.param:
        violation = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None:
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{error.retry_after_s:.3f}s"})
    return error.status, _fields(error.status, error.message, details)


def _fields(status: int, message: str, details: list[dict[str, Any]]) -> dict[str, Any]:
    name = _STATUS_NAMES.get(status, "INVALID_ARGUMENT" if status < 500 else "UNAVAILABLE")
    fields: dict[str, Any] = {"code": status, "message": message, "status": name}
    if details:
        fields["details"] = details
    return fields


def _info(code: str | None) -> dict[str, Any]:
    return {"@type": f"{_RPC}ErrorInfo", "reason": (code or "").upper(), "domain": "naru"}
