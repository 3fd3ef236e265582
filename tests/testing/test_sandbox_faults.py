"""Every fault of the sandbox, as bytes on the wire and as the official client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from naru.testing import FakeClock, Sandbox
from naru.testing.sandbox import Behaviour, parse_model

TEXT = "one two three four five six"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox()
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=await sandbox.start(), api_key="none", max_retries=0, timeout=5) as made:
        yield made


async def ask(client: AsyncOpenAI, query: str, **more: Any) -> Any:
    messages: Any = [{"role": "user", "content": TEXT}]
    return await client.chat.completions.create(model=f"sandbox/echo?{query}", messages=messages, **more)


async def words(client: AsyncOpenAI, query: str, heard: list[str] | None = None) -> list[str]:
    """The words of a stream; `heard` keeps them even when it breaks."""
    heard = [] if heard is None else heard
    async for chunk in await ask(client, query, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            heard.append(chunk.choices[0].delta.content)
    return heard


async def raw(sandbox_url: str, query: str, *, stream: bool = True, usage: bool = False) -> bytes:
    """The whole answer as bytes, until the sandbox closes."""
    body: dict[str, Any] = {"model": f"echo?{query}", "messages": [{"role": "user", "content": TEXT}], "stream": stream}
    if usage:
        body["stream_options"] = {"include_usage": True}
    content = json.dumps(body).encode()
    host, port = sandbox_url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


def unchunked(answer: bytes) -> bytes:
    """The body of a chunked answer, which must be complete."""
    rest = answer.partition(b"\r\n\r\n")[2]
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def events(answer: bytes) -> list[bytes]:
    return [event.removeprefix(b"data: ") for event in unchunked(answer).split(b"\n\n") if event]


# --- before the answer ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_status(client: AsyncOpenAI, sandbox: Sandbox, status: int, kind: type[openai.APIStatusError]) -> None:
    with pytest.raises(kind, match="told to fail") as caught:
        await ask(client, f"status={status}", stream=True)
    assert caught.value.status_code == status
    assert caught.value.code == "sandbox_fault"
    assert (sandbox.requests, sandbox.failed, sandbox.tokens_out) == (1, 1, 0)


@pytest.mark.parametrize("wait", ["2", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "9999999"])
async def test_retry_after_is_sent_as_written_and_means_429(client: AsyncOpenAI, wait: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client, f"retry_after={wait}")
    assert caught.value.response.headers["retry-after"] == wait


async def test_html_is_an_error_page(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, "html=1")
    assert caught.value.status_code == 502
    assert caught.value.response.text.startswith("<html>")


async def test_error_200_is_an_error_with_status_200(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.with_raw_response.create(
        model="echo?error_200=1", messages=[{"role": "user", "content": "x"}]
    )
    assert answer.status_code == 200
    assert json.loads(answer.text)["error"]["code"] == "sandbox_fault"


async def test_reset_sends_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(ConnectionResetError):
        await raw(await sandbox.start(), "reset=1")
    assert sandbox.failed == 1


async def test_hang_says_nothing_until_the_client_leaves(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.2).chat.completions.create(
            model="echo?hang=1", messages=[{"role": "user", "content": "x"}]
        )
    await sandbox.watch.until(lambda: sandbox.aborted == 1)


# --- within a stream ---


async def test_cut_after_ends_the_stream_without_its_end(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    heard: list[str] = []
    with pytest.raises(openai.APIError):
        await words(client, "cut_after=2", heard)
    assert heard == ["one", " two"]
    assert (sandbox.tokens_out, sandbox.failed, sandbox.open_streams) == (2, 1, 0)


async def test_a_cut_past_the_end_still_strikes(sandbox: Sandbox) -> None:
    answer = await raw(await sandbox.start(), "cut_after=100")
    assert b'" six"' in answer
    assert b'finish_reason":"stop' not in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_reset_with_cut_after_resets_there(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    heard: list[str] = []
    with pytest.raises((openai.APIError, OSError)):
        await words(client, "cut_after=3&reset=1", heard)
    with pytest.raises(ConnectionResetError):
        await raw(str(client.base_url).rstrip("/"), "cut_after=3&reset=1")
    assert sandbox.failed == 2


async def test_hang_after_keeps_the_stream_open_and_notices_the_client_leave(
    client: AsyncOpenAI, sandbox: Sandbox
) -> None:
    stream = await ask(client, "hang_after=2", stream=True)
    parts = aiter(stream)
    heard = [(await anext(parts)).choices[0].delta.content for _ in range(3)]
    assert heard == ["", "one", " two"]
    assert sandbox.open_streams == 1
    await stream.close()
    await sandbox.watch.until(lambda: sandbox.aborted == 1 and sandbox.open_streams == 0)


@pytest.mark.parametrize(("query", "heard"), [("garbage=1", []), ("garbage=3", ["one", " two"])])
async def test_garbage_is_one_broken_event(client: AsyncOpenAI, query: str, heard: list[str]) -> None:
    got: list[str] = []
    with pytest.raises(ValueError):
        await words(client, query, got)
    assert got == heard


async def test_error_after_reports_inside_the_stream_and_sends_no_done(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    heard: list[str] = []
    with pytest.raises(openai.APIError, match="told to fail"):
        await words(client, "error_after=2", heard)
    assert heard == ["one", " two"]
    assert events(await raw(str(client.base_url).rstrip("/"), "error_after=2"))[-1] != b"[DONE]"


async def test_done_0_leaves_out_the_last_event(sandbox: Sandbox) -> None:
    url = await sandbox.start()
    assert events(await raw(url, ""))[-1] == b"[DONE]"
    last = json.loads(events(await raw(url, "done=0"))[-1])
    assert last["choices"][0]["finish_reason"] == "stop"


async def test_finish_is_told_as_asked(client: AsyncOpenAI) -> None:
    assert (await ask(client, "finish=content_filter")).choices[0].finish_reason == "content_filter"


# --- within a plain answer ---


async def test_a_plain_answer_is_cut_in_its_body(sandbox: Sandbox) -> None:
    url = await sandbox.start()
    head, _, body = (await raw(url, "cut_after=10", stream=False)).partition(b"\r\n\r\n")
    assert len(body) == 10
    assert b"content-length: 10\r\n" not in head
    whole = (await raw(url, "cut_after=99999", stream=False)).partition(b"\r\n\r\n")[2]
    with pytest.raises(json.JSONDecodeError):
        json.loads(whole)


async def test_plain_garbage_is_no_json_but_complete(sandbox: Sandbox) -> None:
    head, _, body = (await raw(await sandbox.start(), "garbage=1", stream=False)).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_a_plain_answer_hangs_in_its_body(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    with pytest.raises(openai.APITimeoutError):
        await ask(client.with_options(timeout=0.2), "hang_after=5")
    await sandbox.watch.until(lambda: sandbox.aborted == 1)


# --- usage ---


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("ok", (12, 6)),
        ("zero", (0, 0)),
        ("negative", (-12, -6)),
        ("huge", (10**15, 10**15)),
        ("float", (12.5, 6.5)),
        ("twice", (12, 6)),
    ],
)
async def test_usage_is_told_as_asked(sandbox: Sandbox, mode: str, expected: tuple[float, float]) -> None:
    url = await sandbox.start()
    for usage in (
        json.loads((await raw(url, f"usage={mode}", stream=False)).partition(b"\r\n\r\n")[2])["usage"],
        json.loads(events(await raw(url, f"usage={mode}", usage=True))[-2])["usage"],
    ):
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == expected


async def test_usage_none_and_null(sandbox: Sandbox) -> None:
    url = await sandbox.start()
    assert "usage" not in json.loads((await raw(url, "usage=none", stream=False)).partition(b"\r\n\r\n")[2])
    assert json.loads((await raw(url, "usage=null", stream=False)).partition(b"\r\n\r\n")[2])["usage"] is None
    assert all(b'"prompt_tokens"' not in event for event in events(await raw(url, "usage=none", usage=True)))


async def test_usage_twice_comes_smaller_first(sandbox: Sandbox) -> None:
    found = events(await raw(await sandbox.start(), "usage=twice", usage=True))
    told = [json.loads(event)["usage"] for event in found[:-1] if b'"prompt_tokens"' in event]
    assert [usage["prompt_tokens"] for usage in told] == [6, 12]


async def test_cached_tokens_are_part_of_the_prompt(client: AsyncOpenAI) -> None:
    assert (await ask(client, "cached=5")).usage.prompt_tokens_details.cached_tokens == 5
    assert (await ask(client, "cached=5000")).usage.prompt_tokens_details.cached_tokens == 12


# --- pace ---


async def test_ttft_and_tps_are_waited_for(client: AsyncOpenAI) -> None:
    """Six words at 100 a second after 50 ms take 110 ms; only the lower bound is sure on a busy machine."""
    loop = asyncio.get_running_loop()
    for stream in (True, False):
        began = loop.time()
        if stream:
            assert "".join(await words(client, "ttft_ms=50&tps=100")) == TEXT
        else:
            await ask(client, "ttft_ms=50&tps=100")
        assert loop.time() - began >= 0.108


async def test_a_paced_stream_stops_when_the_client_leaves(client: AsyncOpenAI, sandbox: Sandbox) -> None:
    async with await ask(client, "tokens=100000&tps=200", stream=True) as stream:
        async for _ in stream:
            break
    await sandbox.watch.until(lambda: sandbox.aborted == 1 and sandbox.open_streams == 0)
    assert sandbox.tokens_out < 1000


# --- fail_rate ---


async def outcomes(client: AsyncOpenAI, query: str, times: int) -> list[bool]:
    made = []
    for _ in range(times):
        try:
            await ask(client, query)
            made.append(True)
        except openai.APIStatusError:
            made.append(False)
    return made


async def test_fail_rate_is_the_same_for_the_same_seed() -> None:
    runs = []
    for seed in (7, 7, 8):
        sandbox = Sandbox()
        async with AsyncOpenAI(base_url=await sandbox.start(), api_key="none", max_retries=0) as client:
            runs.append(await outcomes(client, f"fail_rate=0.5&seed={seed}", 30))
        await sandbox.stop()
    assert runs[0] == runs[1] != runs[2]
    assert 5 <= runs[0].count(False) <= 25


async def test_fail_rate_gates_the_named_fault_only(client: AsyncOpenAI) -> None:
    assert await outcomes(client, "fail_rate=0&status=503", 5) == [True] * 5
    with pytest.raises(openai.APIStatusError) as caught:
        await ask(client, "fail_rate=1&status=503")
    assert caught.value.status_code == 503


def test_the_sound_form_keeps_the_pace_and_drops_the_faults() -> None:
    _, behaviour = parse_model("echo?ttft_ms=5&cut_after=1&done=0&usage=zero&fail_rate=0.5")
    assert behaviour.sound == Behaviour(ttft_ms=5, usage="zero", fail_rate=0.5)
    assert behaviour.failing == behaviour
    assert parse_model("echo?fail_rate=1")[1].failing.status == 500


# --- busy_rate and rpm ---


async def statuses(client: AsyncOpenAI, query: str, count: int) -> list[int]:
    found = []
    for _ in range(count):
        try:
            await ask(client, query)
            found.append(200)
        except openai.APIStatusError as error:
            found.append(error.status_code)
    return found


async def test_busy_rate_refuses_a_share_of_its_own_beside_the_faults(client: AsyncOpenAI) -> None:
    found = await statuses(client, "fail_rate=0.3&busy_rate=0.2&retry_after=3&seed=7", 100)
    assert set(found) == {200, 429, 500}
    assert 20 <= found.count(500) <= 40
    assert 10 <= found.count(429) <= 30
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client, "busy_rate=1")
    assert caught.value.response.headers["retry-after"] == "1"


def test_fail_rate_strikes_the_same_requests_with_and_without_busy_rate() -> None:
    both, one = parse_model("echo?fail_rate=0.3&busy_rate=0.2")[1], parse_model("echo?fail_rate=0.3")[1]
    assert [both.struck(at).status for at in (0.0, 0.29, 0.31, 0.49, 0.51)] == [500, 500, 429, 429, None]
    assert [one.struck(at).status for at in (0.0, 0.29, 0.31)] == [500, 500, None]


async def test_shares_of_more_than_all_are_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="together at most 1"):
        await ask(client, "fail_rate=0.6&busy_rate=0.5")


async def test_rpm_lets_a_minutes_worth_through_and_then_one_by_one() -> None:
    clock = FakeClock()
    sandbox = Sandbox(clock=clock)
    try:
        async with AsyncOpenAI(base_url=await sandbox.start(), api_key="none", max_retries=0, timeout=5) as client:
            assert await statuses(client, "rpm=6", 8) == [200] * 6 + [429] * 2
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(client, "rpm=6")
            assert caught.value.response.headers["retry-after"] == "10"
            assert sandbox.limited == sandbox.failed == 3
            clock.advance(10)
            assert await statuses(client, "rpm=6", 2) == [200, 429]
            assert await statuses(client, "rpm=7", 1) == [200], "another name has a limit of its own"
            clock.advance(600)
            assert await statuses(client, "rpm=6", 7) == [200] * 6 + [429]
    finally:
        await sandbox.stop()
