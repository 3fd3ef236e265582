"""Same dialect: streams passed on, with their cost; and errors in Anthropic's form."""

from __future__ import annotations

import json

import pytest

from naru.errors import (
    BadRequest,
    NaruError,
    Overloaded,
    RateLimited,
    ShuttingDown,
    TooLarge,
    Unauthorized,
    Unpriced,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamTimeout,
)
from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.anthropic_messages.relay import MessagesStreamRelay
from naru.protocol.messages import Usage
from naru.protocol.tokens import estimate_tokens_bytes
from tests.protocol.anthropic_messages.samples import (
    PLAIN,
    STOP,
    block_delta,
    block_start,
    block_stop,
    datas,
    envelope,
    event,
    message_delta,
    message_start,
    sdk_message,
    text_stream,
)
from tests.protocol.samples import compact, price


def relay_of() -> MessagesStreamRelay:
    return MessagesStreamRelay(envelope(), PLAIN, price)


def test_an_event_goes_out_as_the_very_bytes_that_came() -> None:
    """Nothing is copied or rewritten on the way; only the usage at the end gets the cost."""
    relay = relay_of()
    for piece in (message_start(), block_start(0, type="text", text=""), block_delta(0, type="text_delta", text="a")):
        assert relay.feed(piece) is piece
    assert relay.feed(block_stop(0) + message_delta() + STOP) != b""
    assert relay.is_finished
    assert relay.usage == Usage(input=25, output=9)
    assert relay.output_chars == 1


def test_the_first_content_is_what_a_client_would_see() -> None:
    """The start of a message or of an empty text shows nothing yet; a call does."""
    relay = relay_of()
    relay.feed(message_start() + block_start(0, type="text", text="") + event({"type": "ping"}))
    assert not relay.has_content
    relay.feed(block_delta(0, type="text_delta", text="a"))
    assert relay.has_content
    relay = relay_of()
    relay.feed(message_start() + block_start(0, type="tool_use", id="a", name="f", input={}))
    assert relay.has_content


def test_a_stream_that_is_left_is_billed_for_what_was_generated() -> None:
    """Until the end is told, the output is counted here; the input is known from the start."""
    relay = relay_of()
    assert relay.usage is None
    relay.feed(
        message_start() + block_start(0, type="text", text="") + block_delta(0, type="text_delta", text="x" * 400)
    )
    assert relay.usage == Usage(input=25, output=estimate_tokens_bytes(400), is_estimated=True)
    relay.close()
    assert isinstance(relay.error, UpstreamBroken)
    assert relay.error.code == "upstream_incomplete"


def test_an_error_in_the_stream_ends_it() -> None:
    """What came before it is passed on, it itself is not: the gateway writes its own."""
    relay = relay_of()
    before = message_start() + block_start(0, type="text", text="a")
    out = relay.feed(before + event({"type": "error", "error": {"type": "overloaded_error", "message": "x"}}) + STOP)
    assert out == before
    assert isinstance(relay.error, UpstreamRefused)
    assert relay.error.status == 529
    assert relay.feed(STOP) == b""
    assert relay.close() == b""


def test_compatible_servers_are_put_right() -> None:
    """No `event:` lines, no usage, no message_stop: the official client reads the stream all the same."""
    lines = [
        {"type": "message_start", "message": {"id": "msg_1", "role": "assistant", "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 40}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
    ]
    relay = relay_of()
    out = b"".join(relay.feed(b"data: " + compact(line) + b"\n\n") for line in lines) + relay.close()
    message = sdk_message(out)
    assert message.content[0].to_dict() == {"type": "text", "text": "x" * 40}
    assert message.usage.output_tokens == 10
    assert datas(out)[-2]["usage"]["naru"]["estimated"] is True
    assert relay.is_finished


def test_another_gateways_price_is_replaced() -> None:
    """Only ours is the caller's."""
    relay = relay_of()
    out = relay.feed(
        text_stream("a").replace(b'{"output_tokens":9}', b'{"output_tokens":9,"naru":{"cost_usd":1,"x":2}}')
    )
    assert datas(out)[-2]["usage"]["naru"] == {"cost_usd": 0.000034, "x": 2}


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadRequest("x"), 400, "invalid_request_error"),
        (Unauthorized("x"), 401, "authentication_error"),
        (Unpriced("x"), 402, "billing_error"),
        (TooLarge("x"), 413, "request_too_large"),
        (RateLimited("x"), 429, "rate_limit_error"),
        (NaruError("x"), 500, "api_error"),
        (UpstreamAuth(401), 502, "api_error"),
        (Overloaded("x"), 503, "overloaded_error"),
        (UpstreamTimeout("x"), 504, "timeout_error"),
        (UpstreamRefused("x", status=529), 529, "overloaded_error"),
        (UpstreamRefused("x", status=422), 422, "invalid_request_error"),
        (UpstreamRefused("x", status=402, code="insufficient_quota"), 503, "api_error"),
    ],
)
def test_errors_in_anthropics_form(error: NaruError, status: int, kind: str) -> None:
    """The status with Anthropic's word for it; in a stream as an event by that name."""
    shown, body = ANTHROPIC_MESSAGES.encode_error(error)
    fields = json.loads(body)
    assert (shown, fields["type"], fields["error"]["type"], fields["request_id"]) == (status, "error", kind, None)
    (inside,) = datas(ANTHROPIC_MESSAGES.encode_stream_error(error))
    assert inside["error"] == fields["error"]


def test_too_long_a_prompt_is_said_in_the_words_clients_know() -> None:
    """Claude Code compacts its history at these words, and fails at others."""
    error = UpstreamRefused("context of 8,192 exceeded", status=400, code="context_length_exceeded")
    assert b"prompt is too long: context of 8,192" in ANTHROPIC_MESSAGES.encode_error(error)[1]
    said = compact(
        {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}
    )
    found = ANTHROPIC_MESSAGES.decode_error(400, said, PLAIN)
    assert found.code == "context_length_exceeded"
    assert ANTHROPIC_MESSAGES.encode_error(found)[1].count(b"prompt is too long") == 1


@pytest.mark.parametrize(
    ("status", "kind", "expected", "is_retryable"),
    [
        (401, "authentication_error", UpstreamAuth, True),
        (403, "permission_error", UpstreamAuth, True),
        (404, "not_found_error", UpstreamRefused, False),
        (413, "request_too_large", UpstreamRefused, False),
        (429, "rate_limit_error", UpstreamRefused, True),
        (529, "overloaded_error", UpstreamRefused, True),
    ],
)
def test_errors_of_the_provider(status: int, kind: str, expected: type[NaruError], is_retryable: bool) -> None:
    """The gateway's own credential is never the caller's fault; the rest keeps its status."""
    body = compact({"type": "error", "error": {"type": kind, "message": "m"}, "request_id": None})
    error = ANTHROPIC_MESSAGES.decode_error(status, body, PLAIN)
    assert isinstance(error, expected)
    assert error.is_retryable is is_retryable
    assert error.status == (502 if expected is UpstreamAuth else status)


def test_a_spending_limit_is_not_a_rate() -> None:
    """Waiting does not help: the account is out of money until its owner changes that."""
    details = {"error_code": "enforced_spend_limit_reached"}
    body = compact({"type": "error", "error": {"type": "rate_limit_error", "message": "m", "details": details}})
    assert ANTHROPIC_MESSAGES.decode_error(429, body, PLAIN).code == "insufficient_quota"


@pytest.mark.parametrize("status", [400, 404])
def test_the_code_of_an_error_reaches_the_client(status: int) -> None:
    """Its SDK sends the whole conversation again where a thread is lost: only the code says that one is."""
    details = {"error_code": "thread_not_found"}
    body = compact({"type": "error", "error": {"type": "not_found_error", "message": "m", "details": details}})
    error = ANTHROPIC_MESSAGES.decode_error(status, body, PLAIN)
    assert (error.status, error.code, error.message) == (status, "thread_not_found", "m")
    shown, again = ANTHROPIC_MESSAGES.encode_error(error)
    assert (shown, json.loads(again)["error"]["details"]) == (status, details)
    own, told = ANTHROPIC_MESSAGES.encode_error(BadRequest("m", code="invalid_value"))
    assert (own, json.loads(told)["error"]["details"]) == (400, {"error_code": "invalid_value"})


def test_shutting_down_in_a_stream_tells_the_client_to_try_again() -> None:
    """The official client raises it as an overload."""
    (inside,) = datas(ANTHROPIC_MESSAGES.encode_stream_error(ShuttingDown("later")))
    told = {"type": "overloaded_error", "message": "later", "details": {"error_code": "server_shutting_down"}}
    assert inside["error"] == told
