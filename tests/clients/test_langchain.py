"""LangChain's own suite for chat models, with ChatOpenAI pointed at a gateway: over chat completions, over Responses, and with
a provider behind the gateway that speaks another protocol.

What the sandbox's rules can do is switched on. What is off, with its reason, is in the properties below.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from openai import DefaultAsyncHttpxClient

from tests.clients.threaded import Address, serving_aside
from tests.conformance.asks import PNG

MODELS = """
[models.lc-cached]
deployments = [{ provider = "sandbox", model = "echo?cached=3" }]
[models.lc-jokes]
deployments = [{ provider = "sandbox", model = 'json?args={"setup":"Why?","punchline":"Because."}' }]
"""
WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0"
FILES = {".png": base64.b64decode(PNG), ".pdf": b"%PDF-1.4\n%%EOF\n", ".wav": WAV}

#: What LangChain warns of when its own suite uses it so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with serving_aside(tmp_path_factory.mktemp("langchain"), MODELS) as address:
        yield address


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite fetches a picture, a document and a sound; here they are small and from this file."""

    def fetched(url: str, **_: Any) -> httpx.Response:
        return httpx.Response(200, content=FILES[url[url.rindex(".") :]])

    monkeypatch.setattr(suite.httpx, "get", fetched)
    monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "naru")


class _Suite(ChatModelIntegrationTests):
    """`enable_vcr_tests` stays off: it records a stream to measure the client's overhead, which is not ours."""

    model_name = "sandbox/tools"
    uses_responses = False

    @pytest.fixture(autouse=True)
    async def _own_client(self, gateway: Address) -> AsyncIterator[None]:
        """LangChain keeps one asynchronous client for all models, which would outlive the event loop of its test."""
        self.gateway = gateway
        async with DefaultAsyncHttpxClient() as self.http:
            yield

    def made(self, model: str, **more: Any) -> ChatOpenAI:
        return ChatOpenAI(**{**self.chat_model_params, "model": model, **more})

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": self.model_name,
            "base_url": f"{self.gateway.url}/v1",
            "api_key": self.gateway.key,
            "stream_usage": True,
            "use_responses_api": self.uses_responses,
            "max_retries": 0,
            "http_async_client": self.http,
        }

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "sandbox/echo"

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:  # type: ignore[override]
        """Nobody behind this gateway counts sound, or writes a cache that OpenAI's usage has a field for."""
        return {
            "invoke": ["reasoning_output", "cache_read_input"],
            "stream": ["reasoning_output", "cache_read_input"],
        }

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return _asked(self.made("sandbox/think"), stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return _asked(self.made("lc-cached"), stream)


def _asked(model: ChatOpenAI, stream: bool) -> AIMessage:
    if not stream:
        return model.invoke("one two three four five")
    whole: AIMessageChunk | None = None
    for chunk in model.stream("one two three four five"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


class TestChatCompletions(_Suite):
    """`with_structured_output` as ChatOpenAI has it by default: a JSON schema."""


class TestResponses(_Suite):
    uses_responses = True
