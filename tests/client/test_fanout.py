"""Many prompts: each answered once, in order, errors in place, as fast as the limits allow. On a loop whose time jumps."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naru.client.fanout import FanOut, Progress, body_of, fan_out
from naru.client.reply import Json, NotSent, Outcome, Reply, Send
from naru.errors import BadRequest, NaruError, NotFound, Overloaded, RateLimited, Unauthorized, UpstreamError
from naru.limits.meters import Limits
from tests.client.servers import Crowded, FixedWindow, Gcra, Server, SlidingWindow, reply_to
from tests.client.virtual import LoopClock, run


def ask_all(send: Send, prompts: Any, **options: Any) -> tuple[list[Outcome], float]:
    """The outcomes, and how long it took."""
    observe = options.pop("observe", None)

    async def main() -> tuple[list[Outcome], float]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        chosen = FanOut(**{"model": "m", **options})
        outcomes = await fan_out(prompts, send, chosen, LoopClock(), random.Random(3).random, observe)
        return outcomes, loop.time() - begun

    return run(main())


def texts(count: int) -> list[str]:
    return [f"prompt {number}" for number in range(count)]


def most_in_a_minute(came_s: list[float]) -> int:
    came, most, first = sorted(came_s), 0, 0
    for last, at in enumerate(came):
        while came[first] <= at - 60:
            first += 1
        most = max(most, last - first + 1)
    return most


FAULTS = {"failing": 0.10, "busy": 0.05}
#: 600 a minute, as servers count them.
SERVERS: dict[str, Callable[..., Server]] = {
    "bucket that tells": lambda **more: Gcra(Limits(rpm=600), **more),
    "bucket that tells at the end": lambda **more: Gcra(Limits(rpm=600), "leaving", **more),
    "bucket that does not tell": lambda **more: Gcra(Limits(rpm=600), "nothing", **more),
    "fixed minutes": lambda **more: FixedWindow(600, **more),
    "any minute": lambda **more: SlidingWindow(600, **more),
}


def check_all_answered_once(server: Server, outcomes: list[Outcome], count: int) -> int:
    """How often was asked."""
    assert [outcome.text for outcome in outcomes] == [f"re: {text}" for text in texts(count)]
    assert set(server.answers.values()) == {1}
    attempts = len(server.came_s)
    assert attempts > 1.1 * count, "the faults have struck"
    assert server.limited <= 0.02 * attempts
    return attempts


@pytest.mark.parametrize(
    ("name", "count", "latency_s"),
    [
        ("bucket that tells", 2_000, 2.5),
        ("bucket that does not tell", 700, 0.05),
        ("fixed minutes", 700, 0.05),
        ("fixed minutes", 700, 2.5),
        ("any minute", 700, 0.05),
    ],
)
def test_600_a_minute_within_a_tenth_of_the_ideal_time(name: str, count: int, latency_s: float) -> None:
    """The caller says 600 a minute; a tenth fails and a twentieth is refused, whatever the pace. Ideal is the rate itself."""
    server = SERVERS[name](latency_s=latency_s, **FAULTS)
    outcomes, took_s = ask_all(server.send, texts(count), rpm=600, concurrency=100)
    attempts = check_all_answered_once(server, outcomes, count)
    assert took_s <= 1.1 * attempts / 10
    assert most_in_a_minute(server.came_s) <= 600


@pytest.mark.parametrize("name", ["bucket that tells", "bucket that tells at the end"])
@pytest.mark.parametrize("latency_s", [0.05, 0.5, 2.5])
def test_a_limit_that_the_server_tells_needs_no_word_of_the_caller(name: str, latency_s: float) -> None:
    """Then its whole room is used: a minute's worth at once, and the rate from then on."""
    server = SERVERS[name](latency_s=latency_s, **FAULTS)
    outcomes, took_s = ask_all(server.send, texts(2_000), concurrency=100)
    attempts = check_all_answered_once(server, outcomes, 2_000)
    assert took_s <= 1.1 * (attempts - 600) / 10
    assert server.limited == 0


def test_refusals_whatever_the_pace_leave_the_lanes_open() -> None:
    """One in twenty is told to come back, and no limit is behind it: fewer at once would not help."""
    server = Server(latency_s=1.0, **FAULTS)
    outcomes, took_s = ask_all(server.send, texts(2_000), concurrency=100)
    check_all_answered_once(server, outcomes, 2_000)
    assert server.most_under_way == 100
    assert took_s <= 3 * 2_000 / 100


def test_a_place_that_is_missing_holds_back_nobody_else() -> None:
    """503 of a gateway whose deployments are busy: who was refused comes again, and it is none of its tries."""
    refusals = iter([Overloaded("busy", code="deployments_busy", retry_after_s=1.0)] * 8)
    came: list[tuple[float, str]] = []

    async def send(body: Json) -> Reply:
        text = body["messages"][-1]["content"]
        came.append((asyncio.get_running_loop().time(), text))
        if text == "prompt 0" and (refusal := next(refusals, None)) is not None:
            raise refusal
        await asyncio.sleep(0.1)
        return reply_to(body)

    outcomes, took_s = ask_all(send, texts(20), rpm=6_000, concurrency=2, retries=0)
    assert all(outcome.ok for outcome in outcomes)
    assert outcomes[0].attempts == 9
    others = [at - came[0][0] for at, text in came if text != "prompt 0"]
    assert max(others) < 2.5, "nobody else waited for the second to pass"
    assert 8 <= took_s < 9


@pytest.mark.parametrize("rpm", [None, 600])
def test_a_bucket_of_one_is_met_one_by_one(rpm: int | None) -> None:
    """`rpm = 600, burst = 1`: whoever comes a moment early is refused. (What a hold loses there cannot be made up for.)"""
    server = Gcra(Limits(rpm=600, burst=1), latency_s=2.5, failing=0.10)
    outcomes, took_s = ask_all(server.send, texts(700), rpm=rpm, concurrency=100)
    attempts = check_all_answered_once(server, outcomes, 700)
    more_s = 2 * server.latency_s  # nothing is known before the first answer, and the last ones may fail
    assert took_s <= 1.1 * attempts / 10 + more_s


def test_limits_that_nobody_tells_are_found_by_their_refusals() -> None:
    server = FixedWindow(600, latency_s=0.2)
    outcomes, took_s = ask_all(server.send, texts(1_400))
    assert all(outcome.ok for outcome in outcomes)
    assert took_s <= 180
    assert server.limited <= 0.05 * len(server.came_s)


def test_a_bucket_that_nobody_tells_is_found_too() -> None:
    server = Gcra(Limits(rpm=600, burst=60), "nothing", latency_s=0.05)
    outcomes, took_s = ask_all(server.send, texts(600))
    assert all(outcome.ok for outcome in outcomes)
    assert took_s <= 80
    assert server.limited <= 0.25 * len(server.came_s)


def test_tokens_a_minute_are_kept_to_by_estimate_and_then_by_usage() -> None:
    """Each may write 500 tokens and writes 20: the server holds 500 while it is under way and gives 480 back, and so does the
    pace. Two fifths more than the 30 tokens each would take, for what is held."""
    server = Gcra(Limits(tpm=20_000), latency_s=1.0)
    outcomes, took_s = ask_all(server.send, texts(700), tpm=20_000, concurrency=100, shared={"max_tokens": 500})
    assert all(outcome.ok for outcome in outcomes)
    assert took_s <= 1.4 * 700 * 30 / 20_000 * 60 + 3
    assert server.limited <= 20


def test_tokens_that_the_server_tells_need_no_word_of_the_caller() -> None:
    server = Gcra(Limits(tpm=20_000), latency_s=1.0)
    outcomes, _ = ask_all(server.send, texts(700), concurrency=100, shared={"max_tokens": 500})
    assert all(outcome.ok for outcome in outcomes)
    assert server.limited <= 40


def test_a_server_with_few_places_is_not_crowded() -> None:
    server = Crowded(6, latency_s=1.0)
    outcomes, took_s = ask_all(server.send, texts(600), concurrency=64, retries=20)
    assert all(outcome.ok for outcome in outcomes)
    assert took_s <= 1.6 * 100
    assert server.most_under_way <= 32


def test_a_figure_of_the_caller_that_is_too_high_is_left_behind() -> None:
    server = Gcra(Limits(rpm=300, burst=10), "nothing", latency_s=0.1)
    outcomes, took_s = ask_all(server.send, texts(1_000), rpm=600)
    assert all(outcome.ok for outcome in outcomes)
    assert server.limited <= 0.15 * len(server.came_s)
    assert took_s <= 1.25 * 200


Act = tuple[float, str]
ACTS = st.tuples(
    st.sampled_from([0.0, 0.001, 0.3, 5.0]),
    st.sampled_from(["answer", "answer", "answer", "fail", "busy", "wait", "bad", "denied"]),
)


@settings(deadline=None)
@given(
    st.lists(ACTS, max_size=60),
    st.integers(0, 25),
    st.sampled_from([None, 1, 7, 60]),
    st.sampled_from([None, 300, 20_000]),
    st.integers(1, 8),
)
def test_whatever_happens_each_prompt_ends_once_in_its_place(
    acts: list[Act], count: int, rpm: int | None, tpm: int | None, concurrency: int
) -> None:
    script, came, answered = iter(acts), [], Counter[str]()
    under_way = most = 0
    errors = {
        "fail": UpstreamError("failed"),
        "busy": RateLimited("busy", retry_after_s=2.0),
        "wait": RateLimited("busy"),
        "bad": BadRequest("bad"),
        "denied": Unauthorized("denied"),
    }

    async def send(body: Json) -> Reply:
        nonlocal under_way, most
        latency_s, act = next(script, (0.1, "answer"))
        came.append(asyncio.get_running_loop().time())
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(latency_s)
        under_way -= 1
        if act in errors:
            raise errors[act]
        reply = reply_to(body)
        answered[reply.text] += 1
        return reply

    seen: list[Progress] = []
    outcomes, _ = ask_all(send, texts(count), rpm=rpm, tpm=tpm, concurrency=concurrency, observe=seen.append)
    assert [outcome.index for outcome in outcomes] == list(range(count))
    for outcome, text in zip(outcomes, texts(count), strict=True):
        assert answered[f"re: {text}"] == outcome.ok
        assert outcome.text == f"re: {text}" if outcome.ok else isinstance(outcome.error, NaruError)
    assert most <= concurrency
    assert under_way == 0
    assert rpm is None or most_in_a_minute(came) <= rpm
    assert sum(outcome.attempts for outcome in outcomes) == len(came)
    assert seen[-1].done == seen[-1].total == count
    assert seen[-1].failed == sum(not outcome.ok for outcome in outcomes)


class Scripted:
    """Answers by the prompt's text: what `says` gives for it, one after the other."""

    def __init__(self, says: dict[str, list[NaruError | None]]) -> None:
        self.says = {text: list(acts) for text, acts in says.items()}
        self.came: list[tuple[float, str]] = []

    async def send(self, body: Json) -> Reply:
        text = body["messages"][-1]["content"]
        self.came.append((asyncio.get_running_loop().time(), text))
        await asyncio.sleep(0.01)
        acts = self.says.get(text)
        error = acts.pop(0) if acts else None
        if error is not None:
            raise error
        return reply_to(body)

    def count(self, text: str) -> int:
        return sum(came == text for _, came in self.came)


def test_an_error_stands_in_its_place_and_raises_where_the_text_is_read() -> None:
    server = Scripted({"b": [BadRequest("too odd")]})
    (a, b, c), _ = ask_all(server.send, ["a", "b", "c"])
    assert (a.ok, b.ok, c.ok) == (True, False, True)
    assert str(b.error) == "too odd"
    with pytest.raises(BadRequest, match="too odd"):
        _ = b.text
    assert server.count("b") == 1


def test_a_failure_is_tried_again_up_to_retries_and_then_stands() -> None:
    server = Scripted({"a": [UpstreamError("down")] * 9, "b": [UpstreamError("down")] * 3})
    (a, b), _ = ask_all(server.send, ["a", "b"], retries=3)
    assert (a.ok, a.attempts, b.ok, b.attempts) == (False, 4, True, 4)


def test_the_wait_that_the_server_names_is_kept_and_does_not_count_as_a_try() -> None:
    server = Scripted({"a": [RateLimited("busy", retry_after_s=7.0)] * 4})
    (a,), took_s = ask_all(server.send, ["a"], retries=0)
    assert (a.ok, a.attempts) == (True, 5)
    times = [at for at, _ in server.came]
    assert all(later - earlier >= 7.0 for earlier, later in pairwise(times))
    assert took_s < 4 * 7.0 + 1


def test_a_refusal_holds_everybody() -> None:
    server = Scripted({"a": [RateLimited("busy", retry_after_s=30.0)]})
    _, _ = ask_all(server.send, ["a", "b", "c"], concurrency=1)
    (_, first), *rest = [(at - server.came[0][0], text) for at, text in server.came]
    assert first == "a"
    assert all(at >= 30.0 for at, _ in rest)


def test_no_prompt_waits_longer_than_give_up_s() -> None:
    server = Scripted({"a": [RateLimited("busy", retry_after_s=40.0)] * 99})
    (a, b), took_s = ask_all(server.send, ["a", "b"], give_up_s=100.0, concurrency=1)
    assert (a.ok, b.ok) == (False, True)
    assert isinstance(a.error, RateLimited)
    assert a.attempts == 3
    assert took_s <= 121


def test_a_key_that_is_refused_stops_the_rest_at_once_and_says_why() -> None:
    says: dict[str, list[NaruError | None]] = {"prompt 5": [Unauthorized("This key is revoked.")]}
    says["prompt 2"] = [UpstreamError("down", retry_after_s=300.0)]
    server = Scripted(says)
    outcomes, took_s = ask_all(server.send, texts(1_000), concurrency=3)
    assert isinstance(outcomes[5].error, Unauthorized)
    assert isinstance(outcomes[2].error, NotSent), "it would have come back in five minutes"
    last = outcomes[-1].error
    assert isinstance(last, NotSent)
    assert last.cause is outcomes[5].error
    assert "prompt 5" in str(last)
    assert "This key is revoked." in str(last)
    assert len(server.came) <= 9
    assert took_s < 1


def test_a_model_that_is_not_there_stops_its_own_prompts_alone() -> None:
    bodies = [
        {"model": f"m{number % 2}", "messages": [{"role": "user", "content": f"{number}"}]} for number in range(20)
    ]
    server = Scripted({"0": [NotFound("no m0")]})
    outcomes, _ = ask_all(server.send, bodies, concurrency=1)
    assert [outcome.ok for outcome in outcomes] == [False, True] * 10
    assert len(server.came) == 11


def test_an_empty_account_is_not_waited_for() -> None:
    server = Scripted({"a": [RateLimited("no credit", code="insufficient_quota")]})
    (a, b), _ = ask_all(server.send, ["a", "b"], concurrency=1)
    assert (a.attempts, b.attempts) == (1, 0)


def test_a_bug_in_send_is_raised_and_ends_what_is_under_way() -> None:
    ended = []

    async def send(body: Json) -> Reply:
        if body["messages"][-1]["content"] == "b":
            raise ZeroDivisionError("a bug")
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append(body)
        return reply_to(body)

    with pytest.raises(ZeroDivisionError):
        ask_all(send, ["a", "b", "c"], concurrency=2)
    assert len(ended) == 1


def test_cancelling_the_run_ends_what_is_under_way() -> None:
    ended = []

    async def send(body: Json) -> Reply:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append(body)
        return reply_to(body)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await fan_out(texts(9), send, FanOut(model="m", concurrency=3), LoopClock(), random.random)

    run(main())
    assert len(ended) == 3


def test_prompts_are_texts_messages_or_bodies_and_their_own_fields_win() -> None:
    options = FanOut(model="m", shared={"temperature": 0, "max_tokens": 5})
    assert body_of("hi", 0, options) == {
        "model": "m", "temperature": 0, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}],
    }  # fmt: skip
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    assert body_of(messages, 0, options)["messages"] == messages
    assert body_of({"model": "n", "messages": messages, "max_tokens": 9}, 0, options) == {
        "model": "n", "temperature": 0, "max_tokens": 9, "messages": messages,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        (3, "Prompt 1 is a int"),
        ([], "Prompt 1 has no messages"),
        ({"prompt": "x"}, "Prompt 1 has no messages"),
        ({"messages": [{"role": "user", "content": "x"}], "stream": True}, "Prompt 1 asks for a stream"),
        ({"messages": [{"role": "user", "content": {1, 2}, "x": object()}]}, "Prompt 1 cannot be written as JSON"),
    ],
)
def test_a_prompt_that_cannot_be_sent_is_named_before_anything_is_sent(prompt: Any, why: str) -> None:
    server = Scripted({})
    with pytest.raises(ValueError, match=why):
        ask_all(server.send, ["fine", prompt])
    assert server.came == []


def test_a_model_is_asked_for() -> None:
    with pytest.raises(ValueError, match="Prompt 0 names no model"):
        ask_all(Scripted({}).send, ["x"], model=None)


@pytest.mark.parametrize("wrong", [{"rpm": 0}, {"tpm": -1}, {"concurrency": 1.5}, {"retries": -1}, {"give_up_s": -1}])
def test_figures_out_of_range_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FanOut(**wrong)


def test_progress_counts_what_was_done() -> None:
    seen: list[Progress] = []
    server = Scripted({"b": [BadRequest("no")], "c": [UpstreamError("down")]})
    ask_all(server.send, ["a", "b", "c"], observe=seen.append)
    assert seen[0] == Progress(total=3)
    assert seen[-1] == Progress(total=3, done=3, failed=1, retried=1, tokens=60, cost_nano=2_000)
    assert [later.done - earlier.done for earlier, later in pairwise(seen)].count(1) == 3


def test_nothing_to_do_is_done() -> None:
    assert ask_all(Scripted({}).send, []) == ([], 0.0)
