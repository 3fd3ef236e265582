"""One of each record, with every field set."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from naru.storage.records import (
    AccountRecord,
    Attempt,
    AuditRecord,
    BudgetRecord,
    CodeRecord,
    CreditRecord,
    KeyRecord,
    LedgerEntry,
    LimitRecord,
    ScopeRecord,
    StoredAnswer,
)

NEVER = 253_402_300_800.0
USD = 1_000_000_000
ORG = AccountRecord("org-1", "organisation", "acme", 1.0, time_zone="Asia/Seoul")
TEAM = AccountRecord("team-1", "team", "web", 2.0, "org-1", None, "UTC", LimitRecord(rpm=5), {"cost centre": "42"})
KEY = KeyRecord(
    "k1", "mine [1]", b"\x01" * 32, "caller", 1.0, 9.0, None, ("a", "b"), "team-1", ("10.0.0.0/8",),
    LimitRecord(60, 1000, 2), {"app": "{x}"}, "k0",
)  # fmt: skip
BUDGET = BudgetRecord("bud-1", "k1", 10 * USD, "month", "Asia/Seoul", "strict", 1.0, (500, 1000))
SCOPE = ScopeRecord("bud-1@0", "k1", "strict", 0.0, NEVER, 10 * USD, budget="bud-1")
CREDIT = CreditRecord("crd-1", "k1", "topup", 5 * USD, 3.0, "local", "5 USD", "1390 KRW/USD", "inv-1", "[first]")
CODE = CodeRecord("code-1", b"\x02" * 32, 2 * USD, 1.0, 100.0, note="gift")
AUDIT = AuditRecord(1.0, "local", "key.create", "k1", '{"name":"x"}')
ANSWER = StoredAnswer("k1", "idem", b"\x03" * 32, 200, (("content-type", "application/json"),), b'{"x":1}', 50.0)
ENTRY = LedgerEntry(
    request_id="r1", at=1000.5, key_id="k1", model="m", deployment="p/m", provider="p", upstream_model="um", dialect="openai_chat",
    is_stream=True, outcome="completed", status=200, error_code=None, input=10, output=20, cached=5, cache_write=1, reasoning=3,
    is_estimated=False, cost_nano=12_345, price_version="v", price_source="s", latency_us=1500, ttft_us=700, attempts=2,
    unit="seconds", units=3, provider_cost_nano=12_400, tried=(Attempt("p/n", 10, "upstream_reset", "gone", 502, 55),),
    user_hash="abc", fx="1390 KRW/USD", scopes=(), content="words",
)  # fmt: skip


def entry(request_id: str, **fields: Any) -> LedgerEntry:
    return replace(ENTRY, request_id=request_id, **fields)
