"""Pictures by address towards a provider that takes none: fetched here when the operator allows it, once, and told apart
from what a provider can read itself."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from naru.testing import Sandbox
from naru.testing.http import Exchange, RawServer
from tests.harness import Gateway, running

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
DATA = "data:image/png;base64," + base64.b64encode(PNG).decode()
ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a cat"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}


class Pictures:
    """A store of pictures, and two upstreams: `strict` refuses addresses as Ollama does, `lenient` takes everything."""

    def __init__(self) -> None:
        self.store = RawServer(self.serve)
        self.strict = RawServer(lambda exchange: self.answer(exchange, is_strict=True))
        self.lenient = RawServer(lambda exchange: self.answer(exchange, is_strict=False))
        self.strict_status = 200

    def serve(self, exchange: Exchange) -> None:
        is_there = exchange.received.path == "/cat.png"
        exchange.answer(200 if is_there else 404, PNG if is_there else b"none")

    def answer(self, exchange: Exchange, is_strict: bool) -> None:
        if is_strict and b'"http' in exchange.received.body:
            exchange.answer(400, b'{"error":{"message":"invalid image input","type":"invalid_request_error"}}')
        elif is_strict and self.strict_status != 200:
            exchange.answer(self.strict_status, b'{"error":{"message":"busy"}}')
        else:
            exchange.answer(200, json.dumps(ANSWER).encode(), (("content-type", "application/json"),))

    def config(self, fetch: str, origin: str = "") -> str:
        strict, lenient = self.strict_at, self.lenient_at
        return f"""
        [server]
        fetch_images = "{fetch}"
        [providers.data]
        kind = "ollama"
        base_url = "{strict}/v1"
        [providers.again]
        kind = "ollama"
        base_url = "{lenient}/v1"
        [providers.address]
        kind = "custom"
        base_url = "{lenient}/v1"
        api_key = "k"
        allow_private = true
        [providers.bedrock]
        base_url = "{origin or strict}"
        api_key = "ABSK-key"
        region = "us-east-1"
        allow_private = true
        [models.m]
        price = "free"
        deployments = [{{ provider = "data", model = "llava" }}]
        [models.address]
        price = "free"
        deployments = [{{ provider = "address", model = "other" }}]
        [models.own]
        price = "free"
        deployments = [{{ provider = "again", model = "llava" }}]
        [models.both]
        price = "free"
        deployments = [
            {{ provider = "data", model = "llava" }}, {{ provider = "address", model = "other", priority = 2 }},
        ]
        [models.twice]
        price = "free"
        deployments = [
            {{ provider = "data", model = "llava" }}, {{ provider = "again", model = "llava", priority = 2 }},
        ]
        [models.converse]
        price = "free"
        deployments = [{{ provider = "bedrock", model = "us.anthropic.claude-sonnet-4-5-echo" }}]
        """

    async def start(self) -> None:
        self.url = await self.store.start() + "/cat.png"
        self.strict_at = await self.strict.start()
        self.lenient_at = await self.lenient.start()

    async def stop(self) -> None:
        for server in (self.store, self.strict, self.lenient):
            await server.stop()


@pytest.fixture
async def pictures() -> AsyncIterator[Pictures]:
    made = Pictures()
    await made.start()
    yield made
    await made.stop()


async def look(gateway: Gateway, url: str, model: str = "m", **more: Any) -> Any:
    content = [{"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": url}}]
    messages: Any = [{"role": "user", "content": content}]
    return await gateway.openai.chat.completions.create(model=model, messages=messages, **more)


def sent(server: RawServer) -> list[Any]:
    return [json.loads(received.body) for received in server.received]


async def test_the_picture_goes_as_data_to_who_takes_only_data(tmp_path: Path, pictures: Pictures) -> None:
    """The rest of the body stays as it was, a field that Naru does not know included."""
    async with running(tmp_path, pictures.config("any")) as gateway:
        answer = await look(gateway, pictures.url, extra_body={"keep_alive": "5m"})
        assert answer.choices[0].message.content == "a cat"
        (body,) = sent(pictures.strict)
        assert body["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": DATA}}
        assert body["keep_alive"] == "5m"
        assert [received.path for received in pictures.store.received] == ["/cat.png"]


async def test_who_takes_addresses_gets_the_address(tmp_path: Path, pictures: Pictures) -> None:
    async with running(tmp_path, pictures.config("any")) as gateway:
        await look(gateway, pictures.url, "address")
        assert sent(pictures.lenient)[0]["messages"][0]["content"][1]["image_url"]["url"] == pictures.url
        assert not pictures.store.received


async def test_off_passes_the_address_on_and_the_provider_refuses_it(tmp_path: Path, pictures: Pictures) -> None:
    async with running(tmp_path, pictures.config("off")) as gateway:
        with pytest.raises(openai.BadRequestError, match="invalid image input"):
            await look(gateway, pictures.url)
        assert sent(pictures.strict)[0]["messages"][0]["content"][1]["image_url"]["url"] == pictures.url
        assert not pictures.store.received


async def test_public_asks_no_private_address(tmp_path: Path, pictures: Pictures) -> None:
    async with running(tmp_path, pictures.config("public")) as gateway:
        with pytest.raises(openai.BadRequestError, match="Private addresses are not fetched") as caught:
            await look(gateway, pictures.url)
        assert caught.value.code == "image_unreachable"
        assert not pictures.store.received
        assert not pictures.strict.received
        (entry,) = await gateway.entries()
        assert (entry.outcome, entry.error_code, entry.cost_nano) == ("failed", "image_unreachable", 0)


async def test_the_next_deployment_may_take_the_address(tmp_path: Path, pictures: Pictures) -> None:
    """What cannot be fetched from here may be reached from there."""
    async with running(tmp_path, pictures.config("public")) as gateway:
        answer = await look(gateway, pictures.url, "both")
        assert answer.choices[0].message.content == "a cat"
        assert sent(pictures.lenient)[0]["messages"][0]["content"][1]["image_url"]["url"] == pictures.url


async def test_a_failover_does_not_fetch_twice(tmp_path: Path, pictures: Pictures) -> None:
    pictures.strict_status = 503
    async with running(tmp_path, pictures.config("any")) as gateway:
        await look(gateway, pictures.url, "twice")
        for server in (pictures.strict, pictures.lenient):
            assert sent(server)[0]["messages"][0]["content"][1]["image_url"]["url"] == DATA
        assert len(pictures.store.received) == 1


async def test_a_file_of_the_providers_own_stays_with_it(tmp_path: Path, pictures: Pictures) -> None:
    """Nobody but the provider may read it (Gemini's files)."""
    async with running(tmp_path, pictures.config("any")) as gateway:
        own = f"{pictures.lenient_at}/v1/files/1"
        await look(gateway, own, "own")
        assert sent(pictures.lenient)[0]["messages"][0]["content"][1]["image_url"]["url"] == own


async def test_pictures_in_the_results_of_tools_go_as_data_too(tmp_path: Path, pictures: Pictures) -> None:
    """From a Messages client towards Bedrock, whose strict double reads the request."""
    sandbox = Sandbox()
    origin = (await sandbox.start()).removesuffix("/v1")
    async with running(tmp_path, pictures.config("any", origin)) as gateway:
        client = anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
        source = {"type": "url", "url": pictures.url}
        messages: Any = [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "shoot", "input": {}}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "image", "source": source}]},
                    {"type": "image", "source": source},
                ],
            },
        ]
        tools: Any = [{"name": "shoot", "input_schema": {"type": "object"}}]
        answer = await client.messages.create(model="converse", max_tokens=50, messages=messages, tools=tools)
        assert answer.content
        assert len(pictures.store.received) == 1
        await client.close()
    await sandbox.stop()


async def test_explain_fetches_nothing_and_refuses_nothing(tmp_path: Path, pictures: Pictures) -> None:
    content = [{"type": "image_url", "image_url": {"url": pictures.url}}]
    body = {"model": "converse", "messages": [{"role": "user", "content": content}]}
    for fetch, words in (("any", None), ("off", "an image by its address")):
        async with running(tmp_path, pictures.config(fetch)) as gateway:
            request = json.dumps({"path": "/v1/chat/completions", **body}).encode()
            status, _, answer = await gateway.post(request, "/v1/explain")
            error = json.loads(answer)["attempts"][0]["error"]
            assert status == 200
            assert error is None if words is None else words in error
            assert not pictures.store.received
            tmp_path = tmp_path / "next"
            tmp_path.mkdir()
