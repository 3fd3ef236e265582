"""The response cache: an answer is told again to who asks the same, and told along to who asks while it is made.

Only a whole answer of status 200 is kept, and only when the gateway says so at its settlement: no error, no part of a stream
(reliability.md 3.2). A hit costs nothing (1.4), so what an answer cost is taken out before it is told again.

    begun = await cache.begin(exchange, cache.key(scope, envelope), control)
    Leader       the gateway executes the request and answers through it; `keep` when it settles a completed answer, `spoil`
                 before an error inside the stream, `end` whatever happens
    Hit          a StoredHit or a LiveHit: `await hit.tell([*hit.headers, …])`, `end` whatever happens
    None         the gateway executes the request as if there were no cache
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec import Struct

from naru.cache.answers import Cached, CacheStore, Saved
from naru.cache.control import Control
from naru.cache.costs import without_cost
from naru.cache.flight import Ending, Flight, Follower, Leader
from naru.cache.key import Scope, cache_key
from naru.clock import Clock
from naru.protocol.dialect import Envelope
from naru.transport.exchange import Exchange, HeaderList

MAX_ENTRY_BYTES = 4 * 1024 * 1024
TTL_S = 3600

#: What a head says of one request alone; everything else is told again.
OWN_HEADERS = frozenset({b"x-request-id", b"age", b"retry-after", b"retry-after-ms", b"x-should-retry"})
OWN_PREFIXES = (b"x-ratelimit-", b"x-naru-")
HIT: tuple[bytes, bytes] = (b"x-naru-cache", b"hit")
MISS: tuple[bytes, bytes] = (b"x-naru-cache", b"miss")

log = structlog.get_logger("naru.cache")


class CacheSettings(Struct, frozen=True):
    """`ttl_s`: how long answers are kept, in seconds. A larger answer than `max_entry_bytes` is passed on and not kept."""

    ttl_s: int = TTL_S
    max_entry_bytes: int = MAX_ENTRY_BYTES


class Figures(Struct):
    """Since the process started. `hits` hold the `followers`; `misses` are the requests that were to be executed although they
    might have been answered from here; `bypassed` asked for that themselves. `released`: followers whose leader failed.
    The last four are the store's."""

    hits: int = 0
    followers: int = 0
    misses: int = 0
    bypassed: int = 0
    released: int = 0
    stores: int = 0
    saved_nano: int = 0
    saved_input: int = 0
    saved_output: int = 0
    evicted: int = 0
    errors: int = 0
    entries: int | None = None
    bytes: int | None = None


class StoredHit:
    """An answer that was kept."""

    is_live = False

    def __init__(self, exchange: Exchange, cached: Cached, age_s: int) -> None:
        self._exchange = exchange
        self._cached = cached
        self.age_s = age_s
        self.is_stream = cached.is_stream
        self.headers: HeaderList = [*cached.headers, HIT, (b"age", b"%d" % age_s)]

    @property
    def saved(self) -> Saved | None:
        return self._cached.saved

    async def tell(self, headers: HeaderList) -> Ending:
        """All of it, under this head."""
        if self.is_stream:
            self._exchange.start(200, headers)
            self._exchange.write(self._cached.body)
            self._exchange.finish()
        else:
            self._exchange.reply(200, headers, self._cached.body)
        return Ending.GONE if self._exchange.is_gone else Ending.WHOLE

    def end(self) -> None:
        """Nothing was taken."""


class LiveHit:
    """An answer that is being made for somebody else. `saved` is known once it was told whole."""

    is_live = True
    age_s = 0

    def __init__(self, follower: Follower, figures: Figures) -> None:
        self._follower = follower
        self._figures = figures
        self.is_stream = follower.flight.is_stream
        self.headers: HeaderList = [*told_again(follower.flight.headers), HIT, (b"age", b"0")]

    @property
    def saved(self) -> Saved | None:
        flight = self._follower.flight
        return None if flight.is_spoiled else flight.saved

    async def tell(self, headers: HeaderList) -> Ending:
        """All of it, under this head, as it comes. Cancelled in the middle it breaks the answer off."""
        try:
            ending = await self._follower.follow(headers)
        except asyncio.CancelledError:
            self._follower.break_off()
            raise
        if ending is Ending.WHOLE and self.saved is not None:
            _note_saved(self._figures, self.saved)
        return ending

    def end(self) -> None:
        """The gateway is done with the request."""
        self._follower.leave()


Hit = StoredHit | LiveHit


class ResponseCache:
    """What is under way, and the way to what was kept."""

    def __init__(self, store: CacheStore, clock: Clock, secret: bytes, settings: CacheSettings | None = None) -> None:
        """`secret` keys the keys: with another one everything kept is forgotten."""
        self.store = store
        self.clock = clock
        self.settings = settings or CacheSettings()
        self._secret = secret
        self._figures = Figures()
        self._flights: dict[bytes, Flight] = {}
        self._storing: set[asyncio.Task[None]] = set()
        #: Counts the times it was cleared: what began before is not kept after.
        self._clears = 0

    def key(self, scope: Scope, envelope: Envelope) -> bytes | None:
        return cache_key(self._secret, scope, envelope)

    async def begin(self, exchange: Exchange, key: bytes | None, control: Control) -> Hit | Leader | None:
        """Waits for the beginning of an answer that is being made for another. Raises nothing.

        A request waits for one other at most: if that one fails, the first of those who waited leads anew, for who comes from
        now on, and the others execute for themselves. So a failing upstream makes no queue of requests that fail one by one.
        """
        if key is None:
            return None
        if not control.reads and not control.writes:
            self._figures.bypassed += 1
            return None
        was_released = False
        if control.reads:
            found = await self._found(exchange, key, control)
            if found is not None:
                return found
            if (flight := self._flights.get(key)) is not None and flight.is_open:
                hit = await self._followed(exchange, flight)
                if hit is not None:
                    return hit
                was_released = True
        self._figures.misses += 1
        if exchange.is_gone or (was_released and key in self._flights):
            return None
        return self._lead(exchange, key, control)

    async def clear(self) -> int:
        """Forgets everything that was kept, and says how many answers. What is being made now takes no more followers and is
        not kept. Raises Overloaded where the store cannot be reached."""
        self._clears += 1
        for flight in self._flights.values():
            flight.close()
        return await self.store.clear()

    async def close(self) -> None:
        """Waits for what is on its way to the store."""
        await asyncio.gather(*self._storing)
        await self.store.close()

    @property
    def figures(self) -> Figures:
        """As they are now."""
        told = self.store.figures
        mine = self._figures
        mine.evicted, mine.errors, mine.entries, mine.bytes = told.evicted, told.errors, told.entries, told.bytes
        return mine

    @property
    def under_way(self) -> int:
        """Answers that others may follow."""
        return len(self._flights)

    # --- Hits -------------------------------------------------------------------------------------------------------

    async def _found(self, exchange: Exchange, key: bytes, control: Control) -> StoredHit | None:
        """What is being made is as good as what was kept, and needs no asking."""
        if (flight := self._flights.get(key)) is not None and flight.is_open:
            return None
        cached = await self.store.get(key)
        if cached is None:
            return None
        age_s = max(0.0, self.clock.now() - cached.made_at)
        if not control.takes(age_s):
            return None
        self._figures.hits += 1
        _note_saved(self._figures, cached.saved)
        return StoredHit(exchange, cached, int(age_s))

    async def _followed(self, exchange: Exchange, flight: Flight) -> LiveHit | None:
        """None: there is nothing to be had from it, or the client has left."""
        if exchange.is_gone:
            return None
        follower = flight.join(exchange)
        try:
            is_heard = await follower.heard()
        except BaseException:
            follower.leave()
            raise
        if not is_heard:
            follower.leave()
            self._figures.released += not exchange.is_gone
            return None
        self._figures.hits += 1
        self._figures.followers += 1
        return LiveHit(follower, self._figures)

    # --- Misses -----------------------------------------------------------------------------------------------------

    def _lead(self, exchange: Exchange, key: bytes, control: Control) -> Leader:
        """Where another one leads already (this one wants a fresh answer) nobody follows, but the answer is kept."""
        ttl_s = min(control.ttl_s or self.settings.ttl_s, self.settings.ttl_s)
        clears = self._clears
        leader = Leader(exchange, self.settings.max_entry_bytes, ttl_s, lambda led: self._ended(key, led, clears))
        found = self._flights.get(key)
        if found is None or not found.is_open:
            self._flights[key] = leader.flight
        return leader

    def _ended(self, key: bytes, leader: Leader, clears: int) -> None:
        if not leader.flight.is_whole or clears != self._clears:
            self._forget(key, leader.flight)
            return
        # Until it is stored it can still be followed: whoever asks now neither misses it nor makes it again.
        task = asyncio.get_running_loop().create_task(self._store(key, leader.flight, leader.ttl_s))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def _store(self, key: bytes, flight: Flight, ttl_s: int) -> None:
        assert flight.saved is not None
        try:
            body = b"".join(flight.pieces)
            if flight.is_stream:  # once more over the whole, however it was cut
                body = without_cost(body)
            headers = tuple(told_again(flight.headers))
            cached = Cached(headers, body, flight.is_stream, self.clock.now(), flight.saved)
            await self.store.put(key, cached, ttl_s)
            self._figures.stores += 1
        except Exception:
            log.exception("an answer could not be kept; the next one who asks is a miss")
        finally:
            self._forget(key, flight)

    def _forget(self, key: bytes, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


def told_again(headers: HeaderList) -> HeaderList:
    """Without what belongs to the first request."""
    return [(name, value) for name, value in headers if name not in OWN_HEADERS and not name.startswith(OWN_PREFIXES)]


def _note_saved(figures: Figures, saved: Saved) -> None:
    figures.saved_nano += saved.cost_nano
    figures.saved_input += saved.input
    figures.saved_output += saved.output
