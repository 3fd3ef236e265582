"""Naru and AsyncNaru: the official OpenAI client, and on it what one would write by hand otherwise.

    from naru import Naru, tool

    client = Naru()                                        # NARU_BASE_URL, NARU_API_KEY
    run = client.run("서울과 부산의 날씨를 비교해줘", model="naru-demo", tools=[get_current_weather])
    print(run.text, run.cost_usd)

`client.chat`, `client.responses`, `client.embeddings` and the others are the OpenAI client's own.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from os import PathLike
from types import TracebackType
from typing import Any, Unpack

import openai

from naru.agent.drive import Ports, drive
from naru.agent.events import Done, RunEvent
from naru.agent.loop import Loop, Said
from naru.agent.run import Run
from naru.agent.tool import Json
from naru.agent.toolbox import Servers, gathered
from naru.client import environment
from naru.client.asking import Messages, RunOptions, asked, messages_of
from naru.client.conversation import AsyncConversation, Conversation
from naru.client.endpoint import Endpoint, new_client
from naru.client.fanout import FanOut, Prompt, fan_out
from naru.client.portal import Portal
from naru.client.progress import progress_bar
from naru.client.reply import Outcome, Reply
from naru.clock import SystemClock
from naru.errors import BadRequest
from naru.protocol.messages import Event


class _Model:
    """drive.Model: each turn is one streamed request."""

    def __init__(self, endpoint: Endpoint, fields: Json) -> None:
        self._endpoint = endpoint
        self._fields = fields

    def ask(self, messages: Sequence[Json], left_s: float | None) -> AsyncIterator[Event | Said]:
        return self._endpoint.stream({**self._fields, "messages": list(messages)}, left_s)


class _Official:
    """What is the OpenAI client's own."""

    openai: Any

    @property
    def chat(self) -> Any:
        return self.openai.chat

    @property
    def responses(self) -> Any:
        return self.openai.responses

    @property
    def embeddings(self) -> Any:
        return self.openai.embeddings

    @property
    def models(self) -> Any:
        return self.openai.models


class AsyncNaru(_Official):
    """`model` is what calls use that name none. `mcp`: servers whose names may stand in `tools`. `options` go to the OpenAI
    client (max_retries, http_client, default_headers …). Raises Unauthorized where no key is known.
    An `http_client` can be given to AsyncNaru only."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str = "",
        timeout: float | None = None,
        mcp: Servers | None = None,
        **options: Any,
    ) -> None:
        url = environment.with_version(base_url) if base_url else environment.base_url()
        self.openai = new_client(url, api_key or environment.api_key(), timeout, **options)
        self.model = model
        self.mcp: Servers = mcp or {}
        self._endpoint = Endpoint(self.openai)

    async def run(
        self, prompt: Messages = "", *, model: str = "", tools: Sequence[Any] = (), **options: Unpack[RunOptions]
    ) -> Run:
        """Asks, calls the tools that the model wants, and asks again, until it has answered or a limit is reached.

        `prompt` is a text or a list of messages. `tools`: functions, @tool functions, built-in tools by name ("calculator"), MCP
        servers, and tools in OpenAI's form, whose calls are handed over (Run.pending). For the options see RunOptions.

        Raises NaruError where the endpoint refuses. A limit is no error: see Run.ending.
        """
        async with aclosing(self.stream(prompt, model=model, tools=tools, **options)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return event.run
        raise AssertionError("a stream ends with Done")

    async def stream(
        self, prompt: Messages = "", *, model: str = "", tools: Sequence[Any] = (), **options: Unpack[RunOptions]
    ) -> AsyncGenerator[RunEvent]:
        """As `run`, telling what happens: content, reasoning, tool_start, tool_arguments, tool_complete, tool_result, usage,
        done."""
        given = asked(options)
        toolbox = await gathered(tools, self.mcp)
        loop = Loop(toolbox.tools, given.limits, toolbox.handed_over)
        state = given.resume or loop.begin(messages_of(prompt, given.system), time.time())
        fields: Json = {**given.fields, "model": await self._named(model)}
        if toolbox.specs:
            fields["tools"] = toolbox.specs
        ports = Ports(_Model(self._endpoint, fields), time.time, given.approve, given.save)
        async with aclosing(drive(loop, state, ports)) as events:
            async for event in events:
                yield event

    async def map(
        self,
        prompts: Iterable[Prompt],
        *,
        model: str = "",
        rpm: int | None = None,
        tpm: int | None = None,
        concurrency: int = 32,
        retries: int = 5,
        give_up_s: float = 600.0,
        resume: str | PathLike[str] | None = None,
        progress: bool = False,
        **fields: Any,
    ) -> list[Outcome]:
        """Thousands of prompts, as fast as the limits allow: results in order, errors in place.

        A prompt is a text, a list of messages, or a body of chat completions; `fields` are for all of them. `rpm` and `tpm` are
        learned from the endpoint's headers where they are not given. `resume`: a file of JSON lines; what is in it is not asked
        again. `progress`: a bar on stderr. For the rest see fanout.FanOut.
        """
        options = FanOut(
            model=model or self.model or None, shared=fields, rpm=rpm, tpm=tpm, concurrency=concurrency, retries=retries,
            give_up_s=give_up_s, resume=resume,
        )  # fmt: skip
        # Its own retries would not know of the pace.
        once = Endpoint(self.openai.with_options(max_retries=0))
        clock = SystemClock()
        with progress_bar(clock) if progress else nullcontext() as observe:
            return await fan_out(prompts, once.reply, options, clock, random.random, observe)

    amap = map

    def conversation(
        self, model: str = "", *, load: str | PathLike[str] | None = None, **options: Any
    ) -> AsyncConversation:
        """One that remembers, and sends what fits: see AsyncConversation (`system`, `context_tokens`, `summarize` …). `load`: a
        file that `save` wrote, to go on with; only `summarize` can be given beside it. Raises ValueError for another kind of
        file."""
        reply, pieces = self._endpoint.reply, self._endpoint.pieces
        if load is not None:
            return AsyncConversation.load(load, reply, stream=pieces, model=model, **options)
        return AsyncConversation(reply, model or self.model, stream=pieces, **options)

    async def _named(self, model: str) -> str:
        if model or self.model:
            return model or self.model
        known = ", ".join(await self._endpoint.models())
        raise BadRequest(f"Say which model: model=…, here or in Naru(). This endpoint has: {known}.", param="model")

    async def close(self) -> None:
        await self.openai.close()

    async def __aenter__(self) -> AsyncNaru:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class Naru(_Official):
    """AsyncNaru for code without an event loop; `openai` is the official synchronous client. Tools run in threads of the
    client's own.
    An `http_client` can be given to AsyncNaru only."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        model: str = "",
        timeout: float | None = None,
        mcp: Servers | None = None,
        **options: Any,
    ) -> None:
        self._async = AsyncNaru(base_url=base_url, api_key=api_key, model=model, timeout=timeout, mcp=mcp, **options)
        inner = self._async.openai
        same: Json = {**options, "base_url": str(inner.base_url), "api_key": inner.api_key, "timeout": inner.timeout}
        self.openai = openai.OpenAI(**same)
        self._portal = Portal()

    def run(
        self, prompt: Messages = "", *, model: str = "", tools: Sequence[Any] = (), **options: Unpack[RunOptions]
    ) -> Run:
        """See AsyncNaru.run."""
        return self._portal.call(self._async.run(prompt, model=model, tools=tools, **options))

    def stream(
        self, prompt: Messages = "", *, model: str = "", tools: Sequence[Any] = (), **options: Unpack[RunOptions]
    ) -> Iterator[RunEvent]:
        """See AsyncNaru.stream. Whoever stops listening stops the run."""
        return self._portal.iterate(self._async.stream(prompt, model=model, tools=tools, **options))

    def map(self, prompts: Iterable[Prompt], **options: Any) -> list[Outcome]:
        """See AsyncNaru.map."""
        return self._portal.call(self._async.map(prompts, **options))

    def conversation(self, model: str = "", *, load: str | PathLike[str] | None = None, **options: Any) -> Conversation:
        """See AsyncNaru.conversation."""
        endpoint = Endpoint(self._async.openai)

        def reply(body: Json) -> Reply:
            return self._portal.call(endpoint.reply(body))

        def pieces(body: Json) -> Iterator[str | Reply]:
            return self._portal.iterate(endpoint.pieces(body))

        if load is not None:
            return Conversation.load(load, reply, stream=pieces, model=model, **options)
        return Conversation(reply, model or self._async.model, stream=pieces, **options)

    def close(self) -> None:
        self._portal.call(self._async.close())
        self._portal.close()
        self.openai.close()

    def __enter__(self) -> Naru:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
