"""The counters in Prometheus' terms, made when it asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from naru.cache.responses import Figures
from naru.control.engines import Engines, engine_metrics
from naru.gateway.serve import Gateway
from naru.metrics import Histogram
from naru.routing.vitals import Vitals


class Exposition(Collector):
    """A registry and collector in one, for one scrape."""

    def __init__(self, gateway: Gateway, engines: Engines) -> None:
        self.gateway = gateway
        self.engines = engines

    def collect(self) -> Iterator[Metric]:
        metrics, ledger = self.gateway.metrics, self.gateway.ledger
        gate = self.gateway.gate
        waiting = gate.waiting + self.gateway.room.waiting
        yield GaugeMetricFamily("naru_in_flight_requests", "Requests being served.", gate.in_flight)
        yield GaugeMetricFamily("naru_waiting_requests", "Requests that wait for a place.", waiting)
        yield CounterMetricFamily("naru_requests_shed", "Requests refused because all places were taken.", gate.shed)
        yield GaugeMetricFamily(
            "naru_open_streams", "Streams past their first content.", len(self.gateway.streams.flowing)
        )
        yield CounterMetricFamily("naru_hedges", "Requests asked of a second deployment.", metrics.hedges)
        yield CounterMetricFamily("naru_hedges_won", "Hedges whose second deployment was first.", metrics.hedges_won)
        yield CounterMetricFamily("naru_streams_resumed", "Cut answers that went on elsewhere.", metrics.resumed)
        yield CounterMetricFamily(
            "naru_retries_refused", "Attempts not made because the retry budget was used up.", metrics.retries_refused
        )
        if self.gateway.cached is not None:
            yield from _cache(self.gateway.cached.cache.figures)
        yield from _fleet(self._declared(), self.gateway.loop.time())
        yield from engine_metrics(self.engines)
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

    def _declared(self) -> dict[str, Vitals]:
        """Those that the configuration and the catalogue name: what callers write out themselves becomes no label."""
        known = self.gateway.failover.fleet.known()
        names = (d.id for route in self.gateway.table.routes.values() for d in route.deployments)
        return {name: known[name] for name in names if name in known}


def _cache(figures: Figures) -> Iterator[Metric]:
    """Only where there is a cache."""
    yield CounterMetricFamily("naru_cache_hits", "Requests answered from the cache.", figures.hits)
    yield CounterMetricFamily("naru_cache_followers", "Of these, told along while it was made.", figures.followers)
    yield CounterMetricFamily("naru_cache_misses", "Requests that it had no answer for.", figures.misses)
    yield CounterMetricFamily("naru_cache_saved_usd", "What the hits had cost when made.", figures.saved_nano / 1e9)
    yield CounterMetricFamily("naru_cache_evicted", "Answers dropped for want of room.", figures.evicted)
    yield CounterMetricFamily("naru_cache_errors", "Failures of the store, each a miss.", figures.errors)
    yield GaugeMetricFamily("naru_cache_bytes", "Bytes kept in memory.", figures.bytes or 0)


def _fleet(known: Mapping[str, Vitals], now: float) -> Iterator[Metric]:
    """The deployments that were used since the start."""
    in_flight = GaugeMetricFamily("naru_deployment_in_flight", "Calls under way.", labels=("deployment",))
    well = GaugeMetricFamily(
        "naru_deployment_well", "1 when it may be called, 0 when it rests.", labels=("deployment",)
    )
    ttft = GaugeMetricFamily(
        "naru_deployment_ttft_seconds", "Time to first content of late, peaks first.", labels=("deployment",)
    )
    calls = CounterMetricFamily("naru_deployment_calls", "Calls made.", labels=("deployment",))
    for name, vitals in known.items():
        in_flight.add_metric([name], vitals.in_flight)
        well.add_metric([name], float(vitals.is_well(now)))
        ttft.add_metric([name], vitals.ttft.now(now))
        calls.add_metric([name], vitals.calls)
    yield from (in_flight, well, ttft, calls)


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
