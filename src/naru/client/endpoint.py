"""One endpoint that speaks OpenAI's chat completions: how requests get there and how answers come back, with usage and cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai

from naru.agent.loop import Said
from naru.agent.reading import QUIRKS, AnswerReader, said
from naru.agent.run import nano_of
from naru.agent.tool import Json
from naru.client.errors import explained, is_unknown_model, with_nearest
from naru.client.reply import Reply
from naru.errors import NaruError, Unauthorized, UpstreamBroken, UpstreamTimeout
from naru.protocol.messages import Event, TextDelta
from naru.protocol.openai_chat import OPENAI_CHAT

_OWN = frozenset({"model", "messages", "stream"})


class Endpoint:
    """`openai` is the official client; its key, base URL, time-outs and retries hold."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.openai = client

    @property
    def base_url(self) -> str:
        return str(self.openai.base_url).rstrip("/")

    async def models(self) -> list[str]:
        """The names that this key may use."""
        async with self.errors(""):
            return [model.id async for model in self.openai.models.list()]

    async def stream(self, body: Json, timeout_s: float | None = None) -> AsyncIterator[Event | Said]:
        """An answer as it comes; a Said at the end. Raises NaruError, of a broken stream too."""
        reader = AnswerReader()
        asked = {**body, "stream_options": {"include_usage": True, **body.get("stream_options", {})}}
        async with self._opened(asked, timeout_s) as response, asyncio.timeout(timeout_s):
            async for data in response.iter_bytes():
                for event in reader.feed(data):
                    yield event
        for event in reader.close():
            yield event
        yield reader.said()

    async def reply(self, body: Json) -> Reply:
        """An answer in one piece."""
        async with self.errors(body["model"]):
            raw = await self.openai.chat.completions.with_raw_response.create(**_arguments(body, None))
        headers = {name.lower(): value for name, value in raw.headers.items()}
        cost = headers.get("x-naru-cost-usd")
        answer = said(OPENAI_CHAT.decode_response(raw.content, QUIRKS), None if cost is None else nano_of(cost))
        return reply_of(answer, headers)

    async def pieces(self, body: Json) -> AsyncIterator[str | Reply]:
        """The text as it comes, then the Reply."""
        async for event in self.stream(body):
            if isinstance(event, Said):
                yield reply_of(event, {})
            elif isinstance(event, TextDelta) and event.text:
                yield event.text

    @asynccontextmanager
    async def _opened(self, body: Json, timeout_s: float | None) -> AsyncIterator[Any]:
        arguments = {**_arguments(body, timeout_s), "stream": True}
        async with (
            self.errors(body["model"], timeout_s),
            self.openai.chat.completions.with_streaming_response.create(**arguments) as response,
        ):
            yield response

    @asynccontextmanager
    async def errors(self, model: str, timeout_s: float | None = None) -> AsyncIterator[None]:
        """The client's errors as ours."""
        try:
            yield
        except openai.APIError as error:
            within = timeout_s if timeout_s is not None else _seconds(self.openai.timeout)
            found = explained(error, self.base_url, within, time.time())
            raise await self._with_names(found, model) from error
        except (
            TimeoutError,
            httpx2.TimeoutException,
        ) as error:  # in the middle of a stream, where the client wraps nothing
            raise UpstreamTimeout(
                f"The answer of {self.base_url} was not whole in time. Ask for less (max_tokens), or allow more time (timeout=)."
            ) from error
        except httpx2.HTTPError as error:
            raise UpstreamBroken(
                f"The answer of {self.base_url} broke off ({type(error).__name__}). Ask again."
            ) from error

    async def _with_names(self, error: NaruError, model: str) -> NaruError:
        if not model or not is_unknown_model(error):
            return error
        try:
            return with_nearest(error, model, await self.models())
        except NaruError:
            return error


def new_client(base_url: str, api_key: str, timeout_s: float | None, **options: Any) -> openai.AsyncOpenAI:
    """Raises Unauthorized where no key is known."""
    if not api_key:
        raise Unauthorized(
            "No API key: set NARU_API_KEY, or pass api_key=. `naru keys create NAME` makes one; `make serve` prints the first.",
            code="missing_api_key",
        )
    if timeout_s is not None:
        options["timeout"] = timeout_s
    return openai.AsyncOpenAI(base_url=base_url, api_key=api_key, **options)


def reply_of(answer: Said, headers: Mapping[str, str]) -> Reply:
    message = answer.message
    return Reply(
        text=str(message.get("content") or ""),
        message=message,
        reasoning=str(message.get("reasoning_content") or ""),
        usage=answer.usage,
        cost_nano=answer.cost_nano,
        headers=headers,
    )


def _arguments(body: Json, timeout_s: float | None) -> Json:
    """Fields that the client has no parameter for are passed on all the same: all but three go in `extra_body`."""
    arguments: Json = {name: value for name, value in body.items() if name in _OWN}
    arguments["extra_body"] = {name: value for name, value in body.items() if name not in _OWN}
    if timeout_s is not None:
        arguments["timeout"] = timeout_s
    return arguments


def _seconds(timeout: object) -> float | None:
    found = timeout if isinstance(timeout, int | float) else getattr(timeout, "read", None)
    return None if found is None else float(found)
