"""The response cache: what is kept, what is told again, and to whom an answer is told along while it is made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.cache.answers import Cached, CacheStore
from naru.cache.control import DEFAULT, Control
from naru.cache.flight import Ending, Flight, Follower, Leader, State
from naru.cache.memory import MemoryStore
from naru.cache.responses import CacheSettings, Hit, LiveHit, ResponseCache, StoredHit
from naru.testing import FakeClock
from naru.transport.asgi import AsgiExchange
from tests.cache.parts import EVENTS, PLAIN, SAVED, Client, Source

KEY = b"k" * 32
FRESH = Control(reads=False)
COSTLY = b'data: {"usage":{"total_tokens":5,"naru":{"cost_usd":0.0012345}}}\n\n'
FREE = b'data: {"usage":{"total_tokens":5,"naru":{"cost_usd":0}}}\n\n'


class World:
    """A cache, its clock, and the requests that come to it."""

    def __init__(self, max_entry_bytes: int = 10_000, store: CacheStore | None = None) -> None:
        self.clock = FakeClock()
        self.store = store or MemoryStore(self.clock)
        self.cache = ResponseCache(self.store, self.clock, b"secret", CacheSettings(3600, max_entry_bytes))
        self.tasks: list[asyncio.Task[Any]] = []

    async def leads(self, client: Client | None = None, control: Control = DEFAULT) -> Leader:
        begun = await self.cache.begin(client or Client(), KEY, control)
        assert isinstance(begun, Leader)
        return begun

    def asks(self, client: Client, control: Control = DEFAULT) -> asyncio.Task[Any]:
        """A request as the gateway treats it: the result is the hit's ending, or what it has to do itself."""

        async def ask() -> Any:
            begun = await self.cache.begin(client, KEY, control)
            if not isinstance(begun, StoredHit | LiveHit):
                return begun
            try:
                return await begun.tell([*begun.headers, (b"x-request-id", b"own")])
            finally:
                begun.end()

        self.tasks.append(asyncio.ensure_future(ask()))
        return self.tasks[-1]

    async def rest(self) -> None:
        """Until nothing moves any more that does not wait for a test."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def over(self) -> None:
        """At the end nothing is left: no flight, no follower, no task."""
        await self.cache.close()
        assert self.cache.under_way == 0
        assert all(task.done() for task in self.tasks)


@pytest.fixture
async def world() -> Any:
    world = World()
    yield world
    await world.over()


def answer(leader: Leader, body: bytes = b'{"a":1}') -> None:
    """A plain one, as the gateway gives it."""
    leader.keep(SAVED)
    leader.reply(200, [*PLAIN, (b"x-request-id", b"first"), (b"x-naru-cost-usd", b"1"), (b"x-ratelimit-x", b"1")], body)
    leader.end()


def stream(leader: Leader, *pieces: bytes) -> None:
    leader.start(200, EVENTS)
    for piece in pieces:
        leader.write(piece)


def finished(leader: Leader, *pieces: bytes) -> None:
    leader.keep(SAVED)
    for piece in pieces:
        leader.write(piece)
    leader.finish()
    leader.end()


# --- What is kept -----------------------------------------------------------------------------------------------------


async def test_a_plain_answer_is_told_again(world: World) -> None:
    """The same body under the next one's own head, with its age; what was saved is counted."""
    first, next_ = Client(), Client()
    answer(await world.leads(first))
    await world.rest()
    world.clock.advance(7.9)
    assert await world.asks(next_) is Ending.WHOLE
    assert (first.body, next_.body, next_.status) == (b'{"a":1}', b'{"a":1}', 200)
    assert next_.head == [*PLAIN, (b"x-naru-cache", b"hit"), (b"age", b"7"), (b"x-request-id", b"own")]
    figures = world.cache.figures
    assert (figures.hits, figures.misses, figures.stores, figures.followers) == (1, 1, 1, 0)
    assert (figures.saved_nano, figures.saved_input, figures.saved_output) == (
        SAVED.cost_nano,
        SAVED.input,
        SAVED.output,
    )
    assert (figures.entries, figures.errors) == (1, 0)


async def test_a_stream_is_told_again_as_a_stream(world: World) -> None:
    """Every byte but what it cost."""
    first, next_ = Client(), Client()
    leader = await world.leads(first)
    stream(leader, b"data: 1\n\n", b"data: 2\n\n")
    finished(leader, COSTLY, b"data: [DONE]\n\n")
    await world.rest()
    assert await world.asks(next_) is Ending.WHOLE
    assert first.body == b"data: 1\n\ndata: 2\n\n" + COSTLY + b"data: [DONE]\n\n"
    assert next_.body == b"data: 1\n\ndata: 2\n\n" + FREE + b"data: [DONE]\n\n"
    assert next_.is_finished
    assert next_.head[:2] == EVENTS


async def test_a_cost_is_found_however_the_stream_was_cut(world: World) -> None:
    """What is kept is looked through as a whole."""
    leader = await world.leads()
    stream(leader, b"data: 1\n\n" + COSTLY[:40])
    finished(leader, COSTLY[40:])
    await world.rest()
    next_ = Client()
    await world.asks(next_)
    assert next_.body == b"data: 1\n\n" + FREE


async def not_kept(leader: Leader) -> None:
    leader.reply(200, PLAIN, b"{}")


async def an_error(leader: Leader) -> None:
    leader.keep(SAVED)
    leader.reply(500, PLAIN, b"{}")


async def a_word_alone(leader: Leader) -> None:
    leader.keep(SAVED)


async def unfinished(leader: Leader) -> None:
    leader.keep(SAVED)
    stream(leader, b"data: 1\n\n")


async def cut(leader: Leader) -> None:
    leader.keep(SAVED)
    stream(leader, b"data: 1\n\n")
    leader.cut()


async def spoiled(leader: Leader) -> None:
    leader.keep(SAVED)
    stream(leader, b"data: 1\n\n")
    leader.spoil()
    leader.write(b"event: error\n\n")
    leader.finish()


async def too_large(leader: Leader) -> None:
    leader.keep(SAVED)
    stream(leader, *[bytes(1000)] * 11)
    leader.finish()


async def too_large_in_one(leader: Leader) -> None:
    leader.keep(SAVED)
    leader.reply(200, PLAIN, bytes(10_001))


@pytest.mark.parametrize(
    "goes", [not_kept, an_error, a_word_alone, unfinished, cut, spoiled, too_large, too_large_in_one]
)
async def test_what_is_not_kept(world: World, goes: Callable[[Leader], Awaitable[None]]) -> None:
    """Nothing but a whole answer that the gateway says to keep, of a size that may be."""
    leader = await world.leads()
    await goes(leader)
    leader.end()
    await world.rest()
    assert (world.cache.figures.stores, world.cache.figures.entries) == (0, 0)
    (await world.leads()).end()


async def test_one_as_large_as_may_be_is_kept(world: World) -> None:
    answer(await world.leads(), bytes(10_000))
    await world.rest()
    assert world.cache.figures.entries == 1


async def test_end_is_once(world: World) -> None:
    """However many ways out there are."""
    leader = await world.leads()
    answer(leader)
    leader.end()
    await world.rest()
    assert world.cache.figures.stores == 1


# --- What a request says ----------------------------------------------------------------------------------------------


async def test_no_key_no_cache(world: World) -> None:
    assert await world.cache.begin(Client(), None, DEFAULT) is None
    assert world.cache.figures.misses == 0


async def test_no_store(world: World) -> None:
    """Neither told from it nor led: the gateway goes on as without a cache, also while another leads."""
    answer(await world.leads())
    await world.rest()
    assert await world.asks(Client(), Control(reads=False, writes=False)) is None
    assert world.cache.figures.bypassed == 1


async def test_a_refresh(world: World) -> None:
    """no-cache executes although there is an answer, or one being made; the newest one is kept."""
    answer(await world.leads(), b"old")
    await world.rest()
    leader = await world.leads(control=FRESH)
    other = await world.leads(control=FRESH)
    answer(other, b"new")
    await world.rest()
    answer(leader, b"newest")
    await world.rest()
    next_ = Client()
    await world.asks(next_)
    assert next_.body == b"newest"


async def test_a_refresh_beside_an_answer_that_is_made(world: World) -> None:
    """It has no followers and leaves the other its own, also when it is over."""
    leader = await world.leads()
    stream(leader, b"data: 1\n\n")
    refresh = await world.leads(control=FRESH)
    stream(refresh, b"data: 2\n\n")
    clients = [Client(), Client()]
    asking = [world.asks(clients[0])]
    await world.rest()
    refresh.end()
    asking.append(world.asks(clients[1]))
    await world.rest()
    finished(leader)
    assert await asyncio.gather(*asking) == [Ending.WHOLE] * 2
    assert [client.body for client in clients] == [b"data: 1\n\n"] * 2


async def test_an_age(world: World) -> None:
    answer(await world.leads())
    await world.rest()
    world.clock.advance(60)
    assert await world.asks(Client(), Control(max_age_s=60)) is Ending.WHOLE
    (await world.leads(control=Control(max_age_s=59))).end()


async def test_a_time_of_its_own(world: World) -> None:
    """At most the operator's, whoever says otherwise."""
    for asked_s, kept_s in ((600, 600), (7200, 3600), (None, 3600)):
        answer(await world.leads(control=Control(reads=False, ttl_s=asked_s)))
        await world.rest()
        world.clock.advance(kept_s - 1)
        assert await world.asks(Client()) is Ending.WHOLE
        world.clock.advance(1)
        (await world.leads()).end()


# --- Followers ----------------------------------------------------------------------------------------------------------


async def test_followers_hear_it_as_it_comes(world: World) -> None:
    """What was said before they came, then every piece; each is a hit and costs nothing. One execution."""
    clients = [Client() for _ in range(4)]
    leader = await world.leads(clients[0])
    early = world.asks(clients[1])
    await world.rest()
    assert clients[1].status == 0
    stream(leader, b"data: 1\n\n")
    late = world.asks(clients[2])
    await world.rest()
    assert clients[1].body == clients[2].body == b"data: 1\n\n"
    leader.write(b"data: 2\n\n")
    assert clients[1].body == clients[2].body == b"data: 1\n\ndata: 2\n\n"
    last = world.asks(clients[3])
    finished(leader, COSTLY)
    assert await asyncio.gather(early, late, last) == [Ending.WHOLE] * 3
    assert {client.body for client in clients[1:]} == {b"data: 1\n\ndata: 2\n\n" + FREE}
    assert all(client.is_finished for client in clients)
    assert (b"x-naru-cache", b"hit") in clients[1].head
    figures = world.cache.figures
    assert (figures.hits, figures.followers, figures.misses) == (3, 3, 1)
    assert figures.saved_nano == 3 * SAVED.cost_nano


async def test_followers_of_a_plain_answer(world: World) -> None:
    leader = await world.leads()
    clients = [Client() for _ in range(3)]
    asking = [world.asks(client) for client in clients]
    await world.rest()
    answer(leader, b"body")
    assert await asyncio.gather(*asking) == [Ending.WHOLE] * 3
    assert [client.body for client in clients] == [b"body"] * 3
    assert world.cache.figures.saved_nano == 3 * SAVED.cost_nano


async def test_followers_get_a_plain_answer_that_is_too_large(world: World) -> None:
    """It is there, and told; only not kept."""
    leader = await world.leads()
    client = Client()
    asking = world.asks(client)
    await world.rest()
    answer(leader, bytes(20_000))
    assert await asking is Ending.WHOLE
    assert client.body == bytes(20_000)


async def test_an_answer_can_be_followed_until_it_is_stored() -> None:
    """Between its end and the store's word nobody makes it again."""
    put = asyncio.Event()

    class Slow(MemoryStore):
        async def put(self, key: bytes, cached: Cached, ttl_s: int) -> None:
            await put.wait()
            await super().put(key, cached, ttl_s)

    clock = FakeClock()
    world = World(store=Slow(clock))
    leader = await world.leads()
    stream(leader, b"data: 1\n\n")
    finished(leader)
    client = Client()
    assert await world.asks(client) is Ending.WHOLE
    assert client.body == b"data: 1\n\n"
    assert world.cache.figures.followers == 1
    put.set()
    await world.over()


async def test_a_store_that_breaks_is_no_ones_error(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryStore):
        async def put(self, key: bytes, cached: Cached, ttl_s: int) -> None:
            raise RuntimeError("a bug")

    world = World(store=Broken(FakeClock()))
    answer(await world.leads())
    await world.over()
    assert world.cache.figures.stores == 0


# --- A leader whose client leaves ---------------------------------------------------------------------------------------


async def test_a_leader_may_leave_its_followers_the_answer(world: World) -> None:
    """The gateway does not hear of it; the answer is made to its end, kept, and told to who stayed."""
    first, other, source = Client(), Client(), Source()
    leader = await world.leads(first)
    leader.listener = source
    asking = world.asks(other)
    await world.rest()
    first.leave()
    assert not leader.is_gone
    stream(leader, b"data: 1\n\n")
    await world.rest()
    finished(leader)
    assert source.heard == []
    assert await asking is Ending.WHOLE
    assert other.body == b"data: 1\n\n"
    await world.rest()
    assert world.cache.figures.stores == 1


async def test_with_the_last_follower_everybody_has_left(world: World) -> None:
    """Then the gateway hears of it, once, and nobody joins what it drops."""
    clients, source = [Client() for _ in range(3)], Source()
    leader = await world.leads(clients[0])
    leader.listener = source
    stream(leader, b"data: 1\n\n")
    asking = [world.asks(client) for client in clients[1:]]
    await world.rest()
    clients[0].leave()
    clients[1].leave()
    assert (leader.is_gone, source.heard) == (False, [])
    clients[2].leave()
    assert (leader.is_gone, source.heard) == (True, ["gone"])
    assert await asyncio.gather(*asking) == [Ending.GONE] * 2
    other = await world.leads()
    leader.finish()
    leader.end()
    other.end()
    await world.rest()
    assert world.cache.figures.stores == 0


async def test_followers_that_wait_are_interested_too(world: World) -> None:
    """Before a word was said: the leader's client leaves, then the one who waits."""
    first, other, source = Client(), Client(), Source()
    leader = await world.leads(first)
    leader.listener = source
    asking = world.asks(other)
    await world.rest()
    first.leave()
    assert not leader.is_gone
    other.leave()
    assert source.heard == ["gone"]
    assert await asking is None
    assert world.cache.figures.released == 0
    leader.end()


async def test_without_followers_a_leader_is_as_any_request(world: World) -> None:
    client, source = Client(), Source()
    leader = await world.leads(client)
    leader.listener = source
    stream(leader, b"data: 1\n\n")
    client.leave()
    assert (leader.is_gone, source.heard) == (True, ["gone"])
    leader.finish()
    leader.end()


async def test_a_follower_that_leaves_is_missed_by_nobody(world: World) -> None:
    """The leader and the other go on; its entry says that it left."""
    clients, source = [Client() for _ in range(3)], Source()
    leader = await world.leads(clients[0])
    leader.listener = source
    stream(leader, b"data: 1\n\n")
    asking = [world.asks(client) for client in clients[1:]]
    await world.rest()
    clients[1].leave()
    assert await asking[0] is Ending.GONE
    leader.write(b"data: 2\n\n")
    clients[2].leave()
    assert await asking[1] is Ending.GONE
    finished(leader, b"data: 3\n\n")
    assert source.heard == []
    assert clients[0].body == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert clients[2].body == b"data: 1\n\ndata: 2\n\n"


async def test_a_plain_answer_nobody_waits_for_can_be_joined(world: World) -> None:
    """Without a listener it is made to its end (abort_on_disconnect is off), so who comes then may have it."""
    first, other = Client(), Client()
    leader = await world.leads(first)
    first.leave()
    assert leader.is_gone
    asking = world.asks(other)
    await world.rest()
    assert not leader.is_gone
    answer(leader)
    assert await asking is Ending.WHOLE


async def test_a_client_that_is_gone_already(world: World) -> None:
    """Neither leads nor follows: the gateway finds out by itself."""
    client = Client()
    client.leave()
    assert await world.asks(client) is None
    leader = await world.leads()
    assert await world.asks(client) is None
    assert not leader.flight.followers
    leader.end()


async def test_a_hit_that_is_never_told(world: World) -> None:
    """Its gateway refused the request for another reason: it is interested no more."""
    first, source = Client(), Source()
    leader = await world.leads(first)
    leader.listener = source
    client = Client()
    beginning = asyncio.ensure_future(world.cache.begin(client, KEY, DEFAULT))
    await world.rest()
    stream(leader, b"data: 1\n\n")
    hit = await beginning
    assert isinstance(hit, LiveHit)
    first.leave()
    assert not leader.is_gone
    hit.end()
    assert (leader.is_gone, source.heard, client.listener) == (True, ["gone"], None)
    leader.end()


# --- Pace ---------------------------------------------------------------------------------------------------------------


async def test_the_leaders_pace_is_the_sources(world: World) -> None:
    client, source = Client(room=10), Source()
    leader = await world.leads(client)
    leader.listener = source
    stream(leader, bytes(20))
    assert source.heard == ["pause"]
    client.read()
    assert source.heard == ["pause", "resume"]
    leader.listener = None
    leader.finish()
    leader.end()


async def test_a_leader_that_leaves_while_it_is_slow_holds_nobody_up(world: World) -> None:
    """Its pause goes with it."""
    client, source = Client(room=10), Source()
    leader = await world.leads(client)
    leader.listener = source
    stream(leader, bytes(20))
    other = Client()
    asking = world.asks(other)
    await world.rest()
    client.leave()
    assert source.heard == ["pause", "resume"]
    finished(leader, b"end")
    assert await asking is Ending.WHOLE
    assert other.body == bytes(20) + b"end"


async def test_a_slow_follower_holds_nobody_up(world: World) -> None:
    """It hears the rest when it reads on, also after all the others are done."""
    slow, source = Client(room=10), Source()
    leader = await world.leads()
    leader.listener = source
    stream(leader, bytes(20))
    asking = world.asks(slow)
    await world.rest()
    leader.write(b"more")
    assert slow.body == bytes(20)
    finished(leader, b"end")
    await world.rest()
    assert source.heard == []
    assert world.cache.figures.stores == 1
    assert not asking.done()
    slow.read()
    assert await asking is Ending.WHOLE
    assert slow.body == bytes(20) + b"moreend"


async def test_a_follower_is_handed_what_it_can_take(world: World) -> None:
    """One that comes late to a long answer gets 64 KiB at once, not all of it into its buffer."""
    world = World(max_entry_bytes=1_000_000)
    leader = await world.leads()
    stream(leader, *[bytes(1000)] * 500)
    slow = Client(room=10)
    asking = world.asks(slow)
    await world.rest()
    assert 0 < len(slow.body) <= 64 * 1024
    finished(leader)
    while not asking.done():
        slow.read()
        await asyncio.sleep(0)
    assert slow.body == bytes(500_000)
    await world.over()


async def test_memory_is_bounded_by_the_flight(world: World) -> None:
    """Past the bound: who keeps up hears everything, who lags more than the bound is cut off, nobody new joins."""
    client, quick, slow = Client(), Client(), Client(room=10)
    leader = await world.leads(client)
    stream(leader, bytes(100))
    asking = [world.asks(quick), world.asks(slow)]
    await world.rest()
    for count in range(1, 31):
        leader.write(bytes(1000))
        assert leader.flight.size <= 10_000
        assert slow.is_cut == (count > 10)
    assert leader.flight.size == 0
    other = await world.leads()
    finished(leader)
    other.end()
    assert await asyncio.gather(*asking) == [Ending.WHOLE, Ending.PARTIAL]
    assert len(client.body) == len(quick.body) == 30_100
    assert len(slow.body) == 100


async def test_one_who_falls_behind_before_it_begins(world: World) -> None:
    """Its gateway does something else first: it is told that there was an answer, and that it has no end."""
    leader = await world.leads()
    client = Client()
    beginning = asyncio.ensure_future(world.cache.begin(client, KEY, DEFAULT))
    await world.rest()
    stream(leader, b"data: 1\n\n")
    hit = await beginning
    assert isinstance(hit, LiveHit)
    leader.write(bytes(20_000))
    assert await hit.tell(hit.headers) is Ending.PARTIAL
    assert (client.status, client.body, client.is_cut) == (200, b"", True)
    hit.end()
    leader.end()


# --- A leader that fails ------------------------------------------------------------------------------------------------


async def failing_status(leader: Leader) -> None:
    leader.reply(503, PLAIN, b"{}")


async def failing_stream_status(leader: Leader) -> None:
    leader.start(500, EVENTS)


async def failing_silently(leader: Leader) -> None:
    """A cancelled task, an exception."""


@pytest.mark.parametrize("fails", [failing_status, failing_stream_status, failing_silently])
async def test_followers_of_one_that_fails_are_released(
    world: World, fails: Callable[[Leader], Awaitable[None]]
) -> None:
    """At once, all of them: the first leads for who comes from now on, the others execute alone. Nobody waits for a second
    failure, and nobody is told the first one's."""
    leader = await world.leads()
    clients = [Client() for _ in range(4)]
    asking = [world.asks(client) for client in clients]
    await world.rest()
    await fails(leader)
    leader.end()
    begun = await asyncio.gather(*asking)
    assert isinstance(begun[0], Leader)
    assert begun[1:] == [None, None, None]
    assert all(client.status == 0 and client.listener is None for client in clients)
    assert (world.cache.figures.released, world.cache.figures.hits, world.cache.figures.misses) == (4, 0, 5)
    other = Client()
    newcomer = world.asks(other)
    await world.rest()
    answer(begun[0])
    assert await newcomer is Ending.WHOLE


async def test_a_failure_in_the_middle(world: World) -> None:
    """The gateway's task ended inside the answer: followers are cut off as its own client is."""
    leader = await world.leads()
    client = Client()
    stream(leader, b"data: 1\n\n")
    asking = world.asks(client)
    await world.rest()
    leader.end()
    assert await asking is Ending.PARTIAL
    assert (client.body, client.is_cut) == (b"data: 1\n\n", True)


async def test_an_error_inside_the_stream(world: World) -> None:
    """Followers see the same bytes and a proper end; nothing is kept, nothing was saved, nobody new joins."""
    first, client = Client(), Client()
    leader = await world.leads(first)
    stream(leader, b"data: 1\n\n")
    asking = world.asks(client)
    await world.rest()
    leader.keep(SAVED)
    leader.spoil()
    leader.write(b"event: error\n\n")
    other = await world.leads()
    leader.finish()
    leader.end()
    other.end()
    assert await asking is Ending.PARTIAL
    assert client.body == first.body == b"data: 1\n\nevent: error\n\n"
    assert client.is_finished
    assert (world.cache.figures.stores, world.cache.figures.saved_nano) == (0, 0)


# --- Clear, cancel ------------------------------------------------------------------------------------------------------


async def test_clear_is_for_what_is_being_made_too(world: World) -> None:
    """It goes on for those who hear it, and is not kept."""
    answer(await world.leads())
    await world.rest()
    leader = await world.leads(control=FRESH)
    follower = Client()
    asking = world.asks(follower)
    stream(leader, b"data: 1\n\n")
    await world.rest()
    assert await world.cache.clear() == 1
    other = await world.leads()
    newcomer = Client()
    following = world.asks(newcomer)  # of the new one, although the old one is there yet
    await world.rest()
    answer(other, b"new")
    finished(leader)
    assert await asking is Ending.WHOLE
    assert await following is Ending.WHOLE
    assert newcomer.body == b"new"
    await world.rest()
    assert world.cache.figures.entries == 1


async def test_a_cancelled_follower_breaks_off(world: World) -> None:
    """In the middle of its answer, and before it."""
    leader = await world.leads()
    waiting, hearing = Client(), Client()
    early = world.asks(waiting)
    await world.rest()
    early.cancel()
    await world.rest()
    stream(leader, b"data: 1\n\n")
    late = world.asks(hearing)
    await world.rest()
    late.cancel()
    assert all(
        isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(early, late, return_exceptions=True)
    )
    assert hearing.is_cut
    assert not leader.flight.followers
    leader.end()


@pytest.mark.parametrize("seed", range(30))
async def test_whatever_is_cancelled_nothing_is_left(seed: int) -> None:
    """Leaders and followers of one key come, leave, are cancelled and fail at random. Every client that was told an end was told
    a whole answer; in the end there is no flight and no follower."""
    chance = random.Random(seed)
    world = World()
    clients: list[Client] = []
    pieces = [b"data: %d\n\n" % number for number in range(6)]

    async def serve(client: Client) -> None:
        begun: Hit | Leader | None = await world.cache.begin(client, KEY, chance.choice((DEFAULT, DEFAULT, FRESH)))
        try:
            if isinstance(begun, StoredHit | LiveHit):
                await begun.tell(begun.headers)
                return
            exchange = begun or client
            await asyncio.sleep(0)
            if chance.random() < 0.2:
                exchange.reply(503, PLAIN, b"")
                return
            exchange.start(200, EVENTS)
            for piece in pieces:
                exchange.write(piece)
                await asyncio.sleep(0)
                if exchange.is_gone:
                    return
            if isinstance(begun, Leader):
                begun.keep(SAVED)
            exchange.finish()
        finally:
            if begun is not None:
                begun.end()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(60):
        client = Client(room=chance.choice((None, 10)))
        clients.append(client)
        tasks.append(asyncio.ensure_future(serve(client)))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.3:
            chance.choice(clients).leave()
        for each in clients:
            each.read()
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        for each in clients:
            each.read()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result
    for client in clients:
        assert b"".join(pieces).startswith(client.body)
        if client.is_finished and client.status == 200:
            assert client.body == b"".join(pieces)
    await world.over()
    assert world.cache.figures.hits > 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["join", "slow", "read", "leave"]), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from([100, 10_000]))
@settings(deadline=None)
def test_every_follower_hears_what_was_said(steps: list[tuple[str, int]], max_bytes: int) -> None:
    """Whatever the order of things: a beginning of it, without a gap; to the end if it stayed and kept up. Never more than the
    bound and one piece is held."""

    async def run() -> None:
        deserted: list[None] = []
        flight = Flight(max_bytes, lambda: deserted.append(None))
        flight.speak(EVENTS, is_stream=True)
        said = b""
        told: list[tuple[Client, Follower, asyncio.Task[Ending]]] = []
        for step, number in steps:
            if step == "say":
                piece = bytes([len(said) % 251]) * number
                said += piece
                flight.say(piece)
            elif step in ("join", "slow") and flight.is_open:
                client = Client(room=None if step == "join" else 20)
                follower = flight.join(client)
                told.append((client, follower, asyncio.ensure_future(follower.follow(EVENTS))))
                await asyncio.sleep(0)
            elif told:
                client = told[number % len(told)][0]
                client.read() if step == "read" else client.leave()
            assert flight.size <= max_bytes
            assert all(said.startswith(client.body) for client, _, _ in told)
        flight.finish()
        for client, _, telling in told:
            while not telling.done():
                client.read()
                await asyncio.sleep(0)
            ending = telling.result()
            assert client.is_finished == (ending is Ending.WHOLE and not client.is_gone) or client.is_gone
            assert ending is not Ending.WHOLE or client.body == said
            assert client.is_cut == (ending is Ending.PARTIAL)
        assert not flight.followers
        assert flight.state is State.FINISHED

    asyncio.run(run())


# --- A real exchange ------------------------------------------------------------------------------------------------------


async def test_through_a_server(world: World) -> None:
    """Leader and follower over plain ASGI, with the pauses of its own buffer."""
    scope = {"method": "POST", "path": "/v1/x", "query_string": b"", "headers": [], "client": ("1.2.3.4", 5)}
    exchanges = [AsgiExchange(dict(scope), b"{}") for _ in range(2)]
    sent: list[list[Any]] = [[], []]

    async def pump(number: int) -> None:
        async def send(message: Any) -> None:
            sent[number].append(message)
            await asyncio.sleep(0)

        await exchanges[number].pump(send)

    pumps = [asyncio.ensure_future(pump(number)) for number in range(2)]
    leader = await world.cache.begin(exchanges[0], KEY, DEFAULT)
    assert isinstance(leader, Leader)
    assert (leader.method, leader.path, leader.client, leader.payload) == ("POST", "/v1/x", "1.2.3.4", b"{}")
    source = Source()
    leader.listener = source
    asking = world.asks(exchanges[1])  # type: ignore[arg-type]
    await world.rest()
    stream(leader, *[bytes(1000)] * 8)
    exchanges[0].gone()
    finished(leader, b"end")
    assert await asking is Ending.WHOLE
    await asyncio.gather(*pumps)
    assert b"".join(message.get("body", b"") for message in sent[1]) == bytes(8000) + b"end"
    assert sent[1][-1]["more_body"] is False
    assert source.heard == []
