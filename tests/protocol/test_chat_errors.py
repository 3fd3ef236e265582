"""Errors in both directions: every shape a provider may send, and the one shape a caller sees."""

from __future__ import annotations

import json
from typing import Any

import pytest

from naru.errors import (
    BadRequest,
    InternalError,
    NaruError,
    Overloaded,
    RateLimited,
    Unauthorized,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_chat.errors import MAX_MESSAGE_CHARS
from tests.protocol.recordings import refusals
from tests.protocol.samples import PLAIN, Json, compact

PAGE = "<!DOCTYPE html><html><body>secret nginx at 10.0.0.5</body></html>"


def decoded(status: int, value: Any, quirks: Quirks = PLAIN) -> UpstreamError:
    return OPENAI_CHAT.decode_error(status, value if isinstance(value, bytes) else compact(value), quirks)


def shown(error: NaruError) -> tuple[int, Json]:
    status, data = OPENAI_CHAT.encode_error(error)
    return status, json.loads(data)["error"]


SHAPES: list[tuple[str, int, Any, tuple[int, str, str | None, str | None]]] = [
    (
        "OpenAI",
        400,
        {
            "error": {
                "message": "no",
                "type": "invalid_request_error",
                "param": "messages[0].role",
                "code": "unsupported_value",
            }
        },
        (400, "no", "unsupported_value", "messages[0].role"),
    ),
    (
        "vLLM, an int as code",
        400,
        {"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}},
        (400, "no", None, None),
    ),
    (
        "SGLang, top level",
        400,
        {"object": "error", "message": "no", "type": "BadRequestError", "code": 400},
        (400, "no", None, None),
    ),
    ("LM Studio, a string", 400, {"error": "no"}, (400, "no", None, None)),
    ("a list", 400, [{"error": {"message": "no", "code": 400}}], (400, "no", None, None)),
    ("a list inside", 400, {"error": [{"message": "no"}]}, (400, "no", None, None)),
    (
        "DashScope, native",
        400,
        {"code": "InvalidParameter", "message": "no", "request_id": "r"},
        (400, "no", "invalidparameter", None),
    ),
    ("FastAPI", 422, {"detail": [{"loc": ["body"], "msg": "no"}]}, (422, '[{"loc":["body"],"msg":"no"}]', None, None)),
    ("a bare string", 404, "no", (404, "no", None, None)),
    (
        "OpenRouter",
        502,
        {"error": {"message": "Provider returned error", "code": 502, "metadata": {"raw": "model down"}}},
        (502, "Provider returned error: model down", None, None),
    ),
    (
        "an unknown model",
        404,
        {"error": {"message": "no model", "code": "model_not_found"}},
        (404, "no model", "model_not_found", None),
    ),
]


@pytest.mark.parametrize(
    ("status", "value", "expected"), [case[1:] for case in SHAPES], ids=[case[0] for case in SHAPES]
)
def test_shapes(status: int, value: Any, expected: tuple[int, str, str | None, str | None]) -> None:
    """The provider's own words, wherever they stand."""
    error = decoded(status, value)
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.message, error.code, error.param) == expected
    assert error.is_retryable == (status >= 500)


@pytest.mark.parametrize("status", [400, 404, 413, 500, 502, 503, 529])
@pytest.mark.parametrize(
    "value",
    [
        PAGE.encode(),
        b"",
        b"Bad Gateway",
        b"\xff\xfe",
        b"null",
        b"17",
        b"[]",
        b"{}",
        {"error": {}},
        {"error": {"message": PAGE}},
        {"error": {"message": "<?xml version='1.0'?><Error>secret</Error>"}},
        {"error": {"message": "said: <html>secret</html>"}},
        b"[" * 100_000,
    ],
)
def test_a_page_is_never_relayed(status: int, value: Any) -> None:
    """A proxy's HTML, an empty body or garbage: our own sentence, the provider's status."""
    error = decoded(status, value)
    assert error.status == status
    assert str(status) in error.message
    assert "secret" not in error.message


def test_a_long_message_is_cut() -> None:
    """A provider may echo the whole prompt."""
    assert len(decoded(400, {"error": {"message": "x" * 10_000}}).message) == MAX_MESSAGE_CHARS


@pytest.mark.parametrize("status", [401, 403])
def test_the_gateways_own_credential(status: int) -> None:
    """Never the caller's 401, and not a word of the provider's (reliability.md A17)."""
    error = decoded(status, {"error": {"message": "Incorrect API key provided: sk-abc", "code": "invalid_api_key"}})
    assert isinstance(error, UpstreamAuth)
    assert error.is_retryable
    status, fields = shown(error)
    assert (status, fields["code"]) == (502, "upstream_auth")
    assert "sk-abc" not in fields["message"]


QUOTAS: list[tuple[str, int, Any, bool, int, str]] = [
    ("402", 402, {"error": {"message": "Insufficient Balance"}}, False, 402, "insufficient_quota"),
    ("402, quirk", 402, {"error": {"message": "Insufficient Balance"}}, True, 402, "insufficient_quota"),
    (
        "OpenAI's quota",
        429,
        {"error": {"message": "m", "code": "insufficient_quota"}},
        False,
        429,
        "insufficient_quota",
    ),
    (
        "OpenAI's quota by type",
        429,
        {"error": {"message": "m", "type": "insufficient_quota"}},
        False,
        429,
        "insufficient_quota",
    ),
    (
        "DashScope's quota",
        429,
        {"error": {"message": "m", "code": "insufficient_quota"}},
        True,
        429,
        "rate_limit_exceeded",
    ),
    ("DashScope's bill", 429, {"code": "PostpaidBillOverdue", "message": "m"}, True, 429, "insufficient_quota"),
    ("DashScope's arrears", 400, {"error": {"message": "m", "code": "Arrearage"}}, True, 429, "insufficient_quota"),
    ("a rate", 429, {"error": {"message": "m", "code": "limit_requests"}}, False, 429, "rate_limit_exceeded"),
    ("no body", 429, b"", False, 429, "rate_limit_exceeded"),
]


@pytest.mark.parametrize(
    ("status", "value", "is_retryable", "expected", "code"),
    [case[1:] for case in QUOTAS],
    ids=[case[0] for case in QUOTAS],
)
def test_out_of_money_or_out_of_rate(status: int, value: Any, is_retryable: bool, expected: int, code: str) -> None:
    """insufficient_quota is an empty account with OpenAI and tokens a minute with DashScope."""
    error = decoded(status, value, Quirks(is_quota_retryable=is_retryable))
    assert (error.status, error.code) == (expected, code)
    assert error.is_retryable
    if code == "insufficient_quota":
        status, fields = shown(error)
        assert (status, fields["code"]) == (503, "upstream_quota")


CONTEXT = [
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
    "You passed 9000 input tokens and requested 10 output tokens. However, the model's context length is only 8192 tokens.",
    "Range of input length should be [1, 129024]",
    "the request exceeds the available context size, try increasing it",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Please reduce the length of the messages.",
]


@pytest.mark.parametrize("message", CONTEXT)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_context_overflow(message: str, status: int) -> None:
    """One code that clients key on, whoever says it."""
    error = decoded(status, {"error": {"message": message, "code": status}})
    assert (error.status, error.code, error.type) == (400, "context_length_exceeded", "invalid_request_error")
    assert not error.is_retryable


def test_context_overflow_by_type() -> None:
    """llama.cpp says it in the type."""
    error = decoded(400, {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_ctx": 4096}})
    assert error.code == "context_length_exceeded"


def test_a_limit_on_output_is_no_context_overflow() -> None:
    """Sending less would not help."""
    assert decoded(400, {"error": {"message": "Range of max_tokens should be [1, 8192]"}}).code is None


def test_content_filter() -> None:
    """DashScope's inspection."""
    assert decoded(400, {"error": {"message": "m", "code": "data_inspection_failed"}}).code == "content_filter"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"error": {"message": "Rate limit. Please try again in 1.3s."}}, 1.3),
        ([{"error": {"code": 429, "message": "m", "details": [{"@type": "x"}, {"retryDelay": "17s"}]}}], 17.0),
        ({"error": {"message": "later"}}, None),
    ],
)
def test_how_long_to_wait_from_the_body(value: Any, expected: float | None) -> None:
    """OpenAI's phrase and Google's RetryInfo; headers are read elsewhere."""
    assert decoded(429, value).retry_after_s == expected


@pytest.mark.parametrize("status", [200, 204, 301, 302, 304])
def test_a_status_that_is_no_error(status: int) -> None:
    """A redirect is never followed (reliability.md A21)."""
    assert isinstance(decoded(status, {}), UpstreamBroken)


ERRORS: list[tuple[NaruError, int]] = [
    (BadRequest("m", param="n", code="c"), 400),
    (Unauthorized("m"), 401),
    (RateLimited("m", retry_after_s=2), 429),
    (Overloaded("m"), 503),
    (InternalError("m"), 500),
    (UpstreamTimeout("m"), 504),
    (UpstreamRefused("m", status=404, type="not_found_error", code="model_not_found", param="model"), 404),
]


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_what_a_caller_sees(error: NaruError, status: int) -> None:
    """All four keys, always (the OpenAI specification requires them); in a stream as one event without [DONE]."""
    expected = {"message": "m", "type": error.type, "param": error.param, "code": error.code}
    assert shown(error) == (status, expected)
    choices = [{"index": 0, "delta": {}, "finish_reason": "error"}]
    said = {"error": expected, "choices": choices}
    assert OPENAI_CHAT.encode_stream_error(error) == b"data: " + compact(said) + b"\n\n"


@pytest.mark.transcripts
def test_recorded_refusals() -> None:
    """Each keeps the provider's status and says something."""
    found = list(refusals())
    if not found:
        pytest.skip("no recordings")
    for status, body in found:
        error = decoded(status, body)
        assert error.status == status
        assert body["error"]["message"] in error.message
