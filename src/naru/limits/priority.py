"""Who can wait: a client says so itself, with `x-naru-priority: batch`."""

from __future__ import annotations

from collections.abc import Iterable

from naru.limits.admission import BATCH, INTERACTIVE

HEADER = b"x-naru-priority"


def priority_of(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The lower goes first."""
    can_wait = any(name == HEADER and value.strip().lower() == b"batch" for name, value in headers)
    return BATCH if can_wait else INTERACTIVE
