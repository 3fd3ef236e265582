"""LangChain's own suite for chat models, with ChatOpenAI pointed at a gateway: over chat completions, over Responses, and with
a provider behind the gateway that speaks another protocol.

What the sandbox's rules can do is switched on. What is off, with its reason, is in the properties below.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import httpx
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from openai import DefaultAsyncHttpxClient

from tests.clients.threaded import Address, Setting, serving_aside
from tests.conformance.asks import PNG
from tests.conformance.settings import UPSTREAMS, provider_table
from tests.conformance.upstreams import EmulatedUpstream

WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data\0\0\0\0"
FILES = {".png": base64.b64decode(PNG), ".pdf": b"%PDF-1.4\n%%EOF\n", ".wav": WAV}

#: What LangChain warns of when its own suite uses it so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Received a Pydantic BaseModel V1 schema"),
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename"),
]


@contextlib.asynccontextmanager
async def sandbox() -> AsyncIterator[str]:
    yield ""


def behind(upstream: str) -> Setting:
    """The sandbox's models behind another protocol, as the conformance matrix has them."""

    @contextlib.asynccontextmanager
    async def emulated() -> AsyncIterator[str]:
        server = EmulatedUpstream(UPSTREAMS[upstream].dialect)
        try:
            yield provider_table(upstream, await server.start())
        finally:
            await server.stop()

    return emulated


@pytest.fixture(scope="class")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    with serving_aside(tmp_path_factory.mktemp("langchain"), request.cls.setting) as address:
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

    setting: ClassVar[Setting] = staticmethod(sandbox)
    provider = "sandbox"
    model_name = "tools"
    uses_responses = False

    @pytest.fixture(autouse=True)
    async def _own_client(self, gateway: Address) -> AsyncIterator[None]:
        """LangChain keeps one asynchronous client for all models, which would outlive the event loop of its test."""
        self.gateway = gateway
        async with DefaultAsyncHttpxClient(
            verify=False
        ) as self.http:  # no TLS here: reading the system's CAs takes 30 ms
            yield

    def made(self, model: str) -> ChatOpenAI:
        return ChatOpenAI(**{**self.chat_model_params, "model": f"{self.provider}/{model}"})

    @property
    def chat_model_class(self) -> type[ChatOpenAI]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": f"{self.provider}/{self.model_name}",
            "base_url": f"{self.gateway.url}/v1",
            "api_key": self.gateway.key,
            "stream_usage": True,
            "use_responses_api": self.uses_responses,
            "max_retries": 0,
            "http_async_client": self.http,
        }

    @property
    def supports_json_mode(self) -> bool:
        """The test wants the very keys that its question names, which takes reading; see JsonMode."""
        return False

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
        """The answer has the provider's own name for it, which ends so."""
        return "sandbox/echo" if self.provider == "sandbox" else "echo"

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:  # type: ignore[override]
        """Nobody behind this gateway counts sound, or writes a cache that OpenAI's usage has a field for."""
        return {
            "invoke": ["reasoning_output", "cache_read_input"],
            "stream": ["reasoning_output", "cache_read_input"],
        }

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        message = _asked(self.made("think"), stream)
        assert message.usage_metadata["output_token_details"]["reasoning"] > 0
        return message

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        message = _asked(self.made("echo?cached=3"), stream)
        assert message.usage_metadata["input_token_details"]["cache_read"] == 3
        return message


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


class TestSchemaAsTool(_Suite):
    """`with_structured_output` by way of a tool that must be called."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestJsonMode(_Suite):
    """A model that answers in JSON, with the two keys that the suite asks for, and calls no tools."""

    model_name = 'json?args={"setup":"Why?","punchline":"Because."}'

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        """Those tests are above; one of them goes by way of a tool."""
        return False


class TestJsonModeOverResponses(TestJsonMode):
    uses_responses = True


class TestChatCompletionsToAnthropic(_Suite):
    setting = staticmethod(behind("anthropic_messages"))
    provider = "up"

    @property
    def supports_audio_inputs(self) -> bool:
        """Claude takes no sound: refused by name."""
        return False


class TestResponsesToGemini(_Suite):
    setting = staticmethod(behind("gemini"))
    provider = "up"
    uses_responses = True


class TestEmbeddings(EmbeddingsIntegrationTests):
    """The suite for embeddings, with texts sent as texts (see docs/clients.md)."""

    setting: ClassVar[Setting] = staticmethod(sandbox)

    @pytest.fixture(autouse=True)
    async def _own_client(self, gateway: Address) -> AsyncIterator[None]:
        self.gateway = gateway
        async with DefaultAsyncHttpxClient(verify=False) as self.http:
            yield

    @property
    def embeddings_class(self) -> type[OpenAIEmbeddings]:
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {
            "model": "sandbox/embed",
            "base_url": f"{self.gateway.url}/v1",
            "api_key": self.gateway.key,
            "check_embedding_ctx_length": False,
            "http_async_client": self.http,
        }
