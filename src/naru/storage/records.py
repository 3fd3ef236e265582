"""The rows that the store keeps, as the rest of Naru sees them. Money in nano-dollars, durations in microseconds."""

from __future__ import annotations

import msgspec


class KeyRecord(msgspec.Struct, frozen=True):
    """A key without its secret. `role` is caller or admin; `models` empty means all. Times are Unix seconds."""

    id: str
    name: str
    digest: bytes
    role: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    models: tuple[str, ...] = ()
    team: str | None = None

    def is_active(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def state(self, now: float) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_active(now) else "expired"


class LedgerEntry(msgspec.Struct, frozen=True):
    """How one request ended, and what it cost. Written once, never changed.

    `outcome`: completed | partial (the upstream failed in mid-stream) | cancelled (the client left) | failed | refused.
    Only `failed` and `refused` cost nothing. `input` includes cached reads and cache writes; `output` includes reasoning.
    `units` are seconds of sound, characters or images, as `unit` says; of text there are none.
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


class UsageRow(msgspec.Struct, frozen=True):
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
