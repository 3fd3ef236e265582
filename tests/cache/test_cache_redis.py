"""Redis that is slow, full, emptied, wrong or gone (reliability.md C5 to C7): a miss, counted, and never another's answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from naru.cache.breaker import Breaker
from naru.cache.redis import CONNECTIONS, PREFIX, TIMEOUT_S, VERSION, RedisStore, open_redis
from naru.errors import ConfigError, Overloaded
from naru.testing import FakeClock, FaultProxy, Faults
from tests.cache.parts import cached

pytestmark = pytest.mark.services

KEY = b"k" * 32
PATIENT_S = 10.0
Open = Callable[..., RedisStore]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def opened(clock: FakeClock) -> AsyncIterator[Open]:
    """Opens stores; all are closed in the end."""
    stores: list[RedisStore] = []

    def open_one(port: int, timeout_s: float = PATIENT_S, prefix: bytes = PREFIX) -> RedisStore:
        stores.append(open_redis(f"redis://127.0.0.1:{port}/0", clock, prefix, timeout_s))
        return stores[-1]

    yield open_one
    for store in stores:
        await store.close()


@pytest.fixture
async def direct(redis_server: int, opened: Open) -> RedisStore:
    """The store on the server itself, emptied."""
    store = opened(redis_server)
    await store.clear()
    return store


@pytest.fixture
async def proxy(redis_server: int) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy("127.0.0.1", redis_server)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def test_redis_that_is_not_there(opened: Open, proxy: FaultProxy) -> None:
    """Misses; after five the breaker opens and nobody asks; a probe after the rest finds it again."""
    await proxy.refuse()
    store = opened(proxy.port)
    for count in range(1, 6):
        assert await store.get(KEY) is None
        assert store.figures.errors == count
    assert store.breaker.is_open
    await store.put(KEY, cached(), 60)
    assert store.figures.errors == 5
    with pytest.raises(Overloaded, match="Try again"):
        await store.clear()


async def test_a_probe_closes_the_breaker(opened: Open, proxy: FaultProxy, clock: FakeClock) -> None:
    """One each few seconds, and with the first reply all is as before."""
    await proxy.refuse()
    store = opened(proxy.port)
    for _ in range(5):
        await store.get(KEY)
    clock.advance(store.breaker.rest_s)
    assert await asyncio.gather(*(store.get(KEY) for _ in range(10))) == [None] * 10
    assert store.figures.errors == 6
    await proxy.heal()
    await store.put(KEY, cached(), 60)
    assert proxy.connections == 0
    clock.advance(store.breaker.rest_s)
    await store.put(KEY, cached(), 60)
    assert not store.breaker.is_open
    assert await store.get(KEY) == cached()


async def test_redis_in_a_black_hole(opened: Open, proxy: FaultProxy) -> None:
    """An open connection whose other end says nothing any more: the time of one operation, then none at all."""
    store = opened(proxy.port, TIMEOUT_S)
    while await store.get(KEY) is None and proxy.bytes_down == 0:
        pass  # a connection, however busy the machine
    proxy.set(down=Faults(black_hole=True))
    before, errors = proxy.bytes_up, store.figures.errors
    started = asyncio.get_running_loop().time()
    for _ in range(100):
        assert await store.get(KEY) is None
    assert store.breaker.is_open
    assert store.figures.errors <= errors + 5
    assert proxy.bytes_up > before
    assert asyncio.get_running_loop().time() - started < 100 * TIMEOUT_S / 2


async def test_a_slow_redis_is_waited_for_so_long(opened: Open, proxy: FaultProxy) -> None:
    """200 ms each way: nobody waits for it, and a reply that comes later is nobody's."""
    store = opened(proxy.port, TIMEOUT_S)
    proxy.set(down=Faults(latency_s=0.2))
    for _ in range(20):
        assert await store.get(KEY) is None
    assert store.breaker.is_open
    assert store.figures.errors == 5


async def test_a_broken_connection_is_one_miss(opened: Open, proxy: FaultProxy, direct: RedisStore) -> None:
    """The next operation has another one. Idle connections that Redis closed are no miss at all."""
    await direct.put(KEY, cached(), 60)
    store = opened(proxy.port)
    assert await store.get(KEY) == cached()
    proxy.drop_connections()
    await proxy.watch.until(lambda: proxy.open_connections == 0)
    found = await store.get(KEY)
    assert found == cached() or await store.get(KEY) == cached()
    proxy.set(down=Faults(reset_after=3))
    assert await store.get(KEY) is None
    await proxy.heal()
    assert await store.get(KEY) == cached()


async def test_an_emptied_redis_is_empty(direct: RedisStore) -> None:
    await direct.put(KEY, cached(), 60)
    await direct._client.flushall()
    assert await direct.get(KEY) is None
    assert direct.figures.errors == 0


async def test_a_full_redis(direct: RedisStore) -> None:
    """Nothing more goes in, which is an error of nobody's request; what is there is told."""
    await direct.put(KEY, cached(), 60)
    await direct._client.config_set("maxmemory-policy", "noeviction")
    await direct._client.config_set("maxmemory", "1mb")
    try:
        for number in range(3):
            await direct.put(b"%032d" % number, cached(bytes(500_000)), 60)
        assert direct.figures.errors > 0
        assert await direct.get(KEY) == cached()
        assert await direct.get(b"%032d" % 2) is None
        assert not direct.breaker.is_open
    finally:
        await direct._client.config_set("maxmemory", "0")


async def test_a_replica_takes_no_answers(direct: RedisStore) -> None:
    """READONLY after a failover."""
    await direct._client.replicaof("127.0.0.1", "1")
    try:
        await direct.put(KEY, cached(), 60)
        assert direct.figures.errors == 1
    finally:
        await direct._client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    "value",
    [b"", b"x", VERSION, VERSION + b"\xff\xff", b"\x02" + b"x" * 40, VERSION + b"\x93\x01\x02\x03", b"\xff" * 100],
)
async def test_garbage_is_a_miss(direct: RedisStore, value: bytes) -> None:
    """Counted; the breaker does not care, and the next answer takes its place."""
    await direct._client.set(PREFIX + KEY, value)
    assert await direct.get(KEY) is None
    assert direct.figures.errors == 1
    assert not direct.breaker.is_open
    await direct.put(KEY, cached(), 60)
    assert await direct.get(KEY) == cached()


async def test_a_key_of_another_kind(direct: RedisStore) -> None:
    await direct._client.lpush(PREFIX + KEY, "x")
    assert await direct.get(KEY) is None
    assert direct.figures.errors == 1


async def test_a_value_in_anothers_place_is_no_answer(direct: RedisStore) -> None:
    """Whatever mixes replies or keys up: a value says whose it is."""
    await direct.put(KEY, cached(), 60)
    other = b"o" * 32
    await direct._client.rename(PREFIX + KEY, PREFIX + other)
    assert await direct.get(other) is None
    assert direct.figures.errors == 1


async def test_redis_forgets_by_itself(direct: RedisStore) -> None:
    """The room comes back although nobody asks."""
    await direct.put(KEY, cached(), 60)
    assert 0 < await direct._client.ttl(PREFIX + KEY) <= 60


async def test_clear_leaves_what_is_not_ours(direct: RedisStore, redis_server: int, opened: Open) -> None:
    """Other keys, other prefixes, and prefixes that a pattern would take for more."""
    odd = opened(redis_server, prefix=b"na[r-u]*?:")
    await odd.put(KEY, cached(b"odd"), 60)
    await direct.put(KEY, cached(), 60)
    await direct._client.set("nar:x", "theirs")
    assert await odd.clear() == 1
    assert await direct.clear() == 1
    assert await direct._client.get("nar:x") == b"theirs"
    await direct._client.delete("nar:x")


async def test_no_cancel_gives_anothers_reply(direct: RedisStore, redis_server: int, opened: Open) -> None:
    """C7, the ChatGPT leak of 2023: hundreds of operations cancelled at random moments; each value carries its key, and nobody
    ever reads another's, not even one that is caught and counted. No connection is lost on the way."""
    chance = random.Random(2023)
    store = opened(redis_server)
    keys = [b"%032d" % number for number in range(40)]
    for key in keys:
        await store.put(key, cached(key * 30), 600)

    async def turns(times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    async def one(key: bytes) -> None:
        if chance.random() < 0.3:
            await store.put(key, cached(key * 30), 600)
        else:
            assert (await store.get(key)) == cached(key * 30)

    cancelled = 0
    while cancelled < 400:
        tasks = [asyncio.ensure_future(one(chance.choice(keys))) for _ in range(8)]
        for task in tasks:
            await turns(chance.randrange(6))
            if chance.random() < 0.7:
                task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), result
            cancelled += result is not None
    assert store.figures.errors == 0
    for key in keys:
        assert await store.get(key) == cached(key * 30)
    await asyncio.gather(*store._running)
    pool = store._client.connection_pool
    assert len(pool._in_use_connections) == 0
    assert len(pool._available_connections) <= CONNECTIONS


async def test_a_caller_waits_no_longer_whatever_the_library_does(
    redis_server: int, proxy: FaultProxy, clock: FakeClock
) -> None:
    """The time is for the whole operation, connecting and all, and not for each of its steps."""
    proxy.set(down=Faults(black_hole=True))
    client = Redis(host="127.0.0.1", port=proxy.port, socket_timeout=2, retry=Retry(NoBackoff(), 0))
    store = RedisStore(client, clock, timeout_s=TIMEOUT_S)
    assert await store.get(KEY) is None
    assert store._running
    assert store.figures.errors == 1
    await store.close()
    assert store.figures.errors == 1  # how it ended at last is no news


async def test_what_nobody_waits_for_is_still_carried_out(direct: RedisStore, redis_server: int, opened: Open) -> None:
    """A caller that left in the first moment: the store is closed after it, not under it."""
    store = opened(redis_server)
    putting = asyncio.ensure_future(store.put(KEY, cached(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    putting.cancel()
    await asyncio.gather(putting, return_exceptions=True)
    assert store._running
    await store.close()
    assert not store._running
    assert await direct.get(KEY) == cached()


async def test_close_waits_for_what_is_under_way(opened: Open, proxy: FaultProxy) -> None:
    """Callers that left leave no task behind."""
    store = opened(proxy.port, TIMEOUT_S)
    proxy.set(down=Faults(black_hole=True))
    asking = asyncio.ensure_future(store.get(KEY))
    await proxy.watch.until(lambda: proxy.bytes_up > 0)
    asking.cancel()
    assert await asyncio.gather(asking, return_exceptions=True) != [None]
    await store.close()
    assert not store._running


@pytest.mark.parametrize("url", ["", "http://x", "127.0.0.1:6379", "redis://host:port"])
def test_what_is_no_address(url: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigError, match="redis://host:6379/0"):
        open_redis(url, clock)


def test_the_breaker() -> None:
    """Five in a row open it; a success in between counts anew; while open one probe each rest."""
    breaker = Breaker()
    for _ in range(3):
        for _ in range(4):
            breaker.failed(0.0)
        assert breaker.allows(0.0)
        breaker.succeeded()
    for _ in range(5):
        breaker.failed(10.0)
    assert [breaker.allows(now) for now in (10.0, 14.9, 15.0, 15.1, 19.9, 20.0)] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    breaker.failed(21.0)
    assert [breaker.allows(now) for now in (25.9, 26.0)] == [False, True]
    breaker.succeeded()
    assert breaker.allows(26.0)
    assert not breaker.is_open
