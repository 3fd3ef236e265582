"""One answer while it is made, told to everybody who asks the same meanwhile.

The first of them is the leader: its request is executed, and `Leader` stands between the gateway and its client, records what is
said and passes it on. The others are followers: each is told the same from the beginning, at the pace of its own client.

    WAITING --start, reply 200--> SPEAKING --finish--> FINISHED
       |                             |---cut, or ended without a finish---> CUT
       `---any other status, or ended without a word---> FAILED: followers are released

Memory is bounded by the flight, not by the number of followers: what was said is kept once, up to `max_bytes`. An answer that
goes beyond is stored nowhere and takes no more followers; of those it has, one that lags by more than `max_bytes` is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum

from naru.cache.answers import Saved
from naru.cache.costs import without_cost
from naru.transport.exchange import Exchange, HeaderList, Listener

#: How much a follower is handed at once, so that its client's pause takes effect between.
WRITE_BYTES = 64 * 1024


class State(Enum):
    WAITING = "waiting"
    SPEAKING = "speaking"
    FINISHED = "finished"
    CUT = "cut"
    FAILED = "failed"


class Ending(Enum):
    """How telling an answer again ended. PARTIAL: with the error, or the cut, that the first was told."""

    WHOLE = "whole"
    PARTIAL = "partial"
    GONE = "gone"


class Flight:
    """What was said so far, and who hears it. `saved` is set, once the gateway says `keep`, for an answer that is whole."""

    __slots__ = (
        "_first", "_is_closed", "_on_deserted", "followers", "headers", "is_spoiled", "is_stream", "is_too_large", "max_bytes",
        "pieces", "saved", "size", "state",
    )  # fmt: skip

    def __init__(self, max_bytes: int, on_deserted: Callable[[], None]) -> None:
        """`on_deserted` is called when the last follower has left."""
        self.max_bytes = max_bytes
        self._on_deserted = on_deserted
        self.state = State.WAITING
        self.headers: HeaderList = []
        self.is_stream = False
        self.is_spoiled = False
        self.is_too_large = False
        self.saved: Saved | None = None
        self.followers: dict[Follower, None] = {}
        #: What follows the first `_first` pieces, which nobody needs any more.
        self.pieces: list[bytes] = []
        self.size = 0
        self._first = 0
        self._is_closed = False

    @property
    def is_open(self) -> bool:
        """Whether one who comes now can be told all of it."""
        if self._is_closed or self.is_too_large or self.is_spoiled:
            return False
        return self.state in (State.WAITING, State.SPEAKING) or self.is_whole

    @property
    def is_whole(self) -> bool:
        """Whether it may be told to others later."""
        return self.state is State.FINISHED and self.saved is not None and not self.is_spoiled and not self.is_too_large

    @property
    def is_over(self) -> bool:
        return self.state not in (State.WAITING, State.SPEAKING)

    # --- The leader's side ------------------------------------------------------------------------------------------

    def speak(self, headers: HeaderList, is_stream: bool) -> None:
        self.headers, self.is_stream = headers, is_stream
        self._turn(State.SPEAKING)

    def say(self, data: bytes) -> None:
        if not data or self.is_over:
            return
        self.size += len(data)
        self.is_too_large = self.is_too_large or self.size > self.max_bytes
        self.pieces.append(data)
        self._tell()
        if self.is_too_large and self.is_stream:  # a plain one is there anyway, and all of it is told at once
            self._trim()

    def finish(self) -> None:
        if self.state is State.SPEAKING:
            self._turn(State.FINISHED)

    def fail(self) -> None:
        """It ends without being finished."""
        if not self.is_over:
            self._turn(State.FAILED if self.state is State.WAITING else State.CUT)

    def close(self) -> None:
        """Takes no more followers."""
        self._is_closed = True

    def _turn(self, state: State) -> None:
        self.state = state
        self._tell()

    def _tell(self) -> None:
        for follower in tuple(self.followers):
            follower.hear()

    def _trim(self) -> None:
        """Drops what everybody has; while that is too little, cuts off who lags most."""
        while True:
            needed = min((follower.position for follower in self.followers), default=self._end)
            dropped = self.pieces[: needed - self._first]
            del self.pieces[: len(dropped)]
            self._first += len(dropped)
            self.size -= sum(map(len, dropped))
            if self.size <= self.max_bytes or not self.followers:
                return
            for follower in [each for each in self.followers if each.position == needed]:
                follower.break_off()

    # --- The followers' side ----------------------------------------------------------------------------------------

    @property
    def _end(self) -> int:
        return self._first + len(self.pieces)

    def read(self, position: int) -> tuple[bytes, int]:
        """What follows the first `position` pieces, WRITE_BYTES or one piece of it, and the position after that."""
        start = position - self._first
        stop, size = start, 0
        while stop < len(self.pieces) and (size == 0 or size + len(self.pieces[stop]) <= WRITE_BYTES):
            size += len(self.pieces[stop])
            stop += 1
        pieces = self.pieces[start:stop]
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), self._first + stop

    def join(self, exchange: Exchange) -> Follower:
        follower = Follower(self, exchange)
        self.followers[follower] = None
        return follower

    def leave(self, follower: Follower) -> None:
        if follower in self.followers:
            del self.followers[follower]
            if not self.followers and not self.is_over:
                self._on_deserted()


class Leader:
    """See transport.Exchange: passes everything on to its own client, and to the flight. The gateway answers through it.

    The client of the leader may leave: while there are followers the gateway does not hear of it, and the answer is made for
    them. Its pauses reach the gateway. `end` it, whatever happens.
    """

    __slots__ = (
        "_exchange", "_is_ended", "_is_paused", "_listener", "_on_end", "client", "flight", "headers", "method", "path", "query",
        "ttl_s",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, max_bytes: int, ttl_s: int, on_end: Callable[[Leader], None]) -> None:
        self._exchange = exchange
        self.method, self.path, self.query = exchange.method, exchange.path, exchange.query
        self.headers, self.client = exchange.headers, exchange.client
        self.flight = Flight(max_bytes, self._deserted)
        self.ttl_s = ttl_s
        self._listener: Listener | None = None
        self._is_paused = False
        self._on_end = on_end
        self._is_ended = False

    def keep(self, saved: Saved) -> None:
        """The answer is whole, and this is what it came to: the settlement of a completed answer. Without it nothing is stored.
        Comes before `finish` or `reply`."""
        self.flight.saved = saved

    def spoil(self) -> None:
        """What comes now is not the answer (an error inside the stream). Followers are told it too; nothing is stored."""
        self.flight.is_spoiled = True

    def end(self) -> None:
        """The gateway is done with the request. What was not finished by now never will be."""
        if self._is_ended:
            return
        self._is_ended = True
        self.flight.fail()
        self._on_end(self)

    # --- Exchange ---------------------------------------------------------------------------------------------------

    @property
    def is_gone(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._exchange.is_gone and not self.flight.followers

    @property
    def listener(self) -> Listener | None:
        return self._listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._listener = listener
        self._exchange.listener = None if listener is None else self

    @property
    def payload(self) -> bytes:
        return self._exchange.payload

    def reply(self, status: int, headers: HeaderList, body: bytes) -> None:
        self._exchange.reply(status, headers, body)
        if status != 200:
            self.flight.fail()
            return
        self.flight.speak(headers, is_stream=False)
        self.flight.say(body)
        self.flight.finish()

    def start(self, status: int, headers: HeaderList) -> None:
        self._exchange.start(status, headers)
        if status == 200:
            self.flight.speak(headers, is_stream=True)
        else:
            self.flight.fail()

    def write(self, data: bytes) -> None:
        self._exchange.write(data)
        # The gateway writes whole events, so what one cost is found here; it is the leader who pays it.
        self.flight.say(without_cost(data))

    def finish(self) -> None:
        self._exchange.finish()
        self.flight.finish()

    def cut(self) -> None:
        self._exchange.cut()
        self.flight.fail()

    # --- Listener: how the leader's own client takes it ---------------------------------------------------------------

    def on_pause(self) -> None:
        self._is_paused = True
        if self._listener is not None:
            self._listener.on_pause()

    def on_resume(self) -> None:
        self._is_paused = False
        if self._listener is not None:
            self._listener.on_resume()

    def on_gone(self) -> None:
        if not self.flight.followers:
            self._deserted()
        elif self._is_paused:  # nobody else would ever resume it
            self.on_resume()

    def _deserted(self) -> None:
        """Nobody is left. Where the gateway listens it drops the answer, so nobody may join it any more."""
        if self._exchange.is_gone and self._listener is not None:
            self.flight.close()
            self._listener.on_gone()


class Follower:
    """Someone who asked for what a leader is being told. See transport.Listener, for its own client.

    `await heard()`, then `await follow(…)` to the end; `leave` it, whatever happens.
    """

    __slots__ = ("_ending", "_exchange", "_future", "_is_live", "_is_paused", "_loop", "flight", "position")

    def __init__(self, flight: Flight, exchange: Exchange) -> None:
        self.flight = flight
        self.position = 0
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()
        self._is_live = False
        self._is_paused = False
        self._ending: Ending | None = None
        exchange.listener = self

    async def heard(self) -> bool:
        """Waits for the answer's beginning. False: there will be none for this one, or its client has left."""
        if self.flight.state is State.WAITING and self._ending is None:
            await self._future
        return self._ending is None and self.flight.state is not State.FAILED

    async def follow(self, headers: HeaderList) -> Ending:
        """Tells all of it, after a head of the follower's own. Returns once it is told."""
        self._is_live = True
        if not self.flight.is_stream:  # over with its beginning
            self._exchange.reply(200, headers, b"".join(self.flight.pieces))
            self._over(Ending.WHOLE)
        else:
            self._exchange.start(200, headers)
            if self._ending is Ending.PARTIAL:  # it fell behind before it began
                self._exchange.cut()
            self._speak()
        if self._ending is None:
            self._future = self._loop.create_future()
            await self._future
        assert self._ending is not None
        return self._ending

    def break_off(self) -> None:
        """Its gateway stops in the middle."""
        if self._ending is None:
            if self._is_live:
                self._exchange.cut()
            self._over(Ending.PARTIAL)

    def leave(self) -> None:
        """Its gateway needs it no more."""
        self._over(Ending.GONE)
        if self._exchange.listener is self:
            self._exchange.listener = None

    # --- The flight's side ------------------------------------------------------------------------------------------

    def hear(self) -> None:
        """There is more, or an end."""
        if self._is_live:
            self._speak()
        elif self.flight.state is not State.WAITING:
            self._wake()

    def _speak(self) -> None:
        flight = self.flight
        while not self._is_paused and self._ending is None:
            data, self.position = flight.read(self.position)
            if data:
                self._exchange.write(data)
            elif flight.state is State.SPEAKING:
                return
            elif flight.state is State.FINISHED:
                self._exchange.finish()
                self._over(Ending.PARTIAL if flight.is_spoiled else Ending.WHOLE)
            else:
                self._exchange.cut()
                self._over(Ending.PARTIAL)

    def _over(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self.flight.leave(self)
            self._wake()

    def _wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    # --- Listener ---------------------------------------------------------------------------------------------------

    def on_pause(self) -> None:
        self._is_paused = True

    def on_resume(self) -> None:
        self._is_paused = False
        if self._is_live:
            self._speak()

    def on_gone(self) -> None:
        self._over(Ending.GONE)
