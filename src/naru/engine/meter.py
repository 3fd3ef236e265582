"""What a worker tells of itself: counts, and how long answers take. Plain sums, rendered when asked (Prometheus' text)."""

from __future__ import annotations

import resource
import sys
from bisect import bisect_left

from naru.engine.port import Load
from naru.protocol.messages import Usage

#: Upper bounds in seconds.
BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, what: str) -> list[str]:
        found = [f"# HELP {name} {what}", f"# TYPE {name} histogram"]
        so_far = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append(f'{name}_bucket{{le="{bound}"}} {so_far}')
        return [*found, f"{name}_sum {self.total:.6f}", f"{name}_count {so_far}"]


class Meter:
    def __init__(self) -> None:
        self.answers = 0
        self.failures = 0
        self.usage = Usage()
        self.ttft = Histogram()
        self.duration = Histogram()

    def begin(self, now: float) -> Timer:
        return Timer(self, now)

    def text(self, load: Load | None) -> str:
        lines = [
            *_counter("naru_engine_answers_total", "Answers that were ended.", self.answers),
            *_counter("naru_engine_failures_total", "Answers that the library failed on.", self.failures),
            *_counter("naru_engine_prompt_tokens_total", "Tokens of prompts.", self.usage.input),
            *_counter("naru_engine_output_tokens_total", "Tokens written.", self.usage.output),
            *_counter("naru_engine_reasoning_tokens_total", "Tokens of reasoning among them.", self.usage.reasoning),
            *_gauge("naru_engine_resident_bytes", "Largest resident memory so far.", peak_bytes()),
            *self.ttft.lines("naru_engine_ttft_seconds", "Time to the first token."),
            *self.duration.lines("naru_engine_answer_seconds", "Time of whole answers."),
        ]
        if load is not None:
            lines += _gauge("naru_engine_requests_running", "Requests being computed.", load.running)
            lines += _gauge("naru_engine_requests_waiting", "Requests waiting for a place.", load.waiting)
            lines += _gauge("naru_engine_kv_cache_usage_ratio", "Part of the KV memory in use.", load.cache_usage)
        return "\n".join(lines) + "\n"


class Timer:
    """One answer's. `now` in seconds, of any clock that does not jump."""

    __slots__ = ("_began", "_has_first", "_meter")

    def __init__(self, meter: Meter, now: float) -> None:
        self._meter = meter
        self._began = now
        self._has_first = False

    def first(self, now: float) -> None:
        if not self._has_first:
            self._has_first = True
            self._meter.ttft.add(now - self._began)

    def end(self, now: float, usage: Usage, failed: bool) -> None:
        meter, before = self._meter, self._meter.usage
        meter.answers += 1
        meter.failures += failed
        meter.duration.add(now - self._began)
        meter.usage = Usage(
            input=before.input + usage.input,
            output=before.output + usage.output,
            reasoning=before.reasoning + usage.reasoning,
        )


def peak_bytes() -> int:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _counter(name: str, what: str, value: float) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} counter", f"{name} {value}"]


def _gauge(name: str, what: str, value: float) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} gauge", f"{name} {value}"]
