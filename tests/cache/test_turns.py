"""The memory of turns: bounded, forgetful, and each caller's own."""

from __future__ import annotations

from naru.cache.turns import OVERHEAD_BYTES, TTL_S, TurnStore
from naru.protocol.messages import Reasoning
from naru.protocol.replay import Turn
from naru.testing import FakeClock


def turn(text: str = "thought") -> Turn:
    return Turn("p/m", (Reasoning(text),), {"c": "sig"})


def test_a_caller_sees_its_own_turns_alone() -> None:
    store = TurnStore(FakeClock())
    store.of("a").remember("call:1", turn())
    assert store.of("a").recall("call:1") == turn()
    assert store.of("b").recall("call:1") is None


def test_a_turn_lives_on_while_it_is_asked_for() -> None:
    """Its time runs from the last recall; then it is gone, and its room with it."""
    clock = FakeClock()
    mine = (store := TurnStore(clock)).of("a")
    mine.remember("call:1", turn())
    clock.advance(TTL_S - 1)
    assert mine.recall("call:1") is not None
    clock.advance(TTL_S - 1)
    assert mine.recall("call:1") is not None
    clock.advance(TTL_S)
    assert mine.recall("call:1") is None
    assert (len(store), store.bytes) == (0, 0)


def test_past_its_size_the_one_longest_unused_goes() -> None:
    store = TurnStore(FakeClock(), max_bytes=4 * (OVERHEAD_BYTES + 400))
    mine = store.of("a")
    for number in range(4):
        mine.remember(f"call:{number}", turn("x" * 80))
    assert mine.recall("call:0") is not None
    mine.remember("call:4", turn("x" * 80))
    assert [mine.recall(f"call:{number}") is not None for number in range(5)] == [True, False, True, True, True]
    assert store.bytes <= store.max_bytes


def test_the_same_turn_again_takes_no_more_room() -> None:
    store = TurnStore(FakeClock())
    store.of("a").remember("call:1", turn())
    size = store.bytes
    store.of("a").remember("call:1", turn())
    assert (len(store), store.bytes) == (1, size)


def test_a_turn_too_large_for_its_room_is_not_kept() -> None:
    store = TurnStore(FakeClock(), max_bytes=10_000)
    store.of("a").remember("call:1", turn())
    store.of("a").remember("call:2", turn("x" * 2_000))
    assert store.of("a").recall("call:2") is None
    assert store.of("a").recall("call:1") is not None
