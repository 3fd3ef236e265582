"""`naru mcp serve` as MCP clients see it: the SDK's own client, a real gateway, the sandbox's models."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, TextContent

from naru.agent.mcp_server import Gateway as Where
from naru.agent.mcp_server import dollars, offered
from tests.harness import Gateway, another_key, running
from tests.process import command

PRICED = '[models.echo]\ndeployments = [{ provider = "sandbox", model = "sandbox/echo" }]\nprice = { input = 2, output = 3 }\n'


def text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


async def asked(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured content of an answer that is none of an error."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, text(result)
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return text(result)


@asynccontextmanager
async def client_of(gateway: Gateway, key: str | None = None) -> AsyncIterator[Client]:
    """A client of a server in this process, whose gateway is a real one on loopback."""
    where = Where(base_url=f"{gateway.url}/v1", key=gateway.key if key is None else key)
    async with offered(where, "1") as server, Client(server) as client:
        yield client


async def test_a_chat_is_answered_counted_and_paid(tmp_path: Path) -> None:
    async with running(tmp_path, PRICED) as gateway, client_of(gateway) as client:
        models = (await asked(client, "list_models"))["result"]
        assert "echo" in [model["id"] for model in models]
        result = await client.call_tool("chat", {"model": "echo", "prompt": "안녕 there", "system": "Be short."})
        answer = result.structured_content
        assert (text(result), answer["text"], answer["finish_reason"]) == ("안녕 there", "안녕 there", "stop")
        (entry,) = await gateway.entries()
        assert (answer["input_tokens"], answer["output_tokens"]) == (entry.input, entry.output)
        assert dollars(entry.cost_nano).rstrip("0") == answer["cost_usd"].rstrip("0")
        (row,) = (await asked(client, "usage", by="model", since="1d"))["result"]
        assert (row["group"], row["requests"], row["cost_usd"]) == ("echo", 1, dollars(entry.cost_nano))
        cut = await client.call_tool("chat", {"model": "echo", "prompt": "one two three four five", "max_tokens": 1})
        assert text(cut).endswith("[cut short at max_tokens]")


async def test_errors_of_the_gateway_come_in_its_words(tmp_path: Path) -> None:
    async with running(tmp_path, PRICED) as gateway:
        async with client_of(gateway) as client:
            said = await refused(client, "chat", model="ecko", prompt="x")
            assert "ecko" in said
            assert "[model_not_found]" in said
            assert "is not a span of time" in await refused(client, "usage", since="yesterdayish")
        async with client_of(gateway, "nk-wrong") as client:
            assert "[invalid_api_key]" in await refused(client, "list_models")
        async with client_of(gateway, "") as client:
            assert "Authorization: Bearer" in await refused(client, "list_models")
    async with client_of(gateway) as client:
        assert "No gateway answers at http://127.0.0.1" in await refused(client, "chat", model="echo", prompt="x")


async def test_the_command_serves_over_stdio(tmp_path: Path) -> None:
    """As an MCP client's configuration starts it: a command and two variables."""
    async with running(tmp_path, PRICED) as gateway:
        variables = {
            "NARU_BASE_URL": gateway.url,
            "NARU_API_KEY": gateway.key,
            "NARU_HOME": str(tmp_path / "elsewhere"),
        }
        variables["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        parameters = StdioServerParameters(command=sys.executable, args=["-m", "naru", "mcp", "serve"], env=variables)
        async with Client(parameters) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["list_models", "chat", "usage"]
            assert (await asked(client, "chat", model="echo", prompt="over stdio"))["text"] == "over stdio"


async def test_the_command_serves_over_http_and_callers_bring_keys(tmp_path: Path) -> None:
    """On loopback NARU_API_KEY is lent to callers without a key; one that is sent goes before it; other names are refused."""
    async with running(tmp_path, PRICED) as gateway:
        other = await another_key(gateway, name="other", models=["sandbox/echo"])
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "HOME": str(tmp_path),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "naru", "mcp", "serve", "--http", "127.0.0.1:0",
            env={**environment, "NARU_BASE_URL": f"{gateway.url}/v1", "NARU_API_KEY": gateway.key},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            url = (await asyncio.wait_for(process.stderr.readline(), 120)).decode().split()[-1]
            async with Client(url) as client:
                assert "echo" in [model["id"] for model in (await asked(client, "list_models"))["result"]]
            with_key = httpx2.AsyncClient(headers={"Authorization": f"Bearer {other}"})
            async with with_key as web, Client(streamable_http_client(url, http_client=web)) as client:
                assert [model["id"] for model in (await asked(client, "list_models"))["result"]] == ["sandbox/echo"]
            async with httpx2.AsyncClient() as web:
                body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
                answer = await web.post(url, json=body, headers={"host": "evil.example"})
                assert answer.status_code == 421
        finally:
            process.terminate()
            await process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 78, "NARU_API_KEY is not set"),
        (["--http", "127.0.0.1:0"], 78, "NARU_API_KEY is not set"),
        (["--http", "8765"], 2, "expected HOST:PORT"),
    ],
)
async def test_what_is_missing_is_said(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "home").mkdir()
    status, out, err = await command(tmp_path / "home", "mcp", "serve", *arguments)
    assert (status, out) == (code, "")
    assert words in err


@pytest.mark.parametrize(
    ("nano", "said"),
    [(0, "0.00"), (5, "0.000000005"), (1_500_000_000, "1.50"), (12_000_000_000, "12.00"), (-20_000_000, "-0.02")],
)
def test_money_is_exact(nano: int, said: str) -> None:
    assert dollars(nano) == said
