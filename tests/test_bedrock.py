"""Bedrock through the gateway: its streams' framing on real sockets, its two credentials, its regions, its prices."""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from naru.config import Settings, load_settings
from naru.errors import ConfigError
from naru.testing import Sandbox
from naru.testing.http import Exchange, RawServer, Received
from naru.testing.sandbox.bedrock import frame
from naru.transport.sigv4 import AwsCredentials, Scope, signed_headers
from tests.harness import MESSAGES, Gateway, running
from tests.protocol.bedrock.samples import CALLS_STREAM, START, TEXT_STREAM, answer, delta

MODEL = "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SIGNED = """
    access_key_id = "AKIDEXAMPLE"
    secret_access_key = "s/ecret"
    session_token = "to/ken"
    region = "ap-northeast-2"
"""


class Runtime:
    """Answers with `body`, of the content type that a stream or a whole answer has, `step` bytes at a time."""

    def __init__(self) -> None:
        self.step = 1 << 20
        self.body = answer({"text": "hi"})
        self.type = ""
        self.server = RawServer(self.handle)

    async def handle(self, exchange: Exchange) -> None:
        is_stream = exchange.received.target.endswith("converse-stream")
        kind = self.type or ("application/vnd.amazon.eventstream" if is_stream else "application/json")
        exchange.start(200, (("content-type", kind),))
        for start in range(0, len(self.body), self.step):
            exchange.send(self.body[start : start + self.step])
            await exchange.pause()
        exchange.end()

    @property
    def last(self) -> Received:
        return self.server.received[-1]


def config(origin: str, credential: str = 'api_key = "ABSK-key"') -> str:
    return f"""
    [providers.bedrock]
    base_url = "{origin}"
    allow_private = true
    {credential}
    """


async def read(stream: openai.AsyncStream[Any], said: list[str]) -> None:
    async for chunk in stream:
        said += [choice.delta.content or "" for choice in chunk.choices]


@pytest.fixture
async def runtime() -> AsyncIterator[tuple[str, Runtime]]:
    made = Runtime()
    yield await made.server.start(), made
    await made.server.stop()


@pytest.fixture
async def signed(tmp_path: Path, runtime: tuple[str, Runtime]) -> AsyncIterator[tuple[Gateway, Runtime]]:
    async with running(tmp_path, config(runtime[0], SIGNED)) as gateway:
        yield gateway, runtime[1]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_every_request_is_signed_over_what_is_sent(signed: tuple[Gateway, Runtime], is_stream: bool) -> None:
    """The server makes the signature again from the request as it came."""
    gateway, runtime = signed
    runtime.body = TEXT_STREAM if is_stream else runtime.body
    made = await gateway.openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=is_stream)
    if is_stream:
        assert "".join([c.choices[0].delta.content or "" async for c in made if c.choices]) == "안녕 👋"
    got = runtime.last
    ending = "converse-stream" if is_stream else "converse"
    assert got.target == f"/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/{ending}"
    then = calendar.timegm(time.strptime(got.header("x-amz-date") or "", "%Y%m%dT%H%M%SZ"))
    assert abs(then - time.time()) < 60
    credentials = AwsCredentials("AKIDEXAMPLE", "s/ecret", "to/ken")
    headers = {name: got.header(name) or "" for name in ("content-type", "host")}
    scope = Scope("ap-northeast-2", "bedrock")
    added = signed_headers(credentials, scope, "POST", got.target, headers, got.body, then)
    assert {name: got.header(name) for name in added} == added


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_where_the_bytes_are_cut_never_shows(tmp_path: Path, runtime: tuple[str, Runtime], step: int) -> None:
    runtime[1].step, runtime[1].body = step, CALLS_STREAM
    async with running(tmp_path, config(runtime[0])) as gateway:
        ask = gateway.openai.chat.completions.stream(model=MODEL, messages=MESSAGES)
        async with ask as stream:
            answered = (await stream.get_final_completion()).choices[0]
    assert answered.finish_reason == "tool_calls"
    calls = answered.message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("tooluse_a", "get_weather", '{"location":"서울"}'),
        ("tooluse_b", "get_time", "{}"),
    ]


async def test_the_region_of_a_deployment_is_the_signatures(tmp_path: Path, runtime: tuple[str, Runtime]) -> None:
    deployment = '{ provider = "bedrock", model = "m", region = "eu-west-1" }'
    more = f'[models.m]\ndeployments = [{deployment}]\nprice = "free"\n'
    async with running(tmp_path, config(runtime[0], SIGNED) + more) as gateway:
        await gateway.openai.chat.completions.create(model="m", messages=MESSAGES)
    assert "/eu-west-1/bedrock/aws4_request" in (runtime[1].last.header("authorization") or "")


async def test_a_key_is_sent_as_it_is(tmp_path: Path, runtime: tuple[str, Runtime]) -> None:
    """And the price is the list's for inference across regions, which is dearer than across the world."""
    async with running(tmp_path, config(runtime[0])) as gateway:
        await gateway.openai.chat.completions.create(model=MODEL, messages=MESSAGES)
        got = runtime[1].last
        assert (got.header("authorization"), got.header("x-amz-date")) == ("Bearer ABSK-key", None)
        assert (got.header("accept"), json.loads(got.body).keys()) == ("application/json", {"messages"})
        (entry,) = await gateway.entries()
        assert entry.cost_nano == 20 * 3_300 + 5 * 16_500


async def test_a_stream_of_another_type_is_none(tmp_path: Path, runtime: tuple[str, Runtime]) -> None:
    """Server-sent events are no stream of Bedrock's."""
    runtime[1].type, runtime[1].body = "text/event-stream", TEXT_STREAM
    async with running(tmp_path, config(runtime[0])) as gateway:
        with pytest.raises(openai.APIStatusError, match="no stream"):
            await gateway.openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert runtime[1].last.header("accept") == "application/vnd.amazon.eventstream"


async def test_a_damaged_frame_ends_the_stream_in_an_error(tmp_path: Path, runtime: tuple[str, Runtime]) -> None:
    damaged = bytearray(delta(0, text=" more"))
    damaged[-20] ^= 1
    runtime[1].body = START + delta(0, text="first") + bytes(damaged)
    said: list[str] = []
    async with running(tmp_path, config(runtime[0])) as gateway:
        stream = await gateway.openai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError, match="damaged"):
            await read(stream, said)
        (entry,) = await gateway.entries()
    assert "".join(said) == "first"
    assert entry.outcome == "partial"


async def test_a_throttle_before_the_first_word_goes_to_the_next_deployment(
    tmp_path: Path, runtime: tuple[str, Runtime]
) -> None:
    throttled = frame(
        {":message-type": "exception", ":exception-type": "throttlingException"}, b'{"message":"Too many tokens"}'
    )
    runtime[1].body = START + throttled
    more = """
    [models.m]
    deployments = [{ provider = "bedrock", model = "m" }, { provider = "sandbox", model = "echo", priority = 2 }]
    price = "free"
    """
    async with running(tmp_path, config(runtime[0]) + more) as gateway:
        stream = await gateway.openai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == "hello there"


@pytest.mark.parametrize("fault", ["cut_after=2", "error_after=2", "garbage=2"])
async def test_faults_rehearsed_in_bedrocks_form(tmp_path: Path, fault: str) -> None:
    sandbox = Sandbox()
    origin = (await sandbox.start()).removesuffix("/v1")
    more = f"""
    [models.m]
    deployments = [{{ provider = "bedrock", model = "amazon.nova-pro-echo?{fault}" }}]
    price = "free"
    """
    async with running(tmp_path, config(origin) + more) as gateway:
        question: Any = [{"role": "user", "content": "one two three four five"}]
        stream = await gateway.openai.chat.completions.create(model="m", messages=question, stream=True)
        with pytest.raises(openai.APIError):
            await read(stream, [])
        (entry,) = await gateway.entries()
        assert entry.outcome == "partial"
    await sandbox.stop()


# --- Settings ---------------------------------------------------------------------------------------------------------

AWS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}


def settings(tmp_path: Path, text: str, environ: dict[str, str]) -> Settings:
    file = tmp_path / "naru.toml"
    file.write_text(text)
    return load_settings(file, {"NARU_HOME": str(tmp_path), "HOME": str(tmp_path), **environ}, {})


def test_a_bearer_key_in_the_environment_switches_it_on_and_an_access_key_does_not(tmp_path: Path) -> None:
    """AWS's variables are there for many things."""
    found = settings(tmp_path, "", {"AWS_BEARER_TOKEN_BEDROCK": "k"}).providers["bedrock"]
    assert (found.api_key and found.api_key.reveal(), found.region) == ("k", "us-east-1")
    assert "bedrock" not in settings(tmp_path, "", AWS).providers


def test_the_environment_fills_in_what_a_table_leaves_out(tmp_path: Path) -> None:
    found = settings(tmp_path, "[providers.bedrock]\n", AWS).providers["bedrock"]
    given = (found.access_key_id, found.secret_access_key, found.session_token)
    assert [secret.reveal() for secret in given if secret] == ["AKID", "s", "t"]
    own = '[providers.bedrock]\naccess_key_id = "mine"\nsecret_access_key = "also"\n'
    mine = settings(tmp_path, own, {**AWS, "AWS_BEARER_TOKEN_BEDROCK": "k"}).providers["bedrock"]
    assert (mine.access_key_id and mine.access_key_id.reveal(), mine.session_token, mine.api_key) == (
        "mine",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[providers.bedrock]\n",
            "api_key: is missing: set AWS_BEARER_TOKEN_BEDROCK, or write api_key here, or access_key_id",
        ),
        ('[providers.bedrock]\naccess_key_id = "a"\n', "api_key: is missing"),
        ('[providers.bedrock]\naccess_key = "a"\n', "access_key: no such key (did you mean access_key_id?)"),
        ('[providers.bedrock]\napi_key = "k"\nregion = "kr"\n', "has no region 'kr'"),
        (
            '[providers.bedrock]\naccess_key_id = "a"\nsecret_access_key = "b"\nbase_url = "https://vpce.example.com"\n',
            "region: is missing",
        ),
        ('[providers.openai]\napi_key = "k"\nsecret_access_key = "b"\n', "openai signs no requests"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, text, {})
    assert words in caught.value.message
