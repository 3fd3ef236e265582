"""A5 to A11, A19, A27: what goes wrong in a stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from naru.testing import Exchange, Script
from naru.testing.http import Handler
from naru.testing.script import play
from tools.chaos import checks
from tools.chaos.checks import PLAIN, STREAM, cut_off, fails_over
from tools.chaos.client import LEAK, Answer
from tools.chaos.rows import IDLE_S, TTFT_S, Look, Row, Stage, alone, beside_a_peer
from tools.chaos.upstreams import (
    BEGUN,
    DONE,
    HEALTHY_COST,
    ROLE,
    SILENT,
    STOP,
    TEXT,
    TOLD,
    WHOLE,
    chunk,
    either,
    event,
    healthy_plain,
    says,
    stream,
)

KOREAN = "한국어 café 😀👩‍👩‍👧 ﷽ end"


def rows() -> list[Row]:
    return [*hanging(), *truncated(), *garbled(), *split(), *grammar(), *dripping(), *tool_calls()]


def hanging() -> list[Row]:
    hang = either(stream(*BEGUN, ending="hang"), SILENT)
    fault = "silence in mid-stream"
    return [
        Row("A5", "after commit", fault, "idle time-out: error event upstream_timeout, partial bill, aborted",
            beside_a_peer(hang), cut_off("upstream_timeout", is_aborted=True, within_s=IDLE_S)),
        Row("A5", "form, chat", fault, "the event has the error and a choice finished by error (1.3)",
            alone(hang), event_form),
        Row("A5", "form, Responses", f"{fault}, on /v1/responses", "response.failed or an error event (1.3)",
            alone(hang), responses_form),
        Row("A5", "form, Messages", f"{fault}, on /v1/messages", "event: error (1.3)", alone(hang), messages_form),
    ]  # fmt: skip


async def event_form(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, True)
    told = next((each for each in answer.chunks if each.get("error")), {})
    look.saw(
        f"error with {', '.join(sorted(told.get('error', {})))}",
        {"message", "type", "code"} <= set(told.get("error", {})),
    )
    reasons = [choice.get("finish_reason") for choice in told.get("choices") or []]
    look.saw(f"choices finished by {reasons}" if "choices" in told else "no choices in the event", reasons == ["error"])


async def responses_form(stage: Stage, look: Look) -> None:
    body = json.dumps({"model": stage.name, "input": "one two", "stream": True}).encode()
    answer = await stage.client.post(body, "/v1/responses")
    types = [each.get("type") for each in answer.chunks]
    look.saw(
        f"{answer.status}, ends with {types[-1] if types else None}", bool({"response.failed", "error"} & set(types))
    )
    look.saw("no response.completed", "response.completed" not in types)


async def messages_form(stage: Stage, look: Look) -> None:
    body = json.dumps({
        "model": stage.name, "max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "x"}],
    }).encode()  # fmt: skip
    answer = await stage.client.post(body, "/v1/messages")
    look.saw(f"{answer.status}, {'event: error' if b'event: error' in answer.body else 'no event: error'}",
             b"event: error" in answer.body)  # fmt: skip
    look.saw("no message_stop", b"event: message_stop" not in answer.body)


def truncated() -> list[Row]:
    begun = b"".join(BEGUN)
    short_stream = Script(headers=stream().headers, pieces=BEGUN, stated_length=len(begun) + 500, ending="fin")
    (whole,) = healthy_plain().pieces
    short = Script(pieces=(whole[:40],), stated_length=len(whole), ending="fin")
    early = either(stream(ROLE, framing="close"), short)
    incomplete = "error event upstream_incomplete, no [DONE], partial bill"
    shapes = (
        ("FIN", stream(*BEGUN, framing="close")),
        ("ended", stream(*BEGUN)),
        ("no last chunk", stream(*BEGUN, ending="fin")),
        ("length short", short_stream),
    )
    ends = (
        ("ended", stream(ROLE, says(TEXT), STOP, TOLD)),
        ("FIN", stream(ROLE, says(TEXT), STOP, TOLD, framing="close")),
    )
    return [
        Row("A6", "before commit", "FIN after the role; a plain body cut short", "failover", beside_a_peer(early), fails_over()),
        *(Row("A6", f"after commit, {case}", f"stops in mid-stream: {case}", incomplete,
              beside_a_peer(either(script, SILENT)), cut_off("upstream_incomplete")) for case, script in shapes),
        *(Row("A7", case, f"finish_reason and usage, but no [DONE]: {case}", "success, [DONE] added, billed exactly",
              alone(either(script, SILENT)), succeeds) for case, script in ends),
    ]  # fmt: skip


async def succeeds(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, True)
    is_right = answer.status == 200 and answer.text == TEXT and answer.is_whole and not answer.stream_error
    look.saw("200, whole" if is_right else checks.told(answer), is_right)
    look.saw("[DONE]" if answer.is_done else "no [DONE]", answer.is_done)
    await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)


def garbled() -> list[Row]:
    broken = event(b'{"id": "c1", "choices": [{"delta": {"content": "%b' % LEAK.encode())
    invalid = event(b'{"id":"c1","choices":[{"index":0,"delta":{"content":"\xff\xfe%b"}}]}' % LEAK.encode())
    nonsense = Script(pieces=(b'{"choices": [{"message": %b' % LEAK.encode(),))
    invalid_plain = Script(pieces=(healthy_plain("PLACE").pieces[0].replace(b"PLACE", b"\xff\xfe" + LEAK.encode()),))
    made = []
    for fault, what, bad, plain in (
        ("A8", "malformed JSON", broken, nonsense),
        ("A10", "invalid UTF-8", invalid, invalid_plain),
    ):
        made += [
            Row(fault, "before commit", f"{what} in the first event, or the body", "failover",
                beside_a_peer(either(stream(ROLE, bad, *WHOLE[1:]), plain)), fails_over()),
            Row(fault, "after commit", f"{what} in a later event", "error event, none of the raw text, partial bill",
                beside_a_peer(either(stream(*BEGUN, bad, STOP, DONE), plain)), cut_off(None)),
        ]  # fmt: skip
    return made


# --- Cuts and grammar -------------------------------------------------------------------------------------------------


def split() -> list[Row]:
    return [
        Row("A9", "TCP", "a stream of 4 scripts cut in two at every byte, and byte by byte", "the same text, byte for byte",
            alone(cut_at_will(False), ttft_s=5, idle_s=5, total_s=20), every_cut),
        Row("A9", "chunks", "the same with HTTP chunks cut there", "the same text, byte for byte",
            alone(cut_at_will(True), ttft_s=5, idle_s=5, total_s=20), every_cut),
    ]  # fmt: skip


def multilingual() -> bytes:
    return b"".join((ROLE, says(KOREAN), STOP, TOLD, DONE))


def cut_at_will(is_chunked: bool) -> Handler:
    """`seed` in the request says where the cut is; 0 cuts everywhere."""

    async def handler(exchange: Exchange) -> None:
        cut = json.loads(exchange.received.body)["seed"]
        data = multilingual()
        pieces = (data[:cut], data[cut:]) if cut else tuple(data[n : n + 1] for n in range(len(data)))
        framing: Any = "chunked" if is_chunked else "close"
        await play(exchange, stream(*pieces, framing=framing, pause_s=0.002 if cut else 0.0))

    return handler


async def every_cut(stage: Stage, look: Look) -> None:
    """Every cut inside the event that has the text, some others, and all cuts at once."""
    start = len(ROLE)
    inside = list(range(start + 80, start + len(says(KOREAN)) + 2))
    cuts = [0, *inside, *stage.random.sample(range(1, len(multilingual()) - 1), 20)]
    gate = asyncio.Semaphore(4)

    async def once(cut: int) -> bool:
        async with gate:
            answer = await stage.client.chat(stage.name, True, seed=cut)
        return answer.text == KOREAN and answer.is_done and KOREAN.encode() in answer.body

    right = await asyncio.gather(*(once(cut) for cut in cuts))
    look.saw(f"{sum(right)} of {len(cuts)} cuts gave the same text", all(right))


def grammar() -> list[Row]:
    return [
        Row("A11", "grammar", "CRLF, CR, BOM, comments, data on two lines, event, id, retry, no space",
            "read as WHATWG says: the same text, billed exactly", alone(in_grammar), reads_them_all),
    ]  # fmt: skip


def two_lines(data: bytes) -> bytes:
    """A line break between two tokens of the JSON, which the joining LF then is."""
    return data.replace(b', "choices"', b',\ndata: "choices"').replace(b', "created"', b',\ndata:"created"')


GRAMMAR: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "comments": lambda data: b": hello\n\n" + data.replace(b"data:", b": again\ndata:"),
    "two lines": two_lines,
    "fields": lambda data: b"retry: 10\n\n" + data.replace(b"data:", b"event: message\nid: 7\nunknown: x\ndata:"),
    "no space": lambda data: data.replace(b"data: ", b"data:"),
}


async def in_grammar(exchange: Exchange) -> None:
    asked = json.loads(exchange.received.body)
    await play(exchange, stream(GRAMMAR[asked["user"]](b"".join(WHOLE))))


async def reads_them_all(stage: Stage, look: Look) -> None:
    for name in GRAMMAR:
        answer = await stage.client.chat(stage.name, True, user=name)
        is_right = answer.status == 200 and answer.text == TEXT and answer.is_done
        look.saw(name if is_right else f"{name}: {checks.told(answer)}", is_right)
    await checks.saw_entries(stage, look, len(GRAMMAR), "completed", HEALTHY_COST)


# --- Slow drip --------------------------------------------------------------------------------------------------------


def dripping() -> list[Row]:
    letters = tuple(b"data: {".decode()[n : n + 1].encode() for n in range(7)) * 10
    bytewise = stream(*BEGUN, *letters, pause_s=0.1)
    eventwise = stream(*BEGUN, *(says("") for _ in range(3)), *(says("more ") for _ in range(40)), pause_s=0.2)
    return [
        Row("A19", "before commit", "a byte every 100 ms, no content", "TTFT time-out, failover",
            beside_a_peer(either(stream(*letters, pause_s=0.1), SILENT)), fails_over(STREAM, TTFT_S)),
        Row("A19", "after commit, bytes", "a byte every 100 ms, no whole event", "idle time-out all the same",
            beside_a_peer(either(bytewise, SILENT)),
            cut_off("upstream_timeout", is_aborted=True, within_s=IDLE_S + 0.3)),
        Row("A19", "after commit, events", "an event every 200 ms, for longer than total_s",
            "events reset the idle timer; the total deadline ends it",
            beside_a_peer(either(eventwise, SILENT), total_s=2.0), until_the_deadline),
        Row("A19", "plain", "a plain body, a byte every 100 ms", "the total deadline applies: 504",
            alone(either(SILENT, Script(pieces=letters, pause_s=0.1)), total_s=1.5),
            checks.exhausted(504, "upstream_timeout", PLAIN, 1.5)),
    ]  # fmt: skip


async def until_the_deadline(stage: Stage, look: Look) -> None:
    answer = await stage.client.chat(stage.name, True)
    checks.saw_cut(look, answer, "upstream_timeout", answer.text)
    look.saw(f"{answer.text.count('more')} events in {answer.took_s:.1f} s", 2.0 <= answer.took_s <= 2.0 + 1.0)
    await checks.saw_abort(stage, look)


# --- Tool calls -------------------------------------------------------------------------------------------------------


def call(index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    made: dict[str, Any] = {"function": function}
    made |= {} if index is None else {"index": index}
    return made | ({} if call_id is None else {"id": call_id, "type": "function"})


#: Deltas, and the calls (id, name, arguments) that a client must be able to put together from them.
CALLS: dict[str, tuple[list[list[dict[str, Any]]], list[tuple[str, str, str]]]] = {
    "name split": (
        [[call(0, "a", "get_", "")], [call(0, None, "weather", "{}")]],
        [("a", "get_weather", "{}")],
    ),
    "escape split": (
        [[call(0, "a", "f", '{"city":"\\uc1')], [call(0, None, None, '1c\\')], [call(0, None, None, 'n"}')]],
        [("a", "f", '{"city":"\\uc11c\\n"}')],
    ),
    "interleaved": (
        [[call(0, "a", "f", "")], [call(1, "b", "g", "")], [call(0, None, None, '{"x":')],
         [call(1, None, None, '{"y":')], [call(0, None, None, "1}")], [call(1, None, None, "2}")]],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "no index": (
        [[call(None, "a", "f", '{"x":')], [call(None, None, None, "1}")], [call(None, "b", "g", "{}")]],
        [("a", "f", '{"x":1}'), ("b", "g", "{}")],
    ),
    "id once": (
        [[call(0, "a", "f", '{"x":')], [call(0, None, None, "1")], [call(0, None, None, "}")]],
        [("a", "f", '{"x":1}')],
    ),
    "no arguments": ([[call(0, "a", "f", "")]], [("a", "f", "")]),
}  # fmt: skip


def tool_calls() -> list[Row]:
    made = []
    for case, (deltas, calls) in CALLS.items():
        events = [event(chunk({"tool_calls": fragments})) for fragments in deltas]
        script = stream(ROLE, *events, event(chunk({}, "tool_calls")), TOLD, DONE)
        made.append(
            Row("A27", case, f"tool-call deltas: {case}", "put together by the client to the same calls",
                alone(either(script, SILENT)), gives(calls))
        )  # fmt: skip
    return made


def gives(calls: list[tuple[str, str, str]]) -> Any:
    async def check(stage: Stage, look: Look) -> None:
        answer = await stage.client.chat(stage.name, True)
        found = calls_in(answer)
        # An argument-less call may be told as "{}": the same to every reader of JSON.
        is_right = [(a, b, c or "{}") for a, b, c in found] == [(a, b, c or "{}") for a, b, c in calls]
        look.saw(
            f"{len(found)} calls, as sent" if is_right else f"{answer.status} {found}", is_right and answer.is_done
        )
        await checks.saw_entries(stage, look, 1, "completed", HEALTHY_COST)

    return check


def calls_in(answer: Answer) -> list[tuple[str, str, str]]:
    """As a client accumulates: by index, names and arguments appended."""
    calls: dict[int, list[str]] = {}
    for each in answer.chunks:
        for choice in each.get("choices") or []:
            for fragment in (choice.get("delta") or {}).get("tool_calls") or []:
                made = calls.setdefault(fragment.get("index", -1), ["", "", ""])
                function = fragment.get("function") or {}
                made[0] = made[0] or fragment.get("id") or ""
                made[1] += function.get("name") or ""
                made[2] += function.get("arguments") or ""
    return [(a, b, c) for _, (a, b, c) in sorted(calls.items())]
