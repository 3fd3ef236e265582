"""Answers under way: between the engine's thread, which makes pieces, and whoever wants events.

board = Switchboard(LoopPost(loop))
backend = OpenVinoBackend(folder, board.deliver, options)
answer = Answer(backend, board, plans, listener)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from naru.engine.asking import Plan
from naru.engine.port import Backend, Piece
from naru.engine.writing import Continuation, Writer
from naru.errors import BadRequest, NaruError, Overloaded
from naru.protocol.messages import Event, Usage

TakePiece = Callable[[Piece], None]
#: Runs a function where the answers live, from any thread.
Post = Callable[[Callable[[], None]], object]
#: So long an engine waits for the event loop at most; then it goes on, and the loop catches up.
GIVE_WAY_S = 0.05


class LoopPost:
    """Post into an event loop. It returns when the loop has run the function and looked twice at its sockets.

    openvino-genai's `step` (2026.4) holds Python's lock for as long as it computes, so between two steps is the only time when
    this process can write what was made and read what is asked: without a wait, answers are a step late and requests several.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._is_done = threading.Event()

    def __call__(self, function: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(function)
            return
        self._is_done.clear()
        self._loop.call_soon_threadsafe(self._run, function)
        self._is_done.wait(GIVE_WAY_S)

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        finally:
            # A connection is accepted in one turn of the loop and read in the next.
            self._loop.call_soon(self._loop.call_soon, self._is_done.set)


class Switchboard:
    """Numbers requests, and brings the pieces of one step to their takers with one crossing of threads."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._numbers = count(1)
        self._takers: dict[int, TakePiece] = {}

    def deliver(self, pieces: Sequence[tuple[int, Piece]]) -> None:
        """port.Deliver: called in the engine's thread."""
        self._post(lambda: self._dispatch(pieces))

    def connect(self, take: TakePiece) -> int:
        number = next(self._numbers)
        self._takers[number] = take
        return number

    def disconnect(self, number: int) -> None:
        self._takers.pop(number, None)

    @property
    def open(self) -> int:
        return len(self._takers)

    def _dispatch(self, pieces: Sequence[tuple[int, Piece]]) -> None:
        for number, piece in pieces:
            take = self._takers.get(number)
            if take is not None:
                take(piece)


class Listener(Protocol):
    """Hears `on_events` any number of times, then `on_end` or `on_failure` once; nothing after a `cancel`."""

    def on_events(self, events: list[Event]) -> None: ...
    def on_end(self, usage: Usage) -> None: ...
    def on_failure(self, error: NaruError, usage: Usage) -> None: ...


class Answer:
    """One request: a writer for each choice of each prompt, numbered through. It starts at once."""

    def __init__(
        self, backend: Backend, board: Switchboard, plans: Sequence[Plan], listener: Listener, call_prefix: str
    ) -> None:
        self._backend = backend
        self._board = board
        self._plans = plans
        self._listener = listener
        self._numbers: dict[int, int] = {}  # writer -> its generation's number
        self._is_over = False
        self._writers = [
            Writer(plan, backend.vocabulary, backend.encode, at, _prefix(call_prefix, at))
            for at, plan in enumerate(plan for plan in plans for _ in range(plan.choices))
        ]
        for at, writer in enumerate(self._writers):
            self._start(at, writer.begin())

    @property
    def usage(self) -> Usage:
        return Usage(
            input=sum(len(plan.prompt.ids) for plan in self._plans),
            output=sum(writer.output for writer in self._writers),
            reasoning=sum(writer.reasoning for writer in self._writers),
        )

    def cancel(self) -> None:
        """Nobody waits any more: every place is freed."""
        self._is_over = True
        for at in list(self._numbers):
            self._stop(at)

    def _start(self, at: int, begun: Continuation) -> None:
        number = self._board.connect(lambda piece: self._take(at, piece))
        self._numbers[at] = number
        self._backend.start(number, begun.prompt, begun.decoding)

    def _stop(self, at: int) -> None:
        number = self._numbers.pop(at)
        self._board.disconnect(number)
        self._backend.cancel(number)

    def _take(self, at: int, piece: Piece) -> None:
        writer = self._writers[at]
        events = writer.take(piece)
        if events:
            self._listener.on_events(events)
        if self._is_over:  # whoever heard them has left
            return
        if writer.continuation is not None:
            self._go_on(at, writer)
        elif writer.error:
            self.cancel()
            self._listener.on_failure(failure_of(writer), self.usage)
        elif writer.is_done:
            self._stop(at)
            if not self._numbers:
                self._is_over = True
                self._listener.on_end(self.usage)

    def _go_on(self, at: int, writer: Writer) -> None:
        begun, writer.continuation = writer.continuation, None
        assert begun is not None
        self._stop(at)
        self._start(at, begun)


def failure_of(writer: Writer) -> NaruError:
    if writer.is_callers_error:
        return BadRequest(f"The engine does not take this request: {writer.error}", code="invalid_value")
    return Overloaded(f"The engine failed: {writer.error}", code="engine_failed")


def _prefix(prefix: str, choice: int) -> str:
    return prefix if choice == 0 else f"{prefix}{choice}_"
