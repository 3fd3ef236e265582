"""The order that each strategy gives, and conversations that stay where they are."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.gemini import GEMINI
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.protocol.openai_responses import OPENAI_RESPONSES
from naru.routing.affinity import Ring, affinity_key
from naru.routing.table import Route
from naru.routing.vitals import Load
from tests.routing.world import World, deployment, ids

THREE = (deployment("a"), deployment("b"), deployment("c"))


def test_the_least_busy_goes_first() -> None:
    world = World()
    for each, calls in zip(THREE, (5, 1, 3), strict=True):
        for _ in range(calls):
            world.fleet.of(each).began(world.now)
    assert ids(world.plan(Route("m", THREE, strategy="least_busy"))) == ["b", "c", "a"]


def test_twice_the_weight_takes_twice_as_many() -> None:
    world, small, large = World(), deployment("small"), deployment("large", weight=2)
    for _ in range(3):
        world.fleet.of(large).began(world.now)
    for _ in range(2):
        world.fleet.of(small).began(world.now)
    assert ids(world.plan(Route("m", (small, large), strategy="least_busy"))) == ["large", "small"]


def test_what_a_server_tells_of_its_queue_counts_while_it_is_fresh() -> None:
    """Others use it too, of which this process knows nothing."""
    world, mine, shared = World(), deployment("mine"), deployment("shared")
    world.fleet.of(mine).began(world.now)
    world.fleet.of(shared).load = Load(waiting=4, running=8, at=world.now)
    route = Route("m", (mine, shared), strategy="least_busy")
    assert ids(world.plan(route)) == ["mine", "shared"]
    world.now += 60
    assert ids(world.plan(route)) == ["shared", "mine"]


def test_a_full_memory_counts_as_busy() -> None:
    world, roomy, tight = World(), deployment("roomy"), deployment("tight")
    world.fleet.of(roomy).load = Load(running=12, kv_used=0.3, at=world.now)
    world.fleet.of(tight).load = Load(running=10, kv_used=0.99, at=world.now)
    assert ids(world.plan(Route("m", (roomy, tight), strategy="least_busy"))) == ["roomy", "tight"]


def test_latency_avoids_the_slow_one_and_does_not_herd() -> None:
    """Of some at random the fastest: the slowest of three is never first, the fastest not always."""
    world = World(5)
    for each, seconds in zip(THREE, (0.1, 0.2, 4.0), strict=True):
        world.fleet.of(each).first_content(seconds, world.now)
    route = Route("m", THREE, strategy="latency")
    first = Counter(world.plan(route, is_stream=True).attempts[0].id for _ in range(600))
    assert first["c"] == 0
    assert 300 < first["a"] < 500


def test_latency_goes_by_the_kind_of_request() -> None:
    """Whole answers take as long as they are long, so they say nothing of a stream's first word."""
    world, a, b = World(), deployment("a"), deployment("b")
    for each, ttft, whole in ((a, 0.1, 9.0), (b, 0.5, 2.0)):
        world.fleet.of(each).first_content(ttft, world.now)
        world.fleet.of(each).whole.saw(whole, world.now)
    route = Route("m", (a, b), strategy="latency")
    assert ids(world.plan(route, is_stream=True)) == ["a", "b"]
    assert ids(world.plan(route, is_stream=False)) == ["b", "a"]


def test_cost_takes_the_cheapest_and_then_the_least_busy() -> None:
    world = World()
    costs = {"a": 30, "b": 10, "c": 10}
    world.fleet.of(THREE[1]).began(world.now)
    found = world.plan(Route("m", THREE, strategy="cost"), cost=lambda d: costs[d.id])
    assert ids(found) == ["c", "b", "a"]


@pytest.mark.parametrize("strategy", ["priority", "weighted", "least_busy", "latency", "cost"])
def test_priority_comes_before_any_strategy(strategy: str) -> None:
    world, reserve = World(), deployment("reserve", priority=2)
    for _ in range(50):
        world.fleet.of(THREE[0]).began(world.now)
    world.fleet.of(THREE[0]).first_content(9.0, world.now)
    found = world.plan(Route("m", (reserve, THREE[0]), strategy=strategy), cost=lambda d: len(d.id))
    assert ids(found) == ["a", "reserve"]


# --- Affinity ------------------------------------------------------------------------------------------------------------


def test_a_conversation_stays_and_many_spread() -> None:
    world = World()
    route = Route("m", THREE, strategy="least_busy", affinity="prefix")
    homes = Counter()
    for number in range(300):
        key = b"%d" % number
        found = {world.plan(route, affinity=key).attempts[0].id for _ in range(5)}
        assert len(found) == 1
        homes.update(found)
    assert all(70 < count < 130 for count in homes.values())


def test_when_one_goes_only_its_conversations_move() -> None:
    keys = [b"%d" % number for number in range(200)]
    before = {key: next(Ring(THREE).order(key)).id for key in keys}
    after = {key: next(Ring(THREE[:2]).order(key)).id for key in keys}
    assert all(after[key] == home for key, home in before.items() if home != "c")


def test_a_conversation_leaves_a_crowded_home() -> None:
    """A warm cache is no reason to wait behind everybody."""
    world = World()
    route = Route("m", THREE, strategy="least_busy", affinity="prefix")
    home = world.plan(route, affinity=b"key").attempts[0]
    for _ in range(40):
        world.fleet.of(home).began(world.now)
    assert world.plan(route, affinity=b"key").attempts[0] != home


@given(st.binary(min_size=1, max_size=32))
def test_affinity_never_loses_a_deployment(key: bytes) -> None:
    assert sorted(d.id for d in Ring(THREE).order(key)) == ["a", "b", "c"]


def test_twice_the_weight_is_home_to_twice_as_many() -> None:
    ring = Ring((deployment("small"), deployment("large", weight=2)))
    homes = Counter(next(ring.order(b"%d" % number)).id for number in range(3000))
    assert 1.6 < homes["large"] / homes["small"] < 2.5


def test_among_very_many_a_conversation_finds_its_home() -> None:
    """Though only a few are looked at, and others are chosen by chance each time."""
    world = World(2)
    crowd = tuple(deployment(f"d{number}") for number in range(400))
    route = Route("m", crowd, strategy="least_busy", affinity="prefix")
    homes = {
        key: {world.plan(route, affinity=key).attempts[0].id for _ in range(5)} for key in (b"a", b"b", b"c", b"d")
    }
    assert all(len(found) == 1 for found in homes.values())
    assert len(set(map(tuple, homes.values()))) > 1


def test_the_cheapest_is_not_given_everything() -> None:
    """Once it has far more in hand than the others it goes behind them."""
    world = World()
    for _ in range(20):
        world.fleet.of(THREE[0]).began(world.now)
    found = world.plan(Route("m", THREE, strategy="cost"), cost=lambda d: {"a": 1, "b": 5, "c": 9}[d.id])
    assert ids(found) == ["b", "c", "a"]


HEAD = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "안녕"}]
MORE = [*HEAD, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]


def chat(messages: object, **fields: object) -> object:
    return OPENAI_CHAT.read(msgspec.json.encode({"model": "m", "messages": messages, **fields}), "/v1/chat/completions")


def test_every_turn_of_a_conversation_has_the_same_key() -> None:
    """In each dialect: the head does not change."""
    assert affinity_key("prefix", chat(HEAD), ()) == affinity_key("prefix", chat(MORE), ())
    other = [HEAD[0], {"role": "user", "content": "잘 가"}]
    assert affinity_key("prefix", chat(HEAD), ()) != affinity_key("prefix", chat(other), ())

    def keys(dialect: object, path: str, name: str, **fields: object) -> set[bytes]:
        turns = [HEAD[1:], MORE[1:]]
        if name == "contents":
            turns = [[{"role": turn["role"], "parts": [{"text": turn["content"]}]} for turn in each] for each in turns]
        bodies = [msgspec.json.encode({"model": "m", name: each, **fields}) for each in turns]
        return {affinity_key("prefix", dialect.read(body, path), ()) for body in bodies}  # type: ignore[attr-defined]

    assert len(keys(ANTHROPIC_MESSAGES, "/v1/messages", "messages", system="Be brief.", max_tokens=9)) == 1
    assert len(keys(OPENAI_RESPONSES, "/v1/responses", "input", instructions="Be brief.")) == 1
    assert len(keys(GEMINI, "/v1beta/models/m:generateContent", "contents")) == 1


def test_the_callers_own_word_comes_first() -> None:
    """The header, then OpenAI's field, then the head; with "session" only the first two."""
    header = [(b"x-naru-session", b"one")]
    assert affinity_key("session", chat(HEAD), header) == affinity_key("prefix", chat(MORE[2:]), header)
    assert affinity_key("session", chat(HEAD), ()) == b""
    field = chat(HEAD, prompt_cache_key="k")
    assert affinity_key("session", field, ()) == affinity_key("prefix", chat(MORE[2:], prompt_cache_key="k"), ()) != b""
    assert affinity_key("off", field, header) == b""
