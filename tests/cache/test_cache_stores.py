"""What keeps answers: one contract, every implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.cache.answers import Cached, CacheStore, Saved
from naru.cache.memory import OVERHEAD_BYTES, MemoryStore
from naru.cache.redis import open_redis
from naru.testing import FakeClock
from tests.cache.parts import cached

KEY, OTHER = b"k" * 32, b"o" * 32
#: A busy machine may be late; the 50 ms of real life are tested with faults.
PATIENT_S = 10.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.services)])
async def store(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[CacheStore]:
    opened: CacheStore
    if request.param == "memory":
        opened = MemoryStore(clock)
    else:
        port = request.getfixturevalue("redis_server")
        opened = open_redis(f"redis://127.0.0.1:{port}/0", clock, timeout_s=PATIENT_S)
        await opened.clear()
    yield opened
    await opened.close()


async def test_what_was_put_is_there(store: CacheStore) -> None:
    """Every field of it, any bytes."""
    kept = Cached(
        ((b"content-type", b"x"), (b"a", b"\xff\x00")), bytes(range(256)), True, 1.5, Saved(2**40, 3, 4, "d/한글")
    )
    await store.put(KEY, kept, 60)
    assert await store.get(KEY) == kept
    assert await store.get(OTHER) is None
    assert store.figures.errors == 0


async def test_any_key_is_a_key(store: CacheStore) -> None:
    """Bytes that mean something to a glob, to a line or to nobody."""
    for key in (b"*" * 32, b"\r\n" * 16, bytes(32), b"\xff" * 32):
        await store.put(key, cached(key), 60)
    for key in (b"*" * 32, b"\r\n" * 16, bytes(32), b"\xff" * 32):
        assert await store.get(key) == cached(key)
    assert await store.get(b"?" * 32) is None


async def test_the_last_one_counts(store: CacheStore) -> None:
    await store.put(KEY, cached(b"one"), 60)
    await store.put(KEY, cached(b"two"), 60)
    assert await store.get(KEY) == cached(b"two")


async def test_an_answer_ends_with_its_time(store: CacheStore, clock: FakeClock) -> None:
    """Its own, to the second; being asked for makes it no younger."""
    await store.put(KEY, cached(), 60)
    await store.put(OTHER, cached(), 120)
    clock.advance(59)
    assert await store.get(KEY) is not None
    clock.advance(1)
    assert await store.get(KEY) is None
    assert await store.get(OTHER) is not None
    clock.advance(60)
    assert await store.get(OTHER) is None


async def test_clear_forgets_everything(store: CacheStore) -> None:
    for number in range(1200):  # more than one step of a walk
        await store.put(b"%032d" % number, cached(), 60)
    assert await store.clear() == 1200
    assert await store.get(b"%032d" % 7) is None
    assert await store.clear() == 0


async def test_a_large_answer(store: CacheStore) -> None:
    await store.put(KEY, cached(bytes(4 * 1024 * 1024)), 60)
    assert await store.get(KEY) == cached(bytes(4 * 1024 * 1024))


# --- Memory alone -----------------------------------------------------------------------------------------------------


def entry(size: int) -> int:
    """Bytes that an answer with a body of this size takes."""
    return size + 32 + sum(len(name) + len(value) for name, value in cached().headers) + OVERHEAD_BYTES


async def test_past_its_size_the_one_longest_unused_goes(clock: FakeClock) -> None:
    store = MemoryStore(clock, max_bytes=4 * entry(100))
    keys = [b"%032d" % number for number in range(5)]
    for key in keys[:4]:
        await store.put(key, cached(bytes(100)), 60)
    assert await store.get(keys[0]) is not None
    await store.put(keys[4], cached(bytes(100)), 60)
    assert [await store.get(key) is not None for key in keys] == [True, False, True, True, True]
    assert (store.figures.evicted, store.figures.entries, store.figures.bytes) == (1, 4, 4 * entry(100))


async def test_one_that_has_no_room_leaves_the_others(clock: FakeClock) -> None:
    store = MemoryStore(clock, max_bytes=entry(100))
    await store.put(KEY, cached(bytes(100)), 60)
    await store.put(OTHER, cached(bytes(101)), 60)
    assert await store.get(OTHER) is None
    assert await store.get(KEY) is not None
    await store.put(KEY, cached(bytes(101)), 60)  # no older answer stands for a newer one
    assert await store.get(KEY) is None
    assert (store.figures.entries, store.figures.bytes, store.figures.evicted) == (0, 0, 0)


async def test_the_wall_clock_may_jump(clock: FakeClock) -> None:
    """What is kept is kept for so many seconds, whatever the calendar says."""
    store = MemoryStore(clock)
    await store.put(KEY, cached(), 60)
    clock.jump(-86_400)
    clock.advance(60)
    assert await store.get(KEY) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "get", "wait", "clear"]), st.integers(0, 5), st.integers(0, 400)), max_size=40
    )
)
async def test_its_figures_are_what_is_there(steps: list[tuple[str, int, int]]) -> None:
    """After anything: never more than the bound, and the sums of what can be had."""
    clock = FakeClock()
    store = MemoryStore(clock, max_bytes=3 * entry(200))
    for step, number, size in steps:
        key = b"%032d" % number
        if step == "put":
            await store.put(key, cached(bytes(size)), 1 + size)
        elif step == "get":
            await store.get(key)
        elif step == "wait":
            clock.advance(size)
        else:
            await store.clear()
        assert 0 <= (store.figures.bytes or 0) <= store.max_bytes
        there = [kept.cached for kept in store._kept.values()]
        assert store.figures.bytes == sum(entry(len(each.body)) for each in there)
        assert store.figures.entries == len(there)
