"""Answers that are cut short and gone on with: only plain text, never twice, and the client sees one answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from naru.protocol.anthropic_messages import ANTHROPIC_MESSAGES
from naru.protocol.bridge import Upstream
from naru.protocol.continuation import Beginning, GoingOn, PlainStream
from naru.protocol.dialect import Quirks
from naru.protocol.openai_chat import OPENAI_CHAT
from naru.testing.script import Script
from tests.routing.cast import STREAM, Cast, cast, chunk, error, streamed, text_of, usage

ON = "continue_cut = true\n"
CUT = Script(headers=STREAM, framing="chunked", pieces=(chunk(), chunk("one "), chunk("two ")), ending="reset")


async def asked_of(stage: Cast, **body: object) -> tuple[str, dict[str, str]]:
    _, headers, told = await stage.stream(**body)
    return told, headers


async def test_the_client_sees_one_answer(tmp_path: Path) -> None:
    """One id, one role, every word once, an end and a usage; the next upstream was given what was said as its own beginning."""
    async with cast(tmp_path, "a b", ON, kind="vllm") as stage:
        stage["a"].script = CUT
        stage["b"].script = streamed("three ", "four")
        told, _ = await asked_of(stage, stream_options={"include_usage": True}, max_tokens=50)
        assert text_of(told) == "one two three four"
        events = [msgspec.json.decode(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
        assert len({event["id"] for event in events}) == 1
        assert sum("role" in choice["delta"] for event in events for choice in event["choices"]) == 1
        assert told.rstrip().endswith("[DONE]")
        assert '"error"' not in told
        (given,) = stage["b"].asked
        assert given["messages"][-1] == {"role": "assistant", "content": "one two "}
        assert (given["continue_final_message"], given["add_generation_prompt"]) == (True, False)
        assert given["max_tokens"] < 50
        (entry,) = await stage.gateway.entries()
        assert (entry.outcome, entry.deployment, entry.is_estimated) == ("completed", "b/x", True)
        (cut,) = entry.tried
        assert cut.deployment == "a/x"
        assert cut.cost_nano > 0
        assert entry.provider_cost_nano == entry.cost_nano + cut.cost_nano
        assert events[-1]["usage"]["completion_tokens"] == entry.output > 2
        assert stage.gateway.app.gateway.failover.fleet.known()["a/x"].failures == 1


@pytest.mark.parametrize("cut_after", range(1, 7))
async def test_wherever_it_is_cut_no_word_is_lost_or_told_twice(tmp_path: Path, cut_after: int) -> None:
    words = ["alpha ", "beta", " gamma", "\n", "delta ", "epsilon"]
    async with cast(tmp_path, "a b", ON, kind="vllm") as stage:
        pieces = (chunk(), *map(chunk, words[:cut_after]))
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=pieces, ending="fin")
        stage["b"].script = streamed(*(words[cut_after:] or ["."]))
        told, _ = await asked_of(stage)
        whole = "".join(words) + ("" if words[cut_after:] else ".")
        # Where the beginning ends in a blank, blanks at the start of the rest are one with it.
        assert text_of(told).split() == whole.split()


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "high"},
        {"n": 2},
        {"stop": ["END"]},
        {"logprobs": True},
    ],
    ids=lambda more: next(iter(more)),
)
async def test_anything_but_plain_text_is_not_gone_on_with(tmp_path: Path, more: dict[str, object]) -> None:
    """It ends with an error that the client can trust."""
    async with cast(tmp_path, "a b", ON, kind="vllm") as stage:
        stage["a"].script = CUT
        told, _ = await asked_of(stage, **more)
        assert '"error"' in told
        assert "[DONE]" not in told
        assert stage["b"].asked == []


async def test_what_was_thought_is_not_gone_on_with(tmp_path: Path) -> None:
    """Even where nobody asked for it."""
    thought = {"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}
    event = b"data: %b\n\n" % msgspec.json.encode({"id": "c", "choices": [thought]})
    async with cast(tmp_path, "a b", ON, kind="vllm") as stage:
        stage["a"].script = Script(headers=STREAM, framing="chunked", pieces=(chunk(), event, chunk("x")), ending="fin")
        told, _ = await asked_of(stage)
        assert '"error"' in told
        assert stage["b"].asked == []


async def test_off_unless_it_is_asked_for_and_only_where_it_can_be_done(tmp_path: Path) -> None:
    """Without the setting; and at a provider that takes no beginning."""
    async with cast(tmp_path, "a b", kind="vllm") as stage:
        stage["a"].script = CUT
        assert '"error"' in (await asked_of(stage))[0]
    async with cast(tmp_path, "a b", ON, kind="custom") as stage:
        stage["a"].script = CUT
        assert '"error"' in (await asked_of(stage))[0]
        assert stage["b"].asked == []


async def test_a_second_cut_may_go_on_once_more_and_then_it_ends(tmp_path: Path) -> None:
    """Each deployment once; what is charged at the end is what was said."""
    async with cast(tmp_path, "a b c", ON, kind="vllm") as stage:
        stage["a"].script = CUT
        stage["b"].script = Script(headers=STREAM, framing="chunked", pieces=(chunk(), chunk("three ")), ending="reset")
        stage["c"].script = streamed("four")
        told, _ = await asked_of(stage)
        assert text_of(told) == "one two three four"
        assert stage["c"].asked[0]["messages"][-1]["content"] == "one two three "


async def test_when_nobody_can_go_on_the_error_is_told(tmp_path: Path) -> None:
    async with cast(tmp_path, "a b", ON, kind="vllm") as stage:
        stage["a"].script = CUT
        stage["b"].script = error(500)
        told, _ = await asked_of(stage)
        assert text_of(told) == "one two "
        assert '"error"' in told
        (entry,) = await stage.gateway.entries()
        assert (entry.outcome, entry.deployment) == ("partial", "a/x")
        assert [attempt.deployment for attempt in entry.tried] == ["b/x"]


async def test_a_request_cancelled_while_another_is_sought_is_charged_what_was_said(tmp_path: Path) -> None:
    """By the stream that was shown last, at its own deployment, once; not by the first, and not as lost either."""
    async with cast(tmp_path, "a b c", ON, kind="vllm") as stage:
        stage["a"].script = CUT
        stage["b"].script = Script(
            headers=STREAM, framing="chunked", pieces=(chunk(), chunk("three " * 200)), ending="reset"
        )
        stage["c"].script = Script(is_silent=True, ending="hang")
        asking = asyncio.create_task(stage.stream())
        async with asyncio.timeout(5):
            while not stage["c"].asked:
                await asyncio.sleep(0)
        (serving,) = (task for task in asyncio.all_tasks() if "App.serve" in str(task.get_coro()))
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        (entry,) = await stage.gateway.entries()
        assert (entry.outcome, entry.deployment) == ("partial", "b/x")
        assert entry.output > 200
        assert [attempt.deployment for attempt in entry.tried] == ["a/x"]
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def test_whole_answers_are_as_they_were(tmp_path: Path) -> None:
    """The setting alone changes nothing that a client sees."""
    async with cast(tmp_path, "a", ON, kind="vllm") as stage:
        stage["a"].script = Script(
            headers=STREAM, framing="chunked", pieces=(chunk(), chunk("안녕"), chunk("", "stop"), usage(2), b"data: [DONE]\n\n")
        )  # fmt: skip
        told, _ = await asked_of(stage)
        assert text_of(told) == "안녕"
        assert told.rstrip().endswith("[DONE]")


# --- Between dialects -----------------------------------------------------------------------------------------------------


def test_claude_goes_on_where_another_stopped() -> None:
    """The beginning is its own last message, without the blank at its end, which it refuses; the rest is joined."""
    body = msgspec.json.encode({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
    envelope = OPENAI_CHAT.read(body, "/v1/chat/completions")
    stream = Beginning(OPENAI_CHAT, OPENAI_CHAT).stream(envelope, Quirks(), lambda usage: 0)
    assert isinstance(stream, PlainStream)
    first = stream.feed(chunk() + chunk("one "))
    assert stream.can_go_on
    way = GoingOn(OPENAI_CHAT, ANTHROPIC_MESSAGES, stream)
    asked = way.request(envelope, Upstream("claude", Quirks(prefill="plain", max_output=100)), True)
    assert msgspec.json.decode(asked.body)["messages"][-1] == {"role": "assistant", "content": "one"}
    rest = way.stream(envelope, Quirks(), lambda usage: 0)
    events = [
        {"type": "message_start", "message": {"id": "x", "model": "claude", "role": "assistant", "content": [], "usage": {"input_tokens": 9}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " two"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]  # fmt: skip
    said = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events)
    told = (first + rest.feed(said) + rest.close()).decode()
    assert text_of(told) == "one two"
    assert told.count('"role"') == 1
    assert "claude" not in told
    assert rest.usage is not None
    assert rest.usage.output > 1


def events_of(told: str) -> list[dict[str, object]]:
    return [msgspec.json.decode(line[6:]) for line in told.splitlines() if line.startswith("data: {")]


async def test_other_protocols_see_one_answer_too(tmp_path: Path) -> None:
    """Messages and Responses: one beginning, one end, the whole text in it."""
    places = ", ".join(
        f'{{ provider = "{name}", model = "x", priority = {n}, endpoint = "chat" }}' for n, name in ((1, "a"), (2, "b"))
    )
    async with cast(tmp_path, "a b", f"deployments = [{places}]\n{ON}", kind="vllm") as stage:
        stage["a"].script = CUT
        stage["b"].script = streamed("three ", "four")
        body = {"model": "m", "stream": True, "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]}
        _, _, told = await stage.gateway.post(msgspec.json.encode(body), "/v1/messages")
        found = events_of(told.decode())
        kinds = [event["type"] for event in found]
        assert (kinds.count("message_start"), kinds.count("content_block_start"), kinds[-1]) == (1, 1, "message_stop")
        deltas = [event["delta"] for event in found if event["type"] == "content_block_delta"]
        assert "".join(delta["text"] for delta in deltas) == "one two three four"  # type: ignore[index]
        asked = msgspec.json.encode({"model": "m", "stream": True, "input": "hi"})
        _, _, told = await stage.gateway.post(asked, "/v1/responses")
        found = events_of(told.decode())
        assert [event["type"] for event in found].count("response.created") == 1
        assert [event["sequence_number"] for event in found] == list(range(len(found)))
        done = found[-1]
        assert done["type"] == "response.completed"
        (item,) = done["response"]["output"]  # type: ignore[index]
        assert item["content"][0]["text"] == "one two three four"
