"""What would happen to a request, without sending it: the plan, who was left out and why, and what it would cost."""

from __future__ import annotations

from typing import Any

from naru.calls.endings import nobody
from naru.errors import BadRequest
from naru.gateway.auth import allow_model
from naru.gateway.serve import Gateway
from naru.ledger.display import cost_usd
from naru.ledger.pricing import upper_bound_nano
from naru.limits.meters import Meter
from naru.protocol.dialect import ClientSide, Envelope
from naru.protocol.images import addresses
from naru.protocol.service import asked_tier
from naru.protocol.tokens import estimate_tokens_bytes
from naru.routing.plan import Plan
from naru.routing.table import Deployment, Route
from naru.storage.records import KeyRecord
from naru.transport.exchange import HeaderList

#: What a model may write when neither the request nor the catalogue says.
DEFAULT_MAX_OUTPUT = 4096


def explain(
    dialect: ClientSide, path: str, body: bytes, gateway: Gateway, headers: HeaderList, key: KeyRecord | None = None
) -> dict[str, Any]:
    """A JSON object. `key` is who would ask; None: the operator, whom nothing limits. Raises what the request itself would raise
    before its limits are asked."""
    now = gateway.auth.clock.now()
    envelope = dialect.read(body, path)
    route = gateway.table.resolve(envelope.model)
    if key is not None:
        allow_model(key, route.name)
    order = gateway.plan(route, gateway.table.resolve, dialect, envelope, headers)
    input_tokens = estimate_tokens_bytes(envelope.input_bytes)
    return {
        "model": envelope.model,
        "route": route.name,
        "strategy": route.strategy,
        "stream": envelope.is_stream,
        "estimated_input_tokens": input_tokens,
        "max_output_tokens": envelope.max_output_tokens,
        "attempts": [
            _attempt(deployment, dialect, envelope, gateway) | {"cost_usd_at_most": _bound(deployment, envelope, now)}
            for deployment in order.attempts
        ],
        "limits": _limits(route, order, gateway, key),
        "plan": order.shown(),
        "refused": order.shown()["refused"],
        "error": None if order.attempts else _why_nobody(order, envelope, dialect, gateway),
    }


def _limits(route: Route, order: Plan, gateway: Gateway, key: KeyRecord | None) -> list[dict[str, Any]]:
    """What each limit in the way has left: the caller's own, the model's, and those of the deployments in the plan."""
    allowances = gateway.allowances
    meters = list(allowances.path(key, route)) if key is not None else []
    for deployment in order.candidates:
        meters += allowances.of_deployment(deployment)
    return [_limit(meter, allowances.now_ns()) for meter in meters]


def _limit(meter: Meter, now_ns: int) -> dict[str, Any]:
    found: dict[str, Any] = {"scope": meter.scope}
    for name, bucket in (("requests", meter.requests), ("tokens", meter.tokens)):
        if bucket is not None:
            found[name] = {"per_minute": bucket.limit, "left": bucket.remaining(now_ns)}
    if meter.limits.concurrency is not None:
        found["concurrency"] = {"limit": meter.limits.concurrency, "in_flight": meter.in_flight}
    return found


def _why_nobody(order: Plan, envelope: Envelope, dialect: ClientSide, gateway: Gateway) -> str:
    return nobody(order, envelope, dialect.name, gateway.table).message


def _attempt(deployment: Deployment, dialect: ClientSide, envelope: Envelope, gateway: Gateway) -> dict[str, Any]:
    upstream = gateway.dialects.named[deployment.spoken(dialect.name, envelope)]
    found: dict[str, Any] = {
        "deployment": deployment.id,
        "provider": deployment.provider,
        "upstream_model": deployment.model,
        "dialect": upstream.name,
        "region": deployment.region or None,
        "price_source": deployment.price.source if deployment.price else None,
        "price_version": deployment.price.version if deployment.price else None,
        "dropped": [],
        "error": None,
    }
    try:
        bridge = gateway.dialects.between(dialect, upstream)
        images = _images(deployment, dialect, envelope, gateway)
        request = bridge.request(envelope, deployment.upstream, envelope.is_stream, images=images)
        found["dropped"] = list(request.dropped)
    except BadRequest as error:
        found["error"] = error.message
    return found


def _images(deployment: Deployment, dialect: ClientSide, envelope: Envelope, gateway: Gateway) -> dict[str, str] | None:
    """Stand-ins for the pictures that would be fetched; none is."""
    if gateway.failover.means.images is None or not deployment.quirks.needs_image_data:
        return None
    return dict.fromkeys(addresses(dialect, envelope), "data:image/png;base64,")


def _bound(deployment: Deployment, envelope: Envelope, now: float) -> str | None:
    if deployment.price is None:
        return None
    limit = envelope.max_output_tokens  # 0 where nothing is generated
    max_output = ((deployment.max_output or DEFAULT_MAX_OUTPUT) if limit is None else limit) * envelope.n
    input_tokens = estimate_tokens_bytes(envelope.input_bytes)
    media = envelope.estimate.media if envelope.estimate is not None else None
    units = media.units if media is not None else 0
    asked = asked_tier(envelope)
    return cost_usd(upper_bound_nano(deployment.price, input_tokens, max_output, now, units, asked)).decode()
