"""What would happen to a request, without sending it: the plan, who was left out and why, and what it would cost."""

from __future__ import annotations

from random import Random
from typing import Any

from naru.gateway.endings import cost_usd, unpriced
from naru.ledger.pricing import upper_bound_nano
from naru.protocol.dialect import Dialect
from naru.protocol.tokens import estimate_tokens_bytes
from naru.routing.plan import plan
from naru.routing.table import Deployment, Table

#: What a model may write when neither the request nor the catalogue says.
DEFAULT_MAX_OUTPUT = 4096


def explain(dialect: Dialect, body: bytes, table: Table, random: Random, now: float) -> dict[str, Any]:
    """A JSON object. Raises what the request itself would raise before a deployment is called."""
    envelope = dialect.read(body)
    route = table.resolve(envelope.model)
    order = plan(route, table.resolve, random)
    input_tokens = estimate_tokens_bytes(envelope.input_bytes)
    return {
        "model": envelope.model,
        "route": route.name,
        "strategy": route.strategy,
        "stream": envelope.is_stream,
        "estimated_input_tokens": input_tokens,
        "max_output_tokens": envelope.max_output_tokens,
        "attempts": [
            {
                "deployment": deployment.id,
                "provider": deployment.provider,
                "upstream_model": deployment.model,
                "region": deployment.region or None,
                "price_source": deployment.price.source if deployment.price else None,
                "price_version": deployment.price.version if deployment.price else None,
                "cost_usd_at_most": _bound(deployment, input_tokens, envelope.max_output_tokens, envelope.n, now),
                "dropped": list(dialect.forward(envelope, deployment.model, deployment.quirks).dropped),
            }
            for deployment in order.attempts
        ],
        "refused": [{"deployment": refusal.deployment, "why": refusal.reason} for refusal in order.refused],
        "error": None if order.attempts else unpriced(envelope.model),
    }


def _bound(deployment: Deployment, input_tokens: int, asked: int | None, n: int, now: float) -> str | None:
    if deployment.price is None:
        return None
    max_output = asked or deployment.max_output or DEFAULT_MAX_OUTPUT
    return cost_usd(upper_bound_nano(deployment.price, input_tokens, max_output * n, now)).decode()
