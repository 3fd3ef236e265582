"""Local engines as operators see them: the port to those who run them, and their metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

#: In the order of an engine's life (engines/states.py).
STATES = ("stopped", "starting", "ready", "stopping", "backing_off", "failed")


class Engines(Protocol):
    """`shown` has, of each engine, at least name, state, starts, restarts and resident_bytes. The other two raise NotFound; they
    begin what they are asked for and do not wait for it."""

    def shown(self, with_log: bool) -> list[dict[str, Any]]: ...

    def restart(self, name: str) -> None: ...

    def halt(self, name: str) -> None: ...


def engine_metrics(engines: Engines) -> Iterator[Metric]:
    state = GaugeMetricFamily("naru_engine_state", "1 for the state that it is in.", labels=("engine", "state"))
    starts = CounterMetricFamily("naru_engine_starts", "Processes started.", labels=("engine",))
    restarts = CounterMetricFamily(
        "naru_engine_restarts", "Of these, after a failure or at an operator's wish.", labels=("engine",)
    )
    resident = GaugeMetricFamily(
        "naru_engine_resident_bytes",
        "Memory that its processes hold; absent while it does not run.",
        labels=("engine",),
    )
    for each in engines.shown(with_log=False):
        name = each["name"]
        for known in STATES:
            state.add_metric([name, known], float(each["state"] == known))
        starts.add_metric([name], each["starts"])
        restarts.add_metric([name], each["restarts"])
        if each["resident_bytes"] is not None:
            resident.add_metric([name], each["resident_bytes"])
    yield from (state, starts, restarts, resident)
