"""The three endings that most faults share: another deployment answers, nobody can, or the stream has begun already."""

from __future__ import annotations

from typing import Any

from tools.chaos.client import LEAK, Answer
from tools.chaos.rows import KINDS, SLACK_S, TOTAL_S, Check, Look, Stage, until
from tools.chaos.upstreams import BEGUN_TEXT, HEALTHY_COST, TEXT

BOTH = (False, True)
STREAM = (True,)
PLAIN = (False,)


def fails_over(kinds: tuple[bool, ...] = BOTH, within_s: float = TOTAL_S) -> Check:
    """The client gets the peer's answer, whole, and pays for it once; the faulty one was asked first."""

    async def check(stage: Stage, look: Look) -> None:
        for is_stream in kinds:
            answer = await stage.client.chat(stage.name, is_stream)
            saw_peer(look, answer, is_stream, within_s)
        await saw_entries(stage, look, len(kinds), "completed", HEALTHY_COST, attempts=2)
        look.saw("the faulty one was asked" if stage.bad.requests else "the faulty one was never asked",
                 bool(stage.bad.requests))  # fmt: skip

    return check


def saw_peer(look: Look, answer: Answer, is_stream: bool, within_s: float, attempts: int = 2) -> None:
    is_right = answer.status == 200 and answer.text == TEXT and answer.is_whole and answer.attempts == attempts
    is_right = is_right and (answer.is_done or not is_stream) and not answer.stream_error
    words = f"{KINDS[is_stream]}: {answer.status}, {answer.attempts} attempt{'s' * (answer.attempts != 1)}"
    if not is_right:
        words += f", {told(answer)}"
    look.saw(words, is_right)
    saw_time(look, answer.took_s, within_s)
    saw_no_leak(look, answer)


def exhausted(status: int, code: str | None, kinds: tuple[bool, ...] = BOTH, within_s: float = TOTAL_S) -> Check:
    """An error in OpenAI's shape that says no more than it should; the client is told not to ask again; nothing is billed."""

    async def check(stage: Stage, look: Look) -> None:
        for is_stream in kinds:
            answer = await stage.client.chat(stage.name, is_stream)
            saw_error(look, answer, status, code, KINDS[is_stream])
            saw_time(look, answer.took_s, within_s)
            if status >= 500:
                said = answer.headers.get("x-should-retry")
                look.saw(f"x-should-retry {said}", said == "false")
        await saw_entries(stage, look, len(kinds), "failed", 0)

    return check


def saw_error(look: Look, answer: Answer, status: int, code: str | None, what: str = "") -> None:
    found = answer.error.get("code")
    is_right = answer.status == status and answer.has_shape and (code is None or found == code)
    words = f"{answer.status} {found}" if answer.has_shape else f"{answer.status} {answer.body[:40]!r}"
    look.saw(f"{what}: {words}" if what else words, is_right)
    saw_no_leak(look, answer)


def cut_off(code: str | None, text: str = BEGUN_TEXT, is_aborted: bool = False, within_s: float = TOTAL_S) -> Check:
    """What had come stays, an error event follows it, no [DONE], and what was delivered is billed."""

    async def check(stage: Stage, look: Look) -> None:
        answer = await stage.client.chat(stage.name, True)
        saw_cut(look, answer, code, text)
        saw_time(look, answer.took_s, within_s)
        await saw_partial(stage, look)
        if is_aborted:
            await saw_abort(stage, look)

    return check


def saw_cut(look: Look, answer: Answer, code: str | None, text: str = BEGUN_TEXT) -> None:
    found = answer.stream_error.get("code")
    look.saw(f"200, then {'error event ' + str(found) if answer.stream_error else 'no error event'}",
             answer.status == 200 and bool(answer.stream_error) and code in (None, found))  # fmt: skip
    look.saw("no [DONE]" if not answer.is_done else "a false [DONE]", not answer.is_done)
    if answer.text != text:
        look.saw(f"the text is {answer.text[:40]!r}", False)
    look.saw("ended" if answer.is_whole else "left open", answer.is_whole)
    saw_no_leak(look, answer)


async def saw_partial(stage: Stage, look: Look) -> None:
    """Input and delivered output, by estimate because nobody told."""
    entries = await stage.gateway.entries(stage.name)
    entry = entries[0] if entries else {}
    is_right = len(entries) == 1 and entry["outcome"] == "partial" and entry["cost_nano"] > 0 and entry["output"] > 0
    look.saw(f"billed {shown(entry)}", is_right)


async def saw_abort(stage: Stage, look: Look, within_s: float = SLACK_S) -> None:
    """The upstream of the faulty one saw its peer leave."""
    is_aborted = await until(lambda: stage.bad.aborted > 0, within_s)
    look.saw("the upstream saw the abort" if is_aborted else "the upstream was not aborted", is_aborted)


async def saw_entries(
    stage: Stage, look: Look, count: int, outcome: str, cost: int | None, attempts: int | None = None
) -> None:
    """So many ledger entries and no more, each with this outcome and cost (None: any above 0)."""
    entries = await stage.gateway.entries(stage.name, count)
    wrong = [
        entry for entry in entries
        if entry["outcome"] != outcome
        or not (entry["cost_nano"] > 0 if cost is None else entry["cost_nano"] == cost)
        or attempts not in (None, entry["attempts"])
    ]  # fmt: skip
    if len(entries) == count and not wrong:
        look.saw(f"billed {shown(entries[0])}{' each' if count > 1 else ''}")
    else:
        look.saw(f"{len(entries)} entries for {count}: {shown(wrong[0] if wrong else {})}", False)


def shown(entry: dict[str, Any]) -> str:
    if not entry:
        return "nothing"
    return f"{entry['outcome']} {entry['cost_nano']:,} n$" + (" est." if entry["is_estimated"] else "")


def told(answer: Answer) -> str:
    """An answer that was not expected, in few words."""
    if not answer.status:
        return "no answer"
    error = answer.error or answer.stream_error
    whole = "" if answer.is_whole else ", cut off"
    return f"{error.get('code')}: {str(error.get('message'))[:60]}{whole}" if error else f"{answer.text[:40]!r}{whole}"


def saw_time(look: Look, took_s: float, within_s: float) -> None:
    if took_s > within_s + SLACK_S:
        look.saw(f"after {took_s:.1f} s", False)


def saw_no_leak(look: Look, answer: Answer) -> None:
    body = answer.body
    if LEAK.encode() in body or b"<html" in body.lower():
        look.saw("the provider's own text reached the client", False)


def counts(requests: int = 8, opens_after: int = 5) -> Check:
    """Failures feed the breaker: after five in a row the faulty one is asked no more, and the peer answers at once."""

    async def check(stage: Stage, look: Look) -> None:
        answers = [await stage.client.chat(stage.name, True) for _ in range(requests)]
        failed = sum(answer.status != 200 or answer.text != TEXT for answer in answers)
        look.saw(f"{requests - failed} of {requests} answered", not failed)
        asked = sum(answer.attempts > 1 for answer in answers)
        look.saw(f"the faulty one was asked {asked} times", 0 < asked <= opens_after)

    return check
