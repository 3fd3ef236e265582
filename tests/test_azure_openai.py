"""OpenAI on Azure: its address, its key, its deployments' prices, its filter's errors."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from naru.config import Settings, load_settings
from naru.testing.http import Exchange, Handler, RawServer
from tests.harness import MESSAGES, running
from tests.process import command


@contextlib.asynccontextmanager
async def upstream(handle: Handler) -> AsyncIterator[tuple[str, RawServer]]:
    server = RawServer(handle)
    try:
        yield await server.start(), server
    finally:
        await server.stop()


KEYS = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://res.openai.azure.com/"}
FILTERED = {
    "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
}
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5.4-2026-03-05",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1_000_000, "completion_tokens": 0, "total_tokens": 1_000_000},
}


def settings(tmp_path: Path, text: str, environ: dict[str, str]) -> Settings:
    file = tmp_path / "naru.toml"
    file.write_text(text)
    return load_settings(file, {"NARU_HOME": str(tmp_path), "HOME": str(tmp_path), **environ}, {})


def test_the_environment_enables_it_where_it_has_both_the_key_and_the_address(tmp_path: Path) -> None:
    found = settings(tmp_path, "", KEYS).providers["azure-openai"]
    assert found.base_url == "https://res.openai.azure.com/openai/v1"
    assert "azure-openai" not in settings(tmp_path, "", {"AZURE_OPENAI_API_KEY": "k"}).providers


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("https://res.openai.azure.com", "https://res.openai.azure.com/openai/v1"),
        ("https://res.openai.azure.com/openai/v1/", "https://res.openai.azure.com/openai/v1"),
        ("https://apim.example.com/mine", "https://apim.example.com/mine"),
    ],
)
def test_an_address_without_a_path_gets_the_apis(tmp_path: Path, given: str, base: str) -> None:
    text = f'[providers.azure-openai]\napi_key = "k"\nbase_url = "{given}"\n'
    assert settings(tmp_path, text, {}).providers["azure-openai"].base_url == base


def config(origin: str) -> str:
    return f"""
    [providers.azure-openai]
    api_key = "k"
    base_url = "{origin}"
    allow_private = true
    """


async def test_requests_name_the_deployment_and_carry_the_key_its_way(tmp_path: Path) -> None:
    """Each endpoint of the v1 API; the list price of the model that the deployment is named after."""

    async def handle(exchange: Exchange) -> None:
        exchange.answer(200, json.dumps(ANSWER).encode())

    async with upstream(handle) as (origin, server), running(tmp_path, config(origin)) as gateway:
        await gateway.openai.chat.completions.create(model="azure-openai/gpt-5.4", messages=MESSAGES, max_tokens=5)
        with pytest.raises(openai.APIStatusError, match="cannot be read"):
            await gateway.openai.responses.create(model="azure-openai/gpt-5.4", input="hello")
        chat, responses = server.received
        assert (chat.target, responses.target) == ("/openai/v1/chat/completions", "/openai/v1/responses")
        assert (chat.header("api-key"), chat.header("authorization")) == ("k", None)
        sent = json.loads(chat.body)
        assert (sent["model"], sent["max_completion_tokens"]) == ("gpt-5.4", 5)
        entry = (await gateway.entries())[-1]
        assert entry.cost_nano == 5_000_000_000  # 2.50 USD per million, twice that above 272k tokens


async def test_a_deployment_of_another_name_needs_a_price(tmp_path: Path) -> None:
    async with running(tmp_path, config("http://127.0.0.1:1")) as gateway:
        with pytest.raises(openai.APIStatusError, match="price"):
            await gateway.openai.chat.completions.create(model="azure-openai/our-own", messages=MESSAGES)


@pytest.mark.parametrize("code", ["content_filter", "400"])
async def test_what_the_filter_stops_is_told_as_content_filter(tmp_path: Path, code: str) -> None:
    """Also where only the inner error says so."""

    async def handle(exchange: Exchange) -> None:
        exchange.answer(400, json.dumps({"error": {**FILTERED, "code": code}}).encode())

    async with upstream(handle) as (origin, _), running(tmp_path, config(origin)) as gateway:
        with pytest.raises(openai.BadRequestError) as caught:
            await gateway.openai.chat.completions.create(model="azure-openai/gpt-5.4", messages=MESSAGES)
        assert caught.value.code == "content_filter"


async def test_check_asks_with_the_providers_own_header(tmp_path: Path) -> None:
    """Not with a bearer token, which Azure would refuse though the key is good."""

    async def handle(exchange: Exchange) -> None:
        is_known = exchange.received.header("api-key") == "k"
        exchange.answer(200 if is_known else 401, b"{}")

    async with upstream(handle) as (origin, server):
        home = tmp_path / "home"
        home.mkdir()
        (home / "naru.toml").write_text(config(origin))
        _, out, _ = await command(home, "check", "--json")
        states = {finding["what"]: finding["state"] for finding in json.loads(out)["findings"]}
        assert states["provider azure-openai"] == "ok"
        assert server.received[-1].target == "/openai/v1/models"
