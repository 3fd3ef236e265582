"""Claude Code and Codex, as their users run them, with a sandbox model behind the gateway that asks for a tool of theirs.

Each has a home of its own and a proxy that refuses for the rest of the world; what it sends passes a Tap.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from naru.testing.sandbox import Sandbox
from tests.clients.page import at, snippet
from tests.clients.tap import Outside, Tap, outside, tapping
from tests.conformance.settings import UPSTREAMS, provider_table
from tests.conformance.upstreams import EmulatedUpstream
from tests.harness import Gateway, running

NODE = Path(__file__).parent / "node"
REQUIRED = os.environ.get("NARU_REQUIRE_SERVICES") == "1"
WORD = "한라산"
#: A bound that only a hanging client reaches.
LIMIT_S = 90

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not REQUIRED and (shutil.which("node") is None or not (NODE / "node_modules").is_dir()),
        reason="the command lines are missing: run `make clients` where node and npm are installed",
    ),
]


class Place(msgspec.Struct):
    """A gateway, what stands before it and around the client, and the folder in which the client works."""

    gateway: Gateway
    tap: Tap
    outside: Outside
    home: Path
    work: Path

    async def run(self, program: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)."""
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "NARU_API_KEY": self.gateway.key,
            "HTTP_PROXY": self.outside.url,
            "HTTPS_PROXY": self.outside.url,
            "NO_PROXY": "127.0.0.1",
            **environment,
        }
        process = await asyncio.create_subprocess_exec(
            str(NODE / "node_modules" / ".bin" / program), *arguments, cwd=self.work, env=given,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def statuses(self) -> list[int]:
        return [entry.status for entry in await self.gateway.entries()]


@contextlib.asynccontextmanager
async def provider(upstream: str, model: str) -> AsyncIterator[str]:
    """naru.toml with `claude-naru`: the sandbox itself, or its models behind another protocol."""
    named = "\n[models.claude-naru]\ndeployments = [{{ {}, model = '{}' }}]\n"
    if not upstream:
        yield named.format('provider = "sandbox"', model)
        return
    wire = UPSTREAMS[upstream]
    server = Sandbox() if wire.dialect is None else EmulatedUpstream(wire.dialect)
    start = 'provider = "up"' + (f', endpoint = "{wire.endpoint}"' if wire.endpoint else "")
    try:
        origin = (await server.start()).removesuffix("/v1")
        yield provider_table(upstream, origin) + named.format(start, wire.model(model))
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def place(folder: Path, model: str, upstream: str = "") -> AsyncIterator[Place]:
    """`model` is the sandbox's behind the gateway's `claude-naru`; WORK in it is the client's folder."""
    work, home = folder / "work", folder / "client"
    work.mkdir()
    home.mkdir()
    (work / "notes.txt").write_text(f"The word is {WORD}.\n")
    model = model.replace("WORK", str(work))
    async with contextlib.AsyncExitStack() as stack:
        config = await stack.enter_async_context(provider(upstream, model))
        gateway = await stack.enter_async_context(running(folder, config))
        world = await stack.enter_async_context(outside())
        tap = await stack.enter_async_context(tapping(gateway.port))
        yield Place(gateway, tap, world, home, work)


# --- Claude Code ------------------------------------------------------------------------------------------------------


def claude_settings(port: int) -> dict[str, str]:
    """The exports of the page, and what keeps a test short."""
    exports = dict(re.findall(r"^export (\w+)=(\S+)", at(snippet("Claude Code", "sh"), port), re.MULTILINE))
    assert exports.pop("ANTHROPIC_AUTH_TOKEN") == '"$NARU_API_KEY"'
    return {**exports, "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_MAX_RETRIES": "0"}


async def claude(there: Place, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    settings = claude_settings(there.tap.port)
    code, out, err = await there.run(
        "claude", "-p", "What does notes.txt say?", "--output-format", "json", *arguments,
        **{**settings, "ANTHROPIC_AUTH_TOKEN": there.gateway.key, **environment},
    )  # fmt: skip
    assert out.startswith("{"), err
    return code, json.loads(out)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("Read", '{"file_path":"WORK/notes.txt"}'),
        ("Bash", '{"command":"cat notes.txt","description":"Read the notes"}'),
    ],
)
async def test_claude_code_calls_its_tools(tool: str, arguments: str, tmp_path: Path) -> None:
    """The model asks for the tool, Claude Code runs it, its result reaches the model and stands in the final text."""
    async with place(tmp_path, f"tools?only={tool}&args={arguments}") as there:
        code, answer = await claude(there, "--allowedTools", tool)
        assert (code, answer["is_error"], answer["num_turns"]) == (0, False, 2)
        assert WORD in answer["result"]
        assert answer["usage"]["input_tokens"] > 1_000
        assert answer["modelUsage"]["claude-naru"]["contextWindow"] == 128_000
        assert await there.statuses() == [200, 200]
    assert there.outside.asked == []
    assert there.tap.paths == {"POST /v1/messages?beta=true"}
    first, second = there.tap.sent
    assert len(first.body["tools"]) > 5
    call, result = second.body["messages"][-2:]
    assert (call["content"][0]["type"], call["content"][0]["name"]) == ("tool_use", tool)
    assert result["content"][0]["type"] == "tool_result"


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_claude_code_behind_every_protocol(upstream: str, tmp_path: Path) -> None:
    """The same with a provider that speaks Anthropic's own protocol, OpenAI's or Google's."""
    model = 'tools?only=Bash&args={"command":"cat notes.txt","description":"Read the notes"}'
    async with place(tmp_path, model, upstream) as there:
        code, answer = await claude(there, "--allowedTools", "Bash")
        assert (code, answer["num_turns"], WORD in answer["result"]) == (0, 2, True)


async def test_claude_code_goes_on_with_a_model_that_thinks(tmp_path: Path) -> None:
    """A second turn of the conversation, with the first in its history."""
    async with place(tmp_path, "think") as there:
        _, first = await claude(there)
        assert first["usage"]["output_tokens_details"]["thinking_tokens"] > 0
        code, second = await claude(there, "--continue")
        assert (code, "notes.txt" in second["result"]) == (0, True)
        assert await there.statuses() == [200, 200]
    assert "assistant" in [message["role"] for message in there.tap.sent[1].body["messages"]]


async def test_claude_code_finds_its_deferred_tools(tmp_path: Path) -> None:
    """Its tool search answers with a reference, which another provider's model reads as words."""
    model = 'tools?only=ToolSearch&args={"query":"select:WebFetch"}'
    async with place(tmp_path, model) as there:
        code, answer = await claude(there)
        assert (code, answer["is_error"]) == (0, False)
        assert "The tool WebFetch can be called now." in answer["result"]
    result = there.tap.sent[1].body["messages"][-1]["content"][0]
    assert result["content"] == [{"type": "tool_reference", "tool_name": "WebFetch"}]


async def test_claude_code_discovers_models(tmp_path: Path) -> None:
    """It asks for the list before anything else, and goes on."""
    async with place(tmp_path, "echo") as there:
        code, answer = await claude(there, CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY="1")
        assert (code, answer["is_error"]) == (0, False)
        assert "notes.txt" in answer["result"]
    assert "GET /v1/models?limit=1000" in there.tap.paths


async def test_claude_code_shows_the_gateways_errors(tmp_path: Path) -> None:
    async with place(tmp_path, "echo?status=529") as there:
        code, answer = await claude(there)
        assert (code, answer["is_error"], answer["api_error_status"]) == (1, True, 529)
        assert "The sandbox was told to fail with status 529." in answer["result"]


# --- Codex ------------------------------------------------------------------------------------------------------------


async def codex(there: Place, *resuming: str, model: str = "claude-naru") -> tuple[int, list[dict[str, Any]]]:
    """(exit code, its events)."""
    home = there.home / ".codex"
    home.mkdir(exist_ok=True)
    config = at(snippet("Codex", "toml"), there.tap.port).replace('model = "sandbox/echo"', f'model = "{model}"')
    (home / "config.toml").write_text("check_for_update_on_startup = false\n" + config)
    code, out, err = await there.run(
        "codex", "exec", "--json", "--skip-git-repo-check",
        # Its own sandbox needs privileges that containers lack; the only command that ever comes is this file's.
        "--dangerously-bypass-approvals-and-sandbox", *resuming, "What does notes.txt say?",
        CODEX_HOME=str(home),
    )  # fmt: skip
    assert out.startswith("{"), err
    return code, [json.loads(line) for line in out.splitlines()]


def items(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    done = (event["item"] for event in events if event["type"] == "item.completed")
    return [item for item in done if item["type"] == kind]


CAT = 'tools?only=exec_command&args={"cmd":"cat notes.txt"}'


async def test_codex_runs_a_command(tmp_path: Path) -> None:
    """The model asks for a command, Codex runs it, its output reaches the model and stands in the final message."""
    async with place(tmp_path, CAT) as there:
        code, events = await codex(there)
        assert code == 0, events
        (command,) = items(events, "command_execution")
        assert (command["exit_code"], command["aggregated_output"]) == (0, f"The word is {WORD}.\n")
        assert WORD in items(events, "agent_message")[-1]["text"]
        assert events[-1]["type"] == "turn.completed"
        assert events[-1]["usage"]["input_tokens"] > 1_000
        assert await there.statuses() == [200, 200]
    assert there.outside.asked == []
    assert there.tap.paths == {"POST /v1/responses"}
    assert {"function", "namespace", "web_search"} <= {tool["type"] for tool in there.tap.sent[0].body["tools"]}
    assert "tools.web_search" in there.tap.dropped()
    assert [item["type"] for item in there.tap.sent[1].body["input"][-2:]] == ["function_call", "function_call_output"]


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_codex_behind_every_protocol(upstream: str, tmp_path: Path) -> None:
    """The same with a provider that speaks Responses itself, which gets the web search too, or another protocol."""
    async with place(tmp_path, CAT, upstream) as there:
        code, events = await codex(there)
        assert code == 0, events
        assert WORD in items(events, "agent_message")[-1]["text"]
    assert ("tools.web_search" in there.tap.dropped()) == (upstream != "openai_responses")


async def test_codex_goes_on_with_a_model_that_thinks(tmp_path: Path) -> None:
    """The reasoning is shown, and a resumed conversation with it in the history is answered."""
    async with place(tmp_path, "think") as there:
        _, events = await codex(there)
        assert "I am a sandbox" in items(events, "reasoning")[0]["text"]
        code, events = await codex(there, "resume", "--last")
        assert (code, items(events, "agent_message")[-1]["text"]) == (0, "What does notes.txt say?")
        assert await there.statuses() == [200, 200]
    assert "reasoning" in [item["type"] for item in there.tap.sent[1].body["input"]]


async def test_codex_shows_the_gateways_errors(tmp_path: Path) -> None:
    async with place(tmp_path, "echo") as there:
        code, events = await codex(there, model="no-such-model")
        assert code == 1
        assert (events[-1]["type"], "is not known here" in events[-1]["error"]["message"]) == ("turn.failed", True)
