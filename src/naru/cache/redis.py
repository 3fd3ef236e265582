"""Answers in Redis, for gateways that share them. Redis may be slow, full, emptied or gone: all of that is a miss.

The rules are reliability.md C5 to C7: 50 ms an operation, a breaker that opens after 5 failures in a row, and no reply ever
read by another than who asked. That last one is kept in two ways. An operation runs in a task of its own, which nobody cancels:
a caller who leaves, or has waited long enough, only stops listening, and the connection goes back to the pool with its reply
read. (redis-py closes a connection whose read is broken off since 2023; nothing here depends on it.) And a value carries its
key: whatever else comes back is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
from msgspec import Struct

from naru.cache.answers import Cached, StoreFigures
from naru.cache.breaker import Breaker
from naru.clock import Clock
from naru.errors import ConfigError, Overloaded

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

TIMEOUT_S = 0.05
CONNECTIONS = 64
PREFIX = b"naru:answer:"
#: The form of a value, its first byte. Another form is no answer here.
VERSION = b"\x01"

log = structlog.get_logger("naru.cache")


class _Value(Struct, frozen=True, array_like=True, gc=False):
    """`until` is in unix seconds: the gateways' clocks decide, and Redis's own expiry only gives the room back."""

    key: bytes
    until: float
    cached: Cached


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Value).decode


class RedisStore:
    """See answers.CacheStore. Nothing here is lost with Redis but work that is done again."""

    def __init__(self, client: Redis, clock: Clock, prefix: bytes = PREFIX, timeout_s: float = TIMEOUT_S) -> None:
        self.clock = clock
        self.prefix = prefix
        self.timeout_s = timeout_s
        self.breaker = Breaker()
        self.figures = StoreFigures()
        self._client = client
        self._running: set[asyncio.Task[Any]] = set()
        #: Those that were waited for long enough: how they end is no news.
        self._late: set[asyncio.Task[Any]] = set()

    async def get(self, key: bytes) -> Cached | None:
        value = await self._ask(self._client.get, self.prefix + key)
        if value is None:
            return None
        found = _read(value)
        if found is None or found.key != key:
            self.figures.errors += 1
            log.warning("a value in Redis is none of ours, or of another version: counted as a miss")
            return None
        return found.cached if self.clock.now() < found.until else None

    async def put(self, key: bytes, cached: Cached, ttl_s: int) -> None:
        value = VERSION + _encode(_Value(key, self.clock.now() + ttl_s, cached))
        await self._ask(self._client.set, self.prefix + key, value, ttl_s)

    async def clear(self) -> int:
        """Raises Overloaded. What is put meanwhile may stay."""
        task = self._started(self._clear())
        try:
            return await asyncio.shield(task)
        except Exception as error:
            raise Overloaded(
                f"Redis did not carry it out ({type(error).__name__}), so answers may still be there. Try again once it answers."
            ) from error

    async def close(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.aclose()

    async def _clear(self) -> int:
        count = 0
        cursor = 0
        match = b"".join(b"\\" + bytes([byte]) if byte in b"\\*?[]^-" else bytes([byte]) for byte in self.prefix) + b"*"
        while True:
            cursor, keys = await self._client.scan(cursor, match=match, count=500)
            if keys:
                count += int(await self._client.unlink(*keys))
            if cursor == 0:
                return count

    # --- One operation ----------------------------------------------------------------------------------------------

    async def _ask(self, command: Any, *args: Any) -> Any:
        """The reply; None where there is none in time, or none at all."""
        if not self.breaker.allows(self.clock.monotonic()):
            return None
        task = self._started(self._carried_out(command(*args)))
        done, _ = await asyncio.wait((task,), timeout=self.timeout_s)
        if done:
            return task.result()
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        self._failed("no reply in time")
        return None

    def _started(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _carried_out(self, command: Awaitable[T]) -> T | None:
        try:
            reply = await command
        except Exception as error:  # redis-py's errors, the socket's, and whatever a broken reply makes of its parser
            if asyncio.current_task() not in self._late:
                self._failed(f"{type(error).__name__}: {error}")
            return None
        if asyncio.current_task() not in self._late:
            if self.breaker.is_open:
                log.info("Redis answers again: the cache uses it")
            self.breaker.succeeded()
        return reply

    def _failed(self, why: str) -> None:
        self.figures.errors += 1
        was_open = self.breaker.is_open
        self.breaker.failed(self.clock.monotonic())
        if self.breaker.is_open and not was_open:
            log.warning("Redis fails: the cache goes on without it and tries again every few seconds", why=why)


def _read(value: object) -> _Value | None:
    if not isinstance(value, bytes) or not value.startswith(VERSION):
        return None
    try:
        return _decode(memoryview(value)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def open_redis(url: str, clock: Clock, prefix: bytes = PREFIX, timeout_s: float = TIMEOUT_S) -> RedisStore:
    """The store at redis://, rediss:// or unix://; connects with the first operation. Raises ConfigError for what is no such
    address, and where the library is missing."""
    try:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise ConfigError(
            "The cache in Redis needs the library for it: pip install 'naru[redis]', or keep answers in memory."
        ) from None
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # a miss is cheaper than a second try
            protocol=2,  # the third can push messages of its own, and then the pool no longer looks for unread replies
            driver_info=None,  # no greeting that a proxy in between may not know
        )
    except ValueError:
        raise ConfigError(
            "The cache's address is none of Redis: write redis://host:6379/0, rediss:// for TLS, or unix:///path/to/socket."
        ) from None
    return RedisStore(Redis.from_pool(pool), clock, prefix, timeout_s)
