"""Exact under fire: all or nothing over many meters, nothing leaks, and the queue is in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from naru.errors import BadRequest, NaruError, RateLimited
from naru.limits.admission import BATCH, INTERACTIVE, Admission, Hold
from naru.limits.meters import Limits, Meter
from naru.testing import FakeClock

LONG_S = 3600.0


class Door:
    """An admission with a clock that stands still."""

    def __init__(self, max_waiting: int = 256) -> None:
        self.clock = FakeClock()
        self.admission = Admission(max_waiting)

    @property
    def now(self) -> int:
        return round(self.clock.monotonic() * 1e9)

    def take(self, *meters: Meter, tokens: int = 0) -> Hold:
        return self.admission.take(meters, tokens, self.now)

    def acquire(
        self, *meters: Meter, tokens: int = 0, priority: int = INTERACTIVE, wait_s: float = LONG_S
    ) -> Coroutine[Any, Any, Hold]:
        return self.admission.acquire(meters, tokens, self.now, priority, wait_s)

    async def waiting(self, *meters: Meter, tokens: int = 0, priority: int = INTERACTIVE) -> asyncio.Task[Hold]:
        """A task that has come as far as its place in the queue."""
        task = asyncio.create_task(self.acquire(*meters, tokens=tokens, priority=priority))
        await asyncio.sleep(0)
        assert not task.done()
        return task

    def is_idle(self, *meters: Meter) -> bool:
        """Nobody waits, nothing is under way, every bucket is full."""
        buckets = [bucket for meter in meters for bucket in (meter.requests, meter.tokens) if bucket is not None]
        return (
            not self.admission.queues
            and all(meter.in_flight == 0 for meter in meters)
            and all(bucket.remaining(self.now) == bucket.size for bucket in buckets)
        )


async def given(task: asyncio.Task[Hold]) -> Hold:
    """The hold of one whose turn has come: without another wait."""
    await asyncio.sleep(0)
    assert task.done()
    return task.result()


def admitted(door: Door, count: int, *meters: Meter, tokens: int = 0) -> int:
    done = 0
    for _ in range(count):
        try:
            door.take(*meters, tokens=tokens)
            done += 1
        except RateLimited:
            pass
    return done


async def test_50_at_once_on_20_places_admits_exactly_20() -> None:
    door, meter = Door(), Meter("model", Limits(concurrency=20))
    end = asyncio.Event()

    async def client() -> bool:
        try:
            hold = await door.acquire(meter, wait_s=0)
        except RateLimited:
            return False
        await end.wait()
        hold.release(None, door.now)
        return True

    clients = [asyncio.create_task(client()) for _ in range(50)]
    await asyncio.sleep(0)
    assert (meter.in_flight, sum(task.done() for task in clients)) == (20, 30)
    end.set()
    assert sum(await asyncio.gather(*clients)) == 20
    assert door.is_idle(meter)


async def test_50_who_wait_are_all_served_never_more_than_20_at_once() -> None:
    door, meter = Door(), Meter("model", Limits(concurrency=20))
    chance, most = random.Random(5), 0

    async def client() -> None:
        nonlocal most
        hold = await door.acquire(meter)
        most = max(most, meter.in_flight)
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        hold.release(None, door.now)

    await asyncio.gather(*(client() for _ in range(50)))
    assert most == 20
    assert door.is_idle(meter)


def test_100_a_minute_admits_100_at_once_and_then_the_rate() -> None:
    door, meter = Door(), Meter("key", Limits(rpm=100))
    assert admitted(door, 150, meter) == 100
    for _ in range(10):
        door.clock.advance(0.6)
        assert admitted(door, 5, meter) == 1
    door.clock.advance(60)
    assert admitted(door, 150, meter) == 100


def test_burst_says_how_many_at_once() -> None:
    door, meter = Door(), Meter("key", Limits(rpm=600, burst=2))
    assert admitted(door, 5, meter) == 2
    door.clock.advance(0.1)
    assert admitted(door, 5, meter) == 1


def test_a_request_passes_all_its_meters_or_none() -> None:
    door = Door()
    key, team = Meter("key", Limits(rpm=10, tpm=1000, concurrency=10)), Meter("team", Limits(rpm=1))
    model = Meter("model", Limits(concurrency=2))
    door.take(team).release(0, door.now)
    for meters in ([key, model, team], [team, key, model], [key, team, model]):
        with pytest.raises(RateLimited, match="team: 1 requests per minute"):
            door.take(*meters, tokens=500)
    assert door.is_idle(key, model)
    with pytest.raises(BadRequest, match="key may use 1,000"):
        door.take(model, key, tokens=1001)
    assert door.is_idle(key, model)


def test_tokens_are_reconciled_at_the_end() -> None:
    door, meter = Door(), Meter("key", Limits(tpm=1000))
    assert meter.tokens is not None
    for used, left in [(100, 900), (None, 500), (500, 0), (0, 0)]:
        hold = door.take(meter, tokens=min(400, meter.tokens.remaining(door.now)))
        hold.release(used, door.now)
        assert meter.tokens.remaining(door.now) == left
    with pytest.raises(RateLimited) as caught:
        door.take(meter, tokens=1)
    assert caught.value.retry_after_s == 0.06


def test_usage_below_zero_gives_nothing_away() -> None:
    door, meter = Door(), Meter("key", Limits(tpm=1000))
    assert meter.tokens is not None
    other, hold = door.take(meter, tokens=400), door.take(meter, tokens=100)
    hold.release(-300, door.now)
    assert meter.tokens.remaining(door.now) == 600
    other.release(None, door.now)


def test_more_used_than_held_is_waited_for_by_the_next() -> None:
    door, meter = Door(), Meter("key", Limits(tpm=600))
    door.take(meter, tokens=10).release(1200, door.now)
    with pytest.raises(RateLimited) as caught:
        door.take(meter, tokens=100)
    assert caught.value.retry_after_s == 70


def test_a_charge_at_the_end_is_no_room_for_others_to_give_back() -> None:
    """The level was 10 when 40 more were charged; the other's 50 had drained down to those 10."""
    door, meter = Door(), Meter("key", Limits(tpm=60))
    assert meter.tokens is not None
    old, young = door.take(meter, tokens=1), door.take(meter, tokens=50)
    door.clock.advance(41)
    old.release(41, door.now)
    young.release(0, door.now)
    assert meter.tokens.remaining(door.now) == 20


def test_what_a_lower_limit_forgave_does_not_come_back() -> None:
    door, meter = Door(), Meter("key", Limits(tpm=100))
    assert meter.tokens is not None
    hold = door.take(meter, tokens=80)
    door.admission.change(meter, Limits(tpm=10), door.now)
    hold.release(0, door.now)
    assert meter.tokens.left(door.now) == (0, 60_000)
    door.take(meter).release(0, door.now)
    door.clock.advance(6)
    door.take(meter, tokens=1).release(0, door.now)
    assert meter.tokens.remaining(door.now) == 1


def test_a_request_that_was_never_sent_is_given_back_whole() -> None:
    door, meters = Door(), (Meter("key", Limits(rpm=10, tpm=1000, concurrency=1)), Meter("model", Limits(rpm=10)))
    for _ in range(50):
        door.take(*meters, tokens=900).cancel(door.now)
    assert door.is_idle(*meters)


def test_a_hold_ends_once() -> None:
    door, meter = Door(), Meter("key", Limits(concurrency=5))
    for end in ("release", "cancel"):
        hold = door.take(meter)
        hold.release(None, door.now)
        with pytest.raises(AssertionError, match="twice"):
            hold.cancel(door.now) if end == "cancel" else hold.release(0, door.now)
    assert meter.in_flight == 0


async def test_rates_never_queue() -> None:
    door, meter = Door(), Meter("key", Limits(rpm=1, concurrency=1))
    door.take(meter)
    with pytest.raises(RateLimited, match="requests per minute"):
        await door.acquire(meter)
    assert not door.admission.queues


# --- The queue ----------------------------------------------------------------------------------------------------


async def test_interactive_goes_before_batch_and_each_in_turn() -> None:
    door, meter = Door(), Meter("model", Limits(concurrency=1))
    hold = door.take(meter)
    batch = [await door.waiting(meter, priority=BATCH) for _ in range(2)]
    people = [await door.waiting(meter) for _ in range(2)]
    for task in [*people, *batch]:
        hold.release(None, door.now)
        hold = await given(task)
        assert meter.in_flight == 1
    hold.release(None, door.now)
    assert door.is_idle(meter)


async def test_a_newcomer_does_not_overtake() -> None:
    """The place has gone to the first who waits before anyone else can ask."""
    door, meter = Door(), Meter("model", Limits(concurrency=1))
    hold = door.take(meter)
    first = await door.waiting(meter)
    hold.release(None, door.now)
    with pytest.raises(RateLimited):
        door.take(meter)
    (await given(first)).release(None, door.now)
    assert door.is_idle(meter)


async def test_the_queue_is_bounded_and_batch_makes_room() -> None:
    door, meter = Door(max_waiting=2), Meter("model", Limits(concurrency=1))
    hold = door.take(meter)
    batch = [await door.waiting(meter, priority=BATCH) for _ in range(2)]
    with pytest.raises(RateLimited, match=r"1 concurrent requests\. 2 others are waiting") as caught:
        await door.acquire(meter, priority=BATCH)
    assert caught.value.code == "concurrency_limit_exceeded"
    person = await door.waiting(meter)
    with pytest.raises(RateLimited, match="waiting already"):
        await batch[1]
    for task in (person, batch[0]):
        hold.release(None, door.now)
        hold = await given(task)
    hold.release(None, door.now)
    assert door.is_idle(meter)


async def test_who_waits_too_long_is_told_so() -> None:
    door, meter = Door(), Meter("model", Limits(rpm=5, concurrency=1))
    hold = door.take(meter)
    with pytest.raises(RateLimited, match=r"1 concurrent requests\. None ended within 0\.001 s\.") as caught:
        await door.acquire(meter, wait_s=0.001)
    assert (caught.value.code, caught.value.retry_after_s) == ("concurrency_limit_exceeded", 1)
    hold.cancel(door.now)
    assert door.is_idle(meter)


async def test_who_leaves_the_queue_leaves_nothing_behind() -> None:
    door, meter = Door(), Meter("model", Limits(rpm=100, tpm=1000, concurrency=1))
    hold = door.take(meter)
    tasks = [await door.waiting(meter, tokens=10) for _ in range(3)]
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    tasks[1].cancel()  # still in the queue when the place comes
    hold.cancel(door.now)
    (await given(tasks[2])).cancel(door.now)
    assert door.is_idle(meter)
    assert tasks[0].cancelled()
    assert tasks[1].cancelled()


async def test_who_leaves_the_queue_makes_room_in_it() -> None:
    door, meter = Door(max_waiting=1), Meter("model", Limits(concurrency=1))
    hold = door.take(meter)
    first = await door.waiting(meter)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second = await door.waiting(meter)
    hold.release(None, door.now)
    (await given(second)).release(None, door.now)
    assert door.is_idle(meter)


async def test_who_is_cancelled_with_the_place_in_hand_hands_it_on() -> None:
    door, meter = Door(), Meter("model", Limits(rpm=100, tpm=1000, concurrency=1))
    hold = door.take(meter)
    first, second = [await door.waiting(meter, tokens=1000) for _ in range(2)]
    hold.cancel(door.now)
    first.cancel()  # the place is its own already, and it has not run since
    await asyncio.gather(first, return_exceptions=True)
    assert first.cancelled()
    held = await given(second)
    # What passes in the wait is the loop's own time, so this clock catches up; a minute would be needed without the refund.
    door.clock.advance(30)
    held.cancel(door.now)
    assert door.is_idle(meter)


async def test_all_is_checked_again_when_the_place_is_there() -> None:
    """Tokens went to another while this one waited; it is told about them, and the place goes on."""
    door, key, model = Door(), Meter("key", Limits(tpm=1000)), Meter("model", Limits(concurrency=1))
    hold = door.take(model)
    poor, other = await door.waiting(key, model, tokens=800), await door.waiting(model)
    taken = door.take(key, tokens=900)
    hold.release(None, door.now)
    with pytest.raises(RateLimited, match=r"key: 1,000 tokens per minute.*100 are left"):
        await poor
    (await given(other)).release(None, door.now)
    taken.cancel(door.now)
    assert door.is_idle(key, model)


async def test_who_needs_two_places_waits_for_both_and_blocks_nobody() -> None:
    door, key, model = Door(), Meter("key", Limits(concurrency=1)), Meter("model", Limits(concurrency=1))
    of_key, of_model = door.take(key), door.take(model)
    both, only_key = await door.waiting(key, model), await door.waiting(key)
    of_key.release(None, door.now)
    hold = await given(only_key)  # `both` has no use for the place while the model has none
    assert not both.done()
    hold.release(None, door.now)
    of_model.release(None, door.now)
    (await given(both)).release(None, door.now)
    assert door.is_idle(key, model)


async def test_limits_are_raised_and_lowered_under_way() -> None:
    door, meter = Door(), Meter("key", Limits(concurrency=1, rpm=100))
    holds = [door.take(meter)]
    tasks = [await door.waiting(meter) for _ in range(3)]
    door.admission.change(meter, Limits(concurrency=3, rpm=100), door.now)
    holds += [await given(task) for task in tasks[:2]]
    door.admission.change(meter, Limits(concurrency=2, rpm=10), door.now)
    assert meter.in_flight == 3
    holds.pop().release(None, door.now)
    await asyncio.sleep(0)
    assert not tasks[2].done()  # two are under way, and two may be
    holds.pop().release(None, door.now)
    holds.append(await given(tasks[2]))
    door.admission.change(meter, Limits(), door.now)
    holds += [door.take(meter) for _ in range(5)]
    door.admission.change(meter, Limits(concurrency=8), door.now)
    holds.append(door.take(meter))  # those admitted without a limit count
    assert admitted(door, 2, meter) == 0
    for hold in holds:
        hold.cancel(door.now)
    assert door.is_idle(meter)


async def test_a_request_too_large_by_now_is_told_while_it_waits() -> None:
    door, meter = Door(), Meter("key", Limits(concurrency=1, tpm=1000))
    hold = door.take(meter)
    task = await door.waiting(meter, tokens=900)
    door.admission.change(meter, Limits(concurrency=1, tpm=500), door.now)
    hold.release(0, door.now)
    with pytest.raises(BadRequest, match="900 tokens"):
        await task
    assert door.is_idle(meter)


@pytest.mark.parametrize("seed", range(6))
async def test_under_fire_nothing_is_over_and_nothing_leaks(seed: int) -> None:
    """50 clients with random costs, priorities, waits, meters, cancellations and changes of limits."""
    door, chance = Door(max_waiting=10), random.Random(seed)
    keys = [Meter(f"key {n}", Limits(rpm=3000, tpm=90_000, concurrency=3)) for n in range(4)]
    model = Meter("model", Limits(tpm=200_000, concurrency=7))
    endings: set[str] = set()

    async def client() -> None:
        for _ in range(20):
            door.clock.advance(chance.random() / 50)
            try:
                hold = await door.acquire(
                    chance.choice(keys), model, tokens=chance.randint(0, 20_000),
                    priority=chance.choice([INTERACTIVE, BATCH]), wait_s=chance.choice([0, LONG_S]),
                )  # fmt: skip
            except NaruError as refused:
                endings.add(refused.code or "")
                await asyncio.sleep(0)
                continue
            assert model.in_flight <= 7
            for _ in range(chance.randrange(4)):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    hold.cancel(door.now)
                    raise
            if chance.random() < 0.2:
                hold.cancel(door.now)
            else:
                hold.release(chance.choice([None, 0, hold.tokens, hold.tokens + 50]), door.now)
            endings.add("done")

    tasks = [asyncio.create_task(client()) for _ in range(50)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        if chance.random() < 0.2:
            chance.choice(tasks).cancel()
        if chance.random() < 0.2:
            door.admission.change(chance.choice(keys), Limits(concurrency=chance.randint(1, 5), tpm=90_000), door.now)
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [end for end in ended if end is not None and not isinstance(end, asyncio.CancelledError)] == []
    assert {"done", "concurrency_limit_exceeded"} <= endings
    door.clock.advance(3600)
    assert door.is_idle(model, *keys)
