"""How much to hold for a request before it is answered. Pure.

A strict budget holds an upper bound, so that it is never exceeded; a balanced one what such requests have cost lately, so that
a budget is not filled with holds of which little is ever spent (money.md; reliability.md 2.3).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from naru.ledger.pricing import Price, upper_bound_nano
from naru.protocol.dialect import Envelope
from naru.protocol.service import asked_tier
from naru.protocol.tokens import estimate_tokens_bytes

#: Costs remembered for a key and a model, and from how many on they say something.
SAMPLES = 64
MIN_SAMPLES = 8
#: What an answer is taken to have while nothing is known: a page.
USUAL_OUTPUT = 1_024
MAX_HISTORIES = 10_000
#: Calls of a provider's own tools in one answer, at the very most; nobody makes a hundred.
MAX_TOOL_CALLS = 100
_SEARCHES = (b"_search", b"Search", b"web_fetch")


class Candidate(Protocol):
    """A deployment that may answer: what it costs, and the longest answer of its model, if that is known."""

    @property
    def price(self) -> Price | None: ...
    @property
    def max_output(self) -> int | None: ...


def upper_bound(envelope: Envelope, candidates: Sequence[Candidate], at: float) -> int | None:
    """The most that the request can cost, whoever of them answers; None where an answer has no known end.

    A token of any tokenizer is at least a byte of what the model reads.
    """
    most = 0
    for candidate in candidates:
        limit = envelope.max_output_tokens
        if limit is None:
            limit = candidate.max_output if envelope.estimate is None else 0
        if limit is None:
            return None
        most = max(most, _most(candidate, envelope.input_bytes, limit * envelope.n, envelope, at))
    return most


def expected(envelope: Envelope, candidates: Sequence[Candidate], at: float) -> int:
    """What such a request usually costs, where nothing is known of its like: its input, and a page."""
    limit = envelope.max_output_tokens
    output = min(USUAL_OUTPUT if limit is None else limit, USUAL_OUTPUT) * envelope.n
    read = estimate_tokens_bytes(envelope.input_bytes)
    return _dearest(candidates, read, output, envelope, at)


def input_cost(envelope: Envelope, candidates: Sequence[Candidate], at: float) -> int:
    read = estimate_tokens_bytes(envelope.input_bytes)
    return _dearest(candidates, read, 0, envelope, at)


def _dearest(candidates: Sequence[Candidate], read: int, output: int, envelope: Envelope, at: float) -> int:
    most = 0
    for each in candidates:
        most = max(most, _most(each, read, output, envelope, at))
    return most


def _most(candidate: Candidate, read: int, output: int, envelope: Envelope, at: float) -> int:
    price = candidate.price
    if price is None:
        return 0
    calls = MAX_TOOL_CALLS if price.tools and _may_search(envelope) else 0
    tier = asked_tier(envelope) if price.tiers else ""
    return upper_bound_nano(price, read, output, at, _units(envelope), tier, calls)


def _may_search(envelope: Envelope) -> bool:
    """Whether the request offers a tool of the provider's own, billed by the call."""
    fields = envelope.fields
    return "web_search_options" in fields or any(word in bytes(fields.get("tools", b"")) for word in _SEARCHES)


def _units(envelope: Envelope) -> int:
    media = envelope.estimate.media if envelope.estimate is not None else None
    return media.units if media is not None else 0


class History:
    """The latest costs of each key and model; `p95` of them is what to expect of the next."""

    def __init__(self) -> None:
        self._costs: dict[tuple[str, str], tuple[deque[int], list[int]]] = {}

    def add(self, key_id: str, model: str, cost: int) -> None:
        found = self._costs.get((key_id, model))
        if found is None:
            if len(self._costs) >= MAX_HISTORIES:
                self._costs.pop(next(iter(self._costs)))
            found = self._costs[key_id, model] = (deque(), [])
        latest, by_size = found
        if len(latest) == SAMPLES:
            del by_size[bisect_left(by_size, latest.popleft())]
        latest.append(cost)
        insort(by_size, cost)

    def p95(self, key_id: str, model: str) -> int | None:
        found = self._costs.get((key_id, model))
        if found is None or len(found[0]) < MIN_SAMPLES:
            return None
        return found[1][len(found[0]) * 95 // 100]
