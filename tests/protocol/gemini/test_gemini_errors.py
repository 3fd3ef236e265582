"""Errors in Google's shape, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import (
    BadRequest,
    InternalError,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthorized,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamTimeout,
)
from naru.protocol.gemini import GEMINI
from tests.protocol.gemini.samples import PLAIN
from tests.protocol.samples import compact

RPC = "type.googleapis.com/google.rpc."


def refused(status: int, name: str = "", message: str = "m", **more: Any) -> Any:
    error = {"code": status, "message": message, "status": name, **more}
    return GEMINI.decode_error(status, compact({"error": error}), PLAIN)


def test_a_quota_says_how_long_to_wait() -> None:
    """RetryInfo among other details; a day's wait is cut to five minutes."""
    details = [
        {"@type": f"{RPC}QuotaFailure", "violations": [{"quotaId": "GenerateRequestsPerDay"}]},
        {"@type": f"{RPC}RetryInfo", "retryDelay": "45.25s"},
    ]
    error = refused(429, "RESOURCE_EXHAUSTED", "Quota exceeded", details=details)
    assert (error.status, error.code, error.retry_after_s, error.is_retryable) == (
        429,
        "rate_limit_exceeded",
        45.25,
        True,
    )
    details[1]["retryDelay"] = "52758s"
    assert refused(429, details=details).retry_after_s == 300
    assert refused(429, message="Please retry in 3.5s.").retry_after_s == 3.5
    assert refused(429).retry_after_s is None


def test_a_bad_key_is_the_operators_business() -> None:
    """Google says 400 for it: it must not look like the caller's mistake."""
    info = [{"@type": f"{RPC}ErrorInfo", "reason": "API_KEY_INVALID"}]
    for error in (
        refused(400, "INVALID_ARGUMENT", details=info),
        refused(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
        refused(403, "PERMISSION_DENIED"),
        refused(401),
    ):
        assert isinstance(error, UpstreamAuth)
        assert error.status == 502


@pytest.mark.parametrize(
    ("status", "name", "message", "expected"),
    [
        (400, "INVALID_ARGUMENT", "Unknown name", (400, "invalid_argument", False)),
        (400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens allowed (8).",
         (400, "context_length_exceeded", False)),
        (400, "FAILED_PRECONDITION", "User location is not supported", (503, "failed_precondition", True)),
        (404, "NOT_FOUND", "models/x is not found", (404, "not_found", False)),
        (499, "CANCELLED", "", (503, "cancelled", True)),
        (500, "INTERNAL", "", (500, "internal", True)),
        (503, "UNAVAILABLE", "overloaded", (503, "unavailable", True)),
        (504, "DEADLINE_EXCEEDED", "", (504, "deadline_exceeded", True)),
    ],
)  # fmt: skip
def test_other_errors(status: int, name: str, message: str, expected: tuple[int, str, bool]) -> None:
    error = refused(status, name, message)
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.code, error.is_retryable) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'[{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}]',
        b'{"error":{"code":"unavailable","message":"m"}}',
        b'{"error":"m"}',
        b'{"message":"m"}',
    ],
)
def test_shapes(body: bytes) -> None:
    """In a list (the compatible endpoint), with a word for the code (Interactions), as a bare string."""
    error = GEMINI.decode_error(503, body, PLAIN)
    assert (error.status, error.message) == (503, "m")


@pytest.mark.parametrize("body", [b"<html>secret</html>", b"", b"\xff", b"[" * 3_000, b'{"error":{"message":7}}'])
def test_pages_and_noise_are_not_relayed(body: bytes) -> None:
    error = GEMINI.decode_error(502, body, PLAIN)
    assert error.message == "The provider answered with status 502 and no readable message."
    assert isinstance(GEMINI.decode_error(302, body, PLAIN), UpstreamBroken)


def test_an_error_in_an_answer_of_200() -> None:
    body = compact({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}})
    with pytest.raises(UpstreamRefused, match="slow down") as found:
        GEMINI.decode_response(body, PLAIN)
    assert found.value.status == 429


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (BadRequest("m", param="contents"), 400, "INVALID_ARGUMENT"),
        (Unauthorized("m"), 401, "UNAUTHENTICATED"),
        (NotFound("m"), 404, "NOT_FOUND"),
        (RateLimited("m", retry_after_s=2), 429, "RESOURCE_EXHAUSTED"),
        (InternalError("m"), 500, "INTERNAL"),
        (Overloaded("m"), 503, "UNAVAILABLE"),
        (UpstreamTimeout("m"), 504, "DEADLINE_EXCEEDED"),
        (UpstreamBroken("m"), 502, "UNAVAILABLE"),
    ],
)
def test_our_errors_in_googles_words(error: Any, status: int, name: str) -> None:
    found, body = GEMINI.encode_error(error)
    fields = json.loads(body)["error"]
    assert (found, fields["code"], fields["status"], fields["message"]) == (status, status, name, "m")
    assert {"@type": f"{RPC}ErrorInfo", "reason": error.code.upper(), "domain": "naru"} in fields["details"]


def test_details_name_the_field_and_the_wait() -> None:
    """Google's clients read RetryInfo; what we wrote we read back."""
    details = json.loads(GEMINI.encode_error(BadRequest("m", param="tools[0]"))[1])["error"]["details"]
    assert {"@type": f"{RPC}BadRequest", "fieldViolations": [{"field": "tools[0]", "description": "m"}]} in details
    status, body = GEMINI.encode_error(RateLimited("m", retry_after_s=2.5))
    assert GEMINI.decode_error(status, body, PLAIN).retry_after_s == 2.5


def test_the_gateways_empty_account_is_not_the_callers() -> None:
    error = UpstreamRefused("You owe us", status=402, code="insufficient_quota")
    status, body = GEMINI.encode_error(error)
    assert status == 503
    assert b"You owe us" not in body
    assert GEMINI.encode_stream_error(error).startswith(b'data: {"error":{"code":503')
