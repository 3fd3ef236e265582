"""Errors between the wire and Naru's tree. Nothing a provider sends as an error can crash this, and no page is relayed.

Shapes met in the field (providers.md A0.5, A2.5, A3.5, A5.7, A7): an `error` object, string or list; the fields at the top
level (old vLLM, SGLang, DashScope); integer codes (vLLM, OpenRouter); FastAPI's `detail`; HTML from a proxy; a body of
200 with an `error` in it.
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

_TYPES = {400: "invalid_request_error", 404: "not_found_error", 408: "timeout_error", 413: "invalid_request_error"}
_TYPES |= {422: "invalid_request_error", 429: "rate_limit_error"}

_CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"})
#: vLLM (old and new), OpenAI, llama.cpp, DashScope, Anthropic's words behind compatible servers.
_CONTEXT_TEXT = re.compile(
    r"maximum context length|context length is only|context[_ ]length[_ ]exceeded|exceeds? the (?:available )?context"
    r"|context (?:size|window) (?:has been |was |is )?exceeded|range of input length should be|prompt is too long"
    r"|input is too long|longer than the model's context length|reduce the length of the (?:messages|input)",
    re.IGNORECASE,
)
_FILTER_CODES = frozenset(
    {"data_inspection_failed", "datainspectionfailed", "content_filter", "responsibleaipolicyviolation"}
)
_AUTH_CODES = frozenset(
    {"invalid_api_key", "invalidapikey", "authentication_error", "permission_error", "access_denied", "accessdenied"}
)
#: providers.md A3.5: bills overdue are 429 (or 400) with DashScope; another account may still answer.
_BALANCE_CODES = frozenset({"arrearage", "prepaidbilloverdue", "postpaidbilloverdue", "commoditynotpurchased"})
_QUOTA_CODES = frozenset({"insufficient_quota"}) | _BALANCE_CODES

#: What a code or type says where no status comes with it: inside a stream, or in an answer of 200.
_STATUS_OF = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "invalid_parameter_error": 400,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "limit_requests": 429,
    "limit_burst_rate": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "internal_error": 500,
    "insufficient_balance": 402,
}


class _Said(Struct):
    """What could be read of a provider's error. `code` and `kind` are lower case; `status` is None where none is said."""

    message: str = ""
    code: str = ""
    kind: str = ""
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None


def decode_error(status: int, body: bytes, quirks: Quirks) -> UpstreamError:
    """The error in an answer with a failing status. Never raises."""
    return _error_from(_read(_loose_json(body)), status, quirks)


def error_inside(value: bytes | Any, quirks: Quirks) -> UpstreamError:
    """The error object found in an answer of 200 or in a stream, where the status has to be told from its words."""
    decoded = _loose_json(value)
    return _error_from(_read(decoded), None, quirks)


def failed_reason(reason: str) -> UpstreamError:
    """A finish reason that means the answer was given up. DeepSeek calls for a retry, as on 503 (providers.md A0.2)."""
    return UpstreamRefused(
        f"The provider gave up the answer ({reason}). Try again.",
        status=503,
        type="server_error",
        code="upstream_gave_up",
    )


def encode_error(error: NaruError) -> tuple[int, bytes]:
    """Status and body for the caller; all four keys are always there (the OpenAI specification requires them)."""
    status, fields = _shown(error)
    return status, encode({"error": fields})


def encode_stream_error(error: NaruError) -> bytes:
    """The error as an event of the stream. No [DONE] follows: the OpenAI clients raise on the `error` key, and who looks only at
    choices sees that this one did not end well."""
    choice = {"index": 0, "delta": {}, "finish_reason": "error"}
    return b"data: %b\n\n" % encode({"error": _shown(error)[1], "choices": [choice]})


def _shown(error: NaruError) -> tuple[int, dict[str, str | None]]:
    # The gateway's empty account must not look like the caller's (providers.md A0.5).
    if isinstance(error, UpstreamRefused) and (error.status == 402 or error.code == "insufficient_quota"):
        message = "The gateway's account with the provider is out of credit. Ask the operator; your own budget is fine."
        return 503, {"message": message, "type": "server_error", "param": None, "code": "upstream_quota"}
    return error.status, {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def _error_from(said: _Said, status: int | None, quirks: Quirks) -> UpstreamError:
    status = _status_of(said, status)
    if status < 400:
        return UpstreamBroken(f"The provider answered with status {status}, which is neither an answer nor an error.")
    if status in (401, 403) or (said.code in _AUTH_CODES or said.kind in _AUTH_CODES):
        return UpstreamAuth(status)
    if status == 429 or status == 402 or said.code in _QUOTA_CODES:
        return _limited(said, status, quirks)
    message = said.message or f"The provider answered with status {status} and no readable message."
    code: str | None = said.code or None
    kind = said.kind or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    if status < 500 and (said.code in _CONTEXT_CODES or said.kind in _CONTEXT_CODES or _CONTEXT_TEXT.search(message)):
        status, code, kind = 400, "context_length_exceeded", "invalid_request_error"
    elif said.code in _FILTER_CODES:
        status, code, kind = 400, "content_filter", "invalid_request_error"
    return UpstreamRefused(
        message, status=status, type=kind, code=code, param=said.param, retry_after_s=said.retry_after_s
    )


def _limited(said: _Said, status: int, quirks: Quirks) -> UpstreamError:
    """Out of money (402, insufficient_quota) or out of rate (429)."""
    is_quota = status == 402 or said.code in _QUOTA_CODES or said.kind in _QUOTA_CODES
    if is_quota and said.code not in _BALANCE_CODES and status != 402 and quirks.is_quota_retryable:
        is_quota = False
    if is_quota:
        return UpstreamRefused(
            said.message or "The gateway's account with the provider is out of credit.",
            status=402 if status == 402 else 429,
            type="insufficient_quota",
            code="insufficient_quota",
        )
    return UpstreamRefused(
        said.message or "The provider limits the rate of requests.",
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=said.retry_after_s,
    )


def _status_of(said: _Said, status: int | None) -> int:
    if status is not None:
        return status if status < 600 else 502
    if said.status is not None:
        return said.status
    return _STATUS_OF.get(said.code) or _STATUS_OF.get(said.kind) or 502


def _loose_json(value: Any) -> Any:
    if not isinstance(value, bytes | msgspec.Raw):
        return value
    try:
        return decode_any(value)
    except BAD_JSON:
        return None


def _read(value: Any) -> _Said:
    """Finds the fields in whatever shape they came."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict) and value.get("error"):
        outer, value = value, value["error"]
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, str):
            value = {**outer, "error": None, "message": value}
    if isinstance(value, str):
        return _Said(message=_clean(value))
    if not isinstance(value, dict):
        return _Said()
    said = _Said(message=_message_of(value), code=_word(value.get("code")), kind=_word(value.get("type")))
    inner = value.get("innererror")  # Azure says there what its filter found, whatever the outer code is
    if isinstance(inner, dict) and _word(inner.get("code")) in _FILTER_CODES:
        said.code = _word(inner.get("code"))
    said.param = value["param"][:200] if isinstance(value.get("param"), str) else None
    said.status = next(
        (number for name in ("code", "status_code", "status") if (number := _http_status(value.get(name)))), None
    )
    said.retry_after_s = _delay_of(value) or retry_after_in_text(said.message)
    return said


def _message_of(fields: dict[str, Any]) -> str:
    for name in ("message", "msg", "detail", "errors"):
        value = fields.get(name)
        if value:
            break
    else:
        return ""
    text = value if isinstance(value, str) else encode(value).decode()
    # OpenRouter: "Provider returned error", and what the provider said in metadata.raw.
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str) and _clean(metadata["raw"]):
        text = f"{text}: {metadata['raw']}"
    return _clean(text)


def _clean(text: str) -> str:
    """Never a page: markup says nothing to an API's caller and may hold the provider's insides."""
    text = text.strip()
    lowered = text[:2_000].lower()
    if lowered.startswith("<") or "<html" in lowered or "<!doctype" in lowered:
        return ""
    return text[:MAX_MESSAGE_CHARS]


def _word(value: Any) -> str:
    return value.lower()[:100] if isinstance(value, str) else ""


def _http_status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) == 3:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599 else None


def _delay_of(fields: dict[str, Any]) -> float | None:
    """Google's RetryInfo, also behind its compatible endpoint (providers.md A0.4)."""
    details = fields.get("details")
    if not isinstance(details, list):
        return None
    for detail in details:
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            return duration_s(detail["retryDelay"])
    return None
