"""Counters as plain integers: adding costs nanoseconds, rendering happens when Prometheus asks.

Labels are bounded: dialects, outcomes, deployments from the settings. Names that callers write never become labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from naru.errors import NaruError
from naru.ledger.ledger import Settlement

#: Seconds. Language models answer in fractions of a second to minutes.
LATENCY_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_LABELS = 1000


class Histogram:
    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    def __init__(self) -> None:
        self.hedges = 0
        self.hedges_won = 0
        self.retries_refused = 0
        self.resumed = 0
        self.requests: defaultdict[tuple[str, str], int] = defaultdict(int)  # dialect, outcome
        self.refusals: defaultdict[tuple[str, str], int] = defaultdict(int)  # dialect, code
        self.attempts_failed: defaultdict[tuple[str, str], int] = defaultdict(int)  # deployment, code
        self.tokens: defaultdict[str, int] = defaultdict(int)  # kind
        self.reloads = {"applied": 0, "unchanged": 0, "failed": 0}
        self.reloaded_at = 0.0  # Unix seconds; 0: never
        self.reload_failed_at = 0.0
        self.latency = Histogram(LATENCY_BUCKETS)
        self.ttft = Histogram(TTFT_BUCKETS)

    def ended(self, dialect: str, end: Settlement, seconds: float) -> None:
        self.requests[dialect, end.outcome] += 1
        self.latency.observe(seconds)
        if end.ttft_s is not None:
            self.ttft.observe(end.ttft_s)
        usage = end.usage
        if usage is not None:
            tokens = self.tokens
            tokens["input"] += usage.input
            tokens["output"] += usage.output
            if usage.cached:
                tokens["cached"] += usage.cached
            if usage.reasoning:
                tokens["reasoning"] += usage.reasoning

    def refused(self, dialect: str, error: NaruError) -> None:
        self.refusals[dialect, error.code if error.fault.value != "upstream" else "upstream"] += 1  # type: ignore[index]

    def reloaded(self, result: str, at: float) -> None:
        self.reloads[result] += 1
        if result == "failed":
            self.reload_failed_at = at
        else:
            self.reloaded_at = at

    def attempt_failed(self, deployment: str, error: NaruError) -> None:
        if len(self.attempts_failed) < MAX_LABELS:
            self.attempts_failed[deployment, type(error).__name__] += 1
