"""What an inference server tells of itself, in Prometheus' text, as a Load. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from naru.routing.vitals import Load


class LoadNames(Struct, frozen=True):
    """The gauges of one kind of server, in whichever of its versions: requests running, requests waiting, the part of the KV
    memory in use (0 to 1)."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_used: tuple[str, ...] = ()


def load_of(text: str, names: LoadNames, at: float) -> Load | None:
    """Requests are summed over a server's models and ranks, of memories the fullest counts. None where it tells nothing of
    this, or nothing that can be read. `at` is a monotonic clock."""
    wanted = (*names.running, *names.waiting, *names.kv_used)
    # Such pages have thousands of lines of histograms; only the few that are wanted are parsed.
    lines = [line for line in text.splitlines() if line.startswith(wanted)]
    found: dict[str, list[float]] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.value)
    except ValueError:
        return None
    running, waiting, kv_used = (_first(found, each) for each in (names.running, names.waiting, names.kv_used))
    if running is None and waiting is None:
        return None
    return Load(
        waiting=_count(waiting),
        running=_count(running),
        kv_used=min(max(kv_used, default=0.0), 1.0) if kv_used and _is_sane(kv_used) else 0.0,
        at=at,
    )


def _first(found: dict[str, list[float]], names: Sequence[str]) -> list[float] | None:
    return next((found[name] for name in names if name in found), None)


def _count(values: list[float] | None) -> int:
    return int(min(max(sum(values), 0.0), 1e9)) if values and _is_sane(values) else 0


def _is_sane(values: Sequence[float]) -> bool:
    return all(value == value and abs(value) < 1e12 for value in values)
