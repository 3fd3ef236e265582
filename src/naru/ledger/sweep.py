"""What has had its time is dropped from the store: answers under an Idempotency-Key after a day, the content of requests after
the operator's retention. Entries themselves stay for ever."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import structlog

from naru.clock import Clock
from naru.storage.port import AnswerStore

SWEEP_S = 3600.0
DAY_S = 86_400

log = structlog.get_logger("naru.ledger")


class Sweep:
    """At the start, then every hour. Old content goes also when it is not kept any more."""

    def __init__(self, store: AnswerStore, clock: Clock, retention_days: int) -> None:
        self.store = store
        self.clock = clock
        self.retain(retention_days)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def retain(self, days: int) -> None:
        """From the next sweep on."""
        self.retention_s = days * DAY_S

    def start(self) -> None:
        self._timer = self._loop.call_later(SWEEP_S, self.start)
        self.once().add_done_callback(_note)

    def once(self) -> Future[int]:
        now = self.clock.now()
        return self.store.forget(now, now - self.retention_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _note(swept: Future[int]) -> None:
    error = swept.exception()
    if error is not None:
        log.error("what has had its time could not be dropped; tried again in an hour", why=str(error))
