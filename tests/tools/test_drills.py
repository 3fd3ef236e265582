"""The drills: what they make of what they see, and each of them once in small, so that the tool cannot rot."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import msgspec
import pytest
from tools.drills import cancel, kill, region, slow
from tools.drills.found import Check, quantile
from tools.drills.questions import Answer, Question, read, steady
from tools.drills.upstreams import Arrival

from naru.storage.records import Attempt, LedgerEntry

MINE, OTHER = "q00000000000a", "q00000000000b"
PLAIN = Question(MINE, 2, False, 0.0)
STREAM = Question(MINE, 2, True, 0.0)
HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: req_1\r\nx-naru-cost-usd: 0.000000012\r\n"
WORDS = (MINE + ".0 ", MINE + ".1 ")


def plain(text: str, short_by: int = 0) -> bytes:
    body = text.encode()
    return HEAD + b"content-length: %d\r\n\r\n" % (len(body) + short_by) + body


def stream(*pieces: str, end: bytes = b"0\r\n\r\n") -> bytes:
    events = [f"data: {piece}\n\n".encode() for piece in pieces]
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(e), e) for e in events) + end


ERROR = '{"error":{"message":"x","code":"upstream_reset"}}'


@pytest.mark.parametrize(
    ("question", "said", "ending"),
    [
        (PLAIN, plain("".join(WORDS)), "whole"),
        (PLAIN, plain(WORDS[0]), "false"),
        (PLAIN, plain("".join(WORDS) + WORDS[1]), "false"),
        (PLAIN, plain("".join(reversed(WORDS))), "false"),
        (PLAIN, plain("".join(WORDS), short_by=5), "broken"),
        (PLAIN, plain(WORDS[0] + OTHER + ".1 "), "foreign"),
        (PLAIN, b"HTTP/1.1 502 Bad Gateway\r\n\r\n" + ERROR.encode(), "refused"),
        (PLAIN, b"", "broken"),
        (STREAM, stream(*WORDS, "[DONE]"), "whole"),
        (STREAM, stream(WORDS[0], "[DONE]"), "false"),
        (STREAM, stream(WORDS[0], WORDS[0], WORDS[1], "[DONE]"), "false"),
        (STREAM, stream(WORDS[0], ERROR), "cut"),
        (STREAM, stream(*WORDS, ERROR, "[DONE]"), "false"),
        (STREAM, stream(*WORDS), "broken"),
        (STREAM, stream(*WORDS, "[DONE]", end=b""), "broken"),
        (STREAM, stream(OTHER + ".0 ", "[DONE]"), "foreign"),
    ],
)
def test_an_answer_is_read_for_what_it_is(question: Question, said: bytes, ending: str) -> None:
    """Whole only with every word once, in order, said to be complete, and its own."""
    assert read(question, said).ending == ending


def test_what_an_answer_costs_is_read_too() -> None:
    assert read(PLAIN, plain("".join(WORDS))).cost_nano == 12
    usage = '{"choices":[],"usage":{"completion_tokens":2,"naru":{"cost_usd":0.000000034}}}'
    assert read(STREAM, stream(*WORDS, usage, "[DONE]")).cost_nano == 34


def test_quantiles_are_of_the_nearest_rank() -> None:
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([7.0], 0.5) == 7.0
    assert quantile([], 0.99) == 0.0


def failing(checks: tuple[Check, ...]) -> list[str]:
    return [check.asked for check in checks if check.holds is False]


def answer(ending: str = "whole", at: float = 0.0, ttft_s: float | None = 0.05, **more: object) -> Answer:
    question = msgspec.structs.replace(STREAM, at=at)
    return Answer(**{"question": question, "ending": ending, "ttft_s": ttft_s, "request_id": "r", **more})  # type: ignore[arg-type]


def entry(request_id: str = "r", cost: int = 5, outcome: str = "completed", **more: object) -> LedgerEntry:
    names = (
        "key_id",
        "model",
        "deployment",
        "provider",
        "upstream_model",
        "dialect",
        "error_code",
        "price_version",
        "price_source",
    )
    counts = ("input", "output", "cached", "cache_write", "reasoning", "latency_us", "ttft_us")
    fields: dict[str, object] = dict.fromkeys(names, "") | dict.fromkeys(counts, 0)
    fields |= {"request_id": request_id, "at": 0.0, "is_stream": True, "outcome": outcome, "status": 200}
    fields |= {"is_estimated": False, "cost_nano": cost, "provider_cost_nano": cost, "attempts": 1}
    return LedgerEntry(**fields | more)  # type: ignore[arg-type]


def killed(
    *answers: Answer, calls: int | None = None, entries: list[LedgerEntry] | None = None, **more: object
) -> list[str]:
    told = [msgspec.structs.replace(each, request_id=f"r{n}") for n, each in enumerate(answers)]
    mine = [entry(f"r{n}", cost=each.cost_nano or 0) for n, each in enumerate(told)] if entries is None else entries
    seen = {"contradictions": (), "gauges": {}, "outages": (), **more}
    return failing(kill.verdict(kill.Seen(told, len(told) if calls is None else calls, entries=mine, **seen)))  # type: ignore[arg-type]


def test_the_verdict_of_kill() -> None:
    good = [answer(cost_nano=5)] * 2000
    assert killed(*good) == []
    assert killed(*good, answer("refused", ttft_s=None)) == []
    assert "at least 99.95% do not fail before their first word" in killed(*good, *[answer("refused", ttft_s=None)] * 2)
    assert killed(*good, answer("cut")) == []
    assert killed(*good, answer("broken")) == ["a cut stream says so: an error and no [DONE]"]
    assert killed(*good, answer("false", cost_nano=5)) == ["no answer is passed off as whole that is not"]
    assert killed(*good, calls=2401) == ["calls are at most 1.2x the requests"]
    assert killed(*good, contradictions=["x"]) == ["the ledger agrees with itself"]
    assert killed(*good, gauges={"naru_open_permits": 1.0})[0].startswith("nothing is left over")
    assert "one entry for each request" in killed(*good, entries=[entry(f"r{n}") for n in range(1999)])
    dear = [entry(f"r{n}", cost=5 + (n == 7)) for n in range(2000)]
    assert killed(*good, entries=dear) == ["what was charged is what the answers told"]


def test_outages_do_not_overlap() -> None:
    for seed in range(50):
        planned = kill.outages(Random(seed), 40)
        assert planned
        assert all(one.ends < two.begins for one, two in pairwise(planned))


TIMES = region.Times(calm=1.0, lost=2.0, healed=6.0, end=8.0)


def lost(slow_until: float, slow_s: float = 1.0, ending: str = "whole", early: int = 1, after: int = 9) -> list[str]:
    asked = [n / 100 for n in range(800)]
    answers = [answer(at=at, ttft_s=0.08) for at in asked if not 2.0 <= at < slow_until]
    ttft_s = slow_s if ending == "whole" else None
    answers += [answer(ending, at=at, ttft_s=ttft_s) for at in asked if 2.0 <= at < slow_until]
    returns = [region.Return("near1", early, early + after)]
    return [
        name.partition(": ")[2] for name in failing(region.verdict(region.Seen("silent", 1, TIMES, answers, returns)))
    ]


def test_the_verdict_of_region() -> None:
    assert lost(slow_until=2.0) == []
    assert lost(slow_until=3.1) == []
    assert lost(slow_until=4.4)[0] == "normal again (1.5x) within 2 s"
    assert lost(slow_until=3.0, slow_s=2.1) == ["nobody waits for more than one connect time"]
    assert lost(slow_until=3.0, ending="refused") == ["nobody fails before the first word"]
    assert lost(2.0, early=2) == ["it comes back by one probe each, and then for all"]
    assert lost(2.0, after=0) == ["it comes back by one probe each, and then for all"]


def test_a_region_is_back_with_two_normal_buckets() -> None:
    found = [(10.0, 9.0), (10.25, 0.1), (10.5, 9.0), (10.75, 0.1), (11.0, 0.1)]
    assert region.back_after(found, 0.12, 10.0) == 0.75
    assert region.back_after(found[:4], 0.12, 10.0) is None


def test_what_comes_back_is_counted_to_its_first_answer() -> None:
    arrivals = [Arrival("x", 1.0, ended_at=1.1), Arrival("p", 5.0, ended_at=5.2), Arrival("y", 5.1), Arrival("z", 5.2)]
    assert region.return_of("a", arrivals, healed_at=4.0) == region.Return("a", early=2, all=3)
    assert region.return_of("a", arrivals, healed_at=7.0) == region.Return("a", 0, 0)


def raced(
    slow_s: float = 0.06, lost_nano: int = 2, left_at: float = 1.11, failures: float = 0.0, noted: str = "r9"
) -> list[str]:
    entries = [entry(f"r{n}", cost=100) for n in range(10) if f"r{n}" != noted]
    tried = (Attempt("a/x", error="hedge_lost", cost_nano=lost_nano),)
    entries.append(entry(noted, cost=100, tried=tried, provider_cost_nano=100 + lost_nano))
    arrivals = {"a": [Arrival("n9", 1.0, left_at=left_at)], "b": [Arrival(f"n{n}", 1.0, 1.1, 1.2) for n in range(10)]}
    answers = [answer(request_id=f"r{n}") for n in range(10)]
    asked = [msgspec.structs.replace(each.question, nonce=f"n{n}") for n, each in enumerate(answers)]
    answers = [msgspec.structs.replace(each, question=q, ttft_s=0.06) for each, q in zip(answers, asked, strict=True)]
    fast = slow.Phase((), answers, entries)
    late = slow.Phase((), [msgspec.structs.replace(each, ttft_s=slow_s) for each in answers], entries)
    return failing(slow.verdict(slow.Seen(fast, late, fast, late, arrivals, entries, failures, {})))


def test_the_verdict_of_slow() -> None:
    assert raced() == []
    assert raced(slow_s=0.1) == ["p99 of the first word within 1.5x of when all were healthy"]
    assert raced(lost_nano=90) == ["at 5% extra cost at most"]
    assert raced(left_at=1.3) == ["a loser's connection is closed within 100 ms"]
    assert raced(left_at=0.0) == ["a loser's connection is closed within 100 ms"]
    lost = ["a loser is no answer and no failure: it stands in its entry as lost, once"]
    assert raced(failures=1.0) == lost
    assert raced(noted="r8") == lost


def test_the_verdict_of_cancel() -> None:
    good = cancel.Seen({"ended": 1}, (), (), {"tasks": 0}, (9, 9), (), 0)
    assert failing(cancel.verdict(good)) == []
    for field, value, asked in (
        ("foreign", ["x"], "no answer has another request's nonce"),
        ("wrong", ["x"], "who stays is answered in full, or told why not"),
        ("left", {"tasks": 1}, "nothing is left over anywhere"),
        ("fds", (9, 10), "file descriptors are back to the start"),
        ("contradictions", ["x"], "the ledger agrees with itself"),
    ):
        assert failing(cancel.verdict(msgspec.structs.replace(good, **{field: value}))) == [asked]
    assert cancel.strangers(f"{MINE}.0 {OTHER}.1".encode(), MINE) == {OTHER}


def test_load_comes_at_an_even_rate() -> None:
    asked = steady(Random(1), 50, 2)
    assert len(asked) == 100
    assert all(n / 50 <= each.at <= (n + 1) / 50 for n, each in enumerate(asked))


# --- Each once, in small: that they run and look at everything, not what a second of load says of the gateway. -------


async def test_resume_in_small() -> None:
    found = await kill.resume(0.8, seed=1, is_inside=True)
    assert found.drill == "resume"
    assert [check.asked for check in found.checks if check.holds is False] == []


async def test_kill_in_small() -> None:
    found = await kill.run(0.8, seed=1, is_inside=True)
    assert {check.asked for check in found.checks if check.holds is None} >= {"one of two is away, again and again"}
    assert next(c.seen for c in found.checks if c.asked.startswith("one entry")).startswith("160 entries")


async def test_region_in_small() -> None:
    seen = await region.one("silent", 2, 0.3, seed=1, is_inside=True)
    assert len(seen.answers) == int(region.RATE_PER_S * seen.times.end)
    assert any(each.deployment.startswith("near") for each in seen.answers)
    assert any(each.deployment.startswith("far") for each in seen.answers)
    assert len(region.verdict(seen)) == 6


async def test_slow_in_small() -> None:
    found = await slow.run(0.3, seed=1, is_inside=True, median_s=0.01)
    assert [check.holds for check in found.checks if check.asked == "everybody is answered"] == [True]


async def test_cancel_in_small() -> None:
    found = await cancel.run(150, seed=1)
    assert [c.holds for c in found.checks if c.asked.startswith(("no answer", "who stays"))] == [True, True]
