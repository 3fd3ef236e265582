"""CLOVA Studio's errors: {"status": {"code": "42901", "message": …}}, also in an answer of 200 and in a stream.

The five digits say more than the HTTP status, which is their first three (providers.md A1.7).
"""

from __future__ import annotations

from typing import Any

from naru.errors import UpstreamAuth, UpstreamBroken, UpstreamError, UpstreamRefused
from naru.protocol.clova.wire import WireStatus
from naru.protocol.dialect import Quirks
from naru.protocol.retry_after import retry_after_in_text
from naru.protocol.wire import BAD_JSON, decode_any

#: A provider may echo the whole prompt in its message.
MAX_MESSAGE_CHARS = 2_000

#: The codes with a meaning beyond their first three digits: (status, type, code).
_MEANINGS = {
    40002: (400, "invalid_request_error", "unsupported_parameter"),
    40003: (400, "invalid_request_error", "context_length_exceeded"),
    40080: (404, "not_found_error", "model_not_found"),
    40082: (404, "not_found_error", "model_not_found"),
    40083: (503, "server_error", "no_resource"),
    42400: (503, "server_error", "failed_dependency"),
    42900: (429, "rate_limit_error", "rate_limit_exceeded"),
    42901: (429, "rate_limit_error", "rate_limit_exceeded"),
    # No room on their GPUs, whatever the quota says: another deployment may have some.
    42902: (503, "server_error", "overloaded"),
    42903: (503, "server_error", "overloaded"),
}
_TYPES = {404: "not_found_error", 408: "timeout_error", 429: "rate_limit_error"}


def is_failure(status: WireStatus | None) -> bool:
    """Success is 20000 (A1.4); an answer of 200 may say otherwise."""
    return status is not None and bool(status.code) and not status.code.startswith("20")


def decode_error(status: int, body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer with a failing status. Never raises."""
    code, message = _read(_loose_json(body))
    return _error_from(status, code, message)


def error_inside(status: WireStatus) -> UpstreamError:
    """The error in an answer of 200 or in a stream."""
    code = _code_of(status.code)
    return _error_from(code // 100 if code else 502, code, _clean(status.message))


def _error_from(status: int, code: int, message: str) -> UpstreamError:
    if status < 400:
        return UpstreamBroken(f"The provider answered with status {status}, which is neither an answer nor an error.")
    if status >= 600:
        status = 502
    if status in (401, 403) or code // 100 in (401, 403):
        return UpstreamAuth(code or status)
    known = _MEANINGS.get(code)
    if known is not None:
        status, kind, word = known
    else:
        kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        word = "rate_limit_exceeded" if status == 429 else str(code) if code else ""
    return UpstreamRefused(
        message or f"The provider answered with status {code or status} and no readable message.",
        status=status,
        type=kind,
        code=word or None,
        retry_after_s=retry_after_in_text(message),
    )


def _loose_json(body: bytes) -> Any:
    try:
        return decode_any(body)
    except BAD_JSON:
        return None


def _read(value: Any) -> tuple[int, str]:
    """(code, message) of the native shape, or of the compatible endpoint's `error` (A1.2)."""
    if not isinstance(value, dict):
        return 0, ""
    found = value.get("status") or value.get("error") or value
    if not isinstance(found, dict):
        return 0, ""
    return _code_of(found.get("code") or found.get("errorCode")), _clean(found.get("message"))


def _code_of(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 5:
        return int(value)
    return value if type(value) is int and 10_000 <= value <= 99_999 else 0


def _clean(value: Any) -> str:
    """Never a page: markup says nothing to an API's caller and may hold the provider's insides."""
    text = value.strip() if isinstance(value, str) else ""
    lowered = text[:2_000].lower()
    if lowered.startswith("<") or "<html" in lowered or "<!doctype" in lowered:
        return ""
    return text[:MAX_MESSAGE_CHARS]
