"""Records as the admin API shows them. A digest is in none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from naru import keys
from naru.control.desk import Desk
from naru.ledger.pricing import Price
from naru.routing.table import Table
from naru.routing.vitals import Vitals
from naru.storage.records import AccountRecord, KeyRecord

Shown = dict[str, Any]


def shown_key(record: KeyRecord, desk: Desk) -> Shown:
    account = desk.treasury.accounts.get(record.account or "")
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role,
        "prefix": f"{keys.PREFIXES[record.role]}{record.id}-…",
        "state": record.state(desk.clock.now()),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "models": record.models,
        "account": record.account,
        "account_name": account.name if account is not None else None,
        "addresses": record.addresses,
        "limits": shown_limits(record.limits),
        "metadata": record.metadata,
        "owner": record.owner,
    }


def shown_account(record: AccountRecord, desk: Desk) -> Shown:
    now = desk.clock.now()
    return {
        "id": record.id,
        "kind": record.kind,
        "name": record.name,
        "parent": record.parent,
        "state": "open" if record.closed_at is None else "closed",
        "created_at": record.created_at,
        "closed_at": record.closed_at,
        "time_zone": record.time_zone,
        "limits": shown_limits(record.limits),
        "metadata": record.metadata,
        "active_keys": sum(1 for k in desk.auth.records.values() if k.account == record.id and k.is_active(now)),
    }


def shown_limits(limits: msgspec.Struct) -> Shown:
    return {name: getattr(limits, name) for name in limits.__struct_fields__}


def shown_deployments(table: Table, known: Mapping[str, Vitals], now: float) -> list[Shown]:
    """`now` is on the loop's clock. What was not called since the start has no state yet."""
    return [
        {
            "id": deployment.id,
            "route": route.name,
            "provider": deployment.provider,
            "model": deployment.model,
            "region": deployment.region,
            "tags": sorted(deployment.tags),
            "is_priced": deployment.price is not None,
            **shown_vitals(known.get(deployment.id), now),
        }
        for route in table.routes.values()
        for deployment in route.deployments
    ]


def shown_vitals(vitals: Vitals | None, now: float) -> Shown:
    if vitals is None:
        return {"state": "unused", "in_flight": 0, "calls": 0, "failures": 0}
    load = vitals.load
    return {
        "state": "well" if vitals.is_well(now) else "resting",
        "why": vitals.ailment(now),
        "again_in_s": round(vitals.wait_s(now), 1) or None,
        "breaker": vitals.breaker.state.value,
        "in_flight": vitals.in_flight,
        "room": None if vitals.room is None else int(vitals.room),
        "calls": vitals.calls,
        "failures": vitals.failures,
        "ttft_s": round(vitals.ttft.now(now), 4) or None,
        "ttft_p95_s": vitals.ttfts.of(0.95, now),
        "waiting": load.waiting if load is not None else None,
        "kv_used": load.kv_used if load is not None else None,
    }


def shown_prices(table: Table) -> list[Shown]:
    """Of every deployment that can be called; `price` null where it has none and is refused."""
    return [
        {
            "model": route.name,
            "deployment": deployment.id,
            "price": _price(deployment.price) if deployment.price is not None else None,
        }
        for route in table.routes.values()
        for deployment in route.deployments
    ]


def _price(price: Price) -> Shown:
    return {
        "version": price.version,
        "source": price.source,
        "as_of": price.as_of or None,
        "currency": price.currency,
        "fx": price.fx or None,
        "is_free": price.is_free,
        "rows": msgspec.to_builtins(price.rows),
    }
