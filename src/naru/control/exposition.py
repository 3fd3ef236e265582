"""The counters in Prometheus' terms, made when it asks."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from naru.gateway.serve import Gateway
from naru.metrics import Histogram


class Exposition(Collector):
    """A registry and collector in one, for one scrape."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def collect(self) -> Iterator[Metric]:
        metrics, ledger = self.gateway.metrics, self.gateway.ledger
        yield GaugeMetricFamily("naru_in_flight_requests", "Requests being served.", metrics.in_flight)
        yield GaugeMetricFamily("naru_open_streams", "Streams past their first content.", len(self.gateway.live))
        yield GaugeMetricFamily("naru_open_permits", "Requests reserved and not yet settled.", ledger.open_permits)
        yield GaugeMetricFamily("naru_ledger_waiting_entries", "Entries not yet written.", len(ledger.waiting))
        yield CounterMetricFamily("naru_ledger_failed_writes", "Batches the store refused.", ledger.failed_writes)
        yield _counter("naru_requests", "Settled requests.", ("dialect", "outcome"), metrics.requests)
        yield _counter("naru_refusals", "Error answers.", ("dialect", "code"), metrics.refusals)
        yield _counter(
            "naru_upstream_attempts_failed", "Failed attempts.", ("deployment", "error"), metrics.attempts_failed
        )
        tokens = {(kind,): count for kind, count in metrics.tokens.items()}
        yield _counter("naru_tokens", "Tokens settled.", ("type",), tokens)
        reloads = {(result,): count for result, count in metrics.reloads.items()}
        yield _counter("naru_config_reloads", "Readings of the configuration after the first.", ("result",), reloads)
        yield GaugeMetricFamily(
            "naru_config_last_reload_timestamp_seconds", "The last good one; 0: none.", metrics.reloaded_at
        )
        yield GaugeMetricFamily(
            "naru_config_last_error_timestamp_seconds", "The last bad one; 0: none.", metrics.reload_failed_at
        )
        yield _histogram("naru_request_duration_seconds", "From request to settlement.", metrics.latency)
        yield _histogram("naru_time_to_first_token_seconds", "From request to first content, streams.", metrics.ttft)


def _counter(
    name: str, text: str, labels: tuple[str, ...], values: dict[tuple[str, str], int] | dict[tuple[str], int]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, count in values.items():
        family.add_metric([str(part) for part in key], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, sum_value=histogram.total)
    return family
