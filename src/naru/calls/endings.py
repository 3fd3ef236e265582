"""How requests end, as decisions without I/O: the error a caller sees after all attempts, and what is written to the ledger.

The rules are the billing matrix, reliability.md 1.4, and the error rules of 1.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from naru.calls.answers import StreamAnswer
from naru.calls.call import Call
from naru.errors import BadRequest, InternalError, NaruError, Overloaded, RateLimited, Unpriced, UpstreamAuth
from naru.ledger.ledger import Settlement
from naru.ledger.pricing import Price
from naru.protocol.dialect import Envelope
from naru.protocol.messages import Usage
from naru.protocol.service import TIER_FIELDS, asked_tier, tier_of
from naru.protocol.tokens import estimate_tokens_bytes
from naru.routing.plan import Plan
from naru.routing.table import Table

#: nginx's status for a client that closed before the answer; never sent, only recorded.
CLIENT_CLOSED = 499
_SEARCH = "web_search_options"


def after_failures(errors: Sequence[NaruError], waits_s: Iterable[float] = ()) -> NaruError:
    """The one error to show when no attempt succeeded: a lone refusal as it is, else the most useful of them. `waits_s` are the
    pauses of deployments that were not asked."""
    last = errors[-1]
    if not last.is_retryable:
        return last
    if all(error.status == 429 and error.code != "insufficient_quota" for error in errors):
        waits = [*waits_s, *(error.retry_after_s for error in errors if error.retry_after_s is not None)]
        return RateLimited(last.message, code=last.code, retry_after_s=min(waits, default=None))
    if isinstance(last, UpstreamAuth):
        # Another failure says more to the caller than that one of our credentials is bad.
        return next((error for error in errors if not isinstance(error, UpstreamAuth)), last)
    return last


def with_search(usage: Usage, call: Call) -> Usage:
    """Chat completions tell nothing of the search that `web_search_options` asks for; its models search for every answer."""
    if _SEARCH not in call.envelope.fields or usage.server_tools or _SEARCH in call.dropped:
        return usage
    return msgspec.structs.replace(usage, server_tools=(("web_search", 1),))


def cost_of(call: Call, price: Price, usage: Usage) -> int:
    """Nano-dollars, for the streams that tell their own."""
    return call.permit.shown_cost(price, with_search(usage, call))


def usage_or_estimate(reported: Usage | None, call: Call, output_chars: int) -> Usage:
    """The upstream's own figures, else an estimate that says it is one (A28, "success, usage missing")."""
    return with_search(_told_or_estimated(reported, call, output_chars), call)


def _told_or_estimated(reported: Usage | None, call: Call, output_chars: int) -> Usage:
    envelope = call.envelope
    reported = reported or envelope.estimate
    if reported is not None and not reported.is_estimated:
        return reported
    if reported is not None:
        # A stream that was cut: Anthropic tells the input at its start, the output only at its end.
        return msgspec.structs.replace(reported, output=max(reported.output, estimate_tokens_bytes(output_chars)))
    return Usage(
        input=estimate_tokens_bytes(envelope.input_bytes),
        output=estimate_tokens_bytes(output_chars),
        is_estimated=True,
        # Of an answer that never said, the tier asked for is the best guess.
        tier="" if TIER_FIELDS.intersection(call.dropped) else tier_of(asked_tier(envelope)),
    )


def sound_cost(call: Call) -> int:
    """Nano-dollars for an answer that reports nothing, at the target that was called last."""
    assert call.last_target is not None
    price = call.last_target.deployment.price
    assert price is not None
    return call.permit.cost(price, usage_or_estimate(None, call, 0))


def settlement(
    call: Call, outcome: str, status: int, usage: Usage | None, error: NaruError | None = None
) -> Settlement:
    """The ledger's view of an ending at the target that was called last."""
    code = None if error is None else error.code
    if call.last_target is None:
        return Settlement(outcome, status, usage=None, error_code=code, attempts=call.attempts, plan=call.shown_plan())
    deployment = call.last_target.deployment
    return Settlement(
        outcome, status, deployment.id, deployment.provider, deployment.model, deployment.price, usage, code, call.ttft_s,
        call.attempts, tuple(call.failures), call.lost_nano() if call.failures else 0,
        plan=call.shown_plan(),
    )  # fmt: skip


def so_far(call: Call, answer: StreamAnswer) -> Settlement:
    """What a stream would be charged if it ended here."""
    relay = answer.relay
    return settlement(call, "partial", 200, usage_or_estimate(relay.usage, call, relay.output_chars))


def stream_end(call: Call, answer: StreamAnswer) -> Settlement:
    """A stream that had begun: complete, cut by the upstream, or left by the client."""
    relay = answer.relay
    is_told = relay.is_finished and relay.usage is not None
    usage = usage_or_estimate(relay.usage, call, 0 if is_told else relay.output_chars)
    if answer.error is None and (relay.is_finished or answer.is_ended):
        return settlement(call, "completed", 200, usage)
    if answer.is_gone:
        return settlement(call, "cancelled", CLIENT_CLOSED, usage)
    return settlement(call, "partial", 200, usage, answer.error)


def left_early(call: Call) -> Settlement:
    """The client left before any content: the provider read the prompt, so the input is owed (never 0, never the hold)."""
    usage = usage_or_estimate(None, call, 0) if call.is_sent else None
    return settlement(call, "cancelled", CLIENT_CLOSED, usage)


def failed(call: Call, error: BaseException) -> Settlement:
    """No output was seen: nothing is owed, whatever it was (I6)."""
    if isinstance(error, NaruError):
        return settlement(call, "failed", error.status, None, error)
    if isinstance(error, asyncio.CancelledError):
        return settlement(call, "cancelled", CLIENT_CLOSED, None)
    return settlement(call, "failed", 500, None, InternalError("internal"))


def nobody(order: Plan, envelope: Envelope, client: str, table: Table) -> NaruError:
    """What to say where a plan has no attempts."""
    if order.is_wrong_endpoint:
        return table.wrong_endpoint(envelope.model, client)
    if order.is_busy:
        return Overloaded(
            "Every deployment of the model has as many requests in hand as its provider takes at the moment. Try again shortly.",
            code="deployments_busy",
            retry_after_s=1,
        )
    if order.is_elsewhere:
        return BadRequest(
            "No deployment of the model has the region or the tags that are asked for. POST /v1/explain shows why each was left "
            "out.",
            code="no_such_deployment",
        )
    return Unpriced(
        f"The model {envelope.model!r} has no known price for such requests, and Naru does not bill a silent zero. The operator "
        "can set price = { input = …, output = … } (USD per million tokens; also per_minute of sound, per_million_characters, "
        'per_image) or price = "free" for it in naru.toml.',
        param="model",
    )
