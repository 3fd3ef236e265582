"""The streams of a process: those that wait for their first content, and those that flow. One timer looks after all of them.

Twice a second at most it begins a stream that has waited for too long (so that nobody in between takes the connection for dead),
sends a comment into one that is silent, and notes what each has come to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from naru.calls.answers import StreamAnswer
from naru.calls.call import Call
from naru.errors import NaruError
from naru.protocol.sse import write_comment

#: money.md: what a stream has come to is noted so often.
PROGRESS_S = 2.0
KEEP_ALIVE = write_comment()
EVENTS = b"text/event-stream"


class Streams:
    """`begin` writes the head of a stream that has nothing to show yet; `note` records what a flowing one has come to.

    `hold_s`: how long a head is held back, so that early errors keep their status. `keep_alive_s`: the longest silence.
    """

    def __init__(
        self,
        hold_s: float,
        keep_alive_s: float,
        begin: Callable[[Call], None],
        note: Callable[[StreamAnswer, Call], None],
    ) -> None:
        self.hold_s = hold_s
        self.keep_alive_s = keep_alive_s
        self.flowing: dict[StreamAnswer, Call] = {}
        self._waiting: dict[Call, None] = {}
        self._spoken: dict[Call, float] = {}
        self._begin = begin
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._noted_at = 0.0

    def waits(self, call: Call) -> None:
        self._waiting[call] = None
        self._arm()

    def begins(self, call: Call) -> None:
        """It waits no longer, whether something came or not."""
        self._waiting.pop(call, None)
        self._spoken.pop(call, None)

    def flows(self, answer: StreamAnswer, call: Call) -> None:
        self.flowing[answer] = call

    def ended(self, answer: StreamAnswer) -> None:
        call = self.flowing.pop(answer, None)
        if call is not None:
            self._spoken.pop(call, None)

    def cut(self, error: NaruError) -> None:
        """Ends every flowing stream from our side."""
        for answer in list(self.flowing):
            answer.cut(error)

    def _arm(self) -> None:
        if self._timer is None:
            pause_s = max(0.02, min(PROGRESS_S, self.hold_s, self.keep_alive_s) / 4)
            self._timer = self._loop.call_later(pause_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for call in list(self._waiting):
            self._hold_or_speak(call, now)
        for answer, call in self.flowing.items():
            self._fill_silence(answer, call, now)
        if now - self._noted_at >= PROGRESS_S:
            self._noted_at = now
            for answer, call in self.flowing.items():
                self._note(answer, call)
        if self._waiting or self.flowing:
            self._arm()

    def _hold_or_speak(self, call: Call, now: float) -> None:
        if not call.dialect.stream_type.startswith(EVENTS) or call.has_left():
            return  # sound has no place for a comment
        if not call.is_started:
            if now - call.started < self.hold_s:
                return
            self._begin(call)
            self._speak(call, now)
        elif now - self._spoken.get(call, call.started) >= self.keep_alive_s:
            self._speak(call, now)

    def _fill_silence(self, answer: StreamAnswer, call: Call, now: float) -> None:
        if not call.dialect.stream_type.startswith(EVENTS) or answer.is_over:
            return
        since = max(answer.last_event_at, self._spoken.get(call, 0.0))
        if now - since >= self.keep_alive_s:
            self._speak(call, now)

    def _speak(self, call: Call, now: float) -> None:
        self._spoken[call] = now
        call.exchange.write(KEEP_ALIVE)
