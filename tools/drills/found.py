"""What a drill found, and the little arithmetic that all of them need. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One thing that was asked of the gateway. `holds` is None for what is told and not judged."""

    asked: str
    seen: str
    holds: bool | None = None

    @property
    def word(self) -> str:
        return {True: "holds", False: "FAILS", None: "told"}[self.holds]


class Found(msgspec.Struct, frozen=True):
    """A drill's checks, and how long it took."""

    drill: str
    checks: tuple[Check, ...]
    seconds: float = 0.0

    @property
    def is_failed(self) -> bool:
        return any(check.holds is False for check in self.checks)


def quantile(values: Sequence[float], part: float) -> float:
    """By the nearest rank: of a hundred values the 99 % one is the second largest. 0 where there are none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(part * len(ordered)) - 1)] if ordered else 0.0


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3f} %" if whole else "none"


def ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def nothing_left(gauges: dict[str, float]) -> Check:
    """`gauges` are a gateway's own, after the last answer: each of them has to be 0."""
    left = {name: value for name, value in gauges.items() if value}
    return Check(
        "nothing is left over: requests, streams, permits, calls in hand", str(left) if left else "all 0", not left
    )
