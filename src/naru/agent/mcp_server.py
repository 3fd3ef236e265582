"""A gateway as an MCP server: its models, a chat with one of them, and what was used, as tools for any MCP client.

The gateway is spoken to over HTTP with a caller's key, so its limits, budgets and ledger hold for what is done here too.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import openai
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from msgspec import Struct
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

INSTRUCTIONS = (
    "The models of one Naru gateway. list_models says which there are; chat asks one of them and costs what it costs; usage "
    "says what this key has used."
)
#: The gateway ends a request that takes too long by itself, in its own words.
TIMEOUT_S = 3600.0
PATH = "/mcp"
READS_ONLY = ToolAnnotations(read_only_hint=True, open_world_hint=False)
#: Each call may answer otherwise, and each is paid for.
ASKS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True)


class Gateway(Struct, frozen=True, kw_only=True):
    """`base_url` ends in /v1. `key`: for callers that bring none of their own; empty: each has to."""

    base_url: str
    key: str = ""


class Model(BaseModel):
    id: Annotated[str, Field(description="What `chat` takes as its model.")]
    owned_by: str = ""


class Answer(BaseModel):
    text: str
    model: str
    finish_reason: Annotated[str, Field(description="`length`: it was cut short at max_tokens.")]
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Annotated[str | None, Field(description="In US dollars, exact.")] = None


class Group(BaseModel):
    """Of one model, day, deployment or key."""

    group: str
    requests: int
    failed: int
    input: int
    output: int
    cached: int
    cost_usd: Annotated[str, Field(description="In US dollars, exact.")]


class Offer:
    """The tools. Errors of the gateway are told in its own words."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.client = AsyncOpenAI(
            base_url=gateway.base_url,
            api_key=gateway.key or "none",
            timeout=TIMEOUT_S,
            max_retries=0,  # the gateway tries again itself, where that is right
        )

    async def list_models(self, ctx: Context) -> list[Model]:
        """The models that this key may use."""
        answer = await self._get("/models", ctx)
        return [Model(id=model["id"], owned_by=model.get("owned_by", "")) for model in answer["data"]]

    async def chat(
        self,
        ctx: Context,
        model: Annotated[str, Field(description="A model's id, as list_models gives it.")],
        prompt: Annotated[str, Field(description="What the model is asked.")],
        system: Annotated[str | None, Field(description="How it should answer: its role, language, form.")] = None,
        max_tokens: Annotated[int | None, Field(ge=1, description="The longest answer, in tokens.")] = None,
    ) -> Annotated[CallToolResult, Answer]:
        """Asks one model one question. It knows nothing of this conversation: the prompt has to hold all it needs."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        limit: dict[str, Any] = {} if max_tokens is None else {"max_tokens": max_tokens}
        try:
            raw = await self._as_caller(ctx).chat.completions.with_raw_response.create(
                model=model, messages=messages, **limit
            )
            completion = raw.parse()
        except openai.OpenAIError as error:
            raise self._told(error) from error
        choice = completion.choices[0]
        answer = Answer(
            text=choice.message.content or choice.message.refusal or "",
            model=completion.model,
            finish_reason=choice.finish_reason,
            input_tokens=completion.usage.prompt_tokens if completion.usage else None,
            output_tokens=completion.usage.completion_tokens if completion.usage else None,
            cost_usd=raw.headers.get("x-naru-cost-usd"),
        )
        return CallToolResult(content=[TextContent(text=shown(answer))], structured_content=answer.model_dump())

    async def usage(
        self,
        ctx: Context,
        by: Annotated[Literal["model", "day", "deployment", "key"], Field(description="One row for each.")] = "model",
        since: Annotated[str, Field(description="A span (7d, 12h) or a date (2026-11-01).")] = "30d",
    ) -> list[Group]:
        """What this key has used: requests, tokens and cost."""
        answer = await self._get(f"/usage?{urlencode({'by': by, 'since': since})}", ctx)
        return [
            Group(cost_usd=dollars(row["cost_nano"]), **{name: row[name] for name in Group.model_fields if name in row})
            for row in answer["data"]
        ]

    async def _get(self, path: str, ctx: Context) -> Any:
        try:
            answer = await self._as_caller(ctx).get(path, cast_to=object)
        except openai.OpenAIError as error:
            raise self._told(error) from error
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise ToolError(f"What answers at {self.gateway.base_url} is not a Naru gateway. Check NARU_BASE_URL.")
        return answer

    def _as_caller(self, ctx: Context) -> AsyncOpenAI:
        key = bearer(ctx.headers or {}) or self.gateway.key
        if not key:
            raise ToolError("Send a key of the gateway with each request: Authorization: Bearer nk-…")
        return self.client.with_options(api_key=key)

    def _told(self, error: openai.OpenAIError) -> ToolError:
        if isinstance(error, openai.APIStatusError):
            body = error.body if isinstance(error.body, dict) else {}
            said = body.get("message") or f"the gateway answered with status {error.status_code}"
            code = body.get("code")
            return ToolError(f"{said}{f' [{code}]' if code else ''}")
        if isinstance(error, openai.APITimeoutError):
            return ToolError(f"The gateway did not answer within {TIMEOUT_S:g} s.")
        if isinstance(error, openai.APIConnectionError):
            return ToolError(
                f"No gateway answers at {self.gateway.base_url}. Start it with `naru serve`, or set NARU_BASE_URL."
            )
        return ToolError(f"The gateway's answer cannot be read: {type(error).__name__}.")


def shown(answer: Answer) -> str:
    """The text as it is; where there is none, why."""
    if answer.finish_reason == "length":
        return f"{answer.text}\n[cut short at max_tokens]".lstrip()
    return answer.text or f"[no text; finish_reason: {answer.finish_reason}]"


def dollars(nano: int) -> str:
    whole, rest = divmod(abs(nano), 10**9)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}".rstrip("0").ljust(len(str(whole)) + 3, "0")


def bearer(headers: Mapping[str, str]) -> str:
    """Over HTTP a caller may bring its own key."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


@asynccontextmanager
async def offered(gateway: Gateway, version: str) -> AsyncGenerator[MCPServer]:
    """Documents will be further tools, once the gateway has them."""
    server = MCPServer("naru", title="Naru", instructions=INSTRUCTIONS, version=version, log_level="WARNING")
    offer = Offer(gateway)
    server.add_tool(offer.list_models, title="Models", annotations=READS_ONLY)
    server.add_tool(offer.chat, title="Ask a model", annotations=ASKS)
    server.add_tool(offer.usage, title="Usage", annotations=READS_ONLY)
    async with offer.client:
        yield server


async def serve_stdio(gateway: Gateway, version: str) -> None:
    """Until standard input ends. Standard output is the protocol's."""
    async with offered(gateway, version) as server:
        await server.run_stdio_async()


async def serve_http(gateway: Gateway, version: str, listener: socket.socket) -> None:
    """Until the process is asked to end. Stateless: any request may reach any of several such processes.

    On loopback, names other than this machine's are refused (a page of the web may have its own name resolve to it)."""
    host = listener.getsockname()[0]
    async with offered(gateway, version) as server:
        app = server.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, host="127.0.0.1" if is_loopback(host) else host
        )
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
        await uvicorn.Server(config).serve([listener])


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
