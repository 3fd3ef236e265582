"""The rows that the store keeps, as the rest of Naru sees them. Money in nano-dollars, durations in microseconds, times in
Unix seconds."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

Metadata = dict[str, str]
Row = tuple[Any, ...]


class LimitRecord(Struct, frozen=True, omit_defaults=True):
    """What may pass in a minute, and at once; None is no limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None


class KeyRecord(Struct, frozen=True):
    """A key without its secret. `role` is caller, or viewer, admin, owner for the control plane.

    `models` empty means all, `addresses` (networks, as 10.0.0.0/8) likewise. `account` is the team or organisation it belongs
    to. `principal` is whose money and limits it uses: its own id, or that of the key that it was rotated from.
    """

    id: str
    name: str
    digest: bytes
    role: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    models: tuple[str, ...] = ()
    account: str | None = None
    addresses: tuple[str, ...] = ()
    limits: LimitRecord = LimitRecord()
    metadata: Metadata = {}
    principal: str = ""

    @property
    def owner(self) -> str:
        """Whose budgets, credits and limits it uses."""
        return self.principal or self.id

    def is_active(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def state(self, now: float) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_active(now) else "expired"


class AccountRecord(Struct, frozen=True):
    """A team or an organisation. `parent` is the organisation that a team belongs to."""

    id: str
    kind: str
    name: str
    created_at: float
    parent: str | None = None
    closed_at: float | None = None
    time_zone: str = "UTC"
    limits: LimitRecord = LimitRecord()
    metadata: Metadata = {}


class BudgetRecord(Struct, frozen=True):
    """So much may be spent by `owner` (an account, or a key's owner) in each window.

    `window`: total, day, week or month, in `time_zone`. `mode`: strict, balanced or advisory. `alerts`: in thousandths of
    the amount.
    """

    id: str
    owner: str
    amount_nano: int
    window: str
    time_zone: str
    mode: str
    created_at: float
    alerts: tuple[int, ...] = (800, 900, 1000)
    removed_at: float | None = None


class ScopeRecord(Struct, frozen=True):
    """What money is drawn from: one window of a budget, or an owner's prepaid credits.

    spent + leased <= limit, unless `overrun_nano` says by how much more was spent than had been leased. `leased_nano` is what
    processes hold of it and have not spent. `mode` is the budget's; of credits it is `credit`.
    """

    id: str
    owner: str
    mode: str
    starts_at: float
    ends_at: float
    limit_nano: int
    spent_nano: int = 0
    leased_nano: int = 0
    overrun_nano: int = 0
    budget: str | None = None


class CreditRecord(Struct, frozen=True):
    """Money put into an owner's credits, or taken out (negative). `kind`: topup, code, refund or adjust.

    `reference` is the payer's own name for it, used once for an owner. `amount` and `fx` are what was said: "10000 KRW" at
    "1390 KRW/USD".
    """

    id: str
    owner: str
    kind: str
    amount_nano: int
    at: float
    actor: str
    amount: str = ""
    fx: str = ""
    reference: str | None = None
    note: str = ""


class CodeRecord(Struct, frozen=True):
    """A redemption code, of which only the digest is kept."""

    id: str
    digest: bytes
    amount_nano: int
    created_at: float
    expires_at: float | None = None
    redeemed_at: float | None = None
    redeemed_by: str | None = None
    note: str = ""


class AuditRecord(Struct, frozen=True):
    """Who changed what on the control plane. `detail` is JSON without secrets."""

    at: float
    actor: str
    action: str
    target: str
    detail: str = "{}"
    id: int = 0


class Attempt(Struct, frozen=True, omit_defaults=True):
    """A call of a deployment that gave the caller nothing. `error` is the code of what went wrong, `why` its words; `cost_nano`
    what the provider is owed for it."""

    deployment: str
    took_us: int = 0
    error: str | None = None
    why: str | None = None
    status: int = 0
    cost_nano: int = 0


class LedgerEntry(Struct, frozen=True):
    """How one request ended, and what it cost. Written once, never changed.

    `outcome`: completed | cached (told again from the cache) | partial (the upstream failed in mid-stream) | cancelled (the
    client left) | failed | refused | recovered (the process died before it ended). `cached`, `failed` and `refused` cost nothing.
    `input` includes cached reads and cache writes; `output` includes reasoning. `units` are seconds of sound, characters or
    images, as `unit` says; of text there are none.

    `provider_cost_nano` is what the providers are owed for all attempts. `scopes` are what was charged `cost_nano`, each.
    `tier` is the service tier that the answer was given in, where its provider said so; `server_tools` the calls of the
    provider's own tools, by name. `fx` is the rate at which a display currency was shown ("1390 KRW/USD"). `content` is the
    redacted request and answer, where the operator keeps them. `plan` is JSON: who was considered and who was left out, as
    explain shows it; "" where only one deployment was.
    """

    request_id: str
    at: float
    key_id: str
    model: str
    deployment: str
    provider: str
    upstream_model: str
    dialect: str
    is_stream: bool
    outcome: str
    status: int
    error_code: str | None
    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int
    is_estimated: bool
    cost_nano: int
    price_version: str | None
    price_source: str | None
    latency_us: int
    ttft_us: int | None
    attempts: int
    unit: str = ""
    units: int = 0
    provider_cost_nano: int = 0
    tried: tuple[Attempt, ...] = ()
    user_hash: str = ""
    fx: str = ""
    scopes: tuple[str, ...] = ()
    content: str | None = None
    tier: str = ""
    server_tools: tuple[tuple[str, int], ...] = ()
    plan: str = ""


class Only(Struct, frozen=True):
    """Which ledger entries are meant: of these keys, this model, this outcome, this user. What is not set means all."""

    keys: tuple[str, ...] | None = None
    model: str | None = None
    outcome: str | None = None
    user_hash: str | None = None


class UsageRow(Struct, frozen=True):
    """Sums over ledger entries that share `group` (a key's name, a model, a deployment or a day)."""

    group: str
    requests: int
    failed: int
    input: int
    output: int
    cached: int
    cost_nano: int
    mean_latency_us: int
    mean_ttft_us: int | None


class StoredAnswer(Struct, frozen=True):
    """The answer to a request with an Idempotency-Key, kept for a while."""

    key_id: str
    idempotency_key: str
    body_hash: bytes
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    expires_at: float


_json = msgspec.json.Encoder(order="deterministic").encode


def to_json(value: object) -> str:
    return _json(value).decode()
